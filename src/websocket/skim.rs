//! Following the frames of one direction over any split of its bytes, at O(1) a frame.
//!
//! The tunnel asks of each piece it read: what are the next bytes? Payload is counted, never looked at.

use super::FrameError;
use super::frame::{self, FrameHeader, HeaderBytes, Opcode};
use super::mask::Mask;

/// Whose frames a skim follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's: all masked.
    Client,
    /// The broker's: none masked.
    Broker,
}

/// What the bytes are that [`FrameSkim::next`] has just taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes of a header that is not whole yet.
    HeaderPart,
    /// The last bytes of a header, or all of them. A frame of length 0 has no payload segment: it is over now.
    Header(FrameHeader),
    /// Payload of a message.
    Data {
        /// For the segment's first byte.
        mask: Mask,
    },
    /// Payload of a control frame.
    Control {
        /// Close, Ping or Pong.
        opcode: Opcode,
        /// For the segment's first byte.
        mask: Mask,
        /// Where in the frame's payload the segment begins.
        offset: u8,
        /// Whether the payload ends with this segment.
        last: bool,
    },
}

/// Where we are in one direction's stream of frames.
///
/// After an error it has lost its place: the stream must be given up.
#[derive(Clone, Debug)]
pub struct FrameSkim {
    /// The frame whose payload is being read.
    current: Option<FrameHeader>,
    /// Payload bytes of it still to come; never 0 while there is a current frame.
    remaining: u64,
    /// The beginning of a header that was cut off, `partial_length` bytes of it.
    partial: [u8; HeaderBytes::MAX],
    partial_length: u8,
    from: Side,
    in_message: bool,
    closed: bool,
}

impl FrameSkim {
    /// A skim at the start of a stream.
    #[must_use]
    pub const fn new(from: Side) -> Self {
        Self {
            current: None,
            remaining: 0,
            partial: [0; HeaderBytes::MAX],
            partial_length: 0,
            from,
            in_message: false,
            closed: false,
        }
    }

    /// How many of the next bytes belong together, and what they are. Of a non-empty `input`, at least one is
    /// taken. The same stream gives the same segments however it is split, but that each split divides one.
    ///
    /// # Errors
    /// As soon as the bytes cannot be the beginning of a frame that may stand here.
    #[inline]
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Segment), FrameError> {
        match self.current {
            Some(frame) => Ok(self.take_payload(frame, input.len())),
            None if self.partial_length == 0 => self.take_header(input),
            None => self.take_rest_of_header(input),
        }
    }

    fn take_payload(&mut self, frame: FrameHeader, available: usize) -> (usize, Segment) {
        let mask = self.mask();
        let offset = frame.length - self.remaining;
        let taken = usize::try_from(self.remaining).map_or(available, |remaining| remaining.min(available));
        self.remaining -= taken as u64;
        let last = self.remaining == 0;
        if last {
            self.current = None;
        }
        let segment = if frame.opcode.is_control() {
            // A control payload is 125 bytes at most.
            Segment::Control { opcode: frame.opcode, mask, offset: offset as u8, last }
        } else {
            Segment::Data { mask }
        };
        (taken, segment)
    }

    /// The common case: the whole header is in the input, and nothing is copied (`skim-client-small`).
    #[inline]
    fn take_header(&mut self, input: &[u8]) -> Result<(usize, Segment), FrameError> {
        match self.decode(input)? {
            Some((header, size)) => Ok((size, self.begin(header))),
            None => self.take_rest_of_header(input),
        }
    }

    /// A header that was cut off, or is cut off here.
    #[inline(never)]
    fn take_rest_of_header(&mut self, input: &[u8]) -> Result<(usize, Segment), FrameError> {
        let before = usize::from(self.partial_length);
        let taken = input.len().min(HeaderBytes::MAX - before);
        let after = before + taken;
        self.partial[before..after].copy_from_slice(&input[..taken]);
        match self.decode(&self.partial[..after])? {
            Some((header, size)) => Ok((size - before, self.begin(header))),
            None => {
                self.partial_length = after as u8;
                Ok((taken, Segment::HeaderPart))
            }
        }
    }

    /// A header that may stand here; refused by its earliest wrong byte.
    #[inline]
    fn decode(&self, bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, FrameError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let (fin, opcode) = frame::decode_first(first)?;
        match opcode {
            Opcode::Text => return Err(FrameError::Text),
            Opcode::Continuation if !self.in_message => return Err(FrameError::UnexpectedContinuation),
            Opcode::Binary if self.in_message => return Err(FrameError::ExpectedContinuation),
            _ => {}
        }
        if let Some(&second) = bytes.get(1) {
            match (self.from, frame::is_masked(second)) {
                (Side::Client, false) => return Err(FrameError::Unmasked),
                (Side::Broker, true) => return Err(FrameError::Masked),
                _ => {}
            }
        }
        FrameHeader::decode_rest(fin, opcode, bytes)
    }

    fn begin(&mut self, header: FrameHeader) -> Segment {
        self.partial_length = 0;
        if !header.opcode.is_control() {
            self.in_message = !header.fin;
        }
        self.closed |= header.opcode == Opcode::Close;
        self.remaining = header.length;
        self.current = (header.length > 0).then_some(header);
        Segment::Header(header)
    }

    /// Whether the next byte begins a frame: where a frame of our own may go.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.current.is_none() && self.partial_length == 0
    }

    /// Whether a fragmented message is open: only continuations and control frames may come.
    #[must_use]
    pub const fn in_message(&self) -> bool {
        self.in_message
    }

    /// Whether a Close frame has begun. What comes after one is nobody's business (RFC 6455, 5.5.1).
    #[must_use]
    pub const fn closed(&self) -> bool {
        self.closed
    }

    /// Payload bytes still to come of the frame being read; 0 between frames.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The frame whose payload is being read; `None` from its last payload byte on, and inside a header.
    #[must_use]
    pub const fn current(&self) -> Option<FrameHeader> {
        self.current
    }

    /// The mask for the next payload byte; [`Mask::NONE`] where there is none.
    #[must_use]
    pub fn mask(&self) -> Mask {
        match self.current {
            // Only the offset's last two bits matter, so a narrow usize does no harm.
            Some(FrameHeader { mask: Some(mask), length, .. }) => {
                mask.advance((length - self.remaining) as usize)
            }
            _ => Mask::NONE,
        }
    }
}

#[cfg(test)]
mod tests;
