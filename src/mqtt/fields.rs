//! The fields inside a packet (MQTT 1.5) and the properties of MQTT 5 (2.2.2).

use super::PacketError;
use super::packet::decode_length;

/// What is wrong inside a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The packet ends inside a field.
    #[error("it ends inside the {0}")]
    Truncated(&'static str),
    /// Text that is not UTF-8.
    #[error("the {0} is not UTF-8 [MQTT-1.5.4-1]")]
    NotUtf8(&'static str),
    /// Text with U+0000.
    #[error("the {0} holds U+0000 [MQTT-1.5.4-2]")]
    Nul(&'static str),
    /// Bytes behind the last field.
    #[error("{0} bytes follow its last field")]
    Trailing(usize),
    /// Bits that must be zero.
    #[error("a reserved flag is set [MQTT-3.1.2-3] [MQTT-3.2.2-1]")]
    ReservedFlag,
    /// A Will with both QoS bits.
    #[error("the Will has QoS 3 [MQTT-3.1.2-12]")]
    WillQos,
    /// QoS or retain of a Will that is not there.
    #[error("Will QoS or Will Retain is set without a Will [MQTT-3.1.2-11]")]
    WillFlags,
    /// A password of nobody.
    #[error("there is a password but no user name [MQTT-3.1.2-22]")]
    PasswordWithoutUsername,
    /// A property length that is not a length.
    #[error("the property length takes more than four bytes (MQTT 1.5.5)")]
    PropertyLength,
    /// A property that does not belong here.
    #[error("property {0:#04x} does not belong here (MQTT 2.2.2.2)")]
    Property(u8),
    /// A property given twice.
    #[error("property {0:#04x} is there twice (MQTT 2.2.2.2)")]
    DuplicateProperty(u8),
    /// A property with a value it must not have.
    #[error("property {0:#04x} has a value it must not have (MQTT 3.1.2.11)")]
    PropertyValue(u8),
    /// Authentication data of no method.
    #[error("there is Authentication Data but no Authentication Method (MQTT 3.1.2.11.10)")]
    AuthenticationData,
}

impl Fault {
    /// Whether MQTT 5 calls it a Protocol Error (0x82) and not a Malformed Packet (0x81).
    pub(super) const fn is_protocol_error(self) -> bool {
        matches!(self, Self::DuplicateProperty(_) | Self::PropertyValue(_) | Self::AuthenticationData)
    }
}

/// The fields still to be read.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The bytes behind a length that says how many they are (MQTT 5, 2.2.2.1).
    pub(super) fn take_counted(&mut self) -> Option<&'a [u8]> {
        let length = self.variable().ok()??;
        self.take(usize::try_from(length).ok()?, "what is counted").ok()
    }

    /// Done: nothing may follow.
    pub(super) const fn end(self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(Fault::Trailing(self.rest.len())) }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Fault> {
        let (field, rest) = self.rest.split_at_checked(length).ok_or(Fault::Truncated(what))?;
        self.rest = rest;
        Ok(field)
    }

    fn take_array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Fault> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated(what))?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, Fault> {
        self.take_array(what).map(|[byte]| byte)
    }

    pub(super) fn two(&mut self, what: &'static str) -> Result<u16, Fault> {
        self.take_array(what).map(u16::from_be_bytes)
    }

    pub(super) fn four(&mut self, what: &'static str) -> Result<u32, Fault> {
        self.take_array(what).map(u32::from_be_bytes)
    }

    /// A variable byte integer (MQTT 5, 1.5.5); `None` while it is not whole.
    pub(super) fn variable(&mut self) -> Result<Option<u32>, PacketError> {
        let Some((number, size)) = decode_length(|index| self.rest.get(index).copied())? else {
            return Ok(None);
        };
        self.rest = &self.rest[size..];
        Ok(Some(number))
    }

    pub(super) fn binary(&mut self, what: &'static str) -> Result<&'a [u8], Fault> {
        let length = self.two(what)?;
        self.take(usize::from(length), what)
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, Fault> {
        let text = std::str::from_utf8(self.binary(what)?).map_err(|_| Fault::NotUtf8(what))?;
        if text.contains('\0') { Err(Fault::Nul(what)) } else { Ok(text) }
    }

    /// The properties that stand here, of which only those in `allowed` may be there.
    pub(super) fn properties(&mut self, allowed: PropertySet) -> Result<Properties<'a>, Fault> {
        let length =
            self.variable().map_err(|_| Fault::PropertyLength)?.ok_or(Fault::Truncated("property length"))?;
        // A length that no usize holds is longer than the packet too.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Properties {
            fields: Fields::new(self.take(length, "properties")?),
            allowed,
            seen: PropertySet(0),
        })
    }
}

/// A set of properties: bit n is the property with identifier n.
#[derive(Clone, Copy)]
pub(super) struct PropertySet(u64);

impl PropertySet {
    pub(super) const fn of(ids: &[u8]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < ids.len() {
            bits |= 1 << ids[index];
            index += 1;
        }
        Self(bits)
    }

    pub(super) const fn contains(self, id: u8) -> bool {
        id < 64 && self.0 >> id & 1 == 1
    }
}

