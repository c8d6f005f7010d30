//! Where WebSocket frames (RFC 6455, 5.2) and MQTT 3.1.1 packets (2.2) begin and end in a stream cut
//! anywhere, and the few frames and packets that the benchmark writes. Both ends of the benchmark use it;
//! it is independent of the gateway's own code, which it measures. No I/O.

use std::fmt;

/// WebSocket opcodes (RFC 6455, 11.8).
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// MQTT control packets by their first byte, flags included (MQTT 3.1.1, 2.2.1).
pub(crate) mod packet {
    pub(crate) const CONNECT: u8 = 0x10;
    pub(crate) const CONNACK: u8 = 0x20;
    pub(crate) const PUBLISH: u8 = 0x30;
    pub(crate) const SUBSCRIBE: u8 = 0x82;
    pub(crate) const SUBACK: u8 = 0x90;
    pub(crate) const UNSUBSCRIBE: u8 = 0xA2;
    pub(crate) const UNSUBACK: u8 = 0xB0;
    pub(crate) const PINGREQ: u8 = 0xC0;
    pub(crate) const PINGRESP: u8 = 0xD0;
    pub(crate) const DISCONNECT: u8 = 0xE0;
}

/// The bytes are not what the benchmark speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) &'static str);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What stands at the front of the bytes: `skip` of a header, then `len` of its frame's or packet's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) skip: usize,
    pub(crate) len: usize,
    /// The header ended in these bytes, so this is the body's beginning.
    pub(crate) begins: bool,
    /// This is the body's last piece.
    pub(crate) ends: bool,
}

impl Piece {
    /// All bytes were a header's, and more of it is to come.
    fn header_goes_on(skip: usize) -> Self {
        Self { skip, len: 0, begins: false, ends: false }
    }
}

/// Follows WebSocket frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; 14],
    header_len: usize,
    remaining: u64,
    mask: [u8; 4],
    in_body: bool,
}

impl Frames {
    /// The next piece of `bytes`, which must not be empty.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        let mut skip = 0;
        let begins = !self.in_body;
        if begins {
            if self.header_is_whole() {
                self.header_len = 0;
            }
            while !self.header_is_whole() {
                let Some(&byte) = bytes.get(skip) else { return Ok(Piece::header_goes_on(skip)) };
                self.header[self.header_len] = byte;
                self.header_len += 1;
                skip += 1;
            }
            self.begin_body()?;
        }
        let len = (bytes.len() - skip).min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        self.remaining -= len as u64;
        let ends = self.remaining == 0;
        self.in_body = !ends;
        Ok(Piece { skip, len, begins, ends })
    }

    /// Of the frame that the last piece belongs to.
    pub(crate) fn opcode(&self) -> u8 {
        self.header[0] & 0x0F
    }

    pub(crate) fn is_masked(&self) -> bool {
        self.header[1] & 0x80 != 0
    }

    /// Take the mask off a piece's body. Pieces of one frame must come here once each, in order.
    pub(crate) fn unmask(&mut self, body: &mut [u8]) {
        mask(body, self.mask);
        self.mask.rotate_left(body.len() % 4);
    }

    fn length_size(&self) -> usize {
        match self.header[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_is_whole(&self) -> bool {
        let mask = if self.is_masked() { 4 } else { 0 };
        self.header_len >= 2 && self.header_len == 2 + self.length_size() + mask
    }

    fn begin_body(&mut self) -> Result<(), Fault> {
        let length = &self.header[2..2 + self.length_size()];
        self.remaining = match length {
            [] => u64::from(self.header[1] & 0x7F),
            long => long.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        if self.header[0] & 0x70 != 0 {
            return Err(Fault("a frame with reserved bits"));
        }
        if self.opcode() >= opcode::CLOSE && (self.remaining > 125 || self.header[0] & 0x80 == 0) {
            return Err(Fault("a control frame that is too long or in pieces"));
        }
        if self.is_masked() {
            self.mask.copy_from_slice(&self.header[self.header_len - 4..self.header_len]);
        }
        self.in_body = true;
        Ok(())
    }
}

/// Follows MQTT packets.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    header: [u8; 5],
    header_len: usize,
    size: usize,
    remaining: usize,
    in_body: bool,
}

impl Packets {
    /// The next piece of `bytes`, which must not be empty.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        let mut skip = 0;
        let begins = !self.in_body;
        if begins {
            if self.header_is_whole() {
                self.header_len = 0;
            }
            while !self.header_is_whole() {
                let Some(&byte) = bytes.get(skip) else { return Ok(Piece::header_goes_on(skip)) };
                if self.header_len == self.header.len() {
                    return Err(Fault("a packet whose length takes more than four bytes"));
                }
                self.header[self.header_len] = byte;
                self.header_len += 1;
                skip += 1;
            }
            self.size =
                self.header().iter().skip(1).rev().fold(0, |sum, it| sum << 7 | usize::from(it & 0x7F));
            self.remaining = self.size;
            self.in_body = true;
        }
        let len = (bytes.len() - skip).min(self.remaining);
        self.remaining -= len;
        let ends = self.remaining == 0;
        self.in_body = !ends;
        Ok(Piece { skip, len, begins, ends })
    }

    /// The fixed header of the packet that the last piece belongs to.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }

    /// Its first byte: type and flags.
    pub(crate) fn first_byte(&self) -> u8 {
        self.header[0]
    }

    /// The size of its body in bytes: what MQTT calls the remaining length.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether no packet is open.
    pub(crate) fn at_boundary(&self) -> bool {
        !self.in_body && (self.header_len == 0 || self.header_is_whole())
    }

    fn header_is_whole(&self) -> bool {
        self.header_len >= 2 && self.header[self.header_len - 1] & 0x80 == 0
    }
}

