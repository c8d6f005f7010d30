//! One frame header, read and written (RFC 6455, 5.2), and the small frames we send ourselves.

use std::ops::Deref;

use super::{FrameError, Mask};

/// The longest payload of a control frame, in bytes (RFC 6455, 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// What a frame is for (RFC 6455, 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message that is open.
    Continuation,
    /// A message of text. MQTT has none.
    Text,
    /// A message of bytes.
    Binary,
    /// The sender is done.
    Close,
    /// Are you there?
    Ping,
    /// I am.
    Pong,
}

impl Opcode {
    /// Whether the frame is about the connection: such a frame may stand inside a fragmented message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the last frame of its message.
    pub fin: bool,
    /// What the frame is for.
    pub opcode: Opcode,
    /// The mask of its payload: always there from a client, never from a server.
    pub mask: Option<Mask>,
    /// Payload bytes; below 2^63.
    pub length: u64,
}

impl FrameHeader {
    /// The header's bytes, with the length in its shortest form.
    #[must_use]
    pub fn encode(&self) -> HeaderBytes {
        let mut bytes = [0; HeaderBytes::MAX];
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        bytes[0] = if self.fin { 0x80 } else { 0 } | self.opcode.bits();
        // Each narrowing is of a value its arm has bounded.
        let (short, mut end) = match self.length {
            0..=125 => (self.length as u8, 2),
            126..=0xFFFF => {
                bytes[2..4].copy_from_slice(&(self.length as u16).to_be_bytes());
                (126, 4)
            }
            _ => {
                bytes[2..10].copy_from_slice(&self.length.to_be_bytes());
                (127, 10)
            }
        };
        bytes[1] = masked | short;
        if let Some(mask) = self.mask {
            bytes[end..end + 4].copy_from_slice(&mask.key());
            end += 4;
        }
        HeaderBytes { bytes, length: end as u8 }
    }

    /// The header at the start of `bytes` and how many bytes it takes; `None` while it is not whole.
    ///
    /// # Errors
    /// As soon as the bytes so far cannot become a header that RFC 6455 5.2 and 5.5 allow.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let (fin, opcode) = decode_first(first)?;
        Self::decode_rest(fin, opcode, bytes)
    }

    /// The same where the first byte has been read.
    #[inline]
    pub(super) fn decode_rest(
        fin: bool,
        opcode: Opcode,
        bytes: &[u8],
    ) -> Result<Option<(Self, usize)>, FrameError> {
        let [_, second, rest @ ..] = bytes else { return Ok(None) };
        let second = *second;
        let masked = is_masked(second);
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD {
            return Err(FrameError::ControlTooLong);
        }
        let (length, rest) = match short {
            126 => {
                let Some((long, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (longer_than(125, u64::from(u16::from_be_bytes(*long)))?, rest)
            }
            127 => {
                let Some((long, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (longer_than(0xFFFF, u64::from_be_bytes(*long))?, rest)
            }
            _ => (u64::from(short), rest),
        };
        if length >> 63 != 0 {
            return Err(FrameError::LengthTooLong);
        }
        let (mask, rest) = if masked {
            let Some((key, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (Some(Mask::new(*key)), rest)
        } else {
            (None, rest)
        };
        Ok(Some((Self { fin, opcode, mask, length }, bytes.len() - rest.len())))
    }
}

/// FIN and opcode, which a header's first byte holds.
#[inline]
pub(super) fn decode_first(byte: u8) -> Result<(bool, Opcode), FrameError> {
    if byte & 0x70 != 0 {
        return Err(FrameError::ReservedBits);
    }
    let opcode = Opcode::from_bits(byte & 0x0F).ok_or(FrameError::ReservedOpcode)?;
    let fin = byte & 0x80 != 0;
    if opcode.is_control() && !fin {
        return Err(FrameError::ControlFragmented);
    }
    Ok((fin, opcode))
}

/// Whether a header whose second byte this is belongs to a masked frame.
pub(super) const fn is_masked(second: u8) -> bool {
    second & 0x80 != 0
}

fn longer_than(shorter_form: u64, length: u64) -> Result<u64, FrameError> {
    if length > shorter_form { Ok(length) } else { Err(FrameError::LengthNotMinimal) }
}

/// An encoded header, on the stack.
#[derive(Clone, Copy)]
pub struct HeaderBytes {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl HeaderBytes {
    /// The longest header, in bytes: two, a length of eight and a mask of four.
    pub const MAX: usize = 14;
}

impl Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for HeaderBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self[..].fmt(f)
    }
}

/// Let the frame that starts with `first` begin a binary message where it says that it continues one.
/// Whether the message is still to be begun: a control frame came in between.
pub fn begin_message(first: &mut u8) -> bool {
    if *first & 0x0f == 0 {
        *first |= 0x02;
    }
    *first & 0x08 != 0
}

/// A whole frame that is a message of its own, masked with `mask` if we are the client.
///
/// The payload of a control frame is cut at [`MAX_CONTROL_PAYLOAD`] bytes.
#[must_use]
pub fn frame(opcode: Opcode, payload: &[u8], mask: Option<Mask>) -> Vec<u8> {
    let payload = match payload.get(..MAX_CONTROL_PAYLOAD) {
        Some(cut) if opcode.is_control() => cut,
        _ => payload,
    };
    let header = FrameHeader { fin: true, opcode, mask, length: payload.len() as u64 }.encode();
    let mut bytes = Vec::with_capacity(header.len() + payload.len());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(payload);
    mask.unwrap_or(Mask::NONE).apply(&mut bytes[header.len()..]);
    bytes
}

/// The unmasked answer to a Ping that carried `payload` (RFC 6455, 5.5.3).
#[must_use]
pub fn pong_frame(payload: &[u8]) -> Vec<u8> {
    frame(Opcode::Pong, payload, None)
}

#[cfg(test)]
mod tests;
