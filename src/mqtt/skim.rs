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
    #[inline]
    pub fn next(&mut self, input: &[u8], mask: [u8; 4]) -> Result<(usize, Option<PacketStart>), PacketError> {
        if self.remaining > 0 {
            let taken = usize::try_from(self.remaining).map_or(input.len(), |body| body.min(input.len()));
            self.remaining -= taken as u32;
            return Ok((taken, None));
        }
        if self.partial_length == 0 {
            // The common case: the whole header is in the input, and nothing is copied (`skim-client-small`).
            let unmasked = |index: usize| input.get(index).map(|byte| byte ^ mask[index % 4]);
            if let Some((header, size)) = FixedHeader::decode_by(unmasked)? {
                return Ok((size, Some(self.begin(header)?)));
            }
        }
        self.take_part(input, mask)
    }

    /// A header that was cut off, or is cut off here.
    #[inline(never)]
    fn take_part(
        &mut self,
        input: &[u8],
        mask: [u8; 4],
    ) -> Result<(usize, Option<PacketStart>), PacketError> {
        let before = usize::from(self.partial_length);
        let mut after = before;
        for ((slot, byte), key) in self.partial[before..].iter_mut().zip(input).zip(mask.iter().cycle()) {
            *slot = byte ^ key;
            after += 1;
        }
        match FixedHeader::decode(&self.partial[..after])? {
            Some((header, size)) => Ok((size - before, Some(self.begin(header)?))),
            None => {
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

    /// Bytes of the packet whose fixed header is whole that are still to come.
    #[must_use]
    pub const fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Whether the next byte begins a packet: where a packet of our own may go.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.remaining == 0 && self.partial_length == 0
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use mqttbytes::{QoS, v4, v5};
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// Feeds `bytes`, masked with `key` and cut at `cuts`.
    fn follow(
        skim: &mut PacketSkim,
        bytes: &[u8],
        key: [u8; 4],
        cuts: &[usize],
    ) -> (Vec<PacketStart>, Option<PacketError>) {
        let masked: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        let mut cuts = cuts.to_vec();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let (mut starts, mut at) = (Vec::new(), 0);
        for end in cuts {
            while at < end {
                let mask = std::array::from_fn(|i| key[(at + i) % 4]);
                match skim.next(&masked[at..end], mask) {
                    Ok((taken, start)) => {
                        assert!(taken > 0 && at + taken <= end);
                        at += taken;
                        starts.extend(start);
                    }
                    Err(error) => return (starts, Some(error)),
                }
            }
        }
        (starts, None)
    }

    #[test]
    fn a_skim_is_small() {
        assert!(size_of::<PacketSkim>() <= 24);
    }

    #[test]
    fn a_packet_may_be_as_large_as_the_limit_and_no_larger() {
        let mut skim = PacketSkim::new(10);
        let (starts, error) = follow(&mut skim, &[0x30, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x30, 9], [0; 4], &[]);
        assert_eq!(starts, [PacketStart { packet_type: PacketType::Publish, flags: 0, size: 10 }]);
        assert_eq!(error, Some(PacketError::TooLarge { size: 11, limit: 10 }));
        let mut skim = PacketSkim::new(usize::MAX);
        assert_eq!(skim.next(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], [0; 4]).unwrap().0, 5);
        assert!(!skim.at_boundary());
    }

    /// A packet of mqttbytes, of either version.
    fn packet() -> impl Strategy<Value = Vec<u8>> {
        let parts = (0..13_u8, any::<u16>(), prop_oneof![0..300usize, 16_300..16_500usize], any::<bool>());
        parts.prop_map(|(kind, pkid, size, new)| {
            let payload = vec![0x30; size];
            let mut bytes = BytesMut::new();
            let pkid = pkid.max(1);
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(pkid % 3)];
            match (kind, new) {
                (0, false) => v4::Connect::new("c").write(&mut bytes),
                (0, true) => v5::Connect::new("c").write(&mut bytes),
                (1, _) => v4::ConnAck::new(v4::ConnectReturnCode::Success, false).write(&mut bytes),
                (2, false) => v4::PubAck::new(pkid).write(&mut bytes),
                (2, true) => v5::PubAck::new(pkid).write(&mut bytes),
                (3, false) => v4::PubRec::new(pkid).write(&mut bytes),
                (3, true) => v5::PubRec::new(pkid).write(&mut bytes),
                (4, false) => v4::PubRel::new(pkid).write(&mut bytes),
                (4, true) => v5::PubRel::new(pkid).write(&mut bytes),
                (5, _) => v4::PubComp::new(pkid).write(&mut bytes),
                (6, false) => v4::Subscribe::new("a/b", qos).write(&mut bytes),
                (6, true) => v5::Subscribe::new("a/b", qos).write(&mut bytes),
                (7, _) => v4::Unsubscribe::new("a/b").write(&mut bytes),
                (8, _) => v4::PingReq.write(&mut bytes),
                (9, _) => v4::PingResp.write(&mut bytes),
                (10, _) => v4::Disconnect.write(&mut bytes),
                (_, false) => v4::Publish { pkid, ..v4::Publish::new("t", qos, payload) }.write(&mut bytes),
                (_, true) => v5::Publish { pkid, ..v5::Publish::new("t", qos, payload) }.write(&mut bytes),
            }
            .unwrap();
            bytes.to_vec()
        })
    }

    proptest! {
        #[test]
        fn any_split_shows_the_packets_that_were_sent(
            packets in prop::collection::vec(packet(), 0..8),
            key: [u8; 4],
            cuts: Vec<Index>,
        ) {
            let bytes = packets.concat();
            let expected: Vec<_> = packets
                .iter()
                .map(|packet| PacketStart {
                    packet_type: PacketType::from_byte(packet[0]).unwrap(),
                    flags: packet[0] & 0x0F,
                    size: packet.len() as u32,
                })
                .collect();
            let at_random = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            for cuts in [vec![], (0..bytes.len()).collect(), at_random] {
                let mut skim = PacketSkim::new(1 << 20);
                let (starts, error) = follow(&mut skim, &bytes, key, &cuts);
                prop_assert_eq!(error, None);
                prop_assert_eq!(&starts, &expected);
                prop_assert!(skim.at_boundary());
            }
        }
    }

    #[test]
    fn rubbish_fails_alike_however_it_is_split() {
        for seed in 0..10_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            // Small numbers among them: short packets, so that many follow each other.
            let bytes: Vec<u8> = (0..random.usize(..60))
                .map(|_| match random.u8(..4) {
                    0 => random.u8(..),
                    1 => 0x30,
                    2 => 0xC0,
                    _ => random.u8(..4),
                })
                .collect();
            let key = random.u32(..).to_ne_bytes();
            let cuts: Vec<_> = (0..random.usize(..8)).map(|_| random.usize(..=bytes.len())).collect();
            let whole = follow(&mut PacketSkim::new(100), &bytes, key, &[]);
            let split = follow(&mut PacketSkim::new(100), &bytes, key, &cuts);
            assert_eq!(whole, split, "seed {seed}");
        }
    }
}
