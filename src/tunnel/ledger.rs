//! Where a direction's bytes and packets are written down: with its worker, with its session, and for who looks on.

use std::ops::Range;

use tokio::time::Instant;

use super::course::{Course, Violation, Witness};
use super::meter::{Count, Meter};
use super::tap::{Direction, Tap};
use super::traffic::{Flow, Traffic};
use crate::mqtt::PacketStart;
use crate::websocket::Mask;

/// See above.
pub(super) struct Ledger<'a> {
    direction: Direction,
    flow: &'a Flow,
    count: &'a Count,
    meter: &'a Meter,
}

impl<'a> Ledger<'a> {
    #[inline]
    pub(super) const fn new(direction: Direction, traffic: &'a Traffic, meter: &'a Meter) -> Self {
        let flow = match direction {
            Direction::Up => &traffic.up,
            Direction::Down => &traffic.down,
        };
        Self { direction, flow, count: meter.count(direction), meter }
    }

    pub(super) fn add_bytes(&self, count: usize) {
        self.count.add_bytes(count);
        self.flow.add_bytes(count);
    }

    pub(super) fn add_packet(&self, packet: PacketStart) {
        self.count.add_packet();
        self.flow.add_packet(packet.packet_type);
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.count.moved().bytes
    }

    /// The client was heard.
    pub(super) fn hear(&self, now: Instant) {
        self.meter.hear(now);
    }

    /// Whether somebody looks on: one load a read, of what is being written anyway.
    #[inline]
    pub(super) fn is_tapped(&self) -> bool {
        self.meter.is_tapped()
    }

    /// [`Course::follow`] while somebody looks on.
    #[cold]
    pub(super) fn follow_tapped(
        &self,
        course: &mut Course,
        buffer: &mut [u8],
        read: Range<usize>,
    ) -> Result<Range<usize>, Violation> {
        match &mut *self.meter.lock() {
            Some(tap) => course.follow(buffer, read, Tapped { ledger: self, tap }),
            // It was taken away just now.
            None => course.follow(buffer, read, |packet: PacketStart| self.add_packet(packet)),
        }
    }
}

/// Counts, and hands over what goes by.
struct Tapped<'a> {
    ledger: &'a Ledger<'a>,
    tap: &'a mut Tap,
}

impl Witness for Tapped<'_> {
    fn begin(&mut self, start: PacketStart, body_length: u32) {
        self.ledger.add_packet(start);
        self.tap.begin(self.ledger.direction, start, body_length);
    }

    fn follow(&mut self, bytes: &[u8], mask: Mask) {
        self.tap.follow(self.ledger.direction, bytes, mask);
    }
}
