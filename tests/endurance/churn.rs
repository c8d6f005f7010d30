//! New clients on a schedule, whatever becomes of those before: each connects, is taken, and leaves.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Client, Door};
use super::packet::Version;

/// New clients, until they are told to end.
pub(crate) struct Churn {
    stop: watch::Sender<bool>,
    task: JoinHandle<Outcome>,
}

/// What became of them.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) connected: usize,
    /// Who, when, and what was seen.
    pub(crate) failures: Vec<String>,
    /// From TCP to CONNACK, in microseconds.
    pub(crate) times: Histogram<u64>,
}

impl Churn {
    /// `rate` a second.
    pub(crate) fn start(door: &Door, rate: u32) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(churn(door.clone(), rate, stopped)) }
    }

    /// No more; wait for those under way.
    pub(crate) async fn end(self) -> anyhow::Result<Outcome> {
        let _ = self.stop.send(true);
        Ok(self.task.await?)
    }
}

async fn churn(door: Door, rate: u32, mut stopped: watch::Receiver<bool>) -> Outcome {
    let began = Instant::now();
    let mut schedule = interval(Duration::from_secs(1) / rate);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    let mut outcome = Outcome {
        connected: 0,
        failures: Vec::new(),
        times: Histogram::new_with_max(60_000_000, 3).unwrap_or_else(|_| unreachable!("the bounds are good")),
    };
    let mut number = 0;
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = schedule.tick() => {
                under_way.spawn(one(door.clone(), number, began));
                number += 1;
            }
            Some(ended) = under_way.join_next() => outcome.take(ended),
        }
    }
    while let Some(ended) = under_way.join_next().await {
        outcome.take(ended);
    }
    outcome
}

async fn one(door: Door, number: usize, churning_since: Instant) -> Result<Duration, String> {
    let began = Instant::now();
    match Client::connect(&door, &format!("new-{number}"), Version::of(number)).await {
        Ok(client) => {
            let took = began.elapsed();
            client.leave().await;
            Ok(took)
        }
        Err(error) => {
            let second = began.duration_since(churning_since).as_secs_f64();
            Err(format!("new client {number}, begun at {second:.2} s: {error:#}"))
        }
    }
}

impl Outcome {
    fn take(&mut self, ended: Result<Result<Duration, String>, tokio::task::JoinError>) {
        match ended {
            Ok(Ok(took)) => {
                self.connected += 1;
                self.times.saturating_record(took.as_micros() as u64);
            }
            Ok(Err(failure)) => self.failures.push(failure),
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    /// For the report.
    pub(crate) fn figures(&self) -> String {
        let at = |quantile| self.times.value_at_quantile(quantile) as f64 / 1000.0;
        format!(
            "{} connected, {} failed; to CONNACK p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            self.connected,
            self.failures.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}
