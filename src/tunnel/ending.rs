//! Why a session stopped, and whose doing it was.

use crate::drain::{Asked, Will};
use crate::mqtt::{ConnectError, DisconnectReason, PacketError};
use crate::websocket::{CloseCode, FrameError};

/// The one reason a session has in the access log and the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The client said DISCONNECT or sent a WebSocket close frame.
    ClientClosed,
    /// The client was gone without a goodbye: the broker fires its Will.
    ClientVanished,
    /// The client was silent for longer than its keepalive allows.
    ClientIdle,
    /// The client did not take our bytes for the write-stall timeout.
    ClientStalled,
    /// No whole CONNECT came in time.
    ConnectTimeout,
    /// What came was no CONNECT, or one that we must refuse.
    ConnectRefused(ConnectError),
    /// The client broke WebSocket.
    ClientFrame(FrameError),
    /// The client broke MQTT.
    ClientPacket(PacketError),
    /// The broker refused the client with a CONNACK, and closed.
    BrokerRefused,
    /// The broker said DISCONNECT, sent a close frame or closed its stream.
    BrokerClosed,
    /// The broker's connection broke.
    BrokerVanished,
    /// The broker did not take our bytes for the write-stall timeout.
    BrokerStalled,
    /// The broker broke WebSocket.
    BrokerFrame(FrameError),
    /// The broker broke MQTT.
    BrokerPacket(PacketError),
    /// No endpoint was up, below its cap and willing.
    NoBroker,
    /// The broker answered our upgrade with 401 or 403.
    NotAuthorized,
    /// We were asked to drain.
    Drained,
    /// A person wanted this session to end.
    Kicked,
    /// We were told to stop at once.
    Cut,
}

impl Ending {
    /// One of each label, so that a counter exists before its first ending.
    const EACH: [Self; 20] = [
        Self::ClientClosed,
        Self::ClientVanished,
        Self::ClientIdle,
        Self::ClientStalled,
        Self::ConnectTimeout,
        Self::ConnectRefused(ConnectError::ProtocolName),
        Self::ClientFrame(FrameError::Text),
        Self::ClientPacket(PacketError::TypeZero),
        Self::ClientPacket(PacketError::TooLarge { size: 0, limit: 0 }),
        Self::BrokerRefused,
        Self::BrokerClosed,
        Self::BrokerVanished,
        Self::BrokerStalled,
        Self::BrokerFrame(FrameError::Text),
        Self::BrokerPacket(PacketError::TypeZero),
        Self::NoBroker,
        Self::NotAuthorized,
        Self::Drained,
        Self::Kicked,
        Self::Cut,
    ];

    /// The ending of a session that is asked to go, and what becomes of its Will.
    #[must_use]
    pub const fn asked(asked: Asked) -> (Self, Will) {
        match asked {
            Asked::Drain(will) => (Self::Drained, will),
            Asked::Kick(will) => (Self::Kicked, will),
        }
    }

    /// Every label, and whose doing it is.
    pub fn all_labels() -> impl Iterator<Item = (&'static str, &'static str)> {
        Self::EACH.into_iter().map(|ending| (ending.label(), ending.by().label()))
    }

