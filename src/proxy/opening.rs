//! The client's side of a session while there is no broker: its CONNECT, and what it sends behind it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::mqtt::{Connect, ConnectError, FixedHeader};
use crate::net::Stream;
use crate::tunnel::Ending;
use crate::websocket::{self, FrameHeader, FrameSkim, Opcode, Segment, Side};

/// So many bytes of a CONNECT name its protocol: from there on it is read whole before it is judged again.
const NAMED: usize = 16;

/// What one read asks for: a CONNECT with its ClientID, username and password fits.
const READ: usize = 1024;

/// A client that has its 101.
#[derive(Debug)]
pub(super) struct Opening {
    stream: Stream,
    /// What was read: from `followed` on not looked at, before it waiting for a broker.
    raw: Vec<u8>,
    followed: usize,
    frames: FrameSkim,
    /// The ping or close frame that `raw[..followed]` ends inside of: where it begins, and its payload.
    control: Option<(usize, Vec<u8>)>,
    /// The client's next data frame continues the message whose beginning was the CONNECT.
    begins_message: bool,
    /// Answers to pings that are not written yet.
    unsent: Vec<u8>,
}

/// What the tunnel goes on with.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// What the client sent behind its CONNECT, from a frame's first byte on.
    pub(super) waiting: Vec<u8>,
    pub(super) begins_message: bool,
}

impl Opening {
    /// `read` came right behind the handshake.
    pub(super) fn new(stream: Stream, read: &[u8]) -> Self {
        Self {
            stream,
            raw: read.to_vec(),
            followed: 0,
            frames: FrameSkim::new(Side::Client),
            control: None,
            begins_message: false,
            unsent: Vec::new(),
        }
    }

    /// Read until the CONNECT is whole: in any number of frames, with pings in between.
    /// The bytes are the packet's own, unmasked.
    pub(super) async fn read_connect(&mut self, max_size: usize) -> Result<(Connect, Vec<u8>), Ending> {
        let mut packet = Vec::new();
        loop {
            while self.followed < self.raw.len() {
                let before = packet.len();
                self.follow(wanted(&packet), Some(&mut packet))?;
                let judge = packet.len() != before && (packet.len() <= NAMED || wanted(&packet) == 0);
                if !judge {
                    continue;
                }
                if let Some(connect) = Connect::parse(&packet, max_size).map_err(Ending::ConnectRefused)? {
                    self.begin_again();
                    return Ok((connect, packet));
                }
            }
            // Whatever has been followed is in `packet` now.
            self.raw.clear();
            self.followed = 0;
            self.read().await?;
        }
    }

    /// Take what else the client sends, at most `max_size` bytes, and answer its pings. Returns when the
    /// client is gone or broke WebSocket. Dropping the future loses nothing.
    pub(super) async fn hold(&mut self, max_size: usize) -> Ending {
        loop {
            while self.followed < self.raw.len() {
                if let Err(ending) = self.follow(usize::MAX, None) {
                    return ending;
                }
            }
            if self.raw.len() >= max_size && self.unsent.is_empty() {
                // The client's own TCP waits from here on.
                return std::future::pending().await;
            }
            if let Err(ending) = self.read().await {
                return ending;
            }
        }
    }

    /// There is a broker: the tunnel takes over.
    pub(super) async fn open(mut self) -> Result<Opened, Ending> {
        self.send().await?;
        Ok(Opened { stream: self.stream, waiting: self.raw, begins_message: self.begins_message })
    }

    /// There will be no broker: say so, close, and wait until the client has read it, at most until `deadline`.
    pub(super) async fn refuse(mut self, reply: Option<&[u8]>, ending: &Ending, deadline: Instant) {
        if let Some(reply) = reply {
            self.unsent.extend(websocket::frame(Opcode::Binary, reply, None));
        }
        self.unsent.extend_from_slice(&websocket::close_frame(ending.close_code(), &ending.close_reason()));
        let goodbye = async {
            self.send().await.ok()?;
            self.stream.shutdown().await.ok()?;
            // A stream dropped with bytes unread is reset, and our last words with it.
            let mut unread = [0; READ];
            while self.stream.read(&mut unread).await.ok()? > 0 {}
            Some(())
        };
        // Whether the client waited for it changes nothing any more.
        let _ = timeout_at(deadline, goodbye).await;
    }

    /// Follow the next segment of `raw`; of a data frame's payload at most `limit` bytes, into `packet`.
    fn follow(&mut self, limit: usize, packet: Option<&mut Vec<u8>>) -> Result<(), Ending> {
        let start = self.followed;
        if self.begins_message && self.frames.at_boundary() {
            self.begin_message(start);
        }
        let in_data = self.frames.remaining() > 0 && self.control.is_none();
        let end = if in_data { self.raw.len().min(start.saturating_add(limit)) } else { self.raw.len() };
        let (used, segment) = self.frames.next(&self.raw[start..end]).map_err(Ending::ClientFrame)?;
        self.followed += used;
        match segment {
            Segment::HeaderPart => {}
            Segment::Header(header) if header.opcode.is_control() => {
                self.control = Some((self.followed, Vec::new()));
                if header.length == 0 {
                    self.answer_control(header.opcode)?;
                }
            }
            Segment::Header(_) => {}
            Segment::Data { mask } => {
                if let Some(packet) = packet {
                    let from = packet.len();
                    packet.extend_from_slice(&self.raw[start..start + used]);
                    mask.apply(&mut packet[from..]);
                }
            }
            Segment::Control { opcode, mask, last, .. } => {
                if let Some((_, payload)) = &mut self.control {
                    let from = payload.len();
                    payload.extend_from_slice(&self.raw[start..start + used]);
                    mask.apply(&mut payload[from..]);
                }
                if last {
                    self.answer_control(opcode)?;
                }
            }
        }
        Ok(())
    }
}
