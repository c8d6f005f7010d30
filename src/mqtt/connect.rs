//! The CONNECT packet, read whole and checked against 3.1, 3.1.1 and 5 (MQTT 3.1).
//!
//! Nothing is dialled before this says yes, so it says no as early as it can: while the packet is still coming, its
//! type, length, protocol and flags are checked, in constant time; the rest is read once, when all of it is here.

use super::fields::{Fault, Fields, PropertySet, Value, property};
use super::reply::{Refusal, Reply, connack, connack_v5};
use super::{FixedHeader, PacketError};

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// 3.1: `MQIsdp`, 3.
    V31,
    /// 3.1.1: `MQTT`, 4.
    V311,
    /// 5: `MQTT`, 5.
    V5,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V31, Self::V311, Self::V5];

    /// The version, as people write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// What a CONNECT says, as far as a gateway needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version the client speaks.
    pub level: Level,
    /// The ClientID as it was sent; may be empty, and may hold anything but U+0000.
    pub client_id: Box<str>,
    /// The user name as it was sent.
    pub username: Option<Box<str>>,
    /// Seconds; 0 is none.
    pub keepalive: u16,
    /// Clean Start; "clean session" before 5.
    pub clean_start: bool,
    /// Whether there is a Will.
    pub will: bool,
    /// How long the broker shall keep the session, in seconds; 5 only.
    pub session_expiry: Option<u32>,
    /// How many QoS 1 and 2 messages the client takes at once; 5 only.
    pub receive_maximum: Option<u16>,
    /// The greatest packet the client takes, in bytes; 5 only.
    pub maximum_packet_size: Option<u32>,
    /// Bytes of the whole packet.
    pub size: usize,
}

impl Connect {
    /// The CONNECT at the start of `bytes`; `None` while it is not whole.
    ///
    /// # Errors
    /// When the bytes so far are no beginning of a CONNECT of at most `max_size` bytes, or the whole is not one that
    /// MQTT 3.1 to 5 allow.
    pub fn parse(bytes: &[u8], max_size: usize) -> Result<Option<Self>, ConnectError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first != 0x10 {
            return Err(ConnectError::NotConnect { first });
        }
        let Some((header, start)) = FixedHeader::decode(bytes).map_err(ConnectError::Header)? else {
            return Ok(None);
        };
        let size = start + header.remaining as usize;
        let whole = bytes.get(start..size);
        let body = whole.unwrap_or(&bytes[start..]);
        let preamble = Preamble::parse(body);
        if size > max_size {
            let level = preamble.ok().flatten().map(|preamble| preamble.level);
            return Err(ConnectError::TooLarge { size, limit: max_size, level });
        }
        match (preamble?, whole) {
            (Some(preamble), Some(_)) => preamble.parse_rest(size).map(Some),
            (None, Some(_)) => Err(ConnectError::ProtocolName),
            (_, None) => Ok(None),
        }
    }
}

/// Protocol name, level and flags: what can be checked before the packet is whole.
struct Preamble<'a> {
    level: Level,
    flags: Flags,
    /// From the keepalive on.
    rest: &'a [u8],
}

impl<'a> Preamble<'a> {
    fn parse(body: &'a [u8]) -> Result<Option<Self>, ConnectError> {
        const OLD: &[u8] = b"\x00\x06MQIsdp";
        const NEW: &[u8] = b"\x00\x04MQTT";

        let (old, rest) = if let Some(rest) = body.strip_prefix(NEW) {
            (false, rest)
        } else if let Some(rest) = body.strip_prefix(OLD) {
            (true, rest)
        } else if NEW.starts_with(body) || OLD.starts_with(body) {
            return Ok(None);
        } else {
            return Err(ConnectError::ProtocolName);
        };
        let Some((&number, rest)) = rest.split_first() else { return Ok(None) };
        let level = match (old, number) {
            (true, 3) => Level::V31,
            (false, 4) => Level::V311,
            (false, 5) => Level::V5,
            _ => return Err(ConnectError::ProtocolLevel { level: number }),
        };
        let Some((&flags, rest)) = rest.split_first() else { return Ok(None) };
        let flags = Flags::parse(level, flags).map_err(|fault| ConnectError::Malformed { level, fault })?;
        Ok(Some(Self { level, flags, rest }))
    }

