//! Keeping the supervisor up to date for as long as the gateway runs: how many sessions there are, and that no
//! thread is stuck.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::error;

use super::Stage;
use crate::proxy::Shared;
use crate::supervisor::{News, Supervisor};
use crate::worker::Turns;

/// How often it learns how many sessions there are.
const EVERY: Duration = Duration::from_secs(5);

/// How soon a worker that does not turn counts as stuck, at the least: it turns once a second.
const LEAST: Duration = Duration::from_secs(3);

/// Tell it for ever. That this runs shows that the first thread turns, the one of the admin listener and of
/// reloads; the workers show it by themselves.
pub(super) async fn attend(
    supervisor: Supervisor,
    shared: Arc<Shared>,
    mut stage: watch::Receiver<Stage>,
    turns: Vec<Turns>,
) {
    if !supervisor.listens() {
        return;
    }
    // A third: one that is lost does no harm.
    let watchdog = supervisor.watchdog().map(|limit| limit / 3);
    let mut round = interval(watchdog.unwrap_or(EVERY).clamp(Duration::from_millis(10), EVERY));
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut workers = Turning::new(turns, watchdog.unwrap_or(EVERY).max(LEAST), Instant::now());
    let mut told = String::new();
    loop {
        let words = describe(*stage.borrow_and_update(), shared.sessions.work());
        if words != told && supervisor.tell(News::Status(words.clone())).await {
            told = words;
        }
        if watchdog.is_some() {
            match workers.find_stuck(Instant::now()) {
                None => drop(supervisor.tell(News::Alive).await),
                Some(worker) => {
                    error!(worker, "a worker is stuck: the supervisor is not told that we are alive")
                }
            }
        }
        tokio::select! {
            _ = round.tick() => {}
            // Its sender lives as long as the gateway.
            _ = stage.changed() => {}
        }
    }
}

fn describe(stage: Stage, sessions: usize) -> String {
    match stage {
        Stage::Starting => "starting".to_owned(),
        Stage::Ready => format!("serving, {sessions} sessions"),
        Stage::Draining => format!("draining, {sessions} sessions left"),
        Stage::Drained => "drained: waiting to be stopped, or put back to work".to_owned(),
    }
}

/// When each worker was last seen to turn.
struct Turning {
    workers: Vec<(Turns, u64, Instant)>,
    patience: Duration,
}

impl Turning {
    fn new(turns: Vec<Turns>, patience: Duration, now: Instant) -> Self {
        let workers = turns.into_iter().map(|turns| (turns.clone(), turns.count(), now)).collect();
        Self { workers, patience }
    }

    /// A worker that has not turned for longer than it may.
    fn find_stuck(&mut self, now: Instant) -> Option<usize> {
        for (turns, count, seen) in &mut self.workers {
            if turns.count() != *count {
                (*count, *seen) = (turns.count(), now);
            }
        }
        self.workers.iter().position(|(_, _, seen)| now.duration_since(*seen) > self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_turn_is_stuck_in_time_and_may_come_back() {
        let (one, two) = (Turns::default(), Turns::default());
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let mut turning = Turning::new(vec![one.clone(), two.clone()], 3 * second, began);
        for at in 1..=3 {
            one.turn();
            assert_eq!(turning.find_stuck(began + at * second), None);
        }
        one.turn();
        assert_eq!(turning.find_stuck(began + 4 * second), Some(1));
        two.turn();
        assert_eq!(turning.find_stuck(began + 5 * second), None);
    }
}
