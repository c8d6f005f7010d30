//! One client among many: found, listed, and asked to go.

mod commands;
mod tap;

use std::ops::ControlFlow;
use std::sync::Arc;

use brokergate::admin::sessions::form;
use brokergate::proxy::Shared;
use brokergate::proxy::roster::Cursor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::harness::{
    Broker, Client, Gate, KINDS, Kind, Message, Session, Visit, accepted, connect_v3, connect_v5, publish,
    simple, until, within,
};

/// What the admin listener answers: the status and the body.
async fn ask(gate: &Gate, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(gate.admin()).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Brokergate: 1\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    (answer[9..12].parse().unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// A page of sessions.
async fn page(gate: &Gate, query: &str) -> form::Page {
    let (status, json) = ask(gate, "GET", &format!("/sessions?{query}")).await;
    assert_eq!(status, 200, "{json}");
    serde_json::from_str(&json).unwrap()
}

async fn list(gate: &Gate, query: &str) -> Vec<form::Session> {
    page(gate, query).await.sessions
}

/// Wait until the one session that a query finds is as it should be.
async fn one(gate: &Gate, query: &str, holds: impl Fn(&form::Session) -> bool) -> form::Session {
    within(query, async {
        loop {
            let mut found = list(gate, query).await;
            if let [_] = found[..]
                && holds(&found[0])
            {
                return found.remove(0);
            }
        }
    })
    .await
}

/// How many the roster has.
fn present(gate: &Gate) -> usize {
    count(&gate.shared)
}

fn count(shared: &Shared) -> usize {
    let (mut count, mut from) = (0, Some(Cursor::default()));
    while let Some(at) = from {
        from = shared.roster.look(at, |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
    }
    count
}

/// So many clients of one ClientID, each with its broker's end.
async fn join_all(gate: &Gate, broker: &Broker, kind: Kind, connects: &[Vec<u8>]) -> Vec<(Client, Visit)> {
    let mut joined = Vec::new();
    for connect in connects {
        let mut client = Client::plain(gate.plain()).await;
        client.say(connect).await;
        let mut visit = broker.visit(kind).await;
        visit.welcome(connect).await;
        client.hear_mqtt(accepted(connect).len()).await;
        joined.push((client, visit));
    }
    joined
}

async fn start(kind: Kind, more: &str) -> (Gate, Broker) {
    let broker = Broker::listen().await;
    (Gate::start(&simple(&[broker.endpoint(kind)], more)).await, broker)
}

#[tokio::test]
async fn a_session_is_listed_with_what_flows_until_it_ends() {
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v5("one", 60), "").await;
        let message = publish(5, 100);
        session.client.say(&message).await;
        assert_eq!(session.visit.hear(message.len()).await, message);
        session.visit.say(&message).await;
        assert_eq!(session.client.hear_mqtt(message.len()).await, message);
        let found = one(&session.gate, "client_id=one", |it| it.packets_down == 2).await;
        assert_eq!((found.protocol.as_deref(), found.keepalive), (Some("5"), 60));
        assert_eq!((found.upstream.as_str(), found.state.as_str()), ("brokers", "open"));
        assert!(found.endpoint.as_deref().unwrap().contains(&session.broker.address().to_string()));
        assert!(found.address.starts_with("127.0.0.1:") && found.username.is_none());
        // Framed with a mask, and with none; a raw broker's bytes have no frames.
        assert_eq!((found.packets_up, found.bytes_up), (1, 6 + message.len() as u64));
        let frames = if kind == Kind::Ws { 4 } else { 0 };
        assert_eq!(found.bytes_down, 5 + frames + message.len() as u64);
        assert!(found.idle_seconds <= found.age_seconds);

        let endpoint = percent_encoding::utf8_percent_encode(
            found.endpoint.as_deref().unwrap(),
            percent_encoding::NON_ALPHANUMERIC,
        );
        for (query, count) in [
            (String::new(), 1),
            (format!("upstream=brokers&endpoint={endpoint}&address={}", found.address), 1),
            ("address=127.0.0.1".into(), 1),
            ("address=127.0.0.2".into(), 0),
            ("client_id=two".into(), 0),
            ("client_id=".into(), 0),
            ("upstream=others".into(), 0),
            ("endpoint=others".into(), 0),
        ] {
            assert_eq!(list(&session.gate, &query).await.len(), count, "{query}");
        }
        drop((session.client, session.visit));
        session.gate.idle().await;
        assert_eq!(list(&session.gate, "").await, []);
        assert_eq!(present(&session.gate), 0);
    }
}

#[tokio::test]
async fn before_there_is_a_broker_it_is_opening_and_its_silence_is_counted() {
    let (gate, broker) = start(Kind::Mqtt, "").await;
    let mut client = Client::plain(gate.plain()).await;
    let found = one(&gate, "", |it| it.idle_seconds > 0.2).await;
    assert_eq!((found.client_id, found.protocol, found.state.as_str()), (None, None, "opening"));
    // Whatever it says is heard: a ping, its CONNECT, a ping behind that.
    let hear_pong = async |client: &mut Client| {
        client.send(Frame::Ping("?".into())).await;
        assert_eq!(client.hear().await, Message::Pong(b"?".to_vec()));
    };
    hear_pong(&mut client).await;
    let found = one(&gate, "", |_| true).await;
    assert!(found.idle_seconds + 0.2 <= found.age_seconds, "{found:?}");
    one(&gate, "", |it| it.idle_seconds > 0.1).await;
    let connect = connect_v3("one", 60);
    client.say(&connect).await;
    let mut visit = broker.visit_mqtt().await;
    let found = one(&gate, "client_id=one", |_| true).await;
    assert!(found.idle_seconds + 0.3 <= found.age_seconds, "{found:?}");
    assert_eq!((found.endpoint, found.state.as_str()), (None, "opening"));
    one(&gate, "", |it| it.idle_seconds > 0.1).await;
    hear_pong(&mut client).await;
    let found = one(&gate, "", |_| true).await;
    assert!(found.idle_seconds + 0.4 <= found.age_seconds, "{found:?}");
    // The broker's answer is no word of the client's.
    let silent = one(&gate, "", |it| it.idle_seconds > 0.1).await;
    visit.welcome(&connect).await;
    client.hear_mqtt(4).await;
    let found = one(&gate, "", |it| it.state == "open").await;
    assert!(found.idle_seconds >= silent.idle_seconds, "{found:?}");
    client.say(&[0xC0, 0]).await;
    visit.hear(2).await;
    let found = one(&gate, "", |it| it.packets_up == 1).await;
    assert!(found.idle_seconds + 0.5 <= found.age_seconds, "{found:?}");
}

#[tokio::test]
async fn the_roster_forgets_whoever_is_cut_wherever_that_is() {
    let (mut gate, broker) = start(Kind::Mqtt, "[limits]\nhalf_close_timeout = \"60s\"").await;
    let _silent = Client::plain(gate.plain()).await;
    let mut waiting = Client::plain(gate.plain()).await;
    waiting.say(&connect_v3("waiting", 60)).await;
    let _visit = broker.visit_mqtt().await;
    let open =
        join_all(&gate, &broker, Kind::Mqtt, &[connect_v3("open", 60), connect_v3("leaving", 60)]).await;
    // One whose broker has hung up, and that does not leave.
    let [open, (leaving, visit)] = <[_; 2]>::try_from(open).ok().unwrap();
    drop(visit);
    one(&gate, "client_id=leaving", |it| it.state == "leaving").await;
    assert_eq!(present(&gate), 4);
    gate.ask();
    gate.cut();
    let shared = Arc::clone(&gate.shared);
    gate.stopped().await;
    assert_eq!(count(&shared), 0);
    drop((open, leaving));
}

#[tokio::test]
async fn what_a_client_calls_itself_harms_nobody() {
    let hostile = "\x1b[2J\u{202e}\"\\\r\n\u{9b}31m\u{2066}传感器";
    let mut session = Session::open(Kind::Mqtt, &connect_v5(hostile, 60), "").await;
    let encoded =
        percent_encoding::utf8_percent_encode(hostile, percent_encoding::NON_ALPHANUMERIC).to_string();
    let (status, json) = ask(&session.gate, "GET", &format!("/sessions?client_id={encoded}")).await;
    assert_eq!(status, 200);
    let steers = |sign: char| sign.is_control() || "\u{202e}\u{2066}".contains(sign);
    assert!(!json.chars().any(steers), "{json}");
    let page: form::Page = serde_json::from_str(&json).unwrap();
    assert_eq!(page.sessions[0].client_id.as_deref(), Some(hostile));
    let words = ask(&session.gate, "POST", &format!("/kick?client_id={encoded}")).await;
    assert_eq!(words, (200, "1 session is asked to go\n".to_owned()));
    assert_eq!(session.client.hear_mqtt(4).await, [0xE0, 2, 0x98, 0]);
    session.ended("kicked", "gateway").await;
}

#[tokio::test]
async fn a_username_is_told_where_it_is_logged() {
    let mut connect = b"\x10\x13\0\x04MQTT\x04\x82\0\x3c\0\x01c\0\x04user".to_vec();
    connect[1] = connect.len() as u8 - 2;
    for (more, username) in [("", Some("user")), ("[log]\naccess = false", None)] {
        let session = Session::open(Kind::Mqtt, &connect, more).await;
        assert_eq!(list(&session.gate, "").await[0].username.as_deref(), username);
    }
}

#[tokio::test]
async fn a_long_list_has_pages() {
    let (gate, broker) = start(Kind::Mqtt, "").await;
    let connects: Vec<_> = (0..7).map(|number| connect_v3(&format!("client-{number}"), 60)).collect();
    let mut joined = join_all(&gate, &broker, Kind::Mqtt, &connects).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = page(&gate, &format!("limit=3{cursor}")).await;
        assert!(page.sessions.len() <= 3);
        seen.extend(page.sessions.into_iter().map(|session| session.client_id.unwrap()));
        let Some(next) = page.next else { break };
        cursor = format!("&cursor={next}");
        // Who leaves meanwhile takes nobody else's place on the next page.
        if joined.len() == 7 {
            joined.truncate(6);
            until("leaving", || present(&gate) == 6).await;
        }
    }
    seen.sort();
    assert_eq!(seen, (0..6).map(|number| format!("client-{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_kick_says_goodbye_by_name() {
    for kind in KINDS {
        for will in ["", "&will=fire", "&will=suppress"] {
            for (connect, told) in
                [(connect_v5("one", 60), &[0xE0, 2, 0x98, 0][..]), (connect_v3("one", 60), &[])]
            {
                let mut session = Session::open(kind, &connect, "").await;
                let words = ask(&session.gate, "POST", &format!("/kick?client_id=one{will}")).await;
                assert_eq!(words, (200, "1 session is asked to go\n".to_owned()));
                assert_eq!(session.client.hear_all().await, (told.to_vec(), Some(1008)), "{kind:?}");
                let to_broker: &[u8] = if will.ends_with("suppress") { &[0xE0, 0] } else { &[] };
                assert_eq!(session.visit.hear_all().await, to_broker, "{kind:?} {will}");
                session.ended("kicked", "gateway").await;
            }
        }
    }
}

#[tokio::test]
async fn a_kick_waits_for_the_end_of_a_packet() {
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v5("one", 60), "").await;
        let message = publish(5, 1000);
        let bytes = match kind {
            Kind::Mqtt => message.clone(),
            Kind::Ws => brokergate::websocket::frame(brokergate::websocket::Opcode::Binary, &message, None),
        };
        session.visit.say_raw(&bytes[..500]).await;
        one(&session.gate, "", |it| it.packets_down == 2).await;
        assert_eq!(ask(&session.gate, "POST", "/kick?client_id=one").await.0, 200);
        one(&session.gate, "", |it| it.state == "leaving").await;
        session.visit.say_raw(&bytes[500..]).await;
        let told = [&message[..], &[0xE0, 2, 0x98, 0]].concat();
        assert_eq!(session.client.hear_all().await, (told, Some(1008)), "{kind:?}");
    }
}

#[tokio::test]
async fn all_sessions_of_a_client_are_kicked_and_counted_once() {
    let (gate, broker) = start(Kind::Mqtt, "").await;
    let connects = ["one", "one", "two", "one"].map(|name| connect_v3(name, 60));
    let mut joined = join_all(&gate, &broker, Kind::Mqtt, &connects).await;
    let kick = async || ask(&gate, "POST", "/kick?client_id=one").await;
    assert_eq!(kick().await, (200, "3 sessions are asked to go\n".to_owned()));
    // Those are on their way, whether their clients have left yet or not.
    assert_eq!(kick().await.0, 404);
    for number in [0, 1, 3] {
        assert_eq!(joined[number].0.hear_close().await, Some(1008));
    }
    let (client, visit) = &mut joined[2];
    client.say(&[0xC0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xC0, 0]);
    assert_eq!(gate.metric("brokergate_sessions_ended_total{reason=\"drained\",by=\"gateway\"}"), 0.0);
}

#[tokio::test]
async fn one_session_is_kicked_by_its_id_and_its_heir_is_not() {
    let (gate, broker) = start(Kind::Mqtt, "").await;
    let nameless = connect_v3("", 60);
    let mut joined = join_all(&gate, &broker, Kind::Mqtt, &[nameless.clone(), nameless.clone()]).await;
    let (status, words) = ask(&gate, "POST", "/kick?client_id=").await;
    assert_eq!((status, words.contains("session=ID")), (400, true), "{words}");
    let id = list(&gate, "client_id=").await[0].id.clone();
    let kick = format!("/kick?session={id}");
    assert_eq!(ask(&gate, "POST", &kick).await.0, 200);
    let (mut client, visit) = joined.remove(0);
    assert_eq!(client.hear_close().await, Some(1008));
    drop((client, visit));
    until("leaving", || present(&gate) == 1).await;
    assert_eq!(ask(&gate, "POST", &kick).await.0, 404);
    joined.extend(join_all(&gate, &broker, Kind::Mqtt, &[nameless]).await);
    assert_eq!(ask(&gate, "POST", &kick).await.0, 404);
    assert_eq!(present(&gate), 2);
}

#[tokio::test]
async fn a_client_that_has_no_broker_yet_is_kicked_too() {
    for (connect, told) in
        [(connect_v5("one", 60), vec![0x20, 3, 0, 0x88, 0]), (connect_v3("one", 60), vec![0x20, 2, 0, 3])]
    {
        let (gate, broker) = start(Kind::Mqtt, "").await;
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        let mut visit = broker.visit_mqtt().await;
        visit.hear(connect.len()).await;
        assert_eq!(ask(&gate, "POST", "/kick?client_id=one").await.0, 200);
        assert_eq!(client.hear_all().await, (told, Some(1008)));
        drop(client);
        gate.ended("kicked", "gateway").await;
    }
    let (gate, _broker) = start(Kind::Mqtt, "").await;
    let mut client = Client::plain(gate.plain()).await;
    let id = one(&gate, "", |_| true).await.id;
    assert_eq!(ask(&gate, "POST", &format!("/kick?session={id}")).await.0, 200);
    assert_eq!(client.hear_all().await, (vec![], Some(1008)));
}

#[tokio::test]
async fn a_kick_that_suppresses_the_will_waits_for_the_answer_to_the_connect() {
    for kind in KINDS {
        let (gate, broker) = start(kind, "").await;
        let connect = connect_v5("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        let mut visit = broker.visit(kind).await;
        visit.hear(connect.len()).await;
        let kick = "/kick?client_id=one&will=suppress";
        assert_eq!(ask(&gate, "POST", kick).await.0, 200);
        assert_eq!(ask(&gate, "POST", kick).await.0, 404, "it is on its way");
        visit.say(accepted(&connect)).await;
        assert_eq!(visit.hear_all().await, [0xE0, 0], "{kind:?}");
        let told = [accepted(&connect), &[0xE0, 2, 0x98, 0]].concat();
        assert_eq!(client.hear_all().await, (told, Some(1008)), "{kind:?}");
        drop((client, visit));
        gate.ended("kicked", "gateway").await;
    }
}

#[tokio::test]
async fn what_is_asked_for_is_guarded_and_what_is_wrong_is_said() {
    let token = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"";
    let (gate, _broker) = start(Kind::Mqtt, token).await;
    for (method, path) in [("GET", "/sessions"), ("POST", "/kick?client_id=a"), ("POST", "/tap?client_id=a")]
    {
        assert_eq!(ask(&gate, method, path).await.0, 401, "{path}");
    }
    let (gate, _broker) = start(Kind::Mqtt, "").await;
    for (method, path, expected) in [
        ("POST", "/sessions", 405),
        ("GET", "/kick?client_id=a", 405),
        ("GET", "/tap?client_id=a", 405),
        ("GET", "/sessions?limit=0", 400),
        ("POST", "/kick", 400),
        ("POST", "/kick?client_id=a&session=0-0-1", 400),
        ("POST", "/tap", 400),
        ("POST", "/kick?client_id=a", 404),
        ("POST", "/kick?session=9-0-1", 404),
        ("POST", "/tap?client_id=a", 404),
        ("POST", "/tap?session=0-0-1", 404),
    ] {
        assert_eq!(ask(&gate, method, path).await.0, expected, "{method} {path}");
    }
}
