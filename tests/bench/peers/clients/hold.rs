//! `connect` and `close`: how many sessions are held.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::failure::Failure;
use super::fleet::{Event, Fleet};
use crate::broker::socket::now;

/// A session that is not open after so long has failed. In nanoseconds.
const PATIENCE: u64 = 30_000_000_000;
/// What the peer has not closed after so long, we cut.
const PATIENCE_AT_CLOSE: u64 = 5_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// Hold `count` sessions; of those to be opened, so many at once as `concurrency` says.
pub(super) fn connect(fleet: &mut Fleet, count: usize, concurrency: usize) -> Result<Value, Failure> {
    let began = now();
    let held = fleet.held();
    if held.len() > count {
        close(fleet, &held[count..])?;
    }
    let mut missing = count.saturating_sub(held.len());
    let (mut under_way, mut failed) = (Vec::new(), 0);
    let (mut first_failure, mut agreed) = (None, None);
    let mut fail = |why: Option<Failure>| {
        failed += 1;
        first_failure.get_or_insert(why.unwrap_or_else(Failure::closed).to_string());
    };
    while missing > 0 || !under_way.is_empty() {
        while missing > 0 && under_way.len() < concurrency {
            missing -= 1;
            match fleet.begin() {
                Ok(slot) => under_way.push(slot),
                Err(why) => fail(Some(why)),
            }
        }
        for at in 0..fleet.wait(Some(now() + SECOND))? {
            match fleet.turn(at)? {
                Some((slot, Event::Heard(heard))) if heard.opened => {
                    under_way.retain(|other| *other != slot);
                    agreed = agreed.or_else(|| fleet.session(slot).and_then(|session| session.agreed()));
                }
                Some((slot, Event::Ended(why))) => {
                    under_way.retain(|other| *other != slot);
                    fail(why);
                }
                _ => {}
            }
        }
        let is_late = |slot: &usize| fleet.session(*slot).is_none_or(|it| it.since + PATIENCE < now());
        let late: Vec<usize> = under_way.extract_if(.., |slot| is_late(slot)).collect();
        for slot in late {
            fleet.end(slot);
            fail(Some(Failure::new("it did not open in time")));
        }
    }
    Ok(json!({
        "event": "connected",
        "sessions": fleet.held().len(),
        "seconds": (now() - began) as f64 / 1e9,
        "failed": failed,
        "first_failure": first_failure,
        "tls": agreed.as_ref().map(|it| &it.version),
        "suite": agreed.as_ref().map(|it| &it.suite),
        "group": agreed.as_ref().map(|it| &it.group),
    }))
}

/// Say goodbye on all layers, and wait until the peer has closed.
pub(super) fn close(fleet: &mut Fleet, slots: &[usize]) -> Result<Value, Failure> {
    let began = now();
    let mut left: HashSet<usize> = slots.iter().copied().collect();
    left.retain(|slot| fleet.say_goodbye(*slot).is_ok());
    let mut unclosed = 0;
    while !left.is_empty() && now() < began + PATIENCE_AT_CLOSE {
        for at in 0..fleet.wait(Some(began + PATIENCE_AT_CLOSE))? {
            if let Some((slot, Event::Ended(_))) = fleet.turn(at)? {
                left.remove(&slot);
            }
        }
    }
    for slot in left {
        fleet.end(slot);
        unclosed += 1;
    }
    Ok(json!({
        "event": "closed",
        "sessions": slots.len(),
        "unclosed": unclosed,
        "seconds": (now() - began) as f64 / 1e9,
    }))
}
