//! Buffers borrowed while data moves: an idle session holds none.
//!
//! Each thread keeps a few. A session whose sink stalls keeps a copy of what waits, no larger than that, and
//! gives the buffer back.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one buffer: the fewer system calls a large message takes the better, up to here
/// (`bulk256` of the comparison with peers).
pub(super) const SIZE: usize = 64 * 1024;

/// Buffers a thread keeps. A session borrows one for each direction at most, and only while it is polled.
const KEPT: usize = 4;

thread_local! {
    static STORE: RefCell<Store> = const { RefCell::new(Store(Vec::new())) };
}

/// Buffers of [`SIZE`] bytes that wait for the next session, [`KEPT`] at most.
struct Store(Vec<Box<[u8]>>);

impl Drop for Store {
    fn drop(&mut self) {
        self.0.iter().for_each(|bytes| given_back(bytes.len()));
    }
}

/// Buffers of [`SIZE`] bytes of all threads, lent or kept for the next; and what waits in copies. They are counted
/// where memory is taken and given back, which no message does that flows.
static LENT: AtomicUsize = AtomicUsize::new(0);
static WAITING: AtomicUsize = AtomicUsize::new(0);
static WAITING_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What the sessions of this process hold for bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Buffers that sessions borrow, whether or not one does now.
    pub lent: usize,
    /// Bytes of them.
    pub lent_bytes: usize,
    /// Copies of what a sink has not taken.
    pub waiting: usize,
    /// Bytes of them.
    pub waiting_bytes: usize,
}

impl Held {
    /// As it is now.
    #[must_use]
    pub fn look() -> Self {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let lent = read(&LENT);
        Self { lent, lent_bytes: lent * SIZE, waiting: read(&WAITING), waiting_bytes: read(&WAITING_BYTES) }
    }
}

/// A borrowed buffer of [`SIZE`] bytes with whatever its last user left in it; or a kept copy.
#[derive(Debug)]
pub(super) struct Buffer(Box<[u8]>);

impl Buffer {
    /// The next free buffer of this thread, or a new one.
    pub(super) fn borrow() -> Self {
        let kept = STORE.with_borrow_mut(|store| store.0.pop());
        Self(kept.unwrap_or_else(|| taken(vec![0; SIZE].into_boxed_slice())))
    }

    /// A copy of `bytes` that may be held for long.
    pub(super) fn keep(bytes: &[u8]) -> Self {
        Self(taken(bytes.into()))
    }
}

/// Memory that was taken.
fn taken(bytes: Box<[u8]>) -> Box<[u8]> {
    // A copy of a whole buffer is one for all that follows.
    if bytes.len() == SIZE {
        LENT.fetch_add(1, Ordering::Relaxed);
    } else {
        WAITING.fetch_add(1, Ordering::Relaxed);
        WAITING_BYTES.fetch_add(bytes.len(), Ordering::Relaxed);
    }
    bytes
}

/// Memory that is given back.
fn given_back(length: usize) {
    if length == SIZE {
        LENT.fetch_sub(1, Ordering::Relaxed);
    } else {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        WAITING_BYTES.fetch_sub(length, Ordering::Relaxed);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        let is_whole = bytes.len() == SIZE;
        let mut bytes = Some(bytes);
        // While the thread itself ends there is no store, and the bytes are simply freed.
        let _ = STORE.try_with(|store| {
            let Store(kept) = &mut *store.borrow_mut();
            if is_whole && kept.len() < KEPT {
                kept.extend(bytes.take());
            }
        });
        if let Some(bytes) = bytes {
            given_back(bytes.len());
        }
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
        assert_eq!(STORE.with_borrow(|store| store.0.len()), 0);
    }

    #[test]
    fn the_store_is_bounded() {
        let many: Vec<_> = (0..2 * KEPT).map(|_| Buffer::borrow()).collect();
        drop(many);
        assert_eq!(STORE.with_borrow(|store| store.0.len()), KEPT);
    }
}
