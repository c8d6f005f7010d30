//! Following the packets of one direction over any split of its bytes, at O(1) a packet.
//!
//! Packets and WebSocket frames know nothing of each other (MQTT 6), so this sees payload bytes only, as they are on
//! the wire: the few that belong to fixed headers are unmasked here, the rest is counted.

use super::packet::{FixedHeader, PacketError, PacketType};

/// A packet whose fixed header has just become whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketStart {
    /// The packet's type.
    pub packet_type: PacketType,
    /// The low four bits of its first byte.
    pub flags: u8,
    /// Bytes of the whole packet, fixed header included.
    pub size: u32,
}

/// Where we are in one direction's stream of packets.
///
/// After an error it has lost its place: the stream must be given up.
#[derive(Clone, Debug)]
pub struct PacketSkim {
    /// Body bytes still to come.
    remaining: u32,
    limit: u32,
    /// The beginning of a fixed header that was cut off, `partial_length` bytes of it, unmasked.
    partial: [u8; FixedHeader::MAX],
    partial_length: u8,
}

impl PacketSkim {
    /// A skim at the start of a stream whose packets may be up to `max_packet_size` bytes.
    #[must_use]
    pub fn new(max_packet_size: usize) -> Self {
        let limit = u32::try_from(max_packet_size).unwrap_or(u32::MAX);
        Self { remaining: 0, limit, partial: [0; FixedHeader::MAX], partial_length: 0 }
    }

    /// How many of the next bytes belong together, all fixed header or all body, and the packet whose header they
    /// have completed. Of a non-empty `input`, at least one is taken. `mask` is for the input's first byte.
    ///
    /// # Errors
    /// As soon as the bytes cannot be the beginning of a packet, or it is over the limit.
    pub fn next(&mut self, input: &[u8], mask: [u8; 4]) -> Result<(usize, Option<PacketStart>), PacketError> {
        if self.remaining > 0 {
            let taken = usize::try_from(self.remaining).map_or(input.len(), |body| body.min(input.len()));
            self.remaining -= taken as u32;
            return Ok((taken, None));
        }
        let before = usize::from(self.partial_length);
        let mut header = self.partial;
        let mut after = before;
        for ((slot, byte), key) in header[before..].iter_mut().zip(input).zip(mask.iter().cycle()) {
            *slot = byte ^ key;
            after += 1;
        }
        match FixedHeader::decode(&header[..after])? {
            Some((header, size)) => Ok((size - before, Some(self.begin(header)?))),
            None => {
                self.partial = header;
                self.partial_length = after as u8;
                Ok((after - before, None))
            }
        }
    }

    fn begin(&mut self, header: FixedHeader) -> Result<PacketStart, PacketError> {
        let size = header.size();
        if size > self.limit {
            return Err(PacketError::TooLarge { size, limit: self.limit });
        }
        self.partial_length = 0;
        self.remaining = header.remaining;
        Ok(PacketStart { packet_type: header.packet_type, flags: header.flags, size })
    }

    /// Whether the next byte begins a packet: where a packet of our own may go.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.remaining == 0 && self.partial_length == 0
    }
}
