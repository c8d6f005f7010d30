//! `fan-out`: the broker sends to many subscribers at once, at intervals.

use serde_json::json;

use super::each::{Subscribe, Unsubscribe, each};
use super::failure::Failure;
use super::fleet::{Event, Fleet};
use super::order::Order;
use super::phases::{Phase, Phases};
use super::round_trips::{Broken, first_sessions, size};
use crate::broker::say;
use crate::broker::socket::now;

/// Subscriptions under way at once.
const CONCURRENCY: usize = 64;

/// What is asked for.
pub(super) struct FanOut {
    slots: Vec<usize>,
    /// In milliseconds.
    interval: u64,
    size: usize,
    phases: Phases,
}

impl FanOut {
    /// Read the command.
    pub(super) fn parse(order: &mut Order, fleet: &Fleet) -> Result<Self, Failure> {
        Ok(Self {
            slots: first_sessions(order, fleet)?,
            interval: order.pair("interval_ms")?.unwrap_or(100).max(1),
            size: size(order)?,
            phases: Phases::parse(order)?,
        })
    }

    /// Run it. The lines are printed on the way.
    pub(super) fn run(self, fleet: &mut Fleet) -> Result<(), Failure> {
        fleet.size = self.size;
        let topic = format!("tick/{}/{}", self.interval, self.size);
        let mut broken = Broken::default();
        let subscribed = each(fleet, &self.slots, CONCURRENCY, &Subscribe(topic.clone()), "subscribed")?;
        if subscribed["sessions"] != self.slots.len() {
            return Err(Failure::new(format!("not all could subscribe: {subscribed}")));
        }
        let mut phases = self.phases.begin(now());
        loop {
            match phases.at(now()) {
                Some(Phase::Measuring) => {
                    fleet.meter.reset();
                    say(&json!({ "event": "measuring" }));
                }
                Some(Phase::Over) => break,
                None => {}
            }
            for at in 0..fleet.wait(Some(phases.next()))? {
                if let Some((_, Event::Ended(why))) = fleet.turn(at)? {
                    broken.note(Err(why.unwrap_or_else(Failure::closed)));
                }
            }
        }
        let mut report = fleet.meter.report("measured");
        let seconds = report["seconds"].as_f64().unwrap_or_default();
        report["due"] = json!(self.slots.len() as f64 * seconds * 1e3 / self.interval as f64);
        broken.report(&mut report);
        say(&report);
        let mut idle = each(fleet, &self.slots, CONCURRENCY, &Unsubscribe(topic), "idle")?;
        idle["sessions"] = json!(fleet.held().len());
        say(&idle);
        Ok(())
    }
}
