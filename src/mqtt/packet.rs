//! What every packet begins with: its type, its flags, its length (MQTT 2.1).

use super::Fault;

/// The greatest remaining length a packet can have, in bytes (MQTT 1.5.5).
pub const MAX_REMAINING: u32 = 268_435_455;

/// The type of a packet (MQTT 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum PacketType {
    Connect = 1,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Pingreq,
    Pingresp,
    Disconnect,
    /// MQTT 5 only.
    Auth,
}

impl PacketType {
    /// All types; each stands at its [`index`](Self::index).
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Connack,
        Self::Publish,
        Self::Puback,
        Self::Pubrec,
        Self::Pubrel,
        Self::Pubcomp,
        Self::Subscribe,
        Self::Suback,
        Self::Unsubscribe,
        Self::Unsuback,
        Self::Pingreq,
        Self::Pingresp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type in a packet's first byte; `None` for 0, which means none.
    #[must_use]
    pub fn from_byte(first: u8) -> Option<Self> {
        usize::from(first >> 4).checked_sub(1).and_then(|index| Self::ALL.get(index)).copied()
    }

    /// 0 to 14, for a table by type.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize - 1
    }

    /// A name for a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Connack => "connack",
            Self::Publish => "publish",
            Self::Puback => "puback",
            Self::Pubrec => "pubrec",
            Self::Pubrel => "pubrel",
            Self::Pubcomp => "pubcomp",
            Self::Subscribe => "subscribe",
            Self::Suback => "suback",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsuback => "unsuback",
            Self::Pingreq => "pingreq",
            Self::Pingresp => "pingresp",
            Self::Disconnect => "disconnect",
            Self::Auth => "auth",
        }
    }
}

/// A packet's fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    /// The packet's type.
    pub packet_type: PacketType,
    /// The low four bits of the first byte.
    pub flags: u8,
    /// Bytes of the packet behind this header, at most [`MAX_REMAINING`].
    pub remaining: u32,
    /// Bytes of this header, 2 to 5.
    pub header_length: u8,
}

impl FixedHeader {
    /// The longest fixed header, in bytes.
    pub const MAX: usize = 5;

    /// Bytes of the whole packet.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.header_length as u32 + self.remaining
    }

    /// The header at the start of `bytes` and how many bytes it takes; `None` while it is not whole.
    ///
    /// A length in more bytes than it needs is accepted: 3.1.1 does not forbid it, and here we don't know the level.
    ///
    /// # Errors
    /// As soon as the bytes so far cannot become a header that MQTT 2.1 allows.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, PacketError> {
        Self::decode_by(|index| bytes.get(index).copied())
    }

    /// The same of bytes that lie anywhere: what is masked need not be copied (`skim-client-small`).
    #[inline]
    pub(super) fn decode_by(
        byte: impl Fn(usize) -> Option<u8>,
    ) -> Result<Option<(Self, usize)>, PacketError> {
        let Some(first) = byte(0) else { return Ok(None) };
        let packet_type = PacketType::from_byte(first).ok_or(PacketError::TypeZero)?;
        let flags = check_flags(packet_type, first & 0x0F)?;
        let Some((remaining, length)) = decode_length(|index| byte(1 + index))? else { return Ok(None) };
        let size = 1 + length;
        Ok(Some((Self { packet_type, flags, remaining, header_length: size as u8 }, size)))
    }
}

#[inline]
fn check_flags(packet_type: PacketType, flags: u8) -> Result<u8, PacketError> {
    // Bit n stands for the flags n: a table, and no jump (`wrap-small`).
    let allowed: u16 = match packet_type {
        // All but those with both QoS bits.
        PacketType::Publish => 0b0011_1111_0011_1111,
        PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 1 << 0b0010,
        _ => 1 << 0,
    };
    match packet_type {
        _ if allowed >> flags & 1 == 1 => Ok(flags),
        PacketType::Publish => Err(PacketError::QosThree),
        _ => Err(PacketError::Flags { packet_type, flags }),
    }
}

