//! Warm-up, measurement, end.

use super::failure::Failure;
use super::order::Order;

/// How long each takes, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phases {
    warmup: u64,
    measured: u64,
}

/// What begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Measuring,
    Over,
}

impl Phases {
    /// `warmup=` and `seconds=`.
    pub(super) fn parse(order: &mut Order) -> Result<Self, Failure> {
        let warmup: f64 = order.pair("warmup")?.unwrap_or(1.0);
        let measured: f64 = order.must("seconds")?;
        Ok(Self { warmup: (warmup * 1e9) as u64, measured: (measured * 1e9) as u64 })
    }

    pub(super) fn begin(self, now: u64) -> Course {
        Course { phases: self, next: now + self.warmup, is_measuring: false }
    }
}

/// Where we are in them.
#[derive(Debug)]
pub(super) struct Course {
    phases: Phases,
    next: u64,
    is_measuring: bool,
}

impl Course {
    /// When the next phase begins.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether the next phase begins now.
    pub(super) fn at(&mut self, now: u64) -> Option<Phase> {
        if now < self.next {
            return None;
        }
        if self.is_measuring {
            return Some(Phase::Over);
        }
        self.is_measuring = true;
        self.next = now + self.phases.measured;
        Some(Phase::Measuring)
    }
}
