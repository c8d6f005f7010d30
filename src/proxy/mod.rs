//! What happens between a request and its answer.

pub mod forwarded;
pub mod handshake;
pub mod rejection;
