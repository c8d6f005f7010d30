//! What a direction does to the bytes it moves, and what it learns from them.
//!
//! Three courses: WebSocket frames pass unchanged, a client's frames are unwrapped toward a TCP broker,
//! a TCP broker's bytes are wrapped toward a client. All three follow headers and skip payload.

use std::ops::Range;

use crate::mqtt::{PacketError, PacketSkim, PacketStart, PacketType};
use crate::websocket::{self, CloseCode, FrameError, FrameHeader, FrameSkim, Mask, Opcode, Segment, Side};

/// The longest header we put before a wrapped chunk: a chunk is below 64 KiB (RFC 6455, 5.2).
const WRAP_HEADER: usize = 4;

/// One direction's way with its bytes.
#[derive(Debug)]
pub(super) struct Course {
    way: Way,
    packets: PacketSkim,
    /// DISCONNECT has been seen (MQTT 3.14).
    said_disconnect: bool,
    /// Follow no further than this boundary.
    stop: Option<Boundary>,
    /// The client's next data frame must begin a message, although it may say that it continues one: the
    /// beginning was the CONNECT, which was sent as a message of its own.
    begins_message: bool,
    /// The source broke its protocol: whether our frame may follow what was written before.
    broken: Option<bool>,
}

/// Who is told of a direction's packets as they are followed.
pub(super) trait Witness {
    /// A packet begins, with so many bytes behind its fixed header.
    fn begin(&mut self, start: PacketStart, body_length: u32);
    /// Some of those bytes, masked.
    fn follow(&mut self, bytes: &[u8], mask: Mask);
}

/// Who wants to know of beginnings alone costs nothing for the rest.
impl<F: FnMut(PacketStart)> Witness for F {
    #[inline]
    fn begin(&mut self, start: PacketStart, _: u32) {
        self(start);
    }

    #[inline]
    fn follow(&mut self, _: &[u8], _: Mask) {}
}

/// Where bytes of our own may be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boundary {
    /// Between two WebSocket frames: a control frame of ours may follow.
    Frame,
    /// Between two MQTT packets, and two messages: a packet of ours may follow.
    Packet,
}

#[derive(Debug)]
enum Way {
    Pass(FrameSkim),
    Unwrap { frames: FrameSkim, control: Vec<u8>, answer: Vec<u8> },
    Wrap,
}

/// A broken protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Violation {
    Frame(FrameError),
    Packet(PacketError),
}

impl From<FrameError> for Violation {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<PacketError> for Violation {
    fn from(error: PacketError) -> Self {
        Self::Packet(error)
    }
}

impl Course {
    /// Frames of `side` pass unchanged.
    pub(super) fn pass(side: Side, max_packet_size: usize) -> Self {
        Self::new(Way::Pass(FrameSkim::new(side)), max_packet_size)
    }

    /// A client's frames become bare MQTT.
    pub(super) fn unwrap(max_packet_size: usize) -> Self {
        let frames = FrameSkim::new(Side::Client);
        Self::new(Way::Unwrap { frames, control: Vec::new(), answer: Vec::new() }, max_packet_size)
    }

    /// A broker's bare MQTT becomes binary frames.
    pub(super) fn wrap(max_packet_size: usize) -> Self {
        Self::new(Way::Wrap, max_packet_size)
    }

    fn new(way: Way, max_packet_size: usize) -> Self {
        Self {
            way,
            packets: PacketSkim::new(max_packet_size),
            said_disconnect: false,
            stop: None,
            begins_message: false,
            broken: None,
        }
    }

    /// See [`Course::begins_message`].
    pub(super) fn begin_message(mut self, begins_message: bool) -> Self {
        self.begins_message = begins_message;
        self
    }

    /// Where in a buffer of `size` bytes the source may read to.
    pub(super) fn room(&self, size: usize) -> Range<usize> {
        match self.way {
            Way::Wrap => WRAP_HEADER..size,
            _ => 0..size,
        }
    }

