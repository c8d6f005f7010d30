//! What happened at an endpoint, for people: it decides nothing. It outlives a reload, as health does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The longest words that are kept of an error, in bytes: a broker has a say in them.
const LONGEST: usize = 512;

/// What happened at one endpoint.
#[derive(Debug, Default)]
pub struct History {
    taken: AtomicU64,
    events: Mutex<Events>,
}

#[derive(Debug, Default)]
struct Events {
    failure: Option<Failure>,
    probed: Option<Probed>,
    unwell_since: Option<SystemTime>,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: SystemTime,
    /// What, with its causes.
    pub words: Box<str>,
}

/// A probe that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// When it had its result.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Why it did not pass.
    pub error: Option<Box<str>>,
}

impl History {
    /// It took a session's CONNECT.
    pub fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// The CONNECTs it has taken, ever.
    #[must_use]
    pub fn sessions_taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The last dial that failed, or CONNECT that it did not take.
    #[must_use]
    pub fn last_failure(&self) -> Option<Failure> {
        self.events().failure.clone()
    }

    /// The last probe.
    #[must_use]
    pub fn last_probe(&self) -> Option<Probed> {
        self.events().probed.clone()
    }

    /// Since when dials or probes speak against it.
    #[must_use]
    pub fn unwell_since(&self) -> Option<SystemTime> {
        self.events().unwell_since
    }

    pub(super) fn failed(&self, words: String) {
        self.events().failure = Some(Failure { at: SystemTime::now(), words: cut(words) });
    }

    pub(super) fn probed(&self, took: Duration, error: Option<String>) {
        self.events().probed = Some(Probed { at: SystemTime::now(), took, error: error.map(cut) });
    }

    /// Its health may have changed. Asked under the lock: of two who tell, the later one is right.
    pub(super) fn settle(&self, is_well: impl FnOnce() -> bool) {
        let mut events = self.events();
        if is_well() {
            events.unwell_since = None;
        } else {
            events.unwell_since.get_or_insert_with(SystemTime::now);
        }
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(mut words: String) -> Box<str> {
    if words.len() > LONGEST {
        words.truncate(words.floor_char_boundary(LONGEST));
        words.push('…');
    }
    words.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_last_and_since_when_it_is_unwell() {
        let history = History::default();
        assert_eq!((history.last_failure(), history.unwell_since()), (None, None));
        history.failed("ü".repeat(LONGEST));
        history.settle(|| false);
        let since = history.unwell_since();
        assert!(since.is_some());
        history.settle(|| false);
        assert_eq!(history.unwell_since(), since, "it goes on");
        history.settle(|| true);
        assert_eq!(history.unwell_since(), None);
        let words = history.last_failure().unwrap().words;
        assert_eq!(*words, *("ü".repeat(LONGEST / 2) + "…"));
    }
}
