//! Goodbyes by hand, of the gateway, of one endpoint, and of those who are too many; and what brokers hear of it.

mod rebalance;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use brokergate::admin::status::form::Status;
use brokergate::reload::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::harness::{
    Broker, Client, Crew, Gate, KINDS, Kind, Mood, Names, Session, accepted, connect_v3, connect_v5, publish,
    raw, simple, until, within,
};

/// POST to the admin listener: the status and the words.
async fn post(gate: &Gate, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(gate.admin()).await.unwrap();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Brokergate: 1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    let words = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (answer[9..12].parse().unwrap(), words)
}

async fn done(gate: &Gate, path: &str) -> String {
    let (status, words) = post(gate, path).await;
    assert_eq!(status, 200, "{path}: {words}");
    words
}

async fn get(gate: &Gate, path: &str) -> String {
    raw(gate.admin(), format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await
}

/// Wait until `/status` has these words.
async fn told(gate: &Gate, words: &str) {
    within(words, async { while !get(gate, "/status").await.contains(words) {} }).await;
}

/// The command, and what it says.
async fn command(gate: &Gate, arguments: &[&str]) -> (Option<i32>, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_brokergate"))
        .args(arguments)
        .args(["--admin", &gate.admin().to_string()])
        .output();
    let output = within("the command", command).await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A client that a broker has welcomed.
async fn join(gate: &Gate, name: &str) -> Client {
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3(name, 60)).await;
    assert_eq!(client.hear_mqtt(4).await, [0x20, 2, 0, 0]);
    client
}

async fn join_all(gate: &Gate, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..count {
        clients.push(join(gate, &format!("client-{number}")).await);
    }
    clients
}

fn sessions(gate: &Gate) -> Vec<usize> {
    let snapshot = gate.shared.snapshot.load();
    snapshot.pools["brokers"].pool.endpoints().iter().map(|endpoint| endpoint.sessions()).collect()
}

const SUPPRESS: &str = "[drain]\nwindow = \"0s\"\ngrace = \"5s\"\nwill = \"suppress\"";

#[tokio::test]
async fn a_will_that_is_suppressed_is_a_disconnect_in_the_clients_place() {
    for kind in KINDS {
        for (connect, told) in
            [(connect_v5("new", 60), &[0xE0, 2, 0x8B, 0][..]), (connect_v3("old", 60), &[])]
        {
            let Session { mut gate, mut client, mut visit, .. } =
                Session::open(kind, &connect, SUPPRESS).await;
            gate.ask();
            assert_eq!(visit.hear_all().await, [0xE0, 0], "{kind:?}");
            assert_eq!(client.hear_all().await, (told.to_vec(), Some(1001)), "{kind:?}");
            drop((client, visit));
            gate.ended("drained", "gateway").await;
            gate.stopped().await;
        }
    }
}

#[tokio::test]
async fn the_disconnect_waits_for_the_clients_packet() {
    for kind in KINDS {
        let Session { mut gate, mut client, mut visit, .. } =
            Session::open(kind, &connect_v5("one", 60), SUPPRESS).await;
        let packet = publish(5, 100);
        let frame = brokergate::websocket::frame(
            brokergate::websocket::Opcode::Binary,
            &[&packet[..], &packet].concat(),
            Some(brokergate::websocket::Mask::new([1, 2, 3, 4])),
        );
        client.say_raw(&frame[..50]).await;
        let begun = visit.hear(40).await;
        gate.ask();
        assert_eq!(client.hear_all().await, (vec![0xE0, 2, 0x8B, 0], Some(1001)));
        client.say_raw(&frame[50..]).await;
        let heard = [begun, visit.hear_all().await].concat();
        // A frame that passes unchanged is whole; one that is unwrapped ends with the packet.
        let packets = if kind == Kind::Ws { [&packet[..], &packet].concat() } else { packet };
        assert_eq!(heard, [&packets[..], &[0xE0, 0]].concat(), "{kind:?}");
        drop((client, visit));
        gate.stopped().await;
    }
}

#[tokio::test]
async fn a_client_that_said_disconnect_is_not_spoken_for() {
    let Session { mut gate, mut client, mut visit, .. } =
        Session::open(Kind::Mqtt, &connect_v3("one", 60), SUPPRESS).await;
    client.say(&[0xE0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xE0, 0]);
    gate.ask();
    assert!(visit.hear_all().await.is_empty());
    drop((client, visit));
    gate.stopped().await;
}

#[tokio::test]
async fn a_broker_that_has_the_connect_when_the_drain_begins_is_told_too() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let mut gate = Gate::start(&simple(&[broker.endpoint(kind)], SUPPRESS)).await;
        let mut client = Client::plain(gate.plain()).await;
        let connect = connect_v5("one", 60);
        client.say(&connect).await;
        let mut visit = broker.visit(kind).await;
        assert_eq!(visit.hear(connect.len()).await, connect);
        gate.ask();
        told(&gate, "\"asked\":1,").await;
        // Its Will could fire from here on.
        visit.say(accepted(&connect)).await;
        assert_eq!(visit.hear_all().await, [0xE0, 0], "{kind:?}");
        let goodbye = [accepted(&connect), &[0xE0, 2, 0x8B, 0]].concat();
        assert_eq!(client.hear_all().await, (goodbye, Some(1001)), "{kind:?}");
        drop((client, visit));
        gate.ended("drained", "gateway").await;
        gate.stopped().await;
    }
}

