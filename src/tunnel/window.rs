//! Bytes of one direction that wait to be written.

use std::ops::Range;

use super::buffer::Buffer;

/// A window of a buffer: what was read and followed, or our own.
#[derive(Debug)]
pub(super) struct Window {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl Window {
    pub(super) fn new(buffer: Buffer, waiting: Range<usize>) -> Self {
        Self { buffer, start: waiting.start, end: waiting.end }
    }

    /// Bytes that may wait for long: our own, a control frame or two, or what a stalled sink did not take.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { buffer: Buffer::keep(bytes), start: 0, end: bytes.len() }
    }

    /// What is not written yet.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Hold no more memory than what waits needs: that may be for long. Where all of the buffer waits nothing is copied.
    pub(super) fn shrink(&mut self) {
        if self.waiting().len() < self.buffer.len() {
            *self = Self::of(self.waiting());
        }
    }

    /// The first `count` bytes of what waits are written. Returns whether that was all.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        self.start += count;
        self.start == self.end
    }
}
