//! MQTT 3.1, 3.1.1 and 5, bytes in and facts out: no I/O, no clock.
//!
//! A session begins with a [`Connect`], read whole and checked. From then on [`PacketSkim`] follows the packets of
//! one direction over any split of its bytes, without touching their bodies. The broker's [`Connack`] is read for
//! what we need of it, and [`Reply`] holds the few packets we say ourselves.

mod connack;
mod connect;
mod fields;
mod packet;
mod reply;
mod request;
mod skim;
mod variable;

pub use connack::Connack;
pub use connect::{Connect, ConnectError, Level};
pub use fields::Fault;
pub use packet::{FixedHeader, MAX_REMAINING, PacketError, PacketType};
pub use reply::{DISCONNECT, DisconnectReason, Refusal, Reply, connack, disconnect_v5};
pub use request::{DISCONNECT_V311, connect_v311};
pub use skim::{PacketSkim, PacketStart};
pub use variable::VariableHeader;
