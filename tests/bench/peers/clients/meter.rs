//! What a measurement counts.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::broker::socket::{cpu, now};

/// A minute, past which a latency is a minute.
const MOST: u64 = 60_000_000_000;

/// Counts and latencies since the last `reset`.
pub(super) struct Meter {
    latency: Histogram<u64>,
    pub(super) messages: u64,
    /// WebSocket's bytes both ways: frames with their payload, without TLS.
    pub(super) bytes: u64,
    /// Gaps in the sequence.
    pub(super) lost: u64,
    /// A message whose number had been seen.
    pub(super) duplicated: u64,
    /// A message with another content than was sent.
    pub(super) corrupt: u64,
    since: u64,
    cpu_since: u64,
}

impl Meter {
    pub(super) fn new() -> Result<Self, Failure> {
        let latency = Histogram::new_with_bounds(1, MOST, 3)?;
        let (since, cpu_since) = (now(), cpu());
        Ok(Self { latency, messages: 0, bytes: 0, lost: 0, duplicated: 0, corrupt: 0, since, cpu_since })
    }

    pub(super) fn reset(&mut self) {
        self.latency.reset();
        (self.messages, self.bytes) = (0, 0);
        (self.lost, self.duplicated, self.corrupt) = (0, 0, 0);
        (self.since, self.cpu_since) = (now(), cpu());
    }

    /// Nanoseconds it took.
    pub(super) fn record(&mut self, latency: u64) {
        self.messages += 1;
        self.latency.saturating_record(latency);
    }

    /// Compare a message's number with the one that must come next, and say which comes after it.
    pub(super) fn follow(&mut self, expected: u32, sequence: u32) -> u32 {
        match sequence.wrapping_sub(expected) as i32 {
            0 => {}
            gap if gap > 0 => self.lost += gap as u64,
            _ => {
                self.duplicated += 1;
                return expected;
            }
        }
        sequence.wrapping_add(1)
    }

    /// What all measurements report.
    pub(super) fn report(&self, event: &str) -> Value {
        let quantile = |q: f64| self.latency.value_at_quantile(q) as f64 / 1e3;
        json!({
            "event": event,
            "messages": self.messages,
            "bytes": self.bytes,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "corrupt": self.corrupt,
            "p50_us": quantile(0.5),
            "p90_us": quantile(0.9),
            "p99_us": quantile(0.99),
            "p999_us": quantile(0.999),
            "max_us": self.latency.max() as f64 / 1e3,
            "seconds": (now() - self.since) as f64 / 1e9,
            "own_cpu_seconds": (cpu() - self.cpu_since) as f64 / 1e9,
        })
    }
}
