//! What goes back after one read: bytes of our own, and stretches of what was read, which are not copied.

use std::io::IoSlice;
use std::ops::Range;

/// A shorter stretch is cheaper to copy.
const LEAST_STRETCH: usize = 2 << 10;

/// The answer to one read, in order.
#[derive(Debug, Default)]
pub(super) struct Answer {
    own: Vec<u8>,
    parts: Vec<Part>,
    /// Of `own`, what is already part of a part.
    told: usize,
}

#[derive(Debug)]
enum Part {
    Own(Range<usize>),
    Read(Range<usize>),
}

impl Answer {
    pub(super) fn clear(&mut self) {
        self.own.clear();
        self.parts.clear();
        self.told = 0;
    }

    /// Where to append bytes of our own.
    pub(super) fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Append a stretch of what was read.
    pub(super) fn stretch(&mut self, read: &[u8], stretch: Range<usize>) {
        if stretch.len() < LEAST_STRETCH {
            self.own.extend_from_slice(&read[stretch]);
        } else {
            self.tell_own();
            self.parts.push(Part::Read(stretch));
        }
    }

    /// All of it, when none of it is a stretch.
    pub(super) fn only_own(&self) -> Option<&[u8]> {
        self.parts.is_empty().then_some(&self.own)
    }

    /// All of it.
    pub(super) fn slices<'a>(&'a mut self, read: &'a [u8]) -> Vec<IoSlice<'a>> {
        self.tell_own();
        let slice = |part: &Part| match part {
            Part::Own(range) => IoSlice::new(&self.own[range.clone()]),
            Part::Read(range) => IoSlice::new(&read[range.clone()]),
        };
        self.parts.iter().map(slice).collect()
    }

    fn tell_own(&mut self) {
        if self.told < self.own.len() {
            self.parts.push(Part::Own(self.told..self.own.len()));
            self.told = self.own.len();
        }
    }
}
