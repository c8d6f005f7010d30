//! One round of goodbyes: on which terms, how far it is, and how it keeps its pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Asked, Member, SLICE};

/// How often those whose turn has come are asked.
const STEP: Duration = Duration::from_millis(10);

/// What is missed while the machine is busy is not made up for beyond this: the pace is a promise, the window
/// a wish.
const LATEST: Duration = Duration::from_millis(50);

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

    /// Whether those who were asked may still be on their way: it was not cancelled, and its grace is not over.
    #[must_use]
    pub fn is_under_way(&self, now: Instant) -> bool {
        !self.is_cancelled() && now < self.deadline()
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Ask these one after the other, until all are asked or the round is cancelled. The first call sets the
    /// pace.
    pub(super) async fn ask(&self, work: Vec<Arc<Member>>, pace: &mut Option<Pace>) {
        self.total.fetch_add(work.len(), Ordering::Relaxed);
        let pace = pace.get_or_insert_with(|| Pace::new(work.len(), self.terms.window));
        let mut before = Instant::now();
        let mut work = work.into_iter();
        let mut passed = Duration::ZERO;
        while work.len() > 0 && !self.is_cancelled() {
            let mut due = pace.due(passed).min(work.len());
            while due > 0 && !self.is_cancelled() {
                let turn = due.min(SLICE);
                for member in work.by_ref().take(turn) {
                    member.tell(Asked::Drain(self.terms.will).stage());
                }
                self.asked.fetch_add(turn, Ordering::Relaxed);
                due -= turn;
                yield_now().await;
            }
            if work.len() > 0 {
                sleep(STEP).await;
            }
            let now = Instant::now();
            passed = now - before;
            before = now;
        }
    }
}

/// How many have their turn. Pure: it is told how time passes.
#[derive(Debug)]
pub(super) struct Pace {
    /// Turns a second; none where all are due at once.
    rate: Option<f64>,
    /// Turns that are due, and a part of the next.
    credit: f64,
}

impl Pace {
    /// `total` turns, evenly over `window`; the first is due at once.
    pub(super) fn new(total: usize, window: Duration) -> Self {
        let rate = (!window.is_zero()).then(|| total as f64 / window.as_secs_f64());
        Self { rate, credit: 1.0 }
    }

    /// How many are due, `passed` after it was last asked.
    pub(super) fn due(&mut self, passed: Duration) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        self.credit += rate * passed.min(LATEST).as_secs_f64();
        let due = self.credit.floor();
        self.credit -= due;
        due as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(pace: &mut Pace, steps: &[u64]) -> Vec<usize> {
        steps.iter().map(|step| pace.due(Duration::from_millis(*step))).collect()
    }

    #[test]
    fn turns_are_even() {
        let mut pace = Pace::new(1000, Duration::from_secs(1));
        assert_eq!(over(&mut pace, &[0, 10, 10, 20, 5]), [1, 10, 10, 20, 5]);
        let mut slow = Pace::new(10, Duration::from_secs(1));
        let turns = over(&mut slow, &[10; 101]);
        assert!(turns.iter().all(|turn| *turn <= 1) && turns.iter().sum::<usize>().abs_diff(11) <= 1);
        assert_eq!(over(&mut Pace::new(5, Duration::ZERO), &[0]), [usize::MAX]);
        assert_eq!(over(&mut Pace::new(0, Duration::from_secs(1)), &[0, 50]), [1, 0]);
    }

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let mut pace = Pace::new(1000, Duration::from_secs(1));
        let turns = over(&mut pace, &[0, 400, 10, 10]);
        assert_eq!(turns, [1, 50, 10, 10]);
    }

    #[test]
    fn no_second_has_a_tenth_more_than_its_due() {
        // A machine that stalls now and then, for 90 ms.
        let mut pace = Pace::new(5000, Duration::from_secs(10));
        let steps: Vec<u64> = (0..2000).map(|step| if step % 37 == 0 { 90 } else { 10 }).collect();
        let turns = over(&mut pace, &steps);
        let mut at = 0;
        let times: Vec<u64> = steps
            .iter()
            .map(|step| {
                at += step;
                at
            })
            .collect();
        for (first, begin) in times.iter().enumerate() {
            let second = times.iter().zip(&turns).skip(first).take_while(|(time, _)| **time < begin + 1000);
            let sum: usize = second.map(|(_, turn)| turn).sum();
            assert!(sum <= 550, "{sum} in the second from {begin} ms on");
        }
    }
}
