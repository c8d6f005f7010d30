//! The broker's CONNACK: did it accept, should we ask another, and does it change the keepalive (MQTT 3.2).

use super::fields::{Fault, Fields, PropertySet, Value, property};
use super::{FixedHeader, Level, PacketError, PacketType};

/// What we need of a CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack {
    /// Whether the broker still knew the client's session.
    pub session_present: bool,
    /// The return code (3.1, 3.1.1) or reason code (5).
    pub code: u8,
    /// The keepalive the broker wants instead of the client's, in seconds; 5 only.
    pub server_keepalive: Option<u16>,
    /// Bytes of the whole packet.
    pub size: usize,
}

const ALLOWED: PropertySet = PropertySet::of(&[
    property::SESSION_EXPIRY,
    property::ASSIGNED_CLIENT_ID,
    property::SERVER_KEEPALIVE,
    property::AUTHENTICATION_METHOD,
    property::AUTHENTICATION_DATA,
    property::RESPONSE_INFORMATION,
    property::SERVER_REFERENCE,
    property::REASON,
    property::RECEIVE_MAXIMUM,
    property::TOPIC_ALIAS_MAXIMUM,
    property::MAXIMUM_QOS,
    property::RETAIN_AVAILABLE,
    property::USER_PROPERTY,
    property::MAXIMUM_PACKET_SIZE,
    property::WILDCARD_AVAILABLE,
    property::SUBSCRIPTION_ID_AVAILABLE,
    property::SHARED_AVAILABLE,
]);

impl Connack {
    /// The CONNACK at the start of `bytes`, answering a CONNECT of `level`; `None` while it is not whole.
    ///
    /// The caller bounds how many bytes it gathers.
    ///
    /// # Errors
    /// When another packet stands there, or it breaks the rules of MQTT 3.2.
    pub fn parse(level: Level, bytes: &[u8]) -> Result<Option<Self>, PacketError> {
        let Some((header, start)) = FixedHeader::decode(bytes)? else { return Ok(None) };
        if header.packet_type != PacketType::Connack {
            return Err(PacketError::NotConnack(header.packet_type));
        }
        let size = start + header.remaining as usize;
        let Some(body) = bytes.get(start..size) else { return Ok(None) };
        Self::parse_body(level, body, size).map(Some).map_err(PacketError::Connack)
    }

    fn parse_body(level: Level, body: &[u8], size: usize) -> Result<Self, Fault> {
        let mut fields = Fields::new(body);
        let flags = fields.byte("flags")?;
        let code = fields.byte("code")?;
        if flags > 1 && level != Level::V31 {
            return Err(Fault::ReservedFlag);
        }
        let mut server_keepalive = None;
        // A broker that does not know 5 answers in the old form, without properties.
        if level == Level::V5 && !fields.is_empty() {
            let mut properties = fields.properties(ALLOWED)?;
            while let Some(property) = properties.next()? {
                if let (property::SERVER_KEEPALIVE, Value::Two(seconds)) = property {
                    server_keepalive = Some(seconds);
                }
            }
        }
        fields.end()?;
        // In 3.1 the first byte means nothing.
        let session_present = flags == 1 && level != Level::V31;
        Ok(Self { session_present, code, server_keepalive, size })
    }

    /// Whether the client is in.
    #[must_use]
    pub const fn accepted(&self) -> bool {
        self.code == 0
    }

    /// Whether this broker cannot take the client but another one may.
    #[must_use]
    pub const fn wants_another_server(&self) -> bool {
        // "Server moved" (0x9D) is not among them: it is for the client to remember.
        matches!(self.code, 3 | 0x88 | 0x89 | 0x9C)
    }

    /// Every [`label`](Self::label), so that each series exists from the start.
    pub const LABELS: [&'static str; 23] = [
        "accepted",
        "unsupported_protocol_version",
        "identifier_rejected",
        "server_unavailable",
        "bad_username_or_password",
        "not_authorized",
        "unspecified_error",
        "malformed_packet",
        "protocol_error",
        "implementation_specific_error",
        "server_busy",
        "banned",
        "bad_authentication_method",
        "topic_name_invalid",
        "packet_too_large",
        "quota_exceeded",
        "payload_format_invalid",
        "retain_not_supported",
        "qos_not_supported",
        "use_another_server",
        "server_moved",
        "connection_rate_exceeded",
        "other",
    ];

