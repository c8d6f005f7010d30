//! `ping` and `burst`: something once on every session, and its answer.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::failure::Failure;
use super::fleet::{Event, Fleet};
use super::round_trips::Broken;
use super::talk::{Heard, Talk};
use crate::broker::payload::Filling;
use crate::broker::socket::now;
use crate::broker::wire::{self, packet};

/// An answer that takes longer will not come. In nanoseconds, since the last that came.
const PATIENCE: u64 = 10_000_000_000;

/// What each session says, and what answers it.
pub(super) trait Exchange {
    fn say(&self, talk: &mut Talk, filling: &Filling, out: &mut Vec<u8>);
    fn is_answer(&self, heard: &Heard) -> bool;
}

/// PINGREQ, PINGRESP.
pub(super) struct Ping;

impl Exchange for Ping {
    fn say(&self, talk: &mut Talk, _filling: &Filling, out: &mut Vec<u8>) {
        talk.say_packet(packet::PINGREQ, &[], out);
    }

    fn is_answer(&self, heard: &Heard) -> bool {
        heard.answer == Some(packet::PINGRESP)
    }
}

/// One message of so many bytes, and its echo.
pub(super) struct Burst(pub(super) usize);

impl Exchange for Burst {
    fn say(&self, talk: &mut Talk, filling: &Filling, out: &mut Vec<u8>) {
        talk.say_message(now(), self.0, filling, out);
    }

    fn is_answer(&self, heard: &Heard) -> bool {
        heard.messages > 0
    }
}

/// SUBSCRIBE to ticks (MQTT 3.1.1, 3.8): so many milliseconds apart, of so many bytes.
pub(super) struct Subscribe(pub(super) String);

impl Exchange for Subscribe {
    fn say(&self, talk: &mut Talk, _filling: &Filling, out: &mut Vec<u8>) {
        talk.say_packet(packet::SUBSCRIBE, &topic_packet(&self.0, &[0]), out);
    }

    fn is_answer(&self, heard: &Heard) -> bool {
        heard.answer == Some(packet::SUBACK)
    }
}

/// UNSUBSCRIBE (MQTT 3.1.1, 3.10).
pub(super) struct Unsubscribe(pub(super) String);

impl Exchange for Unsubscribe {
    fn say(&self, talk: &mut Talk, _filling: &Filling, out: &mut Vec<u8>) {
        talk.say_packet(packet::UNSUBSCRIBE, &topic_packet(&self.0, &[]), out);
    }

    fn is_answer(&self, heard: &Heard) -> bool {
        heard.answer == Some(packet::UNSUBACK)
    }
}

/// A packet identifier, the topic, and what follows it.
fn topic_packet(topic: &str, options: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1];
    wire::text(&mut body, topic);
    body.extend_from_slice(options);
    body
}

/// Exchange it on each of `slots`, so many at once as `concurrency` says.
pub(super) fn each(
    fleet: &mut Fleet,
    slots: &[usize],
    concurrency: usize,
    exchange: &impl Exchange,
    name: &str,
) -> Result<Value, Failure> {
    let mut waiting: VecDeque<usize> = slots.iter().copied().collect();
    let mut is_asked = vec![false; fleet.slot_count()];
    let (mut under_way, mut done) = (0, 0_u64);
    let mut broken = Broken::default();
    let mut deadline = now() + PATIENCE;
    fleet.meter.reset();
    while !waiting.is_empty() || under_way > 0 {
        while under_way < concurrency
            && let Some(slot) = waiting.pop_front()
        {
            match fleet.say(slot, |talk, filling, out| exchange.say(talk, filling, out)) {
                Ok(()) => {
                    is_asked[slot] = true;
                    under_way += 1;
                }
                failed => broken.note(failed),
            }
        }
        if now() > deadline {
            broken.note(Err(Failure::new(format!("{under_way} answers did not come"))));
            break;
        }
        for at in 0..fleet.wait(Some(deadline))? {
            let Some((slot, event)) = fleet.turn(at)? else { continue };
            match event {
                Event::Heard(heard) if exchange.is_answer(&heard) => done += u64::from(is_asked[slot]),
                Event::Heard(_) => continue,
                Event::Ended(why) => broken.note(Err(why.unwrap_or_else(Failure::closed))),
            }
            under_way -= usize::from(std::mem::take(&mut is_asked[slot]));
            deadline = now() + PATIENCE;
        }
    }
    let mut report = fleet.meter.report(name);
    report["sessions"] = json!(done);
    broken.report(&mut report);
    Ok(report)
}
