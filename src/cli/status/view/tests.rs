//! What is drawn of a status.

use super::*;
use crate::admin::status::form::{
    Certificate, Connections, Ending, LastError, LastProbe, Process, Rates, Reload, Sessions,
};

const PLAIN: Look = Look { columns: 100, color: false };

fn status() -> Status {
    let now = "2026-03-01T12:00:00.000Z".to_owned();
    let up = Endpoint {
        name: "emqx-1".into(),
        state: State::Up,
        weight: 2,
        share_percent: 40,
        sessions: 1200,
        max_sessions: Some(2000),
        opened: 4711,
        probe: Some(LastProbe {
            at: "2026-03-01T11:59:58.000Z".into(),
            passed: true,
            milliseconds: 0.4,
            error: None,
        }),
        ..Endpoint::default()
    };
    let down = Endpoint {
        name: "emqx-2".into(),
        state: State::Avoided,
        since: Some("2026-03-01T11:57:55.000Z".into()),
        weight: 1,
        share_percent: 100,
        backup: true,
        error: Some(LastError {
            at: "2026-03-01T11:59:55.000Z".into(),
            words: "endpoint emqx-2: cannot connect".into(),
        }),
        ..Endpoint::default()
    };
    Status {
        version: "0.1.0".into(),
        pid: 7,
        now: now.clone(),
        uptime_seconds: 90_061,
        stage: "ready".into(),
        sessions: Sessions { open: 1200, opened: 5000, ended: 3800 },
        rates: Rates {
            connects: 0.4,
            publish_up: 120.3,
            publish_down: 7.0,
            bytes_up: 2048.0,
            bytes_down: 12.0,
        },
        upstreams: vec![Upstream {
            name: "emqx".into(),
            balance: "weighted".into(),
            available: true,
            endpoints: vec![up, down],
            ..Upstream::default()
        }],
        endings: vec![Ending { reason: "client_closed".into(), by: "client".into(), minute: 3, total: 3800 }],
        certificates: vec![Certificate {
            kind: "listener".into(),
            name: "edge".into(),
            chain: "/tls.crt".into(),
            days_left: 60,
            ..Certificate::default()
        }],
        config: "/etc/brokergate.toml".into(),
        reload: Some(Reload {
            at: "2026-03-01T11:00:00.000Z".into(),
            cause: "admin".into(),
            applied: false,
            mistakes: vec!["/etc/brokergate.toml:3:1: wieght: no such key; did you mean `weight`?".into()],
        }),
        connections: Connections { held: 1201, limit: 65_536 },
        process: Process {
            memory_bytes: Some(20 << 20),
            descriptors: Some(2500),
            descriptors_limit: Some(100_000),
        },
        ..Status::default()
    }
}

#[test]
fn all_is_told_and_aligned() {
    let expected = "\
brokergate 0.1.0: ready, process 7, up for 1 d 1 h
! the last reload was refused, 1 h ago; the configuration from before works on
  /etc/brokergate.toml:3:1: wieght: no such key; did you mean `weight`?

sessions   1200 open, 5000 opened, 3800 ended
connects   0.4/s
messages   120/s to brokers, 7.0/s to clients
bytes      2.0 KiB/s to brokers, 12 B/s to clients

emqx: 1 of 2 up, weighted
  endpoint         state                  sessions   weight    opened  probe
  emqx-1           up                     1200/2000  2 (40 %)  4711    passed 2 s ago, 0.4 ms
  emqx-2 (backup)  avoided for 2 min 5 s  0          1         0
    5 s ago: cannot connect

sessions ended: last minute, in all
  client_closed (by client)         3        3800

certificates
  60 days left: /tls.crt (listener edge)

connections 1201 of 65536, memory 20.0 MiB, open files 2500 of 100000
/etc/brokergate.toml: a reload was refused 1 h ago (admin)
";
    assert_eq!(draw(&status(), PLAIN), expected);
}

#[test]
fn it_is_as_wide_as_the_terminal_and_colors_change_nothing_else() {
    for columns in [10, 40, 80, 200] {
        let plain = draw(&status(), Look { columns, color: false });
        assert!(plain.lines().all(|line| line.chars().count() <= columns), "{plain}");
        let mut colored = draw(&status(), Look { columns, color: true });
        assert_ne!(colored, plain);
        for code in [Color::Good, Color::Wait, Color::Bad, Color::Quiet].map(Color::code) {
            colored = colored.replace(code, "");
        }
        assert_eq!(colored.replace("\x1b[0m", ""), plain);
    }
}

#[test]
fn long_words_go_on_below() {
    let mut status = status();
    status.warnings = vec!["one two three four five".into()];
    let drawn = draw(&status, Look { columns: 12, color: false });
    assert!(drawn.contains("\n! one two\nthree four\nfive\n"), "{drawn}");
}

#[test]
fn nothing_from_outside_steers_the_terminal() {
    let evil = "a\x1b[2J\r\n\u{9b}31m\u{202e}\u{7}";
    let mut status = status();
    status.upstreams[0].name = evil.into();
    status.upstreams[0].available = false;
    status.upstreams[0].endpoints[0].name = evil.into();
    status.upstreams[0].endpoints[1].error = Some(LastError { at: evil.into(), words: evil.into() });
    (status.stage, status.config, status.warnings) = (evil.into(), evil.into(), vec![evil.into()]);
    let drawn = draw(&status, PLAIN);
    assert!(
        drawn.chars().all(|sign| sign == '\n' || clean(&sign.to_string()) == sign.to_string()),
        "{drawn:?}"
    );
    assert!(drawn.contains("a\u{fffd}[2J"));
}

#[test]
fn a_status_of_another_version_is_read_as_far_as_it_is_known() {
    let json = r#"{"stage":"ready","news":1,"upstreams":[{"name":"x","endpoints":[{"name":"y","state":"asleep"}]}]}"#;
    let status: Status = serde_json::from_str(json).unwrap();
    assert_eq!(status.upstreams[0].endpoints[0].state, State::Unknown);
    assert!(draw(&status, PLAIN).contains("unknown"));
}
