//! What one session says and hears, above TLS: the WebSocket handshake, frames, packets. It checks every
//! byte that comes back. No sockets here.

use super::failure::Failure;
use super::meter::Meter;
use super::target::Target;
use crate::broker::payload::{self, ECHO_TOPIC, Filling, STAMP_SIZE, Stamp};
use crate::broker::wire::{self, Frames, Packets, opcode, packet};

const MOST_HEAD: usize = 16 << 10;
/// Of a PUBLISH: its topic and stamp.
const MOST_FRONT: usize = 64;
/// In seconds: nobody sends a ping while idle memory is measured.
const KEEPALIVE: u16 = 600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The answer to the WebSocket request is awaited.
    Handshake,
    Connack,
    Open,
    /// A close frame has come.
    Closed,
}

/// What came at once.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The session is open now.
    pub(super) opened: bool,
    /// Messages.
    pub(super) messages: usize,
    /// The first byte of the last packet that is no message.
    pub(super) answer: Option<u8>,
}

/// A session above TLS.
pub(super) struct Talk {
    id: u32,
    stage: Stage,
    frames: Frames,
    packets: Packets,
    /// The response head; a packet that is no PUBLISH.
    gathered: Vec<u8>,
    /// A control frame's payload.
    control: Vec<u8>,
    /// Topic and stamp of the PUBLISH that is coming.
    front: [u8; MOST_FRONT],
    /// Bytes of its body that came.
    came: usize,
    is_damaged: bool,
    /// Number of the next message we send, and of the next we must hear.
    sent: u32,
    expected: u32,
    /// The same for ticks; `None`: the first says where they are.
    expected_tick: Option<u32>,
}

impl Talk {
    pub(super) fn new(id: u32) -> Self {
        Self {
            id,
            stage: Stage::Handshake,
            frames: Frames::default(),
            packets: Packets::default(),
            gathered: Vec::new(),
            control: Vec::new(),
            front: [0; MOST_FRONT],
            came: 0,
            is_damaged: false,
            sent: 0,
            expected: 0,
            expected_tick: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Messages that have not come back.
    pub(super) fn outstanding(&self) -> u32 {
        self.sent.wrapping_sub(self.expected)
    }

    /// Wait no longer for what has not come back.
    pub(super) fn give_up(&mut self) -> u32 {
        let outstanding = self.outstanding();
        self.expected = self.sent;
        outstanding
    }

    // --- What it says --------------------------------------------------------------------------------

    /// Append a message of `size` bytes, due at `time`.
    pub(super) fn say_message(&mut self, time: u64, size: usize, filling: &Filling, out: &mut Vec<u8>) {
        let stamp = Stamp { time, sequence: self.sent, sender: self.id };
        self.sent = self.sent.wrapping_add(1);
        let whole = wire::packet_size(payload::publish_size(ECHO_TOPIC, size));
        frame(opcode::BINARY, whole, out, |out| payload::publish(out, ECHO_TOPIC, stamp, size, filling));
    }

    /// Append a packet that is no message.
    pub(super) fn say_packet(&self, first_byte: u8, body: &[u8], out: &mut Vec<u8>) {
        frame(opcode::BINARY, wire::packet_size(body.len()), out, |out| {
            wire::begin_packet(out, first_byte, body.len());
            out.extend_from_slice(body);
        });
    }

    /// Append a close frame: normal closure (RFC 6455, 7.4.1).
    pub(super) fn say_close(&self, out: &mut Vec<u8>) {
        frame(opcode::CLOSE, 2, out, |out| out.extend_from_slice(&1000_u16.to_be_bytes()));
    }

    /// CONNECT (MQTT 3.1.1, 3.1): a clean session, no Will.
    fn say_connect(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(32);
        wire::text(&mut body, "MQTT");
        body.extend_from_slice(&[4, 0x02]);
        body.extend_from_slice(&KEEPALIVE.to_be_bytes());
        wire::text(&mut body, &format!("bench-{}", self.id));
        self.say_packet(packet::CONNECT, &body, out);
    }

    // --- What it hears -------------------------------------------------------------------------------

    /// Take what came; what must be said at once is appended to `out`.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        desk: &mut Desk<'_>,
    ) -> Result<(), Failure> {
        match self.stage {
            Stage::Handshake => self.take_response(bytes, out, desk),
            Stage::Connack | Stage::Open => self.take_frames(bytes, out, desk),
            Stage::Closed => Ok(()),
        }
    }

    fn take_response(&mut self, bytes: &[u8], out: &mut Vec<u8>, desk: &mut Desk<'_>) -> Result<(), Failure> {
        self.gathered.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(size) = response.parse(&self.gathered)? else {
            return if self.gathered.len() > MOST_HEAD {
                Err(Failure::new("a response head that does not end"))
            } else {
                Ok(())
            };
        };
        if response.code != Some(101) {
            let text = String::from_utf8_lossy(&self.gathered);
            return Err(Failure::new(format!("the handshake was refused: {}", text.trim_end())));
        }
        let is = |name: &str, value: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.is_some_and(|header| header.value == value.as_bytes())
        };
        if !is("sec-websocket-accept", &desk.target.accept) || !is("sec-websocket-protocol", "mqtt") {
            return Err(Failure::new("the handshake's answer has a wrong accept or subprotocol"));
        }
        self.stage = Stage::Connack;
        self.say_connect(out);
        let gathered = std::mem::take(&mut self.gathered);
        self.take_frames(&gathered[size..], out, desk)
    }

