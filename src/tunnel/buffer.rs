//! Buffers borrowed while data moves: an idle session holds none.
//!
//! Each thread keeps a few. A session whose sink stalls keeps a copy of what waits, no larger than that, and
//! gives the buffer back.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Bytes of one buffer: the fewer system calls a large message takes the better, up to here
/// (`bulk-256k` of the comparison with peers).
pub(super) const SIZE: usize = 64 * 1024;

/// Buffers a thread keeps. A session borrows one for each direction at most, and only while it is polled.
const KEPT: usize = 4;

thread_local! {
    static STORE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A borrowed buffer of [`SIZE`] bytes with whatever its last user left in it; or a kept copy.
#[derive(Debug)]
pub(super) struct Buffer(Box<[u8]>);

impl Buffer {
    /// The next free buffer of this thread, or a new one.
    pub(super) fn borrow() -> Self {
        let kept = STORE.with_borrow_mut(Vec::pop);
        Self(kept.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice()))
    }

    /// A copy of `bytes` that may be held for long.
    pub(super) fn keep(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        // While the thread itself ends there is no store, and the bytes are simply freed.
        let _ = STORE.try_with(|store| {
            let mut store = store.borrow_mut();
            if bytes.len() == SIZE && store.len() < KEPT {
                store.push(bytes);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_borrowed_again() {
        let mut first = Buffer::borrow();
        first[0] = 7;
        let address = first.as_ptr();
        drop(first);
        let again = Buffer::borrow();
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), SIZE);
    }

    #[test]
    fn a_kept_copy_is_not_lent() {
        drop(Buffer::keep(&[1, 2, 3]));
        assert_eq!(STORE.with_borrow(Vec::len), 0);
    }

    #[test]
    fn the_store_is_bounded() {
        let many: Vec<_> = (0..2 * KEPT).map(|_| Buffer::borrow()).collect();
        drop(many);
        assert_eq!(STORE.with_borrow(Vec::len), KEPT);
    }
}