    fn parse_rest(self, size: usize) -> Result<Connect, ConnectError> {
        let level = self.level;
        let connect = self.parse_fields(size).map_err(|fault| ConnectError::Malformed { level, fault })?;
        let nameless = match level {
            Level::V31 => connect.client_id.is_empty(),
            Level::V311 => connect.client_id.is_empty() && !connect.clean_start,
            Level::V5 => false,
        };
        if nameless { Err(ConnectError::Identifier { level }) } else { Ok(connect) }
    }

    fn parse_fields(self, size: usize) -> Result<Connect, Fault> {
        let Self { level, flags, rest } = self;
        let mut fields = Fields::new(rest);
        let keepalive = fields.two("keepalive")?;
        let wishes = if level == Level::V5 { Wishes::parse(&mut fields)? } else { Wishes::default() };
        let client_id = fields.text("ClientID")?;
        if flags.will {
            if level == Level::V5 {
                let mut properties = fields.properties(WILL_PROPERTIES)?;
                while properties.next()?.is_some() {}
            }
            fields.text("Will topic")?;
            fields.binary("Will message")?;
        }
        // In 3.1 the length overrules the flags: what is announced may be missing (3.1, section 3.1).
        let there =
            |announced: bool, fields: &Fields<'_>| announced && !(level == Level::V31 && fields.is_empty());
        let username = if there(flags.username, &fields) { Some(fields.text("user name")?) } else { None };
        if there(flags.password, &fields) {
            fields.binary("password")?;
        }
        fields.end()?;
        Ok(Connect {
            level,
            client_id: client_id.into(),
            username: username.map(Into::into),
            keepalive,
            clean_start: flags.clean_start,
            will: flags.will,
            session_expiry: wishes.session_expiry,
            receive_maximum: wishes.receive_maximum,
            maximum_packet_size: wishes.maximum_packet_size,
            size,
        })
    }
}

/// The connect flags (MQTT 3.1.2.3).
struct Flags {
    username: bool,
    password: bool,
    will: bool,
    clean_start: bool,
}

impl Flags {
    fn parse(level: Level, byte: u8) -> Result<Self, Fault> {
        let has = |bit: u8| byte >> bit & 1 == 1;
        let flags = Self { username: has(7), password: has(6), will: has(2), clean_start: has(1) };
        let will_qos = byte >> 3 & 0b11;
        // 3.1 reserves the last bit without saying what it must be.
        if has(0) && level != Level::V31 {
            return Err(Fault::ReservedFlag);
        }
        if will_qos == 3 {
            return Err(Fault::WillQos);
        }
        if !flags.will && (will_qos != 0 || has(5)) {
            return Err(Fault::WillFlags);
        }
        if flags.password && !flags.username && level != Level::V5 {
            return Err(Fault::PasswordWithoutUsername);
        }
        Ok(flags)
    }
}

const CONNECT_PROPERTIES: PropertySet = PropertySet::of(&[
    property::SESSION_EXPIRY,
    property::AUTHENTICATION_METHOD,
    property::AUTHENTICATION_DATA,
    property::REQUEST_PROBLEM,
    property::REQUEST_RESPONSE,
    property::RECEIVE_MAXIMUM,
    property::TOPIC_ALIAS_MAXIMUM,
    property::USER_PROPERTY,
    property::MAXIMUM_PACKET_SIZE,
]);

const WILL_PROPERTIES: PropertySet = PropertySet::of(&[
    property::PAYLOAD_FORMAT,
    property::MESSAGE_EXPIRY,
    property::CONTENT_TYPE,
    property::RESPONSE_TOPIC,
    property::CORRELATION_DATA,
    property::WILL_DELAY,
    property::USER_PROPERTY,
]);

