//! `churn`: connect, CONNECT, CONNACK, DISCONNECT, close, and again.

use std::collections::HashMap;

use serde_json::json;

use super::failure::Failure;
use super::fleet::{Event, Fleet};
use super::order::Order;
use super::phases::{Phase, Phases};
use super::round_trips::Broken;
use crate::broker::say;
use crate::broker::socket::now;

/// A session that takes longer, from its beginning to its end, has failed. In nanoseconds.
const PATIENCE: u64 = 10_000_000_000;
const SECOND: u64 = 1_000_000_000;
/// On a schedule: sessions under way at once.
const MOST_UNDER_WAY: usize = 4096;

/// What is asked for.
pub(super) struct Churn {
    /// Sessions under way at once, without a schedule.
    concurrency: usize,
    /// Nanoseconds from one session's beginning to the next's.
    pace: Option<f64>,
    resumed: bool,
    phases: Phases,
}

/// By slot, whether it was open: then it has said goodbye.
type UnderWay = HashMap<usize, bool>;

#[derive(Default)]
struct Counts {
    /// When the warm-up was over.
    since: u64,
    connects: u64,
    resumed: u64,
    /// Not resumed although they began when the warm-up was over: by then there are tickets.
    anew: u64,
    broken: Broken,
}

impl Churn {
    /// Read the command.
    pub(super) fn parse(order: &mut Order) -> Result<Self, Failure> {
        let rate = order.pair::<f64>("rate")?.filter(|rate| *rate > 0.0);
        Ok(Self {
            concurrency: order.pair("concurrency")?.unwrap_or(8).max(1),
            pace: rate.map(|rate| 1e9 / rate),
            resumed: order.pair("resumed")?.unwrap_or(false),
            phases: Phases::parse(order)?,
        })
    }

    /// Run it. The lines are printed on the way.
    pub(super) fn run(self, fleet: &mut Fleet) -> Result<(), Failure> {
        fleet.target.resume(self.resumed);
        let done = self.churn(fleet);
        fleet.target.resume(false);
        done
    }

    fn churn(&self, fleet: &mut Fleet) -> Result<(), Failure> {
        let mut counts = Counts::default();
        let mut under_way = UnderWay::new();
        let begin = now();
        let mut phases = self.phases.begin(begin);
        let mut begun = 0_u64;
        let mut next_look = begin + SECOND;
        loop {
            match phases.at(now()) {
                Some(Phase::Measuring) => {
                    fleet.meter.reset();
                    counts = Counts { since: now(), ..Counts::default() };
                    say(&json!({ "event": "measuring" }));
                }
                Some(Phase::Over) => break,
                None => {}
            }
            let mut until = phases.next().min(next_look);
            let due = |begun: u64| self.pace.map(|pace| begin + (begun as f64 * pace) as u64);
            while self.may_begin(under_way.len(), due(begun)) {
                match fleet.begin() {
                    Ok(slot) => {
                        if let (Some(session), Some(due)) = (fleet.session_mut(slot), due(begun)) {
                            session.since = due;
                        }
                        under_way.insert(slot, false);
                    }
                    Err(why) => {
                        counts.broken.note(Err(why));
                        break;
                    }
                }
                begun += 1;
            }
            until = due(begun).map_or(until, |due| until.min(due.max(now())));
            self.turn(fleet, until, &mut under_way, &mut counts)?;
            if now() > next_look {
                next_look = now() + SECOND;
                end_late(fleet, &mut under_way, &mut counts);
            }
        }
        let mut report = fleet.meter.report("measured");
        report["connects"] = json!(counts.connects);
        report["resumed"] = json!(counts.resumed);
        report["anew"] = json!(counts.anew);
        report["failed"] = json!(counts.broken.count());
        counts.broken.report(&mut report);
        say(&report);
        while !under_way.is_empty() {
            self.turn(fleet, now() + SECOND, &mut under_way, &mut counts)?;
            end_late(fleet, &mut under_way, &mut counts);
        }
        let mut idle = json!({ "event": "idle", "sessions": fleet.held().len() });
        counts.broken.report(&mut idle);
        say(&idle);
        Ok(())
    }

    fn may_begin(&self, under_way: usize, due: Option<u64>) -> bool {
        match due {
            Some(due) => due <= now() && under_way < MOST_UNDER_WAY,
            None => under_way < self.concurrency,
        }
    }

    fn turn(
        &self,
        fleet: &mut Fleet,
        until: u64,
        under_way: &mut UnderWay,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        for at in 0..fleet.wait(Some(until))? {
            match fleet.turn(at)? {
                Some((slot, Event::Heard(heard))) if heard.opened => {
                    let Some(session) = fleet.session(slot) else { continue };
                    let (since, is_resumed) = (session.since, session.is_resumed());
                    counts.connects += 1;
                    counts.resumed += u64::from(is_resumed);
                    counts.anew += u64::from(!is_resumed && since >= counts.since);
                    fleet.meter.record(now().saturating_sub(since));
                    under_way.insert(slot, true);
                    if let Err(why) = fleet.say_goodbye(slot) {
                        under_way.remove(&slot);
                        counts.broken.note(Err(why));
                    }
                }
                // After our goodbye the peer may close as it likes.
                Some((slot, Event::Ended(why))) if under_way.remove(&slot) != Some(true) => {
                    counts.broken.note(Err(why.unwrap_or_else(Failure::closed)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn end_late(fleet: &mut Fleet, under_way: &mut UnderWay, counts: &mut Counts) {
    let is_late = |slot: &usize| fleet.session(*slot).is_none_or(|session| session.since + PATIENCE < now());
    let late: Vec<usize> = under_way.keys().copied().filter(is_late).collect();
    for slot in late {
        under_way.remove(&slot);
        fleet.end(slot);
        counts.broken.note(Err(Failure::new("a session neither opened nor ended in time")));
    }
}
