//! Streams as they are: plain, TLS or Unix, and what we know of who is at the other end.

mod arrival;
mod body;
pub mod clock;
mod outbox;
mod rest;
mod socket;
mod stream;
mod tls;
mod wire;

pub use arrival::{Arrival, TlsFacts};
pub use body::{Body, empty, full};
pub use outbox::send_each_turn;
pub use rest::Rest;
pub use socket::{SocketOptions, is_passing_accept_error};
pub use stream::Stream;
pub use tls::TlsStream;
pub use wire::Wire;
