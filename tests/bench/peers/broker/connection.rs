//! One connection to the broker: an optional PROXY preamble, the WebSocket handshake where the listener
//! speaks WebSocket, then packets. What a PUBLISH brings goes back as it comes, however it is cut.

use std::io;
use std::ops::Range;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::answer::Answer;
use super::payload::{MOST_SIZE, STAMP_SIZE};
use super::socket::Socket;
use super::wire::{self, Fault, Frames, Packets, opcode, packet};

/// A request head, and any packet that is not echoed.
const MOST_GATHERED: usize = 64 << 10;
const PREAMBLE_V1: &[u8] = b"PROXY ";
const PREAMBLE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// How a listener's connections carry MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    WebSocket,
    Tcp,
}

/// What the last session of a listener told of its client.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) host: Option<String>,
    pub(super) x_real_ip: Option<String>,
    pub(super) x_forwarded_for: Option<String>,
    pub(super) x_forwarded_proto: Option<String>,
    /// The client's address in the PROXY preamble.
    pub(super) proxy: Option<String>,
}

/// What a session wants to be sent at intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscription {
    /// In milliseconds.
    pub(super) interval: u64,
    /// Of the payload, in bytes.
    pub(super) size: usize,
}

impl Subscription {
    pub(super) fn topic(self) -> String {
        format!("tick/{}/{}", self.interval, self.size)
    }

    fn parse(topic: &[u8]) -> Option<Self> {
        let (interval, size) = std::str::from_utf8(topic).ok()?.strip_prefix("tick/")?.split_once('/')?;
        let parsed = Self { interval: interval.parse().ok()?, size: size.parse().ok()? };
        (parsed.interval > 0 && (STAMP_SIZE..=MOST_SIZE).contains(&parsed.size)).then_some(parsed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preamble,
    Handshake,
    Packets,
    /// DISCONNECT or a close frame has come.
    Over,
}

/// One client of the broker.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) form: Form,
    /// Which listener it came to.
    pub(super) listener: usize,
    pub(super) subscription: Option<Subscription>,
    /// What must not stand inside an echo that is under way.
    deferred: Vec<u8>,
    stage: Stage,
    frames: Frames,
    packets: Packets,
    gathered: Vec<u8>,
    control: Vec<u8>,
    proxy: Option<String>,
}

impl Connection {
    pub(super) fn new(socket: Socket, form: Form, listener: usize) -> Self {
        Self {
            socket,
            form,
            listener,
            subscription: None,
            deferred: Vec::new(),
            stage: Stage::Preamble,
            frames: Frames::default(),
            packets: Packets::default(),
            gathered: Vec::new(),
            control: Vec::new(),
            proxy: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Take what was read, and append the answer.
    pub(super) fn take(&mut self, read: &mut [u8], out: &mut Answer, seen: &mut Seen) -> Result<(), Fault> {
        let start = match self.stage {
            Stage::Preamble | Stage::Handshake => self.open(read, out, seen)?,
            Stage::Packets | Stage::Over => 0,
        };
        match self.form {
            Form::WebSocket => self.take_frames(read, start, out),
            Form::Tcp => self.take_packets(read, start..read.len(), out),
        }
    }

    /// Send a whole packet that nobody asked for, as soon as it may stand in the stream.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.packets.at_boundary() {
            return self.socket.write(bytes);
        }
        self.deferred.extend_from_slice(bytes);
        Ok(())
    }

    // --- Before the first packet ---------------------------------------------------------------------

    /// Where, in what was read, the first packet or frame begins.
    fn open(&mut self, read: &[u8], out: &mut Answer, seen: &mut Seen) -> Result<usize, Fault> {
        self.gathered.extend_from_slice(read);
        if self.gathered.len() > MOST_GATHERED {
            return Err(Fault("a preamble or request head that does not end"));
        }
        if self.stage == Stage::Preamble && !self.take_preamble()? {
            return Ok(read.len());
        }
        if self.form == Form::WebSocket && !self.take_request(out.own(), seen)? {
            return Ok(read.len());
        }
        seen.proxy = self.proxy.take();
        self.stage = Stage::Packets;
        Ok(read.len() - std::mem::take(&mut self.gathered).len())
    }

    /// Whether it is behind us.
    fn take_preamble(&mut self) -> Result<bool, Fault> {
        let may_be = |signature: &[u8]| self.gathered.iter().zip(signature).all(|(a, b)| a == b);
        if may_be(PREAMBLE_V1) || may_be(PREAMBLE_V2) {
            match ProxyHeader::parse(&self.gathered, ParseConfig::default()) {
                Ok((header, size)) => {
                    let client = header.proxied_address().map(|address| address.source.to_string());
                    self.proxy = Some(client.unwrap_or_else(|| "local".to_owned()));
                    self.gathered.drain(..size);
                }
                Err(proxy_header::Error::BufferTooShort) => return Ok(false),
                Err(_) => return Err(Fault("a broken PROXY preamble")),
            }
        }
        self.stage = Stage::Handshake;
        Ok(true)
    }