    /// The metric label and the access log's word.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::ClientVanished => "client_vanished",
            Self::ClientIdle => "client_idle",
            Self::ClientStalled => "client_stalled",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectRefused(_) => "connect_refused",
            Self::ClientFrame(_) => "client_frame",
            Self::ClientPacket(PacketError::TooLarge { .. }) => "packet_too_large",
            Self::ClientPacket(_) => "client_packet",
            Self::BrokerRefused => "broker_refused",
            Self::BrokerClosed => "broker_closed",
            Self::BrokerVanished => "broker_vanished",
            Self::BrokerStalled => "broker_stalled",
            Self::BrokerFrame(_) => "broker_frame",
            Self::BrokerPacket(_) => "broker_packet",
            Self::NoBroker => "no_broker",
            Self::NotAuthorized => "not_authorized",
            Self::Drained => "drained",
            Self::Kicked => "kicked",
            Self::Cut => "cut",
        }
    }

    /// Whose doing it was.
    #[must_use]
    pub const fn by(&self) -> By {
        match self {
            Self::ClientClosed
            | Self::ClientVanished
            | Self::ClientIdle
            | Self::ClientStalled
            | Self::ConnectTimeout
            | Self::ConnectRefused(_)
            | Self::ClientFrame(_)
            | Self::ClientPacket(_) => By::Client,
            Self::BrokerRefused
            | Self::BrokerClosed
            | Self::BrokerVanished
            | Self::BrokerStalled
            | Self::BrokerFrame(_)
            | Self::BrokerPacket(_)
            | Self::NoBroker
            | Self::NotAuthorized => By::Broker,
            Self::Drained | Self::Kicked | Self::Cut => By::Gateway,
        }
    }

    /// What the WebSocket close frame says to the client (RFC 6455, 7.4.1), where it can still read one.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::ClientClosed | Self::BrokerRefused => CloseCode::Normal,
            Self::ClientVanished
            | Self::ClientIdle
            | Self::ClientStalled
            | Self::BrokerClosed
            | Self::Drained
            | Self::Cut => CloseCode::GoingAway,
            Self::ConnectRefused(ConnectError::TooLarge { .. })
            | Self::ClientPacket(PacketError::TooLarge { .. }) => CloseCode::TooBig,
            Self::ConnectRefused(_) | Self::ClientPacket(_) => CloseCode::Protocol,
            Self::ConnectTimeout | Self::NotAuthorized | Self::Kicked => CloseCode::Policy,
            Self::ClientFrame(error) => error.close_code(),
            Self::BrokerVanished | Self::BrokerStalled | Self::BrokerFrame(_) | Self::BrokerPacket(_) => {
                CloseCode::Internal
            }
            Self::NoBroker => CloseCode::TryAgainLater,
        }
    }

    /// What the close frame says beside its code: what is wrong, and what to change.
    #[must_use]
    pub fn close_reason(&self) -> String {
        match self {
            Self::ClientIdle => "silent for longer than the keepalive allows".into(),
            Self::ClientStalled => "the client did not read what it was sent".into(),
            Self::ConnectTimeout => "no MQTT CONNECT came in time".into(),
            Self::ConnectRefused(error) => error.to_string(),
            Self::ClientFrame(error) => error.to_string(),
            Self::ClientPacket(error) => error.to_string(),
            Self::BrokerClosed => "the broker closed the connection".into(),
            Self::BrokerVanished => "the connection to the broker broke".into(),
            Self::BrokerStalled | Self::BrokerFrame(_) | Self::BrokerPacket(_) => {
                "the broker does not behave".into()
            }
            Self::NoBroker => "no broker is available now".into(),
            Self::NotAuthorized => "the broker refused the client".into(),
            Self::Drained | Self::Cut => "the gateway is going away; connect again".into(),
            Self::Kicked => "the gateway's operator ended the session".into(),
            Self::ClientClosed | Self::ClientVanished | Self::BrokerRefused => String::new(),
        }
    }

    /// What exactly was wrong, for whoever reads the log; empty where the label says it all.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::ConnectRefused(error) => error.to_string(),
            Self::ClientFrame(error) | Self::BrokerFrame(error) => error.to_string(),
            Self::ClientPacket(error) | Self::BrokerPacket(error) => error.to_string(),
            _ => String::new(),
        }
    }

    /// What an MQTT 5 client is told by DISCONNECT before the close frame (MQTT 5, 3.14.2.1).
    #[must_use]
    pub const fn disconnect_reason(&self) -> Option<DisconnectReason> {
        match self {
            Self::ClientIdle => Some(DisconnectReason::KeepaliveTimeout),
            Self::ClientPacket(PacketError::TooLarge { .. }) => Some(DisconnectReason::PacketTooLarge),
            Self::ClientPacket(_) => Some(DisconnectReason::Malformed),
            Self::ClientFrame(_) => Some(DisconnectReason::Protocol),
            Self::Drained | Self::Cut => Some(DisconnectReason::ShuttingDown),
            Self::Kicked => Some(DisconnectReason::AdministrativeAction),
            _ => None,
        }
    }
}

/// Whose doing an ending was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The client's.
    Client,
    /// The broker's.
    Broker,
    /// Ours.
    Gateway,
}

impl By {
    /// The metric label and the access log's word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Broker => "broker",
            Self::Gateway => "gateway",
        }
    }
}