    fn take_frames(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        desk: &mut Desk<'_>,
    ) -> Result<(), Failure> {
        desk.meter.bytes += bytes.len() as u64;
        while !bytes.is_empty() && self.stage != Stage::Closed {
            let piece = self.frames.next(bytes).map_err(Failure::new)?;
            let (body, rest) = bytes[piece.skip..].split_at(piece.len);
            bytes = rest;
            if piece.begins && self.frames.is_masked() {
                return Err(Failure::new("the proxy sent a masked frame"));
            }
            match self.frames.opcode() {
                opcode::BINARY | opcode::CONTINUATION => self.take_packets(body, desk)?,
                opcode::PING | opcode::CLOSE => self.take_control(body, piece.ends, out),
                opcode::PONG => {}
                _ => return Err(Failure::new("a frame that is neither binary nor control")),
            }
        }
        Ok(())
    }

    fn take_control(&mut self, body: &[u8], ends: bool, out: &mut Vec<u8>) {
        self.control.extend_from_slice(body);
        if !ends {
            return;
        }
        let body = std::mem::take(&mut self.control);
        if self.frames.opcode() == opcode::CLOSE {
            self.stage = Stage::Closed;
        } else {
            frame(opcode::PONG, body.len(), out, |out| out.extend_from_slice(&body));
        }
    }

    fn take_packets(&mut self, mut bytes: &[u8], desk: &mut Desk<'_>) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let piece = self.packets.next(bytes).map_err(Failure::new)?;
            let (body, rest) = bytes[piece.skip..].split_at(piece.len);
            bytes = rest;
            if self.packets.first_byte() == packet::PUBLISH {
                if piece.begins {
                    (self.came, self.is_damaged) = (0, false);
                }
                self.take_message(body, desk.filling);
                if piece.ends {
                    self.end_message(desk);
                }
            } else {
                self.gathered.extend_from_slice(body);
                if piece.ends {
                    self.end_answer(desk)?;
                }
            }
        }
        Ok(())
    }

    /// A piece of a PUBLISH's body: topic and stamp are kept, the filling is compared.
    fn take_message(&mut self, mut body: &[u8], filling: &Filling) {
        // First the topic's length, which says how much comes before the filling.
        while !body.is_empty() && self.came < self.front_size() {
            let len = (self.front_size() - self.came).min(body.len());
            self.front[self.came..self.came + len].copy_from_slice(&body[..len]);
            self.came += len;
            body = &body[len..];
        }
        if body.is_empty() {
            return;
        }
        let offset = self.came - self.front_size();
        self.came += body.len();
        let fits = offset + body.len() <= payload::MOST_SIZE;
        self.is_damaged |= !fits || filling.part(self.stamp(), offset, body.len()) != body;
    }

    fn end_message(&mut self, desk: &mut Desk<'_>) {
        desk.heard.messages += 1;
        let is_whole =
            self.came >= self.front_size() && self.came == self.front_size() - STAMP_SIZE + desk.size;
        let stamp = self.stamp();
        let is_echo = self.front[2..].starts_with(ECHO_TOPIC.as_bytes());
        if self.is_damaged || !is_whole || is_echo && stamp.sender != self.id {
            desk.meter.corrupt += 1;
            return;
        }
        if is_echo {
            self.expected = desk.meter.follow(self.expected, stamp.sequence);
        } else {
            let expected = self.expected_tick.unwrap_or(stamp.sequence);
            self.expected_tick = Some(desk.meter.follow(expected, stamp.sequence));
        }
        desk.meter.record(desk.now.saturating_sub(stamp.time));
    }

    fn end_answer(&mut self, desk: &mut Desk<'_>) -> Result<(), Failure> {
        let body = std::mem::take(&mut self.gathered);
        let first_byte = self.packets.first_byte();
        desk.heard.answer = Some(first_byte);
        match first_byte {
            packet::CONNACK if self.stage == Stage::Connack => {
                if body != [0, 0] {
                    return Err(Failure::new(format!("CONNACK says {body:02X?}")));
                }
                self.stage = Stage::Open;
                desk.heard.opened = true;
            }
            packet::UNSUBACK => self.expected_tick = None,
            packet::SUBACK | packet::PINGRESP => {}
            other => return Err(Failure::new(format!("a packet of type {other:#04X} came unasked"))),
        }
        Ok(())
    }

    /// Bytes of topic and stamp, as far as they can be known.
    fn front_size(&self) -> usize {
        if self.came < 2 {
            return 2;
        }
        let topic = usize::from(u16::from_be_bytes([self.front[0], self.front[1]]));
        (2 + topic + STAMP_SIZE).min(MOST_FRONT)
    }

    fn stamp(&self) -> Stamp {
        let mut bytes = [0; STAMP_SIZE];
        let end = self.front_size().max(STAMP_SIZE);
        bytes.copy_from_slice(&self.front[end - STAMP_SIZE..end]);
        Stamp::read(bytes)
    }
}

/// Append a masked frame with what `write` appends, `size` bytes.
fn frame(opcode: u8, size: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let key = fastrand::u32(..).to_ne_bytes();
    wire::begin_frame(out, opcode, size, Some(key));
    let start = out.len();
    write(out);
    wire::mask(&mut out[start..], key);
}

/// What the sessions of a command have in common.
pub(super) struct Desk<'a> {
    pub(super) target: &'a Target,
    pub(super) filling: &'a Filling,
    pub(super) meter: &'a mut Meter,
    /// Of the payloads under way, in bytes.
    pub(super) size: usize,
    /// When these bytes were read.
    pub(super) now: u64,
    pub(super) heard: Heard,
}