#[tokio::test]
async fn a_broker_that_does_not_answer_the_connect_holds_up_no_drain() {
    let broker = Broker::listen().await;
    let more = SUPPRESS.replace("5s", "100ms");
    let mut gate = Gate::start(&simple(&[broker.mqtt()], &more)).await;
    let mut client = Client::plain(gate.plain()).await;
    let connect = connect_v3("one", 60);
    client.say(&connect).await;
    let mut visit = broker.visit_mqtt().await;
    assert_eq!(visit.hear(connect.len()).await, connect);
    gate.ask();
    assert!(visit.hear_all().await.is_empty());
    gate.ended("cut", "gateway").await;
    drop(client);
    gate.stopped().await;
}

#[tokio::test]
async fn one_endpoint_is_drained_and_put_back_to_work() {
    let (first, second) = (Crew::serve("").await, Crew::serve("").await);
    let gate = Gate::start(&simple(&[first.endpoint.clone(), second.endpoint.clone()], "")).await;
    let mut clients = join_all(&gate, 4).await;
    assert_eq!(sessions(&gate), [2, 2]);
    let of_first = format!("upstream=brokers&endpoint={}", first.name().replace(':', "%3A"));
    let words = done(&gate, &format!("/drain?{of_first}")).await;
    assert!(words.contains("2 sessions"), "{words}");
    let (mut kept, mut sent_away) = (Vec::new(), 0);
    for (number, mut client) in clients.drain(..).enumerate() {
        if first.clients().contains(&format!("client-{number}")) {
            assert_eq!(client.hear_close().await, Some(1001));
            sent_away += 1;
        } else {
            kept.push(client);
        }
    }
    assert_eq!((sent_away, kept.len()), (2, 2));
    told(&gate, "\"state\":\"drained\"").await;
    let up = format!("brokergate_endpoint_up{{upstream=\"brokers\",endpoint=\"{}\"}}", first.name());
    assert!(get(&gate, "/metrics").await.contains(&format!("{up} 0\n")));
    // New ones go elsewhere, and nobody who was not asked is disturbed.
    kept.extend(join_all(&gate, 3).await);
    assert_eq!(sessions(&gate), [0, 5]);
    assert!(done(&gate, &format!("/drain?{of_first}")).await.contains("already"));
    done(&gate, &format!("/resume?{of_first}")).await;
    assert!(get(&gate, "/metrics").await.contains(&format!("{up} 1\n")));
    kept.extend(join_all(&gate, 4).await);
    assert_eq!(sessions(&gate), [2, 7], "rounds go on");
}