    /// Follow what was read into `buffer[read]`, and say which bytes of the buffer are to be written.
    ///
    /// # Errors
    /// When the source broke its protocol: then none of `read` is to be written.
    pub(super) fn follow(
        &mut self,
        buffer: &mut [u8],
        read: Range<usize>,
        mut witness: impl Witness,
    ) -> Result<Range<usize>, Violation> {
        let witness = &mut witness;
        let may_insert = self.is_at(Boundary::Frame);
        let followed = match self.way {
            Way::Pass(_) => self.follow_pass(&mut buffer[..read.end], read.start, witness),
            Way::Unwrap { .. } => self.follow_unwrap(&mut buffer[..read.end], read.start, witness),
            Way::Wrap => self.follow_wrap(buffer, read, witness),
        };
        if followed.is_err() {
            self.broken = Some(may_insert);
        }
        followed
    }

    /// Follow no further than the next boundary: what was read behind it is dropped.
    pub(super) fn stop_at(&mut self, boundary: Boundary) {
        self.stop = Some(boundary);
    }

    /// Whether bytes of our own may follow what has been written.
    pub(super) fn may_insert(&self) -> bool {
        self.broken.unwrap_or_else(|| self.is_at(self.stop.unwrap_or(Boundary::Frame)))
    }

    fn is_at(&self, boundary: Boundary) -> bool {
        match (&self.way, boundary) {
            (Way::Pass(frames), Boundary::Frame) => frames.at_boundary(),
            (Way::Pass(frames), Boundary::Packet) => {
                frames.at_boundary() && !frames.in_message() && self.packets.at_boundary()
            }
            (Way::Unwrap { .. } | Way::Wrap, Boundary::Frame) => true,
            (Way::Unwrap { .. } | Way::Wrap, Boundary::Packet) => self.packets.at_boundary(),
        }
    }

    /// A packet of our own as this direction writes it, in the source's place.
    pub(super) fn frame_packet(&self, packet: &[u8]) -> Vec<u8> {
        match self.way {
            // What a client sends is masked (RFC 6455, 5.3).
            Way::Pass(_) => {
                websocket::frame(Opcode::Binary, packet, Some(Mask::new(fastrand::u32(..).to_be_bytes())))
            }
            Way::Unwrap { .. } | Way::Wrap => packet.to_vec(),
        }
    }

    /// Whether the source said goodbye: DISCONNECT, or a close frame.
    pub(super) fn said_goodbye(&self) -> bool {
        self.said_disconnect || self.said_close()
    }

    /// Whether the source said DISCONNECT.
    pub(super) fn said_disconnect(&self) -> bool {
        self.said_disconnect
    }

    /// Whether the source sent a whole close frame.
    pub(super) fn said_close(&self) -> bool {
        match &self.way {
            Way::Pass(frames) | Way::Unwrap { frames, .. } => frames.closed() && frames.at_boundary(),
            Way::Wrap => false,
        }
    }

    /// The answer to the source's latest ping or close frame, for the source. Empty when there is none.
    pub(super) fn take_answer(&mut self) -> Vec<u8> {
        match &mut self.way {
            Way::Unwrap { answer, .. } => std::mem::take(answer),
            _ => Vec::new(),
        }
    }

    fn follow_pass(
        &mut self,
        bytes: &mut [u8],
        start: usize,
        witness: &mut impl Witness,
    ) -> Result<Range<usize>, Violation> {
        let mut at = start;
        // Nothing counts after a close frame (RFC 6455, 5.5.1).
        while at < bytes.len() && !self.said_close() && !self.stop.is_some_and(|stop| self.is_at(stop)) {
            let Way::Pass(frames) = &mut self.way else { break };
            begin_message(&mut self.begins_message, frames, &mut bytes[at]);
            let (used, segment) = frames.next(&bytes[at..])?;
            if let Segment::Data { mask } = segment {
                self.skim(&bytes[at..at + used], mask, witness)?;
            }
            at += used;
        }
        Ok(start..at)
    }

