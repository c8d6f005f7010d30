//! Picking: weights, caps, backups, health, reloads.

use super::*;
use crate::upstream::health::Event;

fn fail(pool: &Pool, place: usize, now: Instant) {
    pool.endpoints()[place].tell(Event::Failed { began: now }, AVOID, now);
}

/// Picks until `count`, held all at once; how many each endpoint got.
fn sessions_after(pool: &Pool, count: usize, now: Instant) -> Vec<usize> {
    let held: Vec<_> = (0..count).map(|_| pick(pool, &Tried::new(), now).unwrap()).collect();
    let sessions = pool.endpoints().iter().map(|endpoint| endpoint.sessions()).collect();
    drop(held);
    assert!(pool.endpoints().iter().all(|endpoint| endpoint.sessions() == 0), "all slots are returned");
    sessions
}

#[test]
fn weights_are_exact_from_many_threads() {
    let pool = pool(upstream([broker(1, 5), broker(2, 3), broker(3, 1)]));
    let held: Vec<_> = std::thread::scope(|scope| {
        let pick_225 =
            || (0..225).map(|_| pick(&pool, &Tried::new(), Instant::now()).unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(pick_225)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(held.len(), 900);
    let sessions: Vec<_> = pool.endpoints().iter().map(|endpoint| endpoint.sessions()).collect();
    assert_eq!(sessions, [500, 300, 100]);
}

#[test]
fn an_endpoint_at_its_cap_is_passed_over() {
    let now = Instant::now();
    let capped = config::Endpoint { max_sessions: Some(2), ..broker(1, 100) };
    let both = pool(upstream([capped.clone(), broker(2, 1)]));
    assert_eq!(sessions_after(&both, 10, now), [2, 8]);

    let alone = pool(upstream([capped]));
    let held = [(); 2].map(|()| pick(&alone, &Tried::new(), now).unwrap());
    assert_eq!(pick(&alone, &Tried::new(), now).unwrap_err(), NoEndpoint::Full);
    assert!(alone.is_available(now), "full is not down");
    assert!(alone.is_full(now) && !both.is_full(now));
    drop(held);
    assert!(!alone.is_full(now));
    assert!(pick(&alone, &Tried::new(), now).is_ok());
}

#[test]
fn what_was_tried_is_not_picked_again() {
    for balance in [Balance::Weighted, Balance::LeastSessions, Balance::ClientId, Balance::SourceAddress] {
        let pool = pool(Upstream { balance, ..upstream([broker(1, 1), broker(2, 9), broker(3, 3)]) });
        let now = Instant::now();
        let mut tried = Tried::new();
        for count in 1..=3 {
            let picked = pick_for(&pool, "sensor-1", &tried, now).unwrap();
            tried.add(&picked);
            assert_eq!(tried.count(), count, "{balance:?}");
        }
        assert_eq!(pick_for(&pool, "sensor-1", &tried, now).unwrap_err(), NoEndpoint::Tried);
    }
}

#[test]
fn backups_serve_when_no_primary_can() {
    let now = Instant::now();
    let backup = config::Endpoint { backup: true, ..broker(2, 100) };
    let capped = config::Endpoint { max_sessions: Some(5), ..broker(1, 1) };
    let pool = pool(upstream([capped, backup]));
    assert_eq!(sessions_after(&pool, 5, now), [5, 0]);
    assert_eq!(sessions_after(&pool, 7, now), [5, 2], "full");
    let mut tried = Tried::new();
    tried.add(&pick(&pool, &tried, now).unwrap());
    assert_eq!(pick(&pool, &tried, now).unwrap().endpoint().name(), pool.endpoints()[1].name(), "tried");
    fail(&pool, 0, now);
    assert_eq!(sessions_after(&pool, 3, now), [0, 3], "down");
}

#[test]
fn an_avoided_endpoint_gets_one_trial_when_its_time_is_over() {
    let now = Instant::now();
    let pool = pool(upstream([broker(1, 1), broker(2, 1)]));
    fail(&pool, 0, now);
    assert_eq!(sessions_after(&pool, 10, now), [0, 10]);

    let due = now + AVOID;
    let held: Vec<_> = (0..10).map(|_| pick(&pool, &Tried::new(), due).unwrap()).collect();
    assert_eq!(pool.endpoints()[0].sessions(), 1, "one trial, not a herd");
    drop(held);
    assert_eq!(sessions_after(&pool, 10, due), [1, 9], "a trial that was dropped is given to the next");

    pool.endpoints()[0].tell(Event::Succeeded, AVOID, due);
    assert_eq!(sessions_after(&pool, 10, due), [5, 5]);
}

#[test]
fn when_all_are_avoided_new_clients_are_refused_and_sessions_try_the_soonest() {
    let now = Instant::now();
    let pool = pool(upstream([broker(1, 1), broker(2, 1)]));
    fail(&pool, 1, now);
    assert!(pool.is_available(now));
    fail(&pool, 0, now + Duration::from_secs(1));
    assert!(!pool.is_available(now));
    let chances = [0, 1, 999, 1000, 1001].map(|after| pool.takes_chance(now + Duration::from_millis(after)));
    assert_eq!(chances, [true, false, false, true, false], "one handshake a second may try");
    let mut tried = Tried::new();
    for expected in [1, 0] {
        let picked = pick(&pool, &tried, now).unwrap();
        assert_eq!(picked.endpoint().name(), pool.endpoints()[expected].name());
        tried.add(&picked);
    }
    assert_eq!(pick(&pool, &tried, now).unwrap_err(), NoEndpoint::Tried);
    assert!(pool.is_available(now + AVOID), "a trial is due");
}

#[test]
fn avoided_and_full_is_down() {
    let now = Instant::now();
    let pool = pool(upstream([config::Endpoint { max_sessions: Some(1), ..broker(1, 1) }]));
    let held = pick(&pool, &Tried::new(), now).unwrap();
    fail(&pool, 0, now);
    assert_eq!(pick(&pool, &Tried::new(), now).unwrap_err(), NoEndpoint::Down);
    drop(held);
    assert!(pick(&pool, &Tried::new(), now).is_ok());
}

#[test]
fn a_client_id_meets_the_same_broker_through_any_gateway() {
    let build =
        || pool(Upstream { balance: Balance::ClientId, ..upstream([1, 2, 3, 4, 5].map(|n| broker(n, 1))) });
    let (one, other) = (build(), build());
    let now = Instant::now();
    let broker_of =
        |pool: &Pool, id: &str| Arc::clone(pick_for(pool, id, &Tried::new(), now).unwrap().endpoint().name());
    for number in 0..100 {
        let id = format!("sensor-{number}");
        assert_eq!(broker_of(&one, &id), broker_of(&other, &id));
    }
    let without: std::collections::HashSet<_> = (0..5).map(|_| broker_of(&one, "")).collect();
    assert_eq!(without.len(), 5, "no ClientID falls back to weighted");
}

#[test]
fn least_sessions_levels_out() {
    let pool = pool(Upstream { balance: Balance::LeastSessions, ..upstream([broker(1, 3), broker(2, 1)]) });
    assert_eq!(sessions_after(&pool, 40, Instant::now()), [30, 10]);
}

#[test]
fn a_reload_keeps_health_and_sessions_of_the_same_broker() {
    let now = Instant::now();
    let old = pool(upstream([broker(1, 1), broker(2, 1), broker(3, 1)]));
    let held = pick(&old, &Tried::new(), now).unwrap();
    fail(&old, 1, now);

    let renamed = config::Endpoint { name: "first".into(), weight: Weight::new(7).unwrap(), ..broker(1, 1) };
    let secured =
        config::Endpoint { transport: ws(at(([192, 0, 2, 3], 1883).into())).transport, ..broker(3, 1) };
    fail(&old, 2, now);
    let config = Arc::new(upstream([broker(2, 1), renamed, secured, broker(4, 1)]));
    let new = Pool::build(&config, OPTIONS, &Resolver::default(), Some(&old)).unwrap();
    let up: Vec<_> = new.endpoints().iter().map(|endpoint| endpoint.is_up(now)).collect();
    assert_eq!(up, [false, true, true, true], "another transport is another broker");
    assert_eq!(new.endpoints()[1].sessions(), 1);
    drop(held);
    assert_eq!(new.endpoints()[1].sessions(), 0);
}

#[test]
fn two_endpoints_of_one_address_stay_two_across_a_reload() {
    let now = Instant::now();
    let path = |path: &str| {
        let transport =
            Transport::WebSocket { path: path.into(), authority: "b".into(), subprotocol: "mqtt".into() };
        config::Endpoint { name: path.into(), transport, ..broker(1, 1) }
    };
    let old = pool(upstream([path("/a"), path("/b")]));
    fail(&old, 1, now);
    let new =
        Pool::build(&Arc::new(upstream([path("/b"), path("/c")])), OPTIONS, &Resolver::default(), Some(&old))
            .unwrap();
    let up: Vec<_> = new.endpoints().iter().map(|endpoint| endpoint.is_up(now)).collect();
    assert_eq!(up, [false, true]);
}

#[test]
fn a_cap_holds_across_a_reload() {
    let now = Instant::now();
    let config = Arc::new(upstream([config::Endpoint { max_sessions: Some(1), ..broker(1, 1) }]));
    let old = Pool::build(&config, OPTIONS, &Resolver::default(), None).unwrap();
    let new = Pool::build(&config, OPTIONS, &Resolver::default(), Some(&old)).unwrap();
    let held = pick(&old, &Tried::new(), now).unwrap();
    assert_eq!(pick(&new, &Tried::new(), now).unwrap_err(), NoEndpoint::Full);
    drop(held);
    assert!(pick(&new, &Tried::new(), now).is_ok());
}

#[test]
fn contradictions_are_refused_at_build() {
    let unix = config::Endpoint { tls: true, ..mqtt(EndpointAddress::Unix("/run/broker.sock".into())) };
    let misnamed = config::Endpoint { tls: true, server_name: Some("no name".into()), ..broker(1, 1) };
    for (endpoint, expected) in [
        (unix, "a Unix socket carries no TLS"),
        (misnamed, r#""no name" is no name a certificate can be for"#),
    ] {
        let error =
            Pool::build(&Arc::new(upstream([endpoint])), OPTIONS, &Resolver::default(), None).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