/// The properties of a CONNECT that we heed (MQTT 3.1.2.11).
#[derive(Default)]
struct Wishes {
    session_expiry: Option<u32>,
    receive_maximum: Option<u16>,
    maximum_packet_size: Option<u32>,
}

impl Wishes {
    fn parse(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let mut wishes = Self::default();
        let (mut method, mut data) = (false, false);
        let mut properties = fields.properties(CONNECT_PROPERTIES)?;
        while let Some(property) = properties.next()? {
            match property {
                (property::SESSION_EXPIRY, Value::Four(seconds)) => wishes.session_expiry = Some(seconds),
                (property::RECEIVE_MAXIMUM, Value::Two(messages)) => wishes.receive_maximum = Some(messages),
                (property::MAXIMUM_PACKET_SIZE, Value::Four(bytes)) => {
                    wishes.maximum_packet_size = Some(bytes);
                }
                (property::AUTHENTICATION_METHOD, _) => method = true,
                (property::AUTHENTICATION_DATA, _) => data = true,
                _ => {}
            }
        }
        if data && !method { Err(Fault::AuthenticationData) } else { Ok(wishes) }
    }
}

/// Why a client's first bytes are not a CONNECT that we take to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Another packet, or not MQTT at all.
    #[error("the first byte is {first:#04x}, not a CONNECT's 0x10 [MQTT-3.1.0-1]")]
    NotConnect {
        /// The first byte.
        first: u8,
    },
    /// A length that is not a length.
    #[error("the CONNECT has no sound fixed header: {0}")]
    Header(#[source] PacketError),
    /// Over the limit.
    #[error("the CONNECT takes {size} bytes; `limits.max_connect_size` is {limit}")]
    TooLarge {
        /// Bytes of the whole packet.
        size: usize,
        /// Bytes allowed.
        limit: usize,
        /// The version, if it had come by then.
        level: Option<Level>,
    },
    /// Not MQTT.
    #[error("the protocol name is neither MQTT nor MQIsdp [MQTT-3.1.2-1]")]
    ProtocolName,
    /// A version we don't know.
    #[error("protocol level {level} is none of 3.1, 3.1.1 and 5 [MQTT-3.1.2-2]")]
    ProtocolLevel {
        /// The level byte.
        level: u8,
    },
    /// A ClientID that this version does not allow.
    #[error("the ClientID is empty, which MQTT {} does not allow here [MQTT-3.1.3-8]", level.label())]
    Identifier {
        /// The version.
        level: Level,
    },
    /// Bytes that break the rules.
    #[error("the CONNECT (MQTT {}) is malformed: {fault}", level.label())]
    Malformed {
        /// The version.
        level: Level,
        /// The rule.
        fault: Fault,
    },
}

impl ConnectError {
    /// A short name for a metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotConnect { .. } => "not_connect",
            Self::Header(_) => "header",
            Self::TooLarge { .. } => "too_large",
            Self::ProtocolName => "protocol_name",
            Self::ProtocolLevel { .. } => "protocol_level",
            Self::Identifier { .. } => "identifier",
            Self::Malformed { .. } => "malformed",
        }
    }

    /// The CONNACK to say it with; `None` where the specification has none and just closes.
    #[must_use]
    pub fn reply(&self) -> Option<Reply> {
        match *self {
            // The top bit marks the bridges of a well-known broker, which speak 3 and try again without it.
            Self::ProtocolLevel { level: 6..=0x7F } => Some(connack(Level::V5, Refusal::ProtocolLevel)),
            Self::ProtocolLevel { .. } => Some(connack(Level::V311, Refusal::ProtocolLevel)),
            Self::Identifier { level } => Some(connack(level, Refusal::Identifier)),
            Self::TooLarge { level: Some(Level::V5), .. } => Some(connack_v5(0x95)),
            Self::Malformed { level: Level::V5, fault } => {
                Some(connack_v5(if fault.is_protocol_error() { 0x82 } else { 0x81 }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
