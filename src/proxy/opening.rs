//! The client's side of a session while there is no broker: its CONNECT, and what it sends behind it.

use std::sync::Arc;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::roster::Entry;
use crate::mqtt::{Connect, FixedHeader};
use crate::net::Stream;
use crate::net::clock::timeout_at;
use crate::tunnel::Ending;
use crate::websocket::{self, FrameError, FrameHeader, FrameSkim, Opcode, Segment, Side};

/// What one read asks for, in bytes: most CONNECTs fit.
const READ: usize = 1024;

/// The shortest CONNECT, in bytes: fixed header, variable header, an empty ClientID (MQTT 3.1.1, 3.1). That
/// much is its own before its length is known, and it says the version, which an oversized one's answer needs.
const SHORTEST: usize = 14;

/// A client that has its 101.
#[derive(Debug)]
pub(super) struct Opening {
    stream: Stream,
    /// Where it is written when the client was heard.
    entry: Arc<Entry>,
    /// Bytes of the client; control frames are answered and taken out.
    raw: Vec<u8>,
    /// So many bytes of `raw` were followed.
    followed: usize,
    frames: FrameSkim,
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
    pub(super) fn new(stream: Stream, read: &[u8], entry: Arc<Entry>) -> Self {
        Self {
            stream,
            entry,
            raw: read.to_vec(),
            followed: 0,
            frames: FrameSkim::new(Side::Client),
            begins_message: false,
            unsent: Vec::new(),
        }
    }

    /// Read until the CONNECT is whole, in any number of frames and with pings in between. Gives what it
    /// says, and the packet's bytes unmasked.
    pub(super) async fn read_connect(&mut self, max_size: usize) -> Result<(Connect, Vec<u8>), Ending> {
        let mut packet = Vec::new();
        loop {
            while let Some(payload) = self.follow(missing(&packet))? {
                packet.extend_from_slice(&payload);
                if let Some(connect) = Connect::parse(&packet, max_size).map_err(Ending::ConnectRefused)? {
                    self.begin_again();
                    return Ok((connect, packet));
                }
            }
            // The payload followed so far is in `packet`.
            self.raw.drain(..self.followed);
            self.followed = 0;
            self.read().await?;
        }
    }

    /// Take what else the client sends, about `max_size` bytes, and answer its pings. Returns when the
    /// client is gone or broke WebSocket. Dropping the future loses nothing.
    pub(super) async fn hold(&mut self, max_size: usize) -> Ending {
        loop {
            let mut done = self.follow_all();
            if done.is_ok() && self.raw.len() >= max_size {
                // From here on the client's own TCP waits.
                done = self.send().await;
                if done.is_ok() {
                    return std::future::pending().await;
                }
            }
            if done.is_ok() {
                done = self.read().await;
            }
            match done {
                Ok(()) => {}
                // What it said before it left is still for the broker: a DISCONNECT saves it its Will.
                Err(Ending::ClientClosed | Ending::ClientVanished) if self.followed > 0 => {
                    return std::future::pending().await;
                }
                Err(ending) => return ending,
            }
        }
    }

    /// There is a broker: the tunnel takes over.
    pub(super) async fn open(mut self) -> Result<Opened, Ending> {
        self.send().await?;
        Ok(Opened { stream: self.stream, waiting: self.raw, begins_message: self.begins_message })
    }

