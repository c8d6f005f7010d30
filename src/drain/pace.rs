//! How many are told at once, and when the next are: over a window, or in haste.
//!
//! Whoever is told has work to do, and all that its worker has to do for others waits behind: that is why even
//! haste goes step by step.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Member, SLICE};

/// So many are told at once for each worker, among which they are spread, unless the window asks for more. To leave
/// takes a session some 60 us of its worker (`endurance idle`), so whoever stays waits less than 1 ms.
const A_WORKER: usize = 5;

/// The time from one step to the next. In haste two thirds of a worker are left to others.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(10);

/// What is missed while the machine is busy is not made up for beyond this: the pace is a promise, the window
/// a wish.
const LATEST: Duration = Duration::from_millis(50);

/// The pace of those who tell.
#[derive(Debug)]
pub(super) struct Pace {
    credit: Credit,
    step: Duration,
    next: Instant,
    /// When the step before was.
    before: Instant,
}

/// How many have their turn. Pure: it is told how time passes.
#[derive(Debug)]
struct Credit {
    /// Turns a second; none in haste.
    rate: Option<f64>,
    /// Turns that are due, and a part of the next.
    turns: f64,
    /// No more have their turn at once.
    most: usize,
}

impl Pace {
    /// `total` turns, evenly over `window`, or in haste when that is zero. The first step is at once.
    pub(super) fn new(total: usize, window: Duration, workers: usize) -> Self {
        let (credit, step) = Credit::new(total, window, workers);
        let now = Instant::now();
        Self { credit, step, next: now, before: now }
    }

    /// `tell` each of these when its turn has come, until all are told or it no longer `goes_on`.
    pub(super) async fn tell(
        &mut self,
        work: Vec<Arc<Member>>,
        tell: impl Fn(&Member),
        goes_on: impl Fn() -> bool,
    ) {
        let mut waiting = work.into_iter();
        while waiting.len() > 0 {
            let due = self.step().await;
            if !goes_on() {
                return;
            }
            waiting.by_ref().take(due).for_each(|member| tell(&member));
        }
    }

    /// Wait for the next step; how many have their turn then.
    async fn step(&mut self) -> usize {
        sleep_until(self.next).await;
        let now = Instant::now();
        let passed = now - self.before;
        self.before = now;
        // Steps that were late do not come in a row.
        self.next = (self.next + self.step).max(now + self.step / 2);
        self.credit.due(passed)
    }
}

impl Credit {
    /// With it comes the time from one step to the next: until half of those are due who may be told at once. The
    /// other half is for what was missed.
    fn new(total: usize, window: Duration, workers: usize) -> (Self, Duration) {
        let at_once = workers * A_WORKER;
        if window.is_zero() {
            return (Self { rate: None, turns: 0.0, most: at_once.min(SLICE) }, SHORTEST);
        }
        let rate = total as f64 / window.as_secs_f64();
        let step = (at_once as f64 / rate / 2.0).clamp(SHORTEST.as_secs_f64(), LONGEST.as_secs_f64());
        let most = at_once.max((2.0 * rate * step).ceil() as usize).min(SLICE);
        (Self { rate: Some(rate), turns: 1.0, most }, Duration::from_secs_f64(step))
    }

    /// How many are due, `passed` after it was last asked.
    fn due(&mut self, passed: Duration) -> usize {
        let Some(rate) = self.rate else { return self.most };
        let latest = LATEST.as_secs_f64();
        self.turns = (self.turns + rate * passed.as_secs_f64().min(latest)).min(1.0 + rate * latest);
        let due = (self.turns as usize).min(self.most);
        self.turns -= due as f64;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(credit: &mut Credit, steps: &[u64]) -> Vec<usize> {
        steps.iter().map(|step| credit.due(Duration::from_millis(*step))).collect()
    }

    #[test]
    fn turns_are_even() {
        let mut credit = Credit::new(1000, Duration::from_secs(1), 1).0;
        assert_eq!(over(&mut credit, &[0, 1, 1, 3, 5]), [1, 1, 1, 3, 5]);
        let mut slow = Credit::new(10, Duration::from_secs(1), 1).0;
        let turns = over(&mut slow, &[10; 101]);
        assert!(turns.iter().all(|turn| *turn <= 1) && turns.iter().sum::<usize>().abs_diff(11) <= 1);
        assert_eq!(over(&mut Credit::new(0, Duration::from_secs(1), 1).0, &[0, 50]), [1, 0]);
    }

    #[test]
    fn what_was_missed_is_made_up_for_in_part_and_not_at_once() {
        let mut credit = Credit::new(1000, Duration::from_secs(1), 1).0;
        let turns = over(&mut credit, &[&[0, 400][..], &[1; 20]].concat());
        assert!(turns[0] == 1 && turns[1..11].iter().all(|turn| *turn == 5), "{turns:?}");
        assert!(turns.iter().sum::<usize>().abs_diff(1 + 50 + 20) <= 1, "{turns:?}");
    }

    #[test]
    fn what_is_missed_all_the_time_does_not_pile_up() {
        let mut credit = Credit::new(2000, Duration::from_secs(1), 1).0;
        let busy: usize = over(&mut credit, &[7; 300]).iter().sum();
        assert!(busy <= 1500, "{busy} while each step is late");
        let idle: usize = over(&mut credit, &[1; 1000]).iter().sum();
        assert!(idle <= 2200, "{idle} in the second after that");
    }

    #[test]
    fn a_step_is_no_shorter_than_it_must_be() {
        let step = |total, workers| Credit::new(total, Duration::from_secs(5), workers).1.as_micros();
        assert_eq!(
            [step(0, 1), step(100, 1), step(10_000, 2), step(50_000, 1)],
            [10_000, 10_000, 2500, 1000]
        );
        assert_eq!(Credit::new(100, Duration::ZERO, 1).1, SHORTEST);
    }

    #[test]
    fn haste_spares_the_workers_and_a_short_window_is_kept() {
        for (workers, most) in [(1, 5), (4, 20)] {
            let mut haste = Credit::new(50_000, Duration::ZERO, workers).0;
            assert_eq!(over(&mut haste, &[0, 0, 1, 50]), [most; 4]);
            let mut short = Credit::new(100_000, Duration::from_secs(1), workers).0;
            assert_eq!(over(&mut short, &[0, 1, 1, 50]), [1, 100, 100, 200]);
        }
        // Beyond all measure: others on this thread have their turn all the same.
        for (window, workers) in [(Duration::ZERO, 1024), (Duration::from_millis(1), 1)] {
            assert_eq!(Credit::new(1_000_000, window, workers).0.most, SLICE);
        }
    }

    #[test]
    fn no_second_has_a_tenth_more_than_its_due() {
        // A machine that stalls now and then, for 90 ms.
        let mut credit = Credit::new(5000, Duration::from_secs(10), 1).0;
        let steps: Vec<u64> = (0..5000).map(|step| if step % 37 == 0 { 90 } else { 1 }).collect();
        let turns = over(&mut credit, &steps);
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