/// The identifiers of properties, and what shape each has (MQTT 2.2.2.2).
pub(super) mod property {
    pub(in crate::mqtt) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(in crate::mqtt) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(in crate::mqtt) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::mqtt) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in crate::mqtt) const CORRELATION_DATA: u8 = 0x09;
    pub(in crate::mqtt) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(in crate::mqtt) const SESSION_EXPIRY: u8 = 0x11;
    pub(in crate::mqtt) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(in crate::mqtt) const SERVER_KEEPALIVE: u8 = 0x13;
    pub(in crate::mqtt) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in crate::mqtt) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in crate::mqtt) const REQUEST_PROBLEM: u8 = 0x17;
    pub(in crate::mqtt) const WILL_DELAY: u8 = 0x18;
    pub(in crate::mqtt) const REQUEST_RESPONSE: u8 = 0x19;
    pub(in crate::mqtt) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(in crate::mqtt) const SERVER_REFERENCE: u8 = 0x1C;
    pub(in crate::mqtt) const REASON: u8 = 0x1F;
    pub(in crate::mqtt) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in crate::mqtt) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(in crate::mqtt) const TOPIC_ALIAS: u8 = 0x23;
    pub(in crate::mqtt) const MAXIMUM_QOS: u8 = 0x24;
    pub(in crate::mqtt) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in crate::mqtt) const USER_PROPERTY: u8 = 0x26;
    pub(in crate::mqtt) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(in crate::mqtt) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(in crate::mqtt) const SUBSCRIPTION_ID_AVAILABLE: u8 = 0x29;
    pub(in crate::mqtt) const SHARED_AVAILABLE: u8 = 0x2A;

    /// What a property's value is made of, whatever it says.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::mqtt) enum Shape {
        Byte,
        Two,
        Four,
        /// A variable byte integer.
        Variable,
        Binary,
        Text,
        /// A name and its value.
        TwoTexts,
    }

    /// The shape of a property; `None` where no property has this identifier.
    pub(in crate::mqtt) const fn shape(id: u8) -> Option<Shape> {
        Some(match id {
            PAYLOAD_FORMAT
            | REQUEST_PROBLEM
            | REQUEST_RESPONSE
            | MAXIMUM_QOS
            | RETAIN_AVAILABLE
            | WILDCARD_AVAILABLE
            | SUBSCRIPTION_ID_AVAILABLE
            | SHARED_AVAILABLE => Shape::Byte,
            SERVER_KEEPALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => Shape::Two,
            MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | MAXIMUM_PACKET_SIZE => Shape::Four,
            SUBSCRIPTION_ID => Shape::Variable,
            CORRELATION_DATA | AUTHENTICATION_DATA => Shape::Binary,
            CONTENT_TYPE
            | RESPONSE_TOPIC
            | ASSIGNED_CLIENT_ID
            | AUTHENTICATION_METHOD
            | RESPONSE_INFORMATION
            | SERVER_REFERENCE
            | REASON => Shape::Text,
            USER_PROPERTY => Shape::TwoTexts,
            _ => return None,
        })
    }
}

/// A property's value; text and bytes are checked, but nobody here asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Unread,
}

/// The properties of a packet, one by one.
pub(super) struct Properties<'a> {
    fields: Fields<'a>,
    allowed: PropertySet,
    seen: PropertySet,
}

impl Properties<'_> {
    /// The next property; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Value)>, Fault> {
        use property::*;
        const WHAT: &str = "properties";

        if self.fields.is_empty() {
            return Ok(None);
        }
        // An identifier is a variable byte integer, but all that exist take one byte.
        let id = self.fields.byte(WHAT)?;
        if !self.allowed.contains(id) {
            return Err(Fault::Property(id));
        }
        if self.seen.contains(id) && id != USER_PROPERTY {
            return Err(Fault::DuplicateProperty(id));
        }
        self.seen.0 |= 1 << id;
        let value = match shape(id) {
            // All of them are 0 or 1.
            Some(Shape::Byte) => match self.fields.byte(WHAT)? {
                byte @ 0..=1 => Value::Byte(byte),
                _ => return Err(Fault::PropertyValue(id)),
            },
            Some(Shape::Two) => match self.fields.two(WHAT)? {
                0 if id == RECEIVE_MAXIMUM => return Err(Fault::PropertyValue(id)),
                two => Value::Two(two),
            },
            Some(Shape::Four) => match self.fields.four(WHAT)? {
                0 if id == MAXIMUM_PACKET_SIZE => return Err(Fault::PropertyValue(id)),
                four => Value::Four(four),
            },
            Some(Shape::Binary) => {
                self.fields.binary(WHAT)?;
                Value::Unread
            }
            Some(Shape::Text) => {
                self.fields.text(WHAT)?;
                Value::Unread
            }
            Some(Shape::TwoTexts) => {
                self.fields.text("user property")?;
                self.fields.text("user property")?;
                Value::Unread
            }
            // No packet that is read here may have one.
            Some(Shape::Variable) | None => return Err(Fault::Property(id)),
        };
        Ok(Some((id, value)))
    }
}