/// A variable byte integer and how many bytes it takes (MQTT 1.5.5); `None` while it is not whole.
#[inline]
pub(super) fn decode_length(byte: impl Fn(usize) -> Option<u8>) -> Result<Option<(u32, usize)>, PacketError> {
    let mut length = 0;
    for index in 0..4 {
        let Some(byte) = byte(index) else { return Ok(None) };
        length |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    Err(PacketError::LengthTooLong)
}

/// Why a stream of packets cannot be followed, or a packet not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Packet type 0.
    #[error("packet type 0, which is no packet (MQTT 2.1.2)")]
    TypeZero,
    /// Flags that the type must not have.
    #[error("{} with the reserved flags {flags:#06b} [MQTT-2.1.3-1]", packet_type.label())]
    Flags {
        /// The packet's type.
        packet_type: PacketType,
        /// The low four bits of its first byte.
        flags: u8,
    },
    /// A PUBLISH with both QoS bits.
    #[error("publish with QoS 3 [MQTT-3.3.1-4]")]
    QosThree,
    /// A variable byte integer of more than four bytes.
    #[error("a length of more than four bytes (MQTT 1.5.5)")]
    LengthTooLong,
    /// A packet over the limit.
    #[error("packet of {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Bytes of the whole packet.
        size: u32,
        /// Bytes allowed.
        limit: u32,
    },
    /// Another packet where a CONNACK was expected.
    #[error("{} where a connack was expected", .0.label())]
    NotConnack(PacketType),
    /// A CONNACK that breaks the rules.
    #[error("malformed connack: {0}")]
    Connack(Fault),
}

impl PacketError {
    /// A short name for a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::TypeZero => "packet_type",
            Self::Flags { .. } => "packet_flags",
            Self::QosThree => "qos_three",
            Self::LengthTooLong => "packet_length",
            Self::TooLarge { .. } => "packet_too_large",
            Self::NotConnack(_) => "not_connack",
            Self::Connack(_) => "malformed_connack",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_stands_at_its_index() {
        for (index, packet_type) in PacketType::ALL.into_iter().enumerate() {
            assert_eq!(packet_type.index(), index);
            assert_eq!(PacketType::from_byte((index as u8 + 1) << 4), Some(packet_type));
        }
        assert_eq!(PacketType::from_byte(0x0F), None);
    }

    #[test]
    fn flags_are_what_the_type_wants() {
        for first in 0..=u8::MAX {
            // MQTT 2.1.3, table 2-2.
            let allowed = match first {
                0x30..=0x35 | 0x38..=0x3D => true,
                0x62 | 0x82 | 0xA2 => true,
                0x00..=0x0F | 0x30..=0x3F | 0x60..=0x6F | 0x80..=0x8F | 0xA0..=0xAF => false,
                _ => first & 0x0F == 0,
            };
            let decoded = FixedHeader::decode(&[first, 0]);
            assert_eq!(decoded.is_ok(), allowed, "{first:#04x}: {decoded:?}");
            assert_eq!(FixedHeader::decode(&[first]).is_ok(), allowed, "{first:#04x} alone");
        }
    }

    #[test]
    fn lengths_of_one_to_four_bytes() {
        // MQTT 1.5.5, table 1-1, and lengths that take more bytes than they need.
        let table: &[(&[u8], u32)] = &[
            (&[0x00], 0),
            (&[0x7F], 127),
            (&[0x80, 0x01], 128),
            (&[0xFF, 0x7F], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (&[0xFF, 0xFF, 0x7F], 2_097_151),
            (&[0x80, 0x80, 0x80, 0x01], 2_097_152),
            (&[0xFF, 0xFF, 0xFF, 0x7F], MAX_REMAINING),
            (&[0x82, 0x80, 0x00], 2),
        ];
        for (length, remaining) in table {
            let bytes = [&[0x30], *length, &[0xFF]].concat();
            let (header, size) = FixedHeader::decode(&bytes).unwrap().unwrap();
            assert_eq!((header.remaining, size), (*remaining, 1 + length.len()));
            assert_eq!(header.size(), remaining + size as u32);
            for end in 0..size {
                assert_eq!(FixedHeader::decode(&bytes[..end]), Ok(None));
            }
        }
        let endless = [0x30, 0x80, 0x80, 0x80, 0x80];
        assert_eq!(FixedHeader::decode(&endless), Err(PacketError::LengthTooLong));
    }
}