#[tokio::test]
async fn the_only_endpoint_that_is_drained_leaves_none() {
    let crew = Crew::serve("").await;
    let gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), "")).await;
    done(&gate, &format!("/drain?upstream=brokers&endpoint={}", crew.name())).await;
    let refused = Client::open(gate.plain(), false, &[("sec-websocket-protocol", "mqtt")]).await;
    assert_eq!(refused.err().unwrap().status(), 503);
    assert_eq!(gate.metric("brokergate_rejections_total{reason=\"no_endpoint\"}"), 1.0);
}

#[tokio::test]
async fn whoever_dials_an_endpoint_that_is_drained_tries_the_next() {
    let (slow, crew) = (Broker::listen().await, Crew::serve("").await);
    let gate = Gate::start(&simple(&[slow.ws(), crew.endpoint.clone()], "")).await;
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3("one", 60)).await;
    // Its handshake waits for an answer.
    let mut stream = slow.accept().await;
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        assert!(within("a handshake", stream.read_buf(&mut asked)).await.unwrap() > 0);
    }
    let name = format!("ws%3A%2F%2F{}%2Fmqtt", slow.address());
    let name = if get(&gate, "/status").await.contains("ws://") { name } else { slow.address().to_string() };
    done(&gate, &format!("/drain?upstream=brokers&endpoint={name}")).await;
    let asked = String::from_utf8(asked).unwrap();
    let key = asked
        .lines()
        .find_map(|line| line.to_lowercase().starts_with("sec-websocket-key").then(|| line[19..].trim()));
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(client.hear_mqtt(4).await, [0x20, 2, 0, 0]);
    assert_eq!(crew.clients(), ["one"]);
}

#[tokio::test]
async fn a_drain_that_is_cancelled_serves_again_on_the_same_address() {
    let crew = Crew::serve("").await;
    let mut gate = Gate::start(&simple(
        std::slice::from_ref(&crew.endpoint),
        "[drain]\nwindow = \"10m\"\ngrace = \"10m\"",
    ))
    .await;
    let mut clients = join_all(&gate, 3).await;
    done(&gate, "/drain").await;
    // The first at once, the others in minutes.
    assert_eq!(clients.remove(0).hear_close().await, Some(1001));
    told(&gate, "\"stage\":\"draining\"").await;
    assert!(get(&gate, "/ready").await.ends_with("draining\n"));
    assert!(TcpStream::connect(gate.plain()).await.is_err(), "nothing listens");
    assert!(matches!(gate.reload().await, Err(Refusal::Draining)));
    assert!(done(&gate, "/drain").await.contains("already"));
    done(&gate, "/resume").await;
    assert!(get(&gate, "/ready").await.starts_with("HTTP/1.0 200"));
    clients.push(join(&gate, "late").await);
    assert_eq!(sessions(&gate), [3]);
    for client in &mut clients {
        client.say(&[0xC0, 0]).await;
    }
    // A signal is another matter: and a second one cuts what would take minutes.
    gate.ask();
    told(&gate, "\"stage\":\"draining\"").await;
    assert_eq!(post(&gate, "/resume").await.0, 409);
    gate.cut();
    gate.stopped().await;
}

#[tokio::test]
async fn the_status_counts_the_delay_of_a_drain() {
    let crew = Crew::serve("").await;
    let terms = "[drain]\ndelay = \"1h\"\nwindow = \"2h\"\ngrace = \"3h\"";
    let gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), terms)).await;
    done(&gate, "/drain").await;
    let status = get(&gate, "/status").await;
    let status: Status = serde_json::from_str(status.split_once("\r\n\r\n").unwrap().1).unwrap();
    let deadline = status.drain.unwrap().deadline_seconds;
    assert!((6.0 * 3600.0 - 60.0..=6.0 * 3600.0).contains(&deadline), "{deadline}");
}

