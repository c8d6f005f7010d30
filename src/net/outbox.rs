//! What sessions write in one turn of their worker, sent at its end.
//!
//! A burst wakes many sessions, and each has a few bytes to pass on. Sent one after another they find the kernel's
//! code in the cache, and whoever is woken by the first finds the others as well (`fan-out`).

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::ops::Range;
use std::task::{Poll, Waker};

use rustix::net::SendFlags;

use super::Wire;
use super::socket::MORE;

/// One write that may wait, in bytes, as the socket is to have them: to copy more costs as much as it saves.
const SMALL: usize = 4 * 1024;

/// Writes that wait at most.
const MOST: usize = 64;

thread_local! {
    static OUTBOX: RefCell<Option<Outbox>> = const { RefCell::new(None) };
}

/// One thread's.
struct Outbox {
    /// What waits, one behind the other.
    bytes: Vec<u8>,
    due: Vec<Due>,
    /// Whoever sends it at the end of the turn.
    sender: Waker,
}

struct Due {
    wire: Wire,
    /// Its bytes.
    range: Range<usize>,
    /// Woken where not all of them are taken.
    writer: Waker,
}

/// A task that sends, at the end of each turn of this thread's runtime, what its sessions have written in that turn,
/// until it is dropped. Before and after, whatever is written is sent at once.
pub async fn send_each_turn() -> Infallible {
    let _closed = Closed;
    poll_fn(|cx| {
        // Woken by the first that writes, it runs behind all that were woken before: what they write is there.
        OUTBOX.with_borrow_mut(|outbox| match outbox {
            Some(outbox) => outbox.send(),
            None => {
                *outbox = Some(Outbox { bytes: Vec::new(), due: Vec::new(), sender: cx.waker().clone() });
            }
        });
        Poll::Pending
    })
    .await
}

/// Send at once what waits.
pub(super) fn send_now() {
    OUTBOX.with_borrow_mut(|outbox| outbox.iter_mut().for_each(Outbox::send));
}

/// The same, and whatever waits for `ending` may travel along with its end, which follows at once.
pub(super) fn send_before_end(ending: &Wire) {
    let flags = |wire: &Wire| if wire.is(ending) { MORE } else { SendFlags::empty() };
    OUTBOX.with_borrow_mut(|outbox| outbox.iter_mut().for_each(|outbox| outbox.send_with(flags)));
}

/// Whether `bytes` are taken: then they are sent to `wire` with what others write in this turn, and `writer` is
/// woken where its socket takes less.
pub(super) fn take(wire: &Wire, bytes: &[u8], writer: &Waker) -> bool {
    OUTBOX.with_borrow_mut(|outbox| {
        let Some(outbox) = outbox.as_mut().filter(|_| bytes.len() <= SMALL) else { return false };
        if outbox.due.is_empty() {
            outbox.sender.wake_by_ref();
        }
        let range = outbox.bytes.len()..outbox.bytes.len() + bytes.len();
        outbox.bytes.extend_from_slice(bytes);
        outbox.due.push(Due { wire: wire.clone(), range, writer: writer.clone() });
        if outbox.due.len() == MOST {
            outbox.send();
        }
        true
    })
}

impl Outbox {
    fn send(&mut self) {
        self.send_with(|_| SendFlags::empty());
    }

    fn send_with(&mut self, flags: impl Fn(&Wire) -> SendFlags) {
        for Due { wire, range, writer } in self.due.drain(..) {
            wire.send(&self.bytes[range], flags(&wire), &writer);
        }
        self.bytes.clear();
    }
}

/// Closes this thread's outbox when dropped.
struct Closed;

impl Drop for Closed {
    fn drop(&mut self) {
        send_now();
        OUTBOX.set(None);
    }
}