    /// A short name of the code, for a metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self.code {
            0 => "accepted",
            1 | 0x84 => "unsupported_protocol_version",
            2 | 0x85 => "identifier_rejected",
            3 | 0x88 => "server_unavailable",
            4 | 0x86 => "bad_username_or_password",
            5 | 0x87 => "not_authorized",
            0x80 => "unspecified_error",
            0x81 => "malformed_packet",
            0x82 => "protocol_error",
            0x83 => "implementation_specific_error",
            0x89 => "server_busy",
            0x8A => "banned",
            0x8C => "bad_authentication_method",
            0x90 => "topic_name_invalid",
            0x95 => "packet_too_large",
            0x97 => "quota_exceeded",
            0x99 => "payload_format_invalid",
            0x9A => "retain_not_supported",
            0x9B => "qos_not_supported",
            0x9C => "use_another_server",
            0x9D => "server_moved",
            0x9F => "connection_rate_exceeded",
            _ => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use mqttbytes::{v4, v5};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_old_broker_answers_a_new_client() {
        let connack = Connack::parse(Level::V5, &[0x20, 2, 0, 1]).unwrap().unwrap();
        assert_eq!(connack.label(), "unsupported_protocol_version");
        assert!(!connack.accepted() && !connack.wants_another_server());
    }

    #[test]
    fn connacks_that_are_none() {
        let table: &[(Level, &[u8], PacketError)] = &[
            (Level::V311, &[0x30, 2], PacketError::NotConnack(PacketType::Publish)),
            (Level::V5, &[0xF0, 0], PacketError::NotConnack(PacketType::Auth)),
            (Level::V311, &[0x20, 2, 2, 0], PacketError::Connack(Fault::ReservedFlag)),
            (Level::V311, &[0x20, 1, 0], PacketError::Connack(Fault::Truncated("code"))),
            (Level::V311, &[0x20, 3, 0, 0, 0], PacketError::Connack(Fault::Trailing(1))),
            (Level::V5, &[0x20, 3, 0, 0, 1], PacketError::Connack(Fault::Truncated("properties"))),
            (Level::V5, &[0x20, 5, 0, 0, 2, 0x01, 0], PacketError::Connack(Fault::Property(0x01))),
        ];
        for (level, bytes, error) in table {
            assert_eq!(Connack::parse(*level, bytes), Err(*error), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn mqttbytes_writes_connacks_we_read(
            session_present: bool,
            keepalive: Option<u16>,
            reason: Option<String>,
            user in prop::collection::vec(any::<(String, String)>(), 0..3),
            trailing: Vec<u8>,
        ) {
            let clean = |text: &String| text.replace('\0', "");
            let mut bytes = BytesMut::new();
            let mut theirs = v5::ConnAck::new(v5::ConnectReturnCode::ServerBusy, session_present);
            theirs.properties = Some(v5::ConnAckProperties {
                session_expiry_interval: Some(7),
                receive_max: None,
                max_qos: None,
                retain_available: Some(1),
                max_packet_size: None,
                assigned_client_identifier: None,
                topic_alias_max: Some(3),
                reason_string: reason.as_ref().map(clean),
                user_properties: user.iter().map(|(key, value)| (clean(key), clean(value))).collect(),
                wildcard_subscription_available: None,
                subscription_identifiers_available: None,
                shared_subscription_available: None,
                server_keep_alive: keepalive,
                response_information: None,
                server_reference: None,
                authentication_method: None,
                authentication_data: None,
            });
            theirs.write(&mut bytes).unwrap();
            let size = bytes.len();
            for end in 0..size {
                prop_assert_eq!(Connack::parse(Level::V5, &bytes[..end]), Ok(None));
            }
            bytes.extend_from_slice(&trailing);
            let ours = Connack::parse(Level::V5, &bytes).unwrap().unwrap();
            prop_assert_eq!(ours, Connack { session_present, code: 0x89, server_keepalive: keepalive, size });
            prop_assert!(ours.wants_another_server());

            let mut bytes = BytesMut::new();
            v4::ConnAck::new(v4::ConnectReturnCode::Success, session_present).write(&mut bytes).unwrap();
            let ours = Connack::parse(Level::V311, &bytes).unwrap().unwrap();
            prop_assert_eq!(ours, Connack { session_present, code: 0, server_keepalive: None, size: 4 });
            prop_assert!(ours.accepted());
        }
    }
}
