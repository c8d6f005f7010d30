//! What flows now: the counters that exist, read once a second and remembered for a minute. Nothing of this is
//! on the way of a message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::process::Process;
use crate::mqtt::PacketType;
use crate::proxy::Shared;
use crate::telemetry::Counted;
use crate::tunnel::Flow;

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_secs(1);

/// Readings that are remembered: a minute, from one end to the other.
const REMEMBERED: usize = 61;

/// Seconds that "now" is: long enough not to jump.
const NOW: usize = 5;

/// Seconds between two looks at the process, which take a thread of their own.
const PROCESS: u64 = 5;

/// The last minute. All copies are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    readings: VecDeque<Reading>,
    process: Process,
}

/// All counters at one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) counted: Counted,
    pub(super) publish_up: u64,
    pub(super) publish_down: u64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

/// How much there was of each, a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct PerSecond {
    pub(super) connects: f64,
    pub(super) publish_up: f64,
    pub(super) publish_down: f64,
    pub(super) bytes_up: f64,
    pub(super) bytes_down: f64,
}

/// The last minute, as it is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Minute {
    /// Over the last seconds.
    pub(super) now: PerSecond,
    /// Over each second, the oldest first, with the sessions that were open at its end.
    pub(super) seconds: Vec<(u64, PerSecond)>,
    /// The counters a minute ago, or when they were first read.
    pub(super) before: Counted,
    pub(super) process: Process,
}

impl Rates {
    /// Read the counters of `shared` again and again, until dropped.
    pub(super) async fn follow(self, shared: Arc<Shared>) {
        let mut interval = interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0u64.. {
            interval.tick().await;
            self.ring().add(Reading::take(&shared));
            if turn.is_multiple_of(PROCESS) {
                // Where the kernel has to count descriptors one by one, that takes its time.
                if let Ok(process) = tokio::task::spawn_blocking(Process::look).await {
                    self.ring().process = process;
                }
            }
        }
    }

    /// The last minute until now, whose counters are `reading`.
    pub(super) fn minute(&self, reading: &Reading) -> Minute {
        self.ring().minute(reading)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// The counters as of now.
    pub(super) fn take(shared: &Shared) -> Self {
        let publish = |flow: &Flow| flow.packets(PacketType::Publish);
        Self {
            at: Instant::now(),
            counted: shared.metrics.tally.read(),
            publish_up: shared.traffic.sum(|traffic| publish(&traffic.up)),
            publish_down: shared.traffic.sum(|traffic| publish(&traffic.down)),
            bytes_up: shared.traffic.sum(|traffic| traffic.up.bytes()),
            bytes_down: shared.traffic.sum(|traffic| traffic.down.bytes()),
        }
    }

    /// What there was a second, since `before`.
    fn since(&self, before: &Self) -> PerSecond {
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return PerSecond::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
        let rate = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before)) as f64 / seconds;
        PerSecond {
            connects: rate(|reading| reading.counted.connected),
            publish_up: rate(|reading| reading.publish_up),
            publish_down: rate(|reading| reading.publish_down),
            bytes_up: rate(|reading| reading.bytes_up),
            bytes_down: rate(|reading| reading.bytes_down),
        }
    }
}

impl Ring {
    fn add(&mut self, reading: Reading) {
        if self.readings.len() == REMEMBERED {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
    }

    fn minute(&self, reading: &Reading) -> Minute {
        let Some(last) = self.readings.len().checked_sub(1) else { return Minute::default() };
        let (first, last) = (&self.readings[last.saturating_sub(NOW)], &self.readings[last]);
        let pairs = self.readings.iter().zip(self.readings.iter().skip(1));
        // Until there are two readings, from the first until now.
        let now = if self.readings.len() == 1 { reading.since(first) } else { last.since(first) };
        Minute {
            now,
            seconds: pairs.map(|(before, after)| (after.counted.open(), after.since(before))).collect(),
            before: self.readings[0].counted.clone(),
            process: self.process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: Instant, count: u64) -> Reading {
        let counted =
            Counted { opened: count, connected: 2 * count, endings: vec![count / 2], rejections: vec![] };
        let (publish_up, publish_down, bytes_up, bytes_down) = (3 * count, 4 * count, 5 * count, 6 * count);
        Reading { at, counted, publish_up, publish_down, bytes_up, bytes_down }
    }

    #[test]
    fn a_minute_is_remembered_and_no_more() {
        let start = Instant::now();
        let mut ring = Ring::default();
        assert_eq!(ring.minute(&reading(start, 1)), Minute::default());
        for second in 0..200 {
            ring.add(reading(start + Duration::from_secs(second), 10 * second));
        }
        let minute = ring.minute(&reading(start + Duration::from_secs(200), 0));
        let each = PerSecond {
            connects: 20.0,
            publish_up: 30.0,
            publish_down: 40.0,
            bytes_up: 50.0,
            bytes_down: 60.0,
        };
        assert_eq!(minute.now, each);
        assert_eq!(minute.seconds.len(), 60);
        assert_eq!(minute.seconds[59], (1990 - 995, each));
        assert_eq!(minute.before.opened, 1390);
    }

    #[test]
    fn a_late_reading_is_no_peak_and_a_counter_never_runs_backwards() {
        let start = Instant::now();
        let mut ring = Ring::default();
        ring.add(reading(start, 0));
        assert_eq!(ring.minute(&reading(start, 7)).now, PerSecond::default());
        ring.add(reading(start + Duration::from_secs(4), 4));
        ring.add(reading(start + Duration::from_secs(5), 0));
        let minute = ring.minute(&reading(start, 0));
        assert!((minute.seconds[0].1.publish_up - 3.0).abs() < 1e-9);
        assert_eq!(minute.seconds[1].1, PerSecond::default());
    }
}
