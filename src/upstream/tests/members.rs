//! Pools whose endpoints come and go, and what probes say of them.

use super::*;
use crate::config::{Discover, Probe, ProbeKind};
use crate::drain::{Drain, Terms, Will};

const NAME: &str = "brokers.example.org";

/// An endpoint that stands for many.
fn many() -> config::Endpoint {
    let address = EndpointAddress::Name { host: NAME.into(), port: 1883 };
    config::Endpoint { name: "all".into(), discover: Some(Discover::Addresses), ..mqtt(address) }
}

/// Brokers of these numbers as the answer to the name.
fn found(numbers: &[u8]) -> Vec<Found> {
    discovery::of_addresses(numbers.iter().map(|number| ([192, 0, 2, *number], 1883).into()).collect())
}

/// Who was added, who is gone, and how many were too many.
fn told(changes: &Changes) -> (Vec<&str>, Vec<&str>, usize) {
    let added = changes.added.iter().map(|name| &**name).collect();
    let removed = changes.removed.iter().map(|endpoint| &**endpoint.name()).collect();
    (added, removed, changes.left_out)
}

fn names(pool: &Pool) -> Vec<String> {
    pool.endpoints().iter().map(|endpoint| endpoint.name().to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn who_stays_stays_the_same_and_who_joins_starts_slowly() {
    let config = Upstream { slow_start: Duration::from_secs(10), ..upstream([many(), broker(9, 2)]) };
    let pool = pool(config);
    let mut changes = pool.changes();
    assert_eq!(names(&pool), [&*broker(9, 2).name], "nothing was found yet");
    let [one, two, three, four] = [1, 2, 3, 4].map(|number| format!("all@192.0.2.{number}:1883"));

    let first = pool.adopt(&many(), found(&[1, 2])).unwrap();
    assert_eq!(told(&first), (vec![&*one, &*two], vec![], 0));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let before = pool.endpoints();
    let now = Instant::now();
    before[1].tell(Event::Failed { began: now }, AVOID, now);
    let shares = |pool: &Pool| -> Vec<u32> {
        let endpoints = pool.endpoints();
        endpoints.iter().map(|endpoint| endpoint.share(pool.config.slow_start, Instant::now())).collect()
    };
    assert_eq!(shares(&pool), [100, 100, 100], "all are new at the start");

    assert_eq!(told(&pool.adopt(&many(), found(&[2, 1])).unwrap()), (vec![], vec![], 0));
    assert!(!changes.has_changed().unwrap(), "another order is no change");
    let second = pool.adopt(&many(), found(&[2, 3, 4, 5])).unwrap();
    assert_eq!(told(&second), (vec![&*three, &*four], vec![&*one], 1), "three at the most");
    let after = pool.endpoints();
    assert!(Arc::ptr_eq(&before[1], &after[0]) && Arc::ptr_eq(&before[2], &after[3]));
    assert!(!after[0].is_up(now), "still avoided");
    assert_eq!(shares(&pool), [100, 10, 10, 100]);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(shares(&pool), [100, 50, 50, 100]);
}

#[tokio::test]
async fn a_session_goes_on_where_it_was_and_a_reload_keeps_what_was_found() {
    let now = Instant::now();
    let old = pool(upstream([many()]));
    assert_eq!(pick(&old, &Tried::new(), now).unwrap_err(), NoEndpoint::Down, "nothing to pick yet");
    old.adopt(&many(), found(&[1])).unwrap();
    let held = pick(&old, &Tried::new(), now).unwrap();
    let mut tried = Tried::new();
    tried.add(&held);
    old.adopt(&many(), found(&[2])).unwrap();
    assert_eq!(held.endpoint().sessions(), 1);
    let other = pick(&old, &tried, now).unwrap();
    assert_eq!(&**other.endpoint().name(), "all@192.0.2.2:1883");

    let heavier = config::Endpoint { weight: Weight::new(5).unwrap(), ..many() };
    let build = |endpoint| {
        Pool::build(&Arc::new(upstream([endpoint])), OPTIONS, &Resolver::default(), Some(&old)).unwrap()
    };
    let new = build(heavier);
    assert_eq!(names(&new), ["all@192.0.2.2:1883"]);
    assert_eq!((new.endpoints()[0].sessions(), new.endpoints()[0].config().weight.value()), (1, 5));
    let elsewhere = EndpointAddress::Name { host: "others.example.org".into(), port: 1883 };
    assert_eq!(names(&build(config::Endpoint { address: elsewhere, ..many() })), Vec::<String>::new());
}

#[test]
fn what_probes_say_is_down_is_not_even_a_last_resort() {
    let probe = Probe {
        kind: ProbeKind::Tcp,
        interval: Duration::from_secs(5),
        jitter: Duration::ZERO,
        timeout: Duration::from_secs(2),
        rise: 1,
        fall: 2,
    };
    let config = upstream([broker(1, 1), broker(2, 1)]);
    let pool = pool(Upstream { probe: Some(probe.clone()), ..config.clone() });
    let endpoints = pool.endpoints();
    let now = Instant::now();
    assert!(pool.is_available(now), "innocent until probed");
    for endpoint in endpoints.iter() {
        assert_eq!(pool.tell_probe(endpoint, &probe, false), Some(Change::Fell));
        endpoint.tell(Event::Failed { began: now }, AVOID, now);
    }
    assert!(!pool.is_available(now) && !pool.takes_chance(now));
    assert_eq!(pick(&pool, &Tried::new(), now).unwrap_err(), NoEndpoint::Down);
    let later = now + AVOID;
    assert!(!pool.is_available(later), "a trial that is due does not matter");

    assert_eq!(pool.tell_probe(&endpoints[1], &probe, true), Some(Change::Rose));
    let picked = pick(&pool, &Tried::new(), now).unwrap();
    assert_eq!(picked.endpoint().name(), endpoints[1].name(), "what its dials said is forgotten");
    let without = Pool::build(&Arc::new(config), OPTIONS, &Resolver::default(), Some(&pool)).unwrap();
    assert!(!without.endpoints()[0].is_down_by_probe(), "without probes their verdict is void");
}

#[tokio::test]
async fn who_comes_after_a_drain_was_taken_is_not_asked_with_the_rest() {
    let pool = pool(upstream([broker(1, 1)]));
    let (endpoint, gateway) = (&pool.endpoints()[0], Drain::new());
    assert!(endpoint.take_drain().is_none(), "nobody is there");
    let before = endpoint.drain(&gateway).watch();
    let taken = endpoint.take_drain().unwrap();
    let after = endpoint.drain(&gateway);
    let _watch = after.watch();
    taken.ask().await;
    assert_eq!((taken.work(), after.work(), gateway.work()), (1, 1, 2));
    assert!(taken.is_asked() && !after.is_asked());
    drop(before);
    assert_eq!(taken.work(), 0);
}

#[tokio::test]
async fn an_endpoint_that_was_drained_by_hand_stays_so_through_a_reload() {
    let config = upstream([broker(1, 1), broker(2, 1)]);
    let pool = Pool::build(&Arc::new(config.clone()), OPTIONS, &Resolver::default(), None).unwrap();
    let (now, gateway) = (Instant::now(), Drain::new());
    let terms = Terms { window: Duration::ZERO, grace: Duration::ZERO, will: Will::Fire };
    pool.endpoints()[0].close(&gateway, terms);
    let next = Pool::build(&Arc::new(config), OPTIONS, &Resolver::default(), Some(&pool)).unwrap();
    let endpoint = Arc::clone(&next.endpoints()[0]);
    assert!(endpoint.is_closed() && !endpoint.is_up(now));
    for _ in 0..4 {
        assert!(!Arc::ptr_eq(pick(&next, &Tried::new(), now).unwrap().endpoint(), &endpoint));
    }
    assert!(endpoint.reopen(now) && !endpoint.reopen(now));
    assert!(endpoint.is_up(now) && endpoint.health() == Health::Returned { since: now });
}