#[tokio::test]
async fn what_lost_its_port_meanwhile_can_not_be_resumed_until_it_is_free() {
    let crew = Crew::serve("").await;
    let gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), "")).await;
    done(&gate, "/drain").await;
    told(&gate, "\"stage\":\"drained\"").await;
    let taken = TcpListener::bind(gate.plain()).await.unwrap();
    let (status, words) = post(&gate, "/resume").await;
    assert_eq!(status, 409, "{words}");
    assert!(words.contains(&gate.plain().to_string()) && words.contains("another process"), "{words}");
    assert!(words.ends_with("; the drain goes on\n"), "{words}");
    assert!(get(&gate, "/ready").await.ends_with("drained\n"));
    assert!(TcpStream::connect(gate.tls()).await.is_err(), "all addresses, or none");
    drop(taken);
    done(&gate, "/resume").await;
    join(&gate, "one").await;
    assert!(TcpStream::connect(gate.tls()).await.is_ok());
}

#[tokio::test]
async fn a_reload_under_way_is_finished_before_a_drain_by_hand() {
    let (crew, names) = (Crew::serve("").await, Names::serve().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("brokergate.toml");
    let text = |endpoint: &str, more: &str| {
        let rest = "[admin]\naddress = \"127.0.0.1:0\"\n[reload]\nwatch = false\n[drain]\nwindow = \"0s\"\n";
        simple(&[endpoint.to_owned()], &format!("{rest}{more}"))
    };
    std::fs::write(&file, text(&crew.endpoint, "")).unwrap();
    let gate = Gate::start_file(&file).await;
    let mut client = join(&gate, "one").await;
    // The name's look-up takes until the resolver's patience is over.
    names.feels(Mood::Silent);
    let by_name = "{ url = \"mqtt://brokers.test:1\", name = \"new\", discover = \"addresses\" }";
    std::fs::write(&file, text(by_name, &names.toml())).unwrap();
    let drain = async {
        until("the look-up", || names.questions() > 0).await;
        done(&gate, "/drain").await
    };
    let (reloaded, drained) = tokio::join!(gate.reload(), drain);
    assert!(reloaded.is_ok(), "{reloaded:?}");
    assert_eq!(drained, "the gateway drains\n");
    assert_eq!(client.hear_close().await, Some(1001));
    assert_eq!(gate.metric("brokergate_reloads_total{result=\"applied\"}"), 1.0);
    assert!(gate.shared.snapshot.load().pools["brokers"].pool.endpoints().is_empty());
}

#[tokio::test]
async fn a_signal_joins_a_drain_by_hand_and_ends_one_that_is_done() {
    for is_done in [false, true] {
        let crew = Crew::serve("").await;
        let mut gate = Gate::start(&simple(
            std::slice::from_ref(&crew.endpoint),
            "[drain]\nwindow = \"1s\"\ngrace = \"5s\"",
        ))
        .await;
        let clients = join_all(&gate, 4).await;
        let began = Instant::now();
        done(&gate, "/drain").await;
        if is_done {
            let leaving =
                clients.into_iter().map(|mut client| tokio::spawn(async move { client.hear_close().await }));
            for left in leaving.collect::<Vec<_>>() {
                assert_eq!(left.await.unwrap(), Some(1001));
            }
            told(&gate, "\"stage\":\"drained\"").await;
            assert!(get(&gate, "/ready").await.ends_with("drained\n"));
            gate.ask();
            gate.stopped().await;
        } else {
            let leaving: Vec<_> = clients
                .into_iter()
                .map(|mut client| tokio::spawn(async move { client.hear_close().await }))
                .collect();
            gate.ask();
            gate.stopped().await;
            for left in leaving {
                assert_eq!(left.await.unwrap(), Some(1001));
            }
            assert!(began.elapsed() >= Duration::from_millis(700), "the window goes on");
        }
    }
}

#[tokio::test]
async fn the_command_waits_until_nobody_is_left() {
    let crew = Crew::serve("").await;
    let gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), "")).await;
    let clients = join_all(&gate, 5).await;
    let leaving: Vec<_> = clients
        .into_iter()
        .map(|mut client| tokio::spawn(async move { client.hear_close().await }))
        .collect();
    let (code, words) = command(&gate, &["drain", "--wait", "--window", "500ms"]).await;
    assert_eq!(code, Some(0), "{words}");
    assert!(words.starts_with("the gateway drains\n") && words.ends_with("done\n"), "{words}");
    assert!(words.contains("sessions left"), "{words}");
    for left in leaving {
        assert_eq!(left.await.unwrap(), Some(1001));
    }
    assert_eq!(gate.metric("brokergate_sessions"), 0.0);
    let (code, words) = command(&gate, &["drain", "--cancel"]).await;
    assert_eq!((code, words.as_str()), (Some(0), "the gateway serves again\n"));
    // Of one endpoint.
    let _client = join(&gate, "one").await;
    let of = ["drain", "--upstream", "brokers", "--endpoint", &crew.name(), "--window", "0s", "--wait"];
    let leaving = tokio::spawn(async move {
        let mut client = _client;
        client.hear_close().await
    });
    let (code, words) = command(&gate, &of).await;
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(leaving.await.unwrap(), Some(1001));
    // Wrong usage, and what there is not.
    assert_eq!(command(&gate, &["drain", "--upstream", "brokers"]).await.0, Some(2));
    assert_eq!(command(&gate, &["drain", "--window", "soon"]).await.0, Some(2));
    let (code, words) = command(&gate, &["rebalance", "borkers"]).await;
    assert_eq!(code, Some(1));
    assert!(words.contains("did you mean `brokers`?"), "{words}");
}