    /// Answer the WebSocket request (RFC 6455, 4.2). Whether it is behind us.
    fn take_request(&mut self, out: &mut Vec<u8>, seen: &mut Seen) -> Result<bool, Fault> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let size = match request.parse(&self.gathered) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(_) => return Err(Fault("not an HTTP request")),
        };
        let header = |name: &str| {
            let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            Some(String::from_utf8_lossy(found.value).into_owned())
        };
        let key = header("sec-websocket-key").ok_or(Fault("a request without Sec-WebSocket-Key"))?;
        let subprotocols = header("sec-websocket-protocol").unwrap_or_default();
        if !subprotocols.split(',').any(|it| it.trim() == "mqtt") {
            return Err(Fault("a request without the subprotocol mqtt"));
        }
        *seen = Seen {
            host: header("host"),
            x_real_ip: header("x-real-ip"),
            x_forwarded_for: header("x-forwarded-for"),
            x_forwarded_proto: header("x-forwarded-proto"),
            proxy: None,
        };
        let accept = derive_accept_key(key.as_bytes());
        out.extend_from_slice(
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            )
            .as_bytes(),
        );
        self.gathered.drain(..size);
        Ok(true)
    }

    // --- Frames --------------------------------------------------------------------------------------

    fn take_frames(&mut self, read: &mut [u8], mut at: usize, out: &mut Answer) -> Result<(), Fault> {
        while at < read.len() && self.stage != Stage::Over {
            let piece = self.frames.next(&read[at..])?;
            let body = at + piece.skip..at + piece.skip + piece.len;
            at = body.end;
            if piece.begins && !self.frames.is_masked() {
                return Err(Fault("an unmasked frame"));
            }
            self.frames.unmask(&mut read[body.clone()]);
            match self.frames.opcode() {
                opcode::BINARY | opcode::CONTINUATION => self.take_packets(read, body, out)?,
                opcode::PING => self.take_control(&read[body], piece.ends, opcode::PONG, out),
                opcode::CLOSE => {
                    self.take_control(&read[body], piece.ends, opcode::CLOSE, out);
                    self.stage = if piece.ends { Stage::Over } else { Stage::Packets };
                }
                opcode::PONG => {}
                _ => return Err(Fault("a frame that is neither binary nor control")),
            }
        }
        Ok(())
    }

    /// Answer a control frame with its own payload (RFC 6455, 5.5); between two halves of a packet the
    /// answer waits for the second.
    fn take_control(&mut self, body: &[u8], ends: bool, answer: u8, out: &mut Answer) {
        self.control.extend_from_slice(body);
        if ends {
            let out = if self.packets.at_boundary() { out.own() } else { &mut self.deferred };
            wire::begin_frame(out, answer, self.control.len(), None);
            out.append(&mut self.control);
        }
    }

    // --- Packets -------------------------------------------------------------------------------------

    fn take_packets(&mut self, read: &[u8], range: Range<usize>, out: &mut Answer) -> Result<(), Fault> {
        let mut at = range.start;
        while at < range.end && self.stage != Stage::Over {
            let piece = self.packets.next(&read[at..range.end])?;
            let body = at + piece.skip..at + piece.skip + piece.len;
            at = body.end;
            if self.packets.first_byte() & 0xF0 == packet::PUBLISH {
                if piece.begins {
                    self.begin_echo(out.own())?;
                }
                out.stretch(read, body);
            } else {
                self.gathered.extend_from_slice(&read[body]);
                if piece.ends {
                    let body = std::mem::take(&mut self.gathered);
                    self.answer(&body, out.own())?;
                } else if self.packets.size() > MOST_GATHERED {
                    return Err(Fault("a packet of an unexpected size"));
                }
            }
            if piece.ends {
                out.own().append(&mut self.deferred);
            }
        }
        Ok(())
    }

    /// The header of the packet that goes back, in a frame of its own.
    fn begin_echo(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.packets.first_byte() & 0x06 != 0 {
            return Err(Fault("a PUBLISH of another QoS than 0"));
        }
        if self.packets.size() > MOST_SIZE + MOST_GATHERED {
            return Err(Fault("a PUBLISH that is too large"));
        }
        if self.form == Form::WebSocket {
            wire::begin_frame(out, opcode::BINARY, wire::packet_size(self.packets.size()), None);
        }
        out.extend_from_slice(self.packets.header());
        Ok(())
    }

    fn answer(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.packets.first_byte() {
            packet::CONNECT => self.reply(packet::CONNACK, &[0, 0], out),
            packet::PINGREQ => self.reply(packet::PINGRESP, &[], out),
            packet::SUBSCRIBE => {
                // Its identifier, and one topic with its QoS (MQTT 3.1.1, 3.8).
                let topic = body.get(4..body.len().saturating_sub(1)).and_then(Subscription::parse);
                self.subscription = Some(topic.ok_or(Fault("a SUBSCRIBE to other than tick/<ms>/<size>"))?);
                self.reply(packet::SUBACK, &[body[0], body[1], 0], out);
            }
            packet::UNSUBSCRIBE => {
                let identifier = body.first_chunk::<2>().ok_or(Fault("an UNSUBSCRIBE without identifier"))?;
                self.subscription = None;
                self.reply(packet::UNSUBACK, identifier, out);
            }
            packet::DISCONNECT => self.stage = Stage::Over,
            _ => return Err(Fault("a packet that this broker does not know")),
        }
        Ok(())
    }

    fn reply(&self, first_byte: u8, body: &[u8], out: &mut Vec<u8>) {
        if self.form == Form::WebSocket {
            wire::begin_frame(out, opcode::BINARY, wire::packet_size(body.len()), None);
        }
        wire::begin_packet(out, first_byte, body.len());
        out.extend_from_slice(body);
    }
}
