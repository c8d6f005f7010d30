//! One round of goodbyes: on which terms, and how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::member::CUT;
use super::{Asked, Member, Pace};

/// What becomes of the Will of a client that we say goodbye to (MQTT 5, 3.1.2.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Will {
    /// The broker's connection closes without a DISCONNECT: it fires.
    #[default]
    Fire,
    /// The broker is sent a DISCONNECT in the client's place.
    Suppress,
}

impl Will {
    /// The word for it in the configuration and in `/status`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fire => "fire",
            Self::Suppress => "suppress",
        }
    }
}

/// How goodbyes are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// They are spread over so long.
    pub window: Duration,
    /// Who is still here so long after the window is cut.
    pub grace: Duration,
    /// What becomes of Wills.
    pub will: Will,
}

/// How far a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Who is to be asked.
    pub total: usize,
    /// Who was.
    pub asked: usize,
    /// Who is still here.
    pub left: usize,
    /// When it began.
    pub since: Instant,
    /// When what is left is cut.
    pub deadline: Instant,
    /// What becomes of Wills.
    pub will: Will,
}

/// One round of goodbyes.
#[derive(Debug)]
pub struct Round {
    terms: Terms,
    since: Instant,
    /// Goodbyes begin then.
    begins: Instant,
    total: AtomicUsize,
    asked: AtomicUsize,
    is_cancelled: AtomicBool,
}

impl Round {
    /// It begins now.
    #[must_use]
    pub fn new(terms: Terms) -> Arc<Self> {
        Self::after(Duration::ZERO, terms)
    }

    /// It begins now, and its goodbyes when `delay` is over.
    #[must_use]
    pub fn after(delay: Duration, terms: Terms) -> Arc<Self> {
        let since = Instant::now();
        Arc::new(Self {
            terms,
            since,
            begins: since + delay,
            total: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            is_cancelled: AtomicBool::new(false),
        })
    }

    /// Its terms.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// When its goodbyes begin.
    #[must_use]
    pub const fn begins(&self) -> Instant {
        self.begins
    }

    /// When what is left is cut.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.begins + self.terms.window + self.terms.grace
    }

    /// How far it is; `left` is told by who counts them.
    #[must_use]
    pub fn progress(&self, left: usize) -> Progress {
        Progress {
            total: self.total.load(Ordering::Relaxed),
            asked: self.asked.load(Ordering::Relaxed),
            left,
            since: self.since,
            deadline: self.deadline(),
            will: self.terms.will,
        }
    }

    /// Who is to be asked and was not.
    #[must_use]
    pub fn unasked(&self) -> usize {
        self.total.load(Ordering::Relaxed).saturating_sub(self.asked.load(Ordering::Relaxed))
    }

    /// Ask nobody from now on.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
    }

    /// Whether some are still to be asked, or may be on their way: it was not cancelled, and its grace is not over.
    #[must_use]
    pub fn is_under_way(&self, now: Instant) -> bool {
        !self.is_cancelled() && (now < self.deadline() || self.unasked() > 0)
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// What it tells those whom it asks.
    pub(super) const fn stage(&self) -> u8 {
        Asked::Drain(self.terms.will).stage()
    }

    /// Ask these, until all are asked or the round is cancelled.
    pub(super) async fn ask(&self, work: Vec<Arc<Member>>, pace: &mut Pace) {
        if self.is_cancelled() {
            return;
        }
        self.total.fetch_add(work.len(), Ordering::Relaxed);
        let ask = |member: &Member| {
            member.tell(self.stage());
            self.asked.fetch_add(1, Ordering::Relaxed);
        };
        pace.tell(work, ask, || !self.is_cancelled()).await;
    }

    /// Cut these, until all are cut or the round is cancelled.
    pub(super) async fn cut(&self, left: Vec<Arc<Member>>, pace: &mut Pace) {
        let cut = |member: &Member| {
            member.tell(CUT);
        };
        pace.tell(left, cut, || !self.is_cancelled()).await;
    }
}
