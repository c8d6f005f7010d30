//! What a benchmark's PUBLISH carries: a stamp, and filling that depends on it, so that a message that was
//! lost, doubled, mixed up or damaged on the way is seen.

use super::wire;

/// The topic that is echoed.
pub(crate) const ECHO_TOPIC: &str = "bench/echo";
/// Bytes of a stamp: the smallest payload.
pub(crate) const STAMP_SIZE: usize = 16;
/// The largest payload.
pub(crate) const MOST_SIZE: usize = 1 << 20;
/// The filling starts at one of so many places.
const STARTS: usize = 1 << 12;

/// The beginning of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When it was, or should have been, sent: nanoseconds of the shared clock.
    pub(crate) time: u64,
    /// One more with each message.
    pub(crate) sequence: u32,
    /// Of which session.
    pub(crate) sender: u32,
}

impl Stamp {
    pub(crate) fn bytes(self) -> [u8; STAMP_SIZE] {
        let number = u128::from(self.time) << 64 | u128::from(self.sequence) << 32 | u128::from(self.sender);
        number.to_be_bytes()
    }

    pub(crate) fn read(bytes: [u8; STAMP_SIZE]) -> Self {
        let number = u128::from_be_bytes(bytes);
        Self { time: (number >> 64) as u64, sequence: (number >> 32) as u32, sender: number as u32 }
    }
}

/// Bytes at random, the same in all processes.
pub(crate) struct Filling(Vec<u8>);

impl Filling {
    pub(crate) fn new() -> Self {
        let mut bytes = vec![0; MOST_SIZE + STARTS];
        fastrand::Rng::with_seed(7).fill(&mut bytes);
        Self(bytes)
    }

    /// What stands behind `stamp`, from `offset` on.
    pub(crate) fn part(&self, stamp: Stamp, offset: usize, len: usize) -> &[u8] {
        let start = (stamp.sequence.wrapping_mul(61) ^ stamp.sender.wrapping_mul(97)) as usize % STARTS;
        &self.0[start + offset..start + offset + len]
    }
}

/// Append a whole PUBLISH, QoS 0, with a payload of `size` bytes (MQTT 3.1.1, 3.3).
pub(crate) fn publish(out: &mut Vec<u8>, topic: &str, stamp: Stamp, size: usize, filling: &Filling) {
    wire::begin_packet(out, wire::packet::PUBLISH, publish_size(topic, size));
    wire::text(out, topic);
    out.extend_from_slice(&stamp.bytes());
    out.extend_from_slice(filling.part(stamp, 0, size - STAMP_SIZE));
}

/// The size of its body.
pub(crate) fn publish_size(topic: &str, size: usize) -> usize {
    2 + topic.len() + size
}
