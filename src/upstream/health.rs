//! Passive health: what dials tell us of an endpoint. Pure: state + event + now -> state. Probes tell more:
//! see `streak`. An endpoint is picked when both allow it.
//!
//! An endpoint that fails to dial is avoided for a while. Then one session tries it again: a broker
//! that returns gets one trial and not a herd. A success makes it up at once, another failure doubles
//! the time. A failure whose dial began before the endpoint came up belongs to the past and is ignored.

pub(super) mod slow_start;
mod streak;

use std::time::Duration;

use tokio::time::Instant;

pub use self::streak::Change;
pub(super) use self::streak::Streak;

/// Avoided times double up to this many times the configured one.
const MAX_FACTOR: u32 = 8;
/// ...and up to this, unless the configured one is longer.
const MAX_AVOID: Duration = Duration::from_secs(60);

/// What we believe of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Its last dial went well, or there was none yet.
    #[default]
    Up,
    /// Up again after a failure.
    Returned {
        /// Since when; failures of dials that began earlier do not count.
        since: Instant,
    },
    /// It failed: not picked before `until`. After that one trial is due.
    Avoided {
        /// Failures in a row, one for each time it was given a chance.
        failures: u32,
        /// When a trial is due.
        until: Instant,
    },
    /// One session is trying it.
    Trial {
        /// Failures in a row before this trial.
        failures: u32,
        /// When the trial became due.
        until: Instant,
    },
}

/// What happened to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A session took the trial that was due.
    TrialTaken,
    /// The session with the trial left without an answer.
    TrialReleased,
    /// A dial went well.
    Succeeded,
    /// A dial failed.
    Failed {
        /// When that dial began.
        began: Instant,
    },
}

impl Health {
    /// Whether a session may pick it: it is up, or a trial is due.
    #[must_use]
    pub fn is_open(self, now: Instant) -> bool {
        match self {
            Self::Up | Self::Returned { .. } => true,
            Self::Avoided { until, .. } => until <= now,
            Self::Trial { .. } => false,
        }
    }

    /// Whether picking it now takes its one trial.
    pub(super) fn is_trial_due(self, now: Instant) -> bool {
        matches!(self, Self::Avoided { until, .. } if until <= now)
    }

    /// Until when it is avoided; `None` when it is up.
    #[must_use]
    pub const fn avoided_until(self) -> Option<Instant> {
        match self {
            Self::Up | Self::Returned { .. } => None,
            Self::Avoided { until, .. } | Self::Trial { until, .. } => Some(until),
        }
    }

    /// Since when it is up again; `None` when it never failed, or is down.
    #[must_use]
    pub const fn returned_since(self) -> Option<Instant> {
        match self {
            Self::Returned { since } => Some(since),
            Self::Up | Self::Avoided { .. } | Self::Trial { .. } => None,
        }
    }

    /// The next state. `avoid` is the configured time to avoid an endpoint that failed once.
    #[must_use]
    pub(super) fn after(self, event: Event, avoid: Duration, now: Instant) -> Self {
        match (self, event) {
            (Self::Avoided { failures, until }, Event::TrialTaken) if until <= now => {
                Self::Trial { failures, until }
            }
            (Self::Trial { failures, until }, Event::TrialReleased) => Self::Avoided { failures, until },
            (Self::Avoided { .. } | Self::Trial { .. }, Event::Succeeded) => Self::Returned { since: now },
            (Self::Returned { since }, Event::Failed { began }) if began < since => self,
            (Self::Up | Self::Returned { .. }, Event::Failed { .. }) => Self::avoided(1, avoid, now),
            // The trial, or a dial that began once it was due.
            (
                Self::Trial { failures, until } | Self::Avoided { failures, until },
                Event::Failed { began },
            ) if until <= began => Self::avoided(failures.saturating_add(1), avoid, now),
            // Many dials were under way when it failed: one failure, not many.
            _ => self,
        }
    }

    fn avoided(failures: u32, avoid: Duration, now: Instant) -> Self {
        let factor = 2u32.saturating_pow(failures.saturating_sub(1)).min(MAX_FACTOR);
        let time = avoid.saturating_mul(factor).min(MAX_AVOID.max(avoid));
        Self::Avoided { failures, until: now + time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVOID: Duration = Duration::from_secs(10);

    /// Apply `(second, event)` in order.
    fn story(avoid: Duration, start: Instant, events: &[(u64, Event)]) -> Health {
        events.iter().fold(Health::Up, |health, (second, event)| {
            health.after(*event, avoid, start + Duration::from_secs(*second))
        })
    }

    fn at(start: Instant, second: u64) -> Instant {
        start + Duration::from_secs(second)
    }

    #[test]
    fn one_failure_avoids_then_one_trial_decides() {
        let start = Instant::now();
        let failed = Event::Failed { began: start };
        let avoided = story(AVOID, start, &[(0, failed)]);
        assert_eq!(avoided, Health::Avoided { failures: 1, until: at(start, 10) });
        assert!(!avoided.is_open(at(start, 9)));
        assert!(avoided.is_open(at(start, 10)));

        let trial = avoided.after(Event::TrialTaken, AVOID, at(start, 11));
        assert!(!trial.is_open(at(start, 99)), "one trial, not a herd");
        let released = trial.after(Event::TrialReleased, AVOID, at(start, 12));
        assert!(released.is_trial_due(at(start, 12)), "nothing was learnt: the next session tries");
        let up = trial.after(Event::Succeeded, AVOID, at(start, 12));
        assert_eq!(up, Health::Returned { since: at(start, 12) });
        let down = trial.after(Event::Failed { began: at(start, 11) }, AVOID, at(start, 12));
        assert_eq!(down, Health::Avoided { failures: 2, until: at(start, 32) });
    }

    #[test]
    fn a_trial_is_not_taken_early() {
        let start = Instant::now();
        let avoided = story(AVOID, start, &[(0, Event::Failed { began: start })]);
        assert_eq!(avoided.after(Event::TrialTaken, AVOID, at(start, 9)), avoided);
    }

    #[test]
    fn failures_double_the_time_up_to_a_cap() {
        for (avoid, expected) in [(5, [5, 10, 20, 40, 40]), (10, [10, 20, 40, 60, 60]), (90, [90; 5])] {
            let avoid = Duration::from_secs(avoid);
            let mut now = Instant::now();
            let mut health = Health::Up;
            for seconds in expected {
                health = health.after(Event::TrialTaken, avoid, now);
                health = health.after(Event::Failed { began: now }, avoid, now);
                assert_eq!(health.avoided_until(), Some(at(now, seconds)));
                now = at(now, seconds);
            }
        }
    }

    #[test]
    fn many_dials_that_fail_together_are_one_failure() {
        let start = Instant::now();
        let failed = Event::Failed { began: start };
        let health = story(AVOID, start, &[(1, failed), (2, failed), (3, failed)]);
        assert_eq!(health, Health::Avoided { failures: 1, until: at(start, 11) });
    }

    #[test]
    fn a_failure_from_before_the_return_is_ignored() {
        let start = Instant::now();
        let early = Event::Failed { began: start };
        let back = story(AVOID, start, &[(1, early), (2, Event::Succeeded), (5, early)]);
        assert_eq!(back, Health::Returned { since: at(start, 2) });
        let again = back.after(Event::Failed { began: at(start, 3) }, AVOID, at(start, 5));
        assert_eq!(again, Health::Avoided { failures: 1, until: at(start, 15) });
    }
}