    fn follow_unwrap(
        &mut self,
        bytes: &mut [u8],
        start: usize,
        witness: &mut impl Witness,
    ) -> Result<Range<usize>, Violation> {
        let mut at = start;
        // Where the payload gathered so far lies: it moves down over the headers between its pieces.
        let mut payload = start..start;
        while at < bytes.len() && !self.said_close() && !self.is_stopped() {
            let Way::Unwrap { frames, control, answer } = &mut self.way else { break };
            begin_message(&mut self.begins_message, frames, &mut bytes[at]);
            let (used, segment) = frames.next(&bytes[at..])?;
            let piece = at..at + used;
            at += used;
            match segment {
                Segment::Data { mask } => {
                    mask.apply(&mut bytes[piece.clone()]);
                    let followed = self.skim(&bytes[piece.clone()], Mask::NONE, witness)?;
                    let piece = piece.start..piece.start + followed;
                    if payload.is_empty() {
                        payload = piece;
                    } else {
                        bytes.copy_within(piece, payload.end);
                        payload.end += followed;
                    }
                }
                Segment::Control { opcode, mask, last, .. } => {
                    mask.apply(&mut bytes[piece.clone()]);
                    control.extend_from_slice(&bytes[piece]);
                    if last {
                        answer_control(opcode, &std::mem::take(control), answer);
                    }
                }
                Segment::Header(header) if header.opcode.is_control() && header.length == 0 => {
                    answer_control(header.opcode, &[], answer);
                }
                Segment::Header(_) | Segment::HeaderPart => {}
            }
        }
        Ok(payload)
    }

    /// Whether a packet that we were to follow is whole: inside a frame that is unwrapped, it may be.
    fn is_stopped(&self) -> bool {
        self.stop == Some(Boundary::Packet) && self.packets.at_boundary()
    }

    fn follow_wrap(
        &mut self,
        buffer: &mut [u8],
        read: Range<usize>,
        witness: &mut impl Witness,
    ) -> Result<Range<usize>, Violation> {
        let used = self.skim(&buffer[read.clone()], Mask::NONE, witness)?;
        if used == 0 {
            return Ok(read.start..read.start);
        }
        let header =
            FrameHeader { fin: true, opcode: Opcode::Binary, mask: None, length: used as u64 }.encode();
        let start = read.start - header.len();
        buffer[start..read.start].copy_from_slice(&header);
        Ok(start..read.start + used)
    }

    /// Follow the packets in a piece of payload, and say how much of it was followed.
    fn skim(&mut self, payload: &[u8], mask: Mask, witness: &mut impl Witness) -> Result<usize, PacketError> {
        // Inside frames that pass unchanged a frame's end comes first.
        let stop = self.stop == Some(Boundary::Packet) && !matches!(self.way, Way::Pass(_));
        let mut at = 0;
        while at < payload.len() && !(stop && self.packets.at_boundary()) {
            let (mask, is_body) = (mask.advance(at), self.packets.remaining() > 0);
            let (used, start) = self.packets.next(&payload[at..], mask.key())?;
            if let Some(start) = start {
                self.said_disconnect |= start.packet_type == PacketType::Disconnect;
                witness.begin(start, self.packets.remaining());
            } else if is_body {
                witness.follow(&payload[at..at + used], mask);
            }
            at += used;
        }
        Ok(at)
    }
}

/// Let the first data frame begin a message where it says that it continues one.
fn begin_message(begins_message: &mut bool, frames: &FrameSkim, first: &mut u8) {
    if *begins_message && frames.at_boundary() {
        *begins_message = websocket::begin_message(first);
    }
}

/// Answer a control frame: a ping by its pong, a close by a close with the same code.
fn answer_control(opcode: Opcode, payload: &[u8], answer: &mut Vec<u8>) {
    match opcode {
        Opcode::Ping => *answer = websocket::frame(Opcode::Pong, payload, None),
        Opcode::Close => {
            let code = match websocket::parse_close(payload) {
                Ok(code) => code.unwrap_or(CloseCode::Normal),
                Err(_) => CloseCode::Protocol,
            };
            *answer = websocket::close_frame(code, "").to_vec();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