/// XOR `body` with `mask` from its first byte on (RFC 6455, 5.3).
pub(crate) fn mask(body: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (words, rest) = body.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Begin a frame of `len` bytes. With a mask key it is a client's, and what follows must be masked.
pub(crate) fn begin_frame(out: &mut Vec<u8>, opcode: u8, len: usize, key: Option<[u8; 4]>) {
    let masked = if key.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match len {
        0..126 => out.push(masked | len as u8),
        126..0x1_0000 => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if let Some(key) = key {
        out.extend_from_slice(&key);
    }
}

/// Begin a packet whose body has `size` bytes (MQTT 3.1.1, 2.2.3).
pub(crate) fn begin_packet(out: &mut Vec<u8>, first_byte: u8, size: usize) {
    out.push(first_byte);
    let mut rest = size;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The size of a whole packet whose body has `size` bytes.
pub(crate) fn packet_size(size: usize) -> usize {
    let header = match size {
        0..0x80 => 2,
        0x80..0x4000 => 3,
        0x4000..0x20_0000 => 4,
        _ => 5,
    };
    header + size
}

/// Text behind its length in two bytes (MQTT 3.1.1, 1.5.3).
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Prove the above to ourselves, in place of unit tests, which a bench cannot have: each frame and packet,
/// of sizes around every boundary, cut at every byte of its headers and at its end.
pub(crate) fn check() -> Result<(), String> {
    for size in [0, 1, 16, 123, 124, 125, 126, 127, 128, 129, 16381, 16384, 65531, 65536, 1 << 21] {
        let body: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
        let mut packet = Vec::new();
        begin_packet(&mut packet, packet::PUBLISH, size);
        packet.extend_from_slice(&body);
        if packet.len() != packet_size(size) {
            return Err(format!("packet_size({size}) is not {}", packet.len()));
        }
        let mut stream = Vec::new();
        for key in [None, Some([1, 2, 3, 4])] {
            begin_frame(&mut stream, opcode::BINARY, packet.len(), key);
            let start = stream.len();
            stream.extend_from_slice(&packet);
            mask(&mut stream[start..], key.unwrap_or_default());
        }
        let headers = if size < 1 << 21 { 0..20.min(stream.len()) } else { 10..16 };
        for cut in headers.chain([stream.len() / 2, stream.len() - 1, stream.len()]) {
            let read = read_back(&stream, cut).map_err(|fault| format!("size {size}, cut {cut}: {fault}"))?;
            if read != [body.clone(), body.clone()] {
                return Err(format!("size {size}, cut at {cut}: other packets came out than went in"));
            }
        }
    }
    Ok(())
}

fn read_back(stream: &[u8], cut: usize) -> Result<Vec<Vec<u8>>, Fault> {
    let (mut frames, mut packets) = (Frames::default(), Packets::default());
    let mut read = Vec::new();
    let mut body = Vec::new();
    for part in [&stream[..cut], &stream[cut..]] {
        let mut part = part.to_vec();
        let mut bytes = part.as_mut_slice();
        while !bytes.is_empty() {
            let piece = frames.next(bytes)?;
            let (payload, rest) = bytes[piece.skip..].split_at_mut(piece.len);
            if frames.is_masked() {
                frames.unmask(payload);
            }
            let mut payload = &*payload;
            while !payload.is_empty() {
                let piece = packets.next(payload)?;
                body.extend_from_slice(&payload[piece.skip..piece.skip + piece.len]);
                if piece.ends {
                    read.push(std::mem::take(&mut body));
                }
                payload = &payload[piece.skip + piece.len..];
            }
            bytes = rest;
        }
    }
    if packets.at_boundary() { Ok(read) } else { Err(Fault("the last packet did not end")) }
}
