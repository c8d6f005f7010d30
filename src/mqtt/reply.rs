//! The packets we say ourselves: a refusal of a CONNECT, and goodbye to an MQTT 5 client.

use std::ops::Deref;

use super::Level;

/// A packet of our own, on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    bytes: [u8; 5],
    length: u8,
}

impl Deref for Reply {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self[..].fmt(f)
    }
}

/// Why a CONNECT gets a CONNACK from us, where every level has a code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A level we don't know.
    ProtocolLevel,
    /// A ClientID that may not be.
    Identifier,
    /// No broker to be had.
    Unavailable,
    /// Over a cap, for now.
    Busy,
    /// Over what this client may have.
    QuotaExceeded,
    /// Not allowed in.
    NotAuthorized,
}

impl Refusal {
    /// The return code of 3.1 and 3.1.1 (section 3.2.2.3).
    const fn code_v3(self) -> u8 {
        match self {
            Self::ProtocolLevel => 1,
            Self::Identifier => 2,
            Self::Unavailable | Self::Busy | Self::QuotaExceeded => 3,
            Self::NotAuthorized => 5,
        }
    }

    /// The reason code of 5 (section 3.2.2.2).
    const fn code_v5(self) -> u8 {
        match self {
            Self::ProtocolLevel => 0x84,
            Self::Identifier => 0x85,
            Self::Unavailable => 0x88,
            Self::Busy => 0x89,
            Self::QuotaExceeded => 0x97,
            Self::NotAuthorized => 0x87,
        }
    }
}

/// A CONNACK that refuses a client of this level.
#[must_use]
pub const fn connack(level: Level, refusal: Refusal) -> Reply {
    match level {
        Level::V31 | Level::V311 => Reply { bytes: [0x20, 2, 0, refusal.code_v3(), 0], length: 4 },
        Level::V5 => connack_v5(refusal.code_v5()),
    }
}

/// An MQTT 5 CONNACK with this reason code and no properties.
pub(super) const fn connack_v5(reason: u8) -> Reply {
    Reply { bytes: [0x20, 3, 0, reason, 0], length: 5 }
}

/// Why we say goodbye to an MQTT 5 client (section 3.14.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// 0x81: its bytes make no packet.
    Malformed = 0x81,
    /// 0x82: its packet may not stand there.
    Protocol = 0x82,
    /// 0x89: no capacity for it any more.
    Busy = 0x89,
    /// 0x8B: we go down.
    ShuttingDown = 0x8B,
    /// 0x8D: silent for one and a half times its keepalive.
    KeepaliveTimeout = 0x8D,
    /// 0x95: a packet over the limit.
    PacketTooLarge = 0x95,
    /// 0x96: too many messages a second.
    MessageRateTooHigh = 0x96,
    /// 0x97: over what it may have.
    QuotaExceeded = 0x97,
    /// 0x98: a person wanted so.
    AdministrativeAction = 0x98,
    /// 0x9C: reconnect, for now, to get another broker.
    UseAnotherServer = 0x9C,
}

/// A client's goodbye, of every level: the broker forgets the Will (MQTT 3.1.1, 3.14.4). In MQTT 5 it stands for
/// the reason 0x00 (3.14.2.1).
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// A DISCONNECT for an MQTT 5 client. To older clients a server may not send one.
#[must_use]
pub const fn disconnect_v5(reason: DisconnectReason) -> Reply {
    // The property length 0 could be left out, but not every client knows that.
    Reply { bytes: [0xE0, 2, reason as u8, 0, 0], length: 4 }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use mqttbytes::{v4, v5};

    use super::*;

    const REFUSALS: [(Refusal, v4::ConnectReturnCode, v5::ConnectReturnCode); 6] = [
        (
            Refusal::ProtocolLevel,
            v4::ConnectReturnCode::RefusedProtocolVersion,
            v5::ConnectReturnCode::UnsupportedProtocolVersion,
        ),
        (
            Refusal::Identifier,
            v4::ConnectReturnCode::BadClientId,
            v5::ConnectReturnCode::ClientIdentifierNotValid,
        ),
        (
            Refusal::Unavailable,
            v4::ConnectReturnCode::ServiceUnavailable,
            v5::ConnectReturnCode::ServerUnavailable,
        ),
        (Refusal::Busy, v4::ConnectReturnCode::ServiceUnavailable, v5::ConnectReturnCode::ServerBusy),
        (
            Refusal::QuotaExceeded,
            v4::ConnectReturnCode::ServiceUnavailable,
            v5::ConnectReturnCode::QuotaExceeded,
        ),
        (Refusal::NotAuthorized, v4::ConnectReturnCode::NotAuthorized, v5::ConnectReturnCode::NotAuthorized),
    ];

    #[test]
    fn mqttbytes_reads_our_connacks() {
        for (refusal, code_v4, code_v5) in REFUSALS {
            for level in [Level::V31, Level::V311] {
                let packet = v4::read(&mut BytesMut::from(&connack(level, refusal)[..]), 100).unwrap();
                assert_eq!(packet, v4::Packet::ConnAck(v4::ConnAck::new(code_v4, false)));
            }
            let packet = v5::read(&mut BytesMut::from(&connack(Level::V5, refusal)[..]), 100).unwrap();
            assert_eq!(packet, v5::Packet::ConnAck(v5::ConnAck::new(code_v5, false)));
        }
    }

    #[test]
    fn mqttbytes_reads_our_disconnects() {
        use v5::DisconnectReasonCode as Theirs;
        for (ours, theirs) in [
            (DisconnectReason::Malformed, Theirs::MalformedPacket),
            (DisconnectReason::Protocol, Theirs::ProtocolError),
            (DisconnectReason::Busy, Theirs::ServerBusy),
            (DisconnectReason::ShuttingDown, Theirs::ServerShuttingDown),
            (DisconnectReason::KeepaliveTimeout, Theirs::KeepAliveTimeout),
            (DisconnectReason::PacketTooLarge, Theirs::PacketTooLarge),
            (DisconnectReason::MessageRateTooHigh, Theirs::MessageRateTooHigh),
            (DisconnectReason::QuotaExceeded, Theirs::QuotaExceeded),
            (DisconnectReason::AdministrativeAction, Theirs::AdministrativeAction),
            (DisconnectReason::UseAnotherServer, Theirs::UseAnotherServer),
        ] {
            let packet = v5::read(&mut BytesMut::from(&disconnect_v5(ours)[..]), 100).unwrap();
            let v5::Packet::Disconnect(disconnect) = packet else { panic!("{packet:?}") };
            assert_eq!(disconnect.reason_code, theirs);
        }
    }
}
