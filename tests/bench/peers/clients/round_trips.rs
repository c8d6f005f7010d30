//! `round-trips` and `talk`: messages that come back, as fast as they come or on a schedule.

use serde_json::json;

use super::failure::Failure;
use super::fleet::{Event, Fleet};
use super::order::Order;
use super::phases::{Phase, Phases};
use crate::broker::payload::{MOST_SIZE, STAMP_SIZE};
use crate::broker::say;
use crate::broker::socket::now;

/// How long what is under way at the end may take.
const PATIENCE: u64 = 5_000_000_000;

/// Messages that are late are sent so many in a row; then what came is read.
const MOST_AT_ONCE: u64 = 64;

/// What is asked for.
pub(super) struct RoundTrips {
    /// Which sessions.
    slots: Vec<usize>,
    /// Messages under way on each, without a schedule.
    outstanding: usize,
    /// Nanoseconds from one message to the next of all sessions together; `None`: no schedule.
    pace: Option<f64>,
    /// Bytes of a payload.
    size: usize,
    phases: Phases,
}

impl RoundTrips {
    /// Read the command; `talk` says which part of the sessions, `round-trips` how many.
    pub(super) fn parse(order: &mut Order, fleet: &Fleet) -> Result<Self, Failure> {
        let slots = match order.word.as_str() {
            "talk" => spread_sessions(order, fleet)?,
            _ => first_sessions(order, fleet)?,
        };
        let rate = order.pair::<f64>("rate")?.filter(|rate| *rate > 0.0);
        Ok(Self {
            slots,
            outstanding: order.pair("outstanding")?.unwrap_or(1),
            pace: rate.map(|rate| 1e9 / rate),
            size: size(order)?,
            phases: Phases::parse(order)?,
        })
    }

    /// Run it. The lines are printed on the way.
    pub(super) fn run(self, fleet: &mut Fleet) -> Result<(), Failure> {
        fleet.size = self.size;
        let mut broken = Broken::default();
        let begin = now();
        let mut phases = self.phases.begin(begin);
        // What was sent so far, on a schedule.
        let mut sent = 0_u64;
        if self.pace.is_none() {
            for slot in &self.slots {
                broken.note(self.say(fleet, *slot, now(), self.outstanding));
            }
        }
        loop {
            match phases.at(now()) {
                Some(Phase::Measuring) => {
                    fleet.meter.reset();
                    say(&json!({ "event": "measuring" }));
                }
                Some(Phase::Over) => break,
                None => {}
            }
            let mut until = phases.next();
            if let Some(pace) = self.pace {
                let due = |sent: u64| begin + (sent as f64 * pace) as u64;
                let most = sent + MOST_AT_ONCE;
                while due(sent) <= now() && sent < most {
                    let slot = self.slots[(sent % self.slots.len() as u64) as usize];
                    broken.note(self.say(fleet, slot, due(sent), 1));
                    sent += 1;
                }
                until = until.min(due(sent));
            }
            for at in 0..fleet.wait(Some(until))? {
                match fleet.turn(at)? {
                    Some((slot, Event::Heard(heard))) if heard.messages > 0 && self.pace.is_none() => {
                        broken.note(self.say(fleet, slot, now(), heard.messages));
                    }
                    Some((_, Event::Ended(why))) => broken.note(Err(why.unwrap_or_else(Failure::closed))),
                    _ => {}
                }
            }
        }
        let mut report = fleet.meter.report("measured");
        broken.report(&mut report);
        say(&report);
        self.drain(fleet, broken)
    }

    fn say(&self, fleet: &mut Fleet, slot: usize, time: u64, count: usize) -> Result<(), Failure> {
        fleet.say(slot, |talk, filling, out| {
            for _ in 0..count {
                talk.say_message(time, self.size, filling, out);
            }
        })
    }

    /// Wait for what is under way.
    fn drain(&self, fleet: &mut Fleet, mut broken: Broken) -> Result<(), Failure> {
        let deadline = now() + PATIENCE;
        let under_way =
            |fleet: &Fleet| fleet.slots(|session| session.talk.is_open() && session.talk.outstanding() > 0);
        while now() < deadline && !under_way(fleet).is_empty() {
            for at in 0..fleet.wait(Some(deadline))? {
                if let Some((_, Event::Ended(why))) = fleet.turn(at)? {
                    broken.note(Err(why.unwrap_or_else(Failure::closed)));
                }
            }
        }
        let mut never_came = 0;
        for slot in under_way(fleet) {
            never_came += fleet.session_mut(slot).map_or(0, |session| session.talk.give_up());
        }
        let mut report = json!({
            "event": "idle",
            "sessions": fleet.held().len(),
            "lost": fleet.meter.lost + u64::from(never_came),
            "duplicated": fleet.meter.duplicated,
            "corrupt": fleet.meter.corrupt,
        });
        broken.report(&mut report);
        say(&report);
        Ok(())
    }
}

/// The first `connections=` of the sessions that are held; by default all.
pub(super) fn first_sessions(order: &mut Order, fleet: &Fleet) -> Result<Vec<usize>, Failure> {
    let mut held = fleet.held();
    let count = order.pair("connections")?.unwrap_or(held.len());
    if count == 0 || count > held.len() {
        return Err(Failure::new(format!("{count} sessions are asked for, {} are held", held.len())));
    }
    held.truncate(count);
    Ok(held)
}

/// A `fraction=` of the sessions that are held, evenly spread.
fn spread_sessions(order: &mut Order, fleet: &Fleet) -> Result<Vec<usize>, Failure> {
    let held = fleet.held();
    let count = (order.must::<f64>("fraction")? * held.len() as f64).ceil() as usize;
    if count == 0 || count > held.len() {
        return Err(Failure::new(format!("fraction= gives {count} of {} sessions", held.len())));
    }
    Ok((0..count).map(|at| held[at * held.len() / count]).collect())
}

/// The payload's size that a command asks for, in bytes.
pub(super) fn size(order: &mut Order) -> Result<usize, Failure> {
    let size = order.pair("size")?.unwrap_or(128);
    if (STAMP_SIZE..=MOST_SIZE).contains(&size) {
        Ok(size)
    } else {
        Err(Failure::new(format!("size={size} is not between {STAMP_SIZE} and {MOST_SIZE}")))
    }
}

/// Sessions that ended though nobody asked them to.
#[derive(Default)]
pub(super) struct Broken {
    count: u64,
    first: Option<Failure>,
}

impl Broken {
    pub(super) fn note(&mut self, done: Result<(), Failure>) {
        if let Err(why) = done {
            self.count += 1;
            self.first.get_or_insert(why);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn report(&self, report: &mut serde_json::Value) {
        report["broken"] = json!(self.count);
        report["first_failure"] = json!(self.first.as_ref().map(ToString::to_string));
    }
}
