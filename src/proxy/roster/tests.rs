//! Slices, places, and who is asked to go.

use super::*;
use crate::drain::{Asked, Drain};

fn entry(watch: &Watch) -> Entry {
    Entry::new("192.0.2.1:50312".parse().unwrap(), &"brokers".into(), watch, true)
}

/// All that a walk finds, and how many looks it takes.
fn walk(roster: &Roster, mut between: impl FnMut(usize)) -> (Vec<SessionId>, usize) {
    let (mut found, mut looks, mut from) = (Vec::new(), 0, Some(Cursor::default()));
    while let Some(at) = from {
        let mut seen = 0;
        from = roster.look(at, |id, _| {
            found.push(id);
            seen += 1;
            ControlFlow::Continue(())
        });
        assert!(seen <= SLICE);
        between(looks);
        looks += 1;
    }
    (found, looks)
}

#[test]
fn all_are_seen_a_slice_at_a_time_while_others_come_and_go() {
    let (roster, drain) = (Roster::default(), Drain::new());
    let shards = [roster.open(), roster.open(), roster.open()];
    let watch = drain.watch();
    let stay = |shard: usize| (shard, shards[shard].enter(entry(&watch)));
    let staying: Vec<_> = (0..3 * SLICE).map(|number| stay(number % 2)).collect();
    let mut passing: Vec<_> = (0..SLICE).map(|_| stay(0)).collect();
    let (found, looks) = walk(&roster, |look| {
        passing.drain(..).for_each(|(shard, (_, key))| shards[shard].leave(key));
        passing.push(stay(look % 3));
    });
    assert!(looks >= 4, "{looks}");
    for (shard, (entry, key)) in staying {
        let id = SessionId { shard: shard as u16, key, came: entry.came };
        assert_eq!(found.iter().filter(|other| **other == id).count(), 1, "{id}");
        assert!(Arc::ptr_eq(&roster.find(id).unwrap(), &entry));
    }
}

#[test]
fn a_look_goes_on_where_it_was_broken_off() {
    let (roster, drain) = (Roster::default(), Drain::new());
    let shard = roster.open();
    let watch = drain.watch();
    (0..10).for_each(|_| drop(shard.enter(entry(&watch))));
    let (mut from, mut found) = (Some(Cursor::default()), Vec::new());
    while let Some(at) = from {
        // As it goes over the wire.
        from = roster.look(at.to_string().parse().unwrap(), |id, _| {
            found.push(id.key);
            ControlFlow::Break(())
        });
    }
    assert_eq!(found, (0..10).collect::<Vec<_>>());
    assert_eq!(roster.look(Cursor { shard: 9, key: 0 }, |_, _| panic!()), None);
    let past = Cursor { shard: 0, key: u32::MAX };
    assert_eq!(roster.look(past, |_, _| panic!()), Some(Cursor { shard: 1, key: 0 }));
}

#[test]
fn who_has_the_place_of_another_is_not_taken_for_it() {
    let (roster, drain) = (Roster::default(), Drain::new());
    let shard = roster.open();
    let watch = drain.watch();
    let (first, key) = shard.enter(entry(&watch));
    let id = SessionId { shard: 0, key, came: first.came };
    assert!(roster.find(id).is_some());
    shard.leave(key);
    assert!(roster.find(id).is_none());
    let (second, again) = shard.enter(entry(&watch));
    assert_eq!(again, key);
    assert!(roster.find(id).is_none());
    assert!(roster.find(SessionId { came: second.came, ..id }).is_some());
    assert!(roster.find(SessionId { shard: 7, ..id }).is_none());
}

#[tokio::test]
async fn a_kick_reaches_whoever_takes_the_place_of_who_was_asked() {
    let drain = Drain::new();
    let (first, second) = (drain.watch(), drain.watch());
    let entry = entry(&first);
    assert!(entry.kick(Will::Suppress));
    entry.follow(&second);
    assert_eq!(second.asked().await, Asked::Kick(Will::Suppress));
    assert!(!entry.kick(Will::Fire), "it is on its way");
}

#[tokio::test]
async fn who_says_goodbye_already_is_not_kicked() {
    let drain = Drain::new();
    let watch = drain.watch();
    let leaving = entry(&watch);
    leaving.meter.leave();
    assert!(!leaving.kick(Will::Fire));
    let drained = entry(&watch);
    drain.ask().await;
    assert!(!drained.kick(Will::Fire));
}

#[test]
fn a_name_is_read_as_it_is_shown() {
    let id = SessionId { shard: 1, key: 37, came: u32::MAX };
    assert_eq!(id.to_string(), "1-37-4294967295");
    assert_eq!(id.to_string().parse(), Ok(id));
    for wrong in
        ["", "1-37", "1-37-4294967296", "1-37-5-6", "65536-1-1", "+1-37-5", "1--5", "a-b-c", " 1-2-3"]
    {
        assert_eq!(wrong.parse::<SessionId>(), Err(NotShown), "{wrong}");
    }
    assert!("0-0".parse::<Cursor>().is_ok() && "0-0-0".parse::<Cursor>().is_err());
}
