//! Both sides' bytes, made and read by an independent implementation.

use std::io::{self, Cursor, Read, Write};

use brokergate::mqtt::PacketType;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

/// One side's MQTT.
#[derive(Debug, Clone)]
pub(super) struct Packets {
    pub(super) bytes: Vec<u8>,
    pub(super) types: Vec<PacketType>,
}

impl Packets {
    pub(super) fn new(packets: Vec<(PacketType, Vec<u8>)>) -> Self {
        let types = packets.iter().map(|(packet_type, _)| *packet_type).collect();
        Self { bytes: packets.into_iter().flat_map(|(_, bytes)| bytes).collect(), types }
    }
}

/// What stands before one piece of payload, and how the piece is framed.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    /// Where in the payload it begins.
    pub(super) at: usize,
    pub(super) fin: bool,
    pub(super) key: [u8; 4],
    /// Pings and pongs before it, and the lengths of their payloads.
    pub(super) controls: Vec<(Control, usize)>,
}

/// One side's bytes on the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Framed {
    pub(super) wire: Vec<u8>,
    /// Where the first data frame begins.
    pub(super) first: usize,
    pub(super) pings: Vec<Vec<u8>>,
}

impl Framed {
    /// By an independent implementation.
    pub(super) fn new(payload: &[u8], fragments: &[Fragment], masked: bool, continues: bool) -> Self {
        let mut cuts: Vec<_> =
            fragments.iter().map(|fragment| (place(fragment.at, payload.len()), fragment)).collect();
        cuts.sort_by_key(|(at, _)| *at);
        let mut framed = Self::default();
        let mut in_message = continues;
        let ends = cuts.iter().skip(1).map(|(at, _)| *at).chain([payload.len()]);
        for (index, ((at, fragment), end)) in cuts.iter().zip(ends).enumerate() {
            let key = masked.then_some(fragment.key);
            for (number, (control, length)) in fragment.controls.iter().enumerate() {
                // No two pings alike.
                let mut text = vec![index as u8, number as u8];
                text.resize(*length.max(&2), 0x30);
                framed.push(OpCode::Control(*control), true, key, &text);
                if *control == Control::Ping {
                    framed.pings.push(text);
                }
            }
            if index == 0 {
                framed.first = framed.wire.len();
            }
            let opcode = if in_message { Data::Continue } else { Data::Binary };
            let start = if index == 0 { 0 } else { *at };
            framed.push(OpCode::Data(opcode), fragment.fin, key, &payload[start..end]);
            in_message = !fragment.fin;
        }
        framed
    }

    pub(super) fn push(&mut self, opcode: OpCode, is_final: bool, mask: Option<[u8; 4]>, payload: &[u8]) {
        let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
        Frame::from_payload(header, payload.to_vec().into()).format(&mut self.wire).unwrap();
    }
}

/// One packet; its body is rubbish.
pub(super) fn packet_of(packet_type: PacketType, flags: u8, size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![(packet_type as u8) << 4 | flags];
    let mut left = size;
    while left > 127 {
        bytes.push((left % 128) as u8 | 128);
        left /= 128;
    }
    bytes.push(left as u8);
    let mut random = fastrand::Rng::with_seed(seed);
    bytes.extend((0..size).map(|_| random.u8(..)));
    bytes
}

/// A place among `length` bytes, ends included.
pub(super) const fn place(at: usize, length: usize) -> usize {
    at % (length + 1)
}

/// What a client heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) mqtt: Vec<u8>,
    pub(super) pongs: Vec<Vec<u8>>,
    pub(super) close: Option<u16>,
}

impl Heard {
    /// Everything up to the close frame, which must come last.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let mut recorded = Recorded(Cursor::new(bytes.to_vec()));
        let mut socket = WebSocket::from_raw_socket(&mut recorded, Role::Client, None);
        let mut heard = Self::default();
        while heard.close.is_none() {
            match socket.read() {
                Ok(Message::Binary(bytes)) => heard.mqtt.extend_from_slice(&bytes),
                Ok(Message::Pong(payload)) => heard.pongs.push(payload.to_vec()),
                Ok(Message::Close(frame)) => {
                    heard.close = Some(frame.map_or(1005, |frame| frame.code.into()))
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) if bytes.is_empty() => break,
                Err(error) => panic!("{error} after {heard:02x?}"),
            }
        }
        heard
    }
}

/// A stream that was read before; what is written to it goes nowhere.
struct Recorded(Cursor<Vec<u8>>);

impl Read for Recorded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
