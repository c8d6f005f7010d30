//! Offering a CONNECT to a broker, and reading its first packet.

use std::io;
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mqtt::{Connack, FixedHeader, Level, PacketError, PacketType};
use crate::net::Stream;
use crate::net::clock::timeout;
use crate::tunnel::Framing;
use crate::websocket::{self, FrameError, FrameSkim, Mask, Opcode, Segment, Side};

/// A first packet is a CONNACK or an AUTH: what is longer than this is neither.
const MAX_FIRST: u32 = 64 * 1024;

/// Bytes in which a first packet must come, with its frames and with pings before it.
const MAX_READ: usize = 4 * MAX_FIRST as usize;

/// What one read asks for, in bytes.
const READ: usize = 512;

/// A broker that answered the CONNECT.
#[derive(Debug)]
pub struct Answer {
    /// The way to it.
    pub stream: Stream,
    /// All that the broker has sent, from a frame's first byte on.
    pub read: Vec<u8>,
    /// Its first packet.
    pub first: First,
}

/// A broker's first packet.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// It accepts or refuses.
    Connack(Connack),
    /// It wants to know more (MQTT 5, 4.12).
    Auth,
}

/// Why a broker's answer is none.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// It hung up first.
    #[error("it closed the connection before its CONNACK; look at the broker's log for why")]
    Closed,
    /// It said nothing in time.
    #[error("it sent no CONNACK within {0:?}; raise the upstream's `connack_timeout` if it is that slow")]
    Timeout(Duration),
    /// Its connection broke.
    #[error("the connection broke before its CONNACK")]
    Io(#[from] io::Error),
    /// It broke WebSocket.
    #[error("what it sent is no WebSocket")]
    Frame(#[from] FrameError),
    /// It broke MQTT.
    #[error("what it sent is no MQTT")]
    Packet(#[from] PacketError),
    /// It began with another packet.
    #[error("its first packet is a {0}, not a CONNACK; is there an MQTT broker behind this address?")]
    Unexpected(&'static str),
    /// It said much else.
    #[error("it sent {0} bytes, and no CONNACK among them; is there an MQTT broker behind this address?")]
    TooMuch(usize),
    /// It asks that the client goes elsewhere.
    #[error("it answered CONNACK {0:#04x}: unavailable, busy, or use another server")]
    Elsewhere(u8),
}

impl OfferError {
    /// Every [`label`](Self::label), so that each series exists from the start.
    pub const LABELS: [&'static str; 7] = [
        "closed_before_connack",
        "connack_timeout",
        "broke_before_connack",
        "broker_frame",
        "broker_packet",
        "no_connack",
        "elsewhere",
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed_before_connack",
            Self::Timeout(_) => "connack_timeout",
            Self::Io(_) => "broke_before_connack",
            Self::Frame(_) => "broker_frame",
            Self::Packet(_) => "broker_packet",
            Self::Unexpected(_) | Self::TooMuch(_) => "no_connack",
            Self::Elsewhere(_) => "elsewhere",
        }
    }
}

/// Send `connect`, a whole packet, and wait for the broker's first packet. `read` came behind its 101.
///
/// # Errors
/// When that is no CONNACK or AUTH, asks that the client goes elsewhere, or takes longer than `patience`.
pub async fn offer(
    mut stream: Stream,
    read: Vec<u8>,
    framing: Framing,
    level: Level,
    connect: &[u8],
    patience: Duration,
) -> Result<Answer, OfferError> {
    let exchange = async {
        match framing {
            Framing::WebSocket => {
                let mask = Mask::new(fastrand::u32(..).to_ne_bytes());
                stream.write_all(&websocket::frame(Opcode::Binary, connect, Some(mask))).await?;
            }
            Framing::Raw => stream.write_all(connect).await?,
        }
        stream.flush().await?;
        let mut incoming =
            Incoming { read, followed: 0, frames: FrameSkim::new(Side::Broker), payload: Vec::new() };
        loop {
            // Not a byte further than the first packet: what comes behind it is the tunnel's.
            while incoming.follow(framing)? {
                if let Some(first) = first_packet(level, &incoming.payload)? {
                    return Ok((incoming.read, first));
                }
            }
            if incoming.read.len() >= MAX_READ {
                return Err(OfferError::TooMuch(incoming.read.len()));
            }
            incoming.read.reserve(READ);
            if stream.read_buf(&mut (&mut incoming.read).limit(READ)).await? == 0 {
                return Err(OfferError::Closed);
            }
        }
    };
    let (read, first) = timeout(patience, exchange).await.map_err(|_| OfferError::Timeout(patience))??;
    match first {
        First::Connack(connack) if connack.wants_another_server() => Err(OfferError::Elsewhere(connack.code)),
        first => Ok(Answer { stream, read, first }),
    }
}

/// What a broker has sent, and the MQTT in it.
struct Incoming {
    read: Vec<u8>,
    followed: usize,
    frames: FrameSkim,
    payload: Vec<u8>,
}

impl Incoming {
    /// Follow the next piece, or say `false`: more must be read first.
    fn follow(&mut self, framing: Framing) -> Result<bool, OfferError> {
        let rest = &self.read[self.followed..];
        if rest.is_empty() {
            return Ok(false);
        }
        let used = match framing {
            Framing::Raw => {
                self.payload.extend_from_slice(rest);
                rest.len()
            }
            Framing::WebSocket => {
                let (used, segment) = self.frames.next(rest)?;
                if matches!(segment, Segment::Data { .. }) {
                    self.payload.extend_from_slice(&rest[..used]);
                }
                used
            }
        };
        if self.frames.closed() {
            return Err(OfferError::Closed);
        }
        self.followed += used;
        Ok(true)
    }
}

fn first_packet(level: Level, payload: &[u8]) -> Result<Option<First>, OfferError> {
    let Some((header, _)) = FixedHeader::decode(payload)? else { return Ok(None) };
    let size = header.size();
    if size > MAX_FIRST {
        return Err(PacketError::TooLarge { size, limit: MAX_FIRST }.into());
    }
    match header.packet_type {
        PacketType::Connack => Ok(Connack::parse(level, payload)?.map(First::Connack)),
        PacketType::Auth if level == Level::V5 => Ok(Some(First::Auth)),
        other => Err(OfferError::Unexpected(other.label())),
    }
}

#[cfg(test)]
mod tests;