#[tokio::test]
async fn mistakes_name_what_there_is() {
    let crew = Crew::serve("").await;
    let gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), "")).await;
    for (path, status, words) in [
        ("/drain?upstream=borkers&endpoint=a", 404, "did you mean `brokers`?"),
        ("/drain?upstream=brokers&endpoint=a", 404, "there is 127.0.0.1:"),
        ("/drain?upstream=brokers", 400, "name the endpoint too"),
        ("/drain?endpoint=a", 400, "upstream too"),
        ("/drain?windwo=1s", 400, "did you mean `window`?"),
        ("/rebalance", 400, "name the upstream"),
        ("/rebalance?upstream=a", 404, "there is brokers"),
        ("/resume?upstream=a", 404, "there is brokers"),
    ] {
        let (found, told) = post(&gate, path).await;
        assert_eq!(found, status, "{path}: {told}");
        assert!(told.contains(words), "{path}: {told}");
    }
    assert!(get(&gate, "/drain").await.starts_with("HTTP/1.0 405"));
}

#[tokio::test]
async fn goodbyes_keep_their_pace() {
    let crew = Crew::serve("").await;
    let gate = Gate::start(&simple(
        std::slice::from_ref(&crew.endpoint),
        "[drain]\nwindow = \"3s\"\ngrace = \"5s\"",
    ))
    .await;
    let clients = join_all(&gate, 150).await;
    let times = Arc::<Mutex<Vec<Instant>>>::default();
    let leaving: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let times = Arc::clone(&times);
            tokio::spawn(async move {
                assert_eq!(client.hear_close().await, Some(1001));
                times.lock().unwrap().push(Instant::now());
            })
        })
        .collect();
    done(&gate, "/drain").await;
    for left in leaving {
        left.await.unwrap();
    }
    let mut times = times.lock().unwrap().clone();
    times.sort();
    for (place, begin) in times.iter().enumerate() {
        let second =
            times[place..].iter().take_while(|at| at.duration_since(*begin) < Duration::from_secs(1));
        // 50 a second, a tenth of that, and what a busy machine delivers late.
        assert!(second.count() <= 60, "in the second from {place} on");
    }
    let all = times.last().unwrap().duration_since(times[0]);
    assert!(all > Duration::from_millis(2500), "{all:?}");
}
