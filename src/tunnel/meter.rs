//! What one session has moved so far, and when its client was last heard: written by its tunnel alone, and read by
//! whoever looks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::Duration;

use tokio::time::Instant;

use super::bell::Bell;
use super::tap::{Direction, Tap};

/// What one direction moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes read from the side that sent them.
    pub bytes: u64,
    /// MQTT packets that began.
    pub packets: u64,
}

/// A session's meter. What it counts is counted in the place where it is read: a session that is silent costs
/// nobody a look, and one that is not no more than two plain additions a read (`load`).
#[derive(Debug)]
pub struct Meter {
    down: Count,
    /// Here, for whoever wakes for a message looks at both (`fan-out`).
    bell: Bell,
    up: Count,
    /// Nanoseconds from the beginning to when the client was last heard.
    heard: AtomicU64,
    began: Instant,
    /// Who looks on. Its flag is what a read asks.
    tap: Mutex<Option<Box<Tap>>>,
    is_tapped: AtomicBool,
    is_leaving: AtomicBool,
    /// Written under the lock of `tap`.
    is_over: AtomicBool,
}

/// One direction's sums, which have one writer.
#[derive(Debug, Default)]
pub(super) struct Count {
    bytes: AtomicU64,
    packets: AtomicU64,
}

/// Why nobody can look on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTap {
    /// Somebody does.
    #[error("somebody looks on already")]
    Taken,
    /// The session is over.
    #[error("the session has ended")]
    Over,
}

impl Meter {
    /// When the session began.
    #[must_use]
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// When its client was last heard.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.began + Duration::from_nanos(self.heard.load(Ordering::Relaxed))
    }

    /// The client was heard.
    pub fn hear(&self, now: Instant) {
        // Half a thousand years fit.
        self.heard.store((now - self.began).as_nanos() as u64, Ordering::Relaxed);
    }

    /// From client to broker.
    #[must_use]
    pub fn up(&self) -> Moved {
        self.up.moved()
    }

    /// From broker to client.
    #[must_use]
    pub fn down(&self) -> Moved {
        self.down.moved()
    }

    pub(super) const fn count(&self, direction: Direction) -> &Count {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    pub(super) const fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Its ending is known, and it says goodbye.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether its ending is known.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Let somebody look on from the next packet on, in either direction.
    ///
    /// # Errors
    /// When somebody does already, or the session has ended.
    pub fn tap(&self, tap: Tap) -> Result<(), NoTap> {
        let mut place = self.lock();
        if self.is_over.load(Ordering::Relaxed) {
            return Err(NoTap::Over);
        }
        if place.is_some() {
            return Err(NoTap::Taken);
        }
        *place = Some(Box::new(tap));
        self.is_tapped.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whoever looked on does no more.
    pub fn untap(&self) {
        self.is_tapped.store(false, Ordering::Relaxed);
        let tap = self.lock().take();
        drop(tap);
    }

    /// Whether somebody looks on.
    #[must_use]
    pub fn is_tapped(&self) -> bool {
        self.is_tapped.load(Ordering::Relaxed)
    }

    /// The session has ended: whoever looks on is told why.
    pub fn end(&self, ending: &'static str) {
        self.leave();
        let mut place = self.lock();
        self.is_over.store(true, Ordering::Relaxed);
        self.is_tapped.store(false, Ordering::Relaxed);
        if let Some(tap) = place.take() {
            tap.end(ending);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Box<Tap>>> {
        self.tap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A waker for what seldom happens to the session.
impl Wake for Meter {
    fn wake(self: Arc<Self>) {
        self.bell.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring();
    }
}

impl Default for Meter {
    /// Of a session that begins now; its client was just heard.
    fn default() -> Self {
        Self {
            down: Count::default(),
            bell: Bell::new(),
            up: Count::default(),
            heard: AtomicU64::new(0),
            began: Instant::now(),
            tap: Mutex::default(),
            is_tapped: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }
}

impl Count {
    pub(super) fn add_bytes(&self, count: usize) {
        add(&self.bytes, count as u64);
    }

    pub(super) fn add_packet(&self) {
        add(&self.packets, 1);
    }

    pub(super) fn moved(&self) -> Moved {
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Moved { bytes: read(&self.bytes), packets: read(&self.packets) }
    }
}

/// There is one writer, so this need not be one step.
fn add(sum: &AtomicU64, count: u64) {
    sum.store(sum.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}