    /// There will be no broker: say so, close, and wait until the client has left, at most until `deadline`.
    pub(super) async fn refuse(mut self, reply: Option<&[u8]>, ending: &Ending, deadline: Instant) {
        if let Some(reply) = reply {
            self.unsent.extend(websocket::frame(Opcode::Binary, reply, None));
        }
        self.unsent.extend(websocket::close_frame(ending.close_code(), &ending.close_reason()));
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

    /// Write the answers, then read more. Each await may be dropped.
    async fn read(&mut self) -> Result<(), Ending> {
        self.send().await?;
        self.raw.reserve(READ);
        match self.stream.read_buf(&mut (&mut self.raw).limit(READ)).await {
            Ok(0) | Err(_) => Err(Ending::ClientVanished),
            Ok(_) => {
                self.entry.meter.hear(Instant::now());
                Ok(())
            }
        }
    }

    async fn send(&mut self) -> Result<(), Ending> {
        while !self.unsent.is_empty() {
            let written = self.stream.write(&self.unsent).await.map_err(|_| Ending::ClientVanished)?;
            self.unsent.drain(..written);
        }
        self.stream.flush().await.map_err(|_| Ending::ClientVanished)
    }

    fn follow_all(&mut self) -> Result<(), Ending> {
        while self.follow(usize::MAX)?.is_some() {}
        Ok(())
    }

    /// Follow one more header, control frame or piece of payload of at most `limit` bytes. Gives the
    /// piece, unmasked (empty for what is no payload), or `None` when more bytes must come first.
    fn follow(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Ending> {
        if self.followed == self.raw.len() {
            return Ok(None);
        }
        if !self.frames.at_boundary() {
            let end = self.raw.len().min(self.followed.saturating_add(limit));
            return self.follow_payload(end).map(Some);
        }
        self.begin_message();
        let rest = &self.raw[self.followed..];
        let decoded = FrameHeader::decode(rest).map_err(Ending::ClientFrame)?;
        match decoded {
            Some((header, length)) if header.opcode.is_control() => self.follow_control(header, length),
            Some((_, length)) => {
                // The skim knows which frame may follow which.
                self.frames.next(&rest[..length]).map_err(Ending::ClientFrame)?;
                self.followed += length;
                Ok(Some(Vec::new()))
            }
            None => {
                // Bad beginnings are refused before they are whole.
                self.frames.clone().next(rest).map_err(Ending::ClientFrame)?;
                Ok(None)
            }
        }
    }

    fn follow_payload(&mut self, end: usize) -> Result<Vec<u8>, Ending> {
        let (used, segment) = self.frames.next(&self.raw[self.followed..end]).map_err(Ending::ClientFrame)?;
        let mut payload = self.raw[self.followed..self.followed + used].to_vec();
        if let Segment::Data { mask } = segment {
            mask.apply(&mut payload);
        }
        self.followed += used;
        Ok(payload)
    }

    /// Answer a control frame once it is whole, and take it out: the broker never sees it.
    fn follow_control(&mut self, header: FrameHeader, length: usize) -> Result<Option<Vec<u8>>, Ending> {
        let mask = header.mask.ok_or(Ending::ClientFrame(FrameError::Unmasked))?;
        // A control payload is 125 bytes at most.
        let whole = self.followed..self.followed + length + header.length as usize;
        if self.raw.len() < whole.end {
            return Ok(None);
        }
        if header.opcode == Opcode::Close {
            // It stays: where there is a broker after all, the tunnel answers it.
            return Err(Ending::ClientClosed);
        }
        let mut payload: Vec<u8> = self.raw.drain(whole).skip(length).collect();
        mask.apply(&mut payload);
        if header.opcode == Opcode::Ping {
            self.unsent.extend(websocket::pong_frame(&payload));
        }
        Ok(Some(Vec::new()))
    }

    /// See [`Opening::begins_message`]: the broker gets the CONNECT as a message of its own, so what
    /// continues it must begin one.
    fn begin_message(&mut self) {
        if self.begins_message {
            self.begins_message = websocket::begin_message(&mut self.raw[self.followed]);
        }
    }

    /// The CONNECT is taken out: make what is left a stream that begins with a frame. The rest of a frame
    /// whose beginning was the CONNECT gets a header of its own, with the mask turned to where we are.
    fn begin_again(&mut self) {
        let mut rest = Vec::with_capacity(self.raw.len() - self.followed + READ);
        match self.frames.current() {
            Some(frame) => {
                let mask = frame.mask.map(|_| self.frames.mask());
                let length = self.frames.remaining();
                rest.extend_from_slice(
                    &FrameHeader { fin: frame.fin, opcode: Opcode::Binary, mask, length }.encode(),
                );
            }
            None => self.begins_message = self.frames.in_message(),
        }
        rest.extend_from_slice(&self.raw[self.followed..]);
        self.raw = rest;
        self.followed = 0;
        self.frames = FrameSkim::new(Side::Client);
    }
}

/// How many bytes a packet lacks, as far as its beginning tells.
fn missing(packet: &[u8]) -> usize {
    match FixedHeader::decode(packet) {
        Ok(Some((header, _))) => (header.size() as usize).saturating_sub(packet.len()),
        _ => SHORTEST.saturating_sub(packet.len()).max(1),
    }
}

#[cfg(test)]
mod tests;
