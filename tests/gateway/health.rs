//! Probes: who is asked and how, what takes a broker down, and what brings it back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use brokergate::config;
use brokergate::snapshot::Snapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::harness::{
    CERTIFICATES, Client, Crew, Gate, Manner, Message, Patient, connect_v3, log, raw, simple, until,
};

/// `keys` of a probe, and impatience.
fn probe(keys: &str) -> String {
    format!(
        "probe = {{ {keys}, interval = \"20ms\", jitter = \"0s\", timeout = \"5s\", rise = 2, fall = 3 }}\n"
    )
}

fn is_up(gate: &Gate, name: &str) -> bool {
    let snapshot = gate.shared.snapshot.load();
    let endpoints = snapshot.pools["brokers"].pool.endpoints();
    endpoints.iter().find(|endpoint| &**endpoint.name() == name).unwrap().is_up(Instant::now())
}

fn probes(gate: &Gate, name: &str, kind: &str, result: &str) -> f64 {
    let labels = format!("upstream=\"brokers\",endpoint=\"{name}\",kind=\"{kind}\",result=\"{result}\"");
    gate.metric(&format!("brokergate_probes_total{{{labels}}}"))
}

async fn ready(gate: &Gate) -> String {
    raw(gate.admin(), b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await
}

async fn join(gate: &Gate, client_id: &str) -> Client {
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3(client_id, 0)).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
    client
}

async fn upgrade(gate: &Gate) -> String {
    let request = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    raw(gate.plain(), request.as_bytes()).await
}

#[tokio::test]
async fn a_connect_goes_over_each_transport_and_says_goodbye() {
    let none = Manner::default();
    let mut patients = Vec::new();
    for (name, manner) in [
        ("mqtt", none),
        ("mqtts", Manner { tls: true, ..none }),
        ("ws", Manner { websocket: true, ..none }),
        ("wss", Manner { websocket: true, tls: true, ..none }),
        ("unix", Manner { unix: true, ..none }),
        ("unix-ws", Manner { unix: true, websocket: true, ..none }),
        ("proxied", Manner { preamble: true, ..none }),
        ("proxied-wss", Manner { preamble: true, websocket: true, tls: true, ..none }),
    ] {
        patients.push((Patient::serve(name, manner).await, manner));
    }
    let endpoints: Vec<_> = patients.iter().map(|(patient, _)| patient.endpoint.clone()).collect();
    let keys = "kind = \"mqtt\", client_id = \"watch\", username = \"probe\", password = \"open sesame\"";
    let more = format!("tls = {{ ca = {:?} }}\n{}", CERTIFICATES.path("ca.pem"), probe(keys));
    let gate = Gate::start(&simple(&endpoints, &more)).await;
    let mut client_ids = Vec::new();
    for (patient, manner) in &patients {
        let name = &patient.name;
        until(&format!("two probes of {name}"), || patient.examinations().len() >= 2).await;
        until("a count of them", || probes(&gate, name, "mqtt", "passed") >= 2.0).await;
        let examinations = patient.examinations();
        for seen in &examinations {
            assert_eq!(seen.client_id, examinations[0].client_id, "{name}");
            assert_eq!(seen.username.as_deref(), Some("probe"), "{name}");
            assert_eq!(
                (seen.flags, seen.last_field.as_str()),
                (0xC2, "open sesame"),
                "{name}: clean session"
            );
            assert!(seen.said_goodbye, "{name}");
            assert_eq!(seen.spoke_for_itself, manner.preamble, "{name}");
        }
        assert!(is_up(&gate, name), "{name}");
        client_ids.push(examinations[0].client_id.clone());
    }
    assert!(client_ids.iter().all(|client_id| client_id.starts_with("watch-")), "{client_ids:?}");
    client_ids.sort();
    client_ids.dedup();
    assert_eq!(client_ids.len(), patients.len(), "a ClientID for each endpoint");
    let text = gate.shared.metrics.render();
    assert!(text.contains("brokergate_probe_seconds_count{upstream=\"brokers\",endpoint=\"wss\"}"), "{text}");
}

#[tokio::test]
async fn wrong_credentials_take_a_broker_down_and_say_so_once() {
    log::keep();
    let patient = Patient::serve("refusing-5", Manner::default()).await;
    patient.answer(5);
    let more = format!("required = true\n{}", probe("kind = \"mqtt\""));
    let gate = Gate::start(&simple(std::slice::from_ref(&patient.endpoint), &more)).await;
    until("the broker to be down", || !is_up(&gate, "refusing-5")).await;
    let line = log::line(&["refusing-5", "probes fail"]).await;
    assert!(
        line.contains("WARN") && line.contains("not_authorized") && line.contains("`password`"),
        "{line}"
    );
    until("more refusals", || probes(&gate, "refusing-5", "mqtt", "refused") >= 5.0).await;
    log::line(&["refusing-5", "probes fail"]).await;

    let answer = ready(&gate).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("no endpoint of upstream brokers"),
        "{answer}"
    );
    for _ in 0..2 {
        let answer = upgrade(&gate).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "no chance for what probes say is down: {answer}");
    }

    patient.answer(0);
    until("the broker to be up", || is_up(&gate, "refusing-5")).await;
    assert!(probes(&gate, "refusing-5", "mqtt", "passed") >= 2.0, "one success is not enough");
    log::line(&["refusing-5", "probes pass", "INFO"]).await;
    assert!(ready(&gate).await.starts_with("HTTP/1.1 200 "));
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3("one", 0)).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
}

#[tokio::test]
async fn a_broker_that_dies_gets_no_client_until_it_is_back() {
    let stays = Crew::serve("").await;
    let dies = Crew::serve("weight = 1000").await;
    let gate =
        Gate::start(&simple(&[stays.endpoint.clone(), dies.endpoint.clone()], &probe("kind = \"tcp\"")))
            .await;
    let name = dies.name().to_owned();
    until("its first probe", || probes(&gate, &name, "tcp", "passed") >= 1.0).await;
    let before = join(&gate, "before").await;
    assert_eq!(dies.clients(), ["before"]);

    let dead = dies.stop_listening().await;
    until("its fall", || !is_up(&gate, &name)).await;
    assert_eq!(probes(&gate, &name, "tcp", "connect"), 3.0, "three failures, not one");
    for client in 0..5 {
        drop(join(&gate, &format!("during-{client}")).await);
    }
    assert_eq!(stays.count(), 5);
    let text = gate.shared.metrics.render();
    let failed: Vec<_> =
        text.lines().filter(|line| line.starts_with("brokergate_dials_failed_total{")).collect();
    assert!(
        failed.len() > 2 && failed.iter().all(|line| line.ends_with(" 0")),
        "nobody dialled it: {failed:?}"
    );
    until("the session it had to live on, alone", || gate.metric("brokergate_sessions") == 1.0).await;
    drop(before);

    let back = dead.listen_again().await;
    until("its rise", || is_up(&gate, &name)).await;
    drop(join(&gate, "after").await);
    assert_eq!(back.clients(), ["after"]);
}

#[tokio::test]
async fn sessions_of_a_broker_that_is_down_are_told_to_go_where_that_is_wanted() {
    let stays = Crew::serve("").await;
    let mut dies = Crew::serve("weight = 1000").await;
    let more = format!("on_down = \"drain\"\n{}[drain]\nwindow = \"0s\"", probe("kind = \"tcp\""));
    let gate = Gate::start(&simple(&[stays.endpoint.clone(), dies.endpoint.clone()], &more)).await;
    let name = dies.name().to_owned();
    until("its first probe", || probes(&gate, &name, "tcp", "passed") >= 1.0).await;
    let mut live_on = Vec::new();
    for round in 1..=2 {
        let mut held = join(&gate, "held").await;
        assert_eq!(dies.clients(), ["held"]);
        let dead = dies.stop_listening().await;
        assert_eq!(held.hear_close().await, Some(1001));
        live_on.push(join(&gate, "elsewhere").await);
        assert_eq!(stays.count(), round);
        dies = dead.listen_again().await;
        until("its rise", || is_up(&gate, &name)).await;
    }
    let last = join(&gate, "last").await;
    assert_eq!(dies.clients(), ["last"]);
    until("three that live on", || gate.metric("brokergate_sessions") == 3.0).await;
    let drained = "brokergate_sessions_ended_total{reason=\"drained\",by=\"gateway\"}";
    assert_eq!(gate.metric(drained), 2.0, "who came when it was back is not asked to leave");
    drop((last, live_on));
}

/// A page that answers with this status: 0 says nothing.
async fn page(status: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.unwrap_or(0) > 0 {}
            let asked = String::from_utf8(asked).unwrap();
            assert!(
                asked.starts_with("GET /api/v5/load_rebalance/availability_check HTTP/1.1\r\n"),
                "{asked}"
            );
            assert!(asked.to_lowercase().contains(&format!("host: 127.0.0.1:{port}\r\n")), "{asked}");
            let status = status.load(Ordering::Relaxed);
            if status > 0 {
                let answer = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 2\r\n\r\n{{}}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    port
}

#[tokio::test]
async fn an_http_probe_asks_the_endpoints_host() {
    let status = Arc::new(AtomicU16::new(200));
    let port = page(Arc::clone(&status)).await;
    let crew = Crew::serve("").await;
    let keys =
        format!("kind = \"http\", port = {port}, path = \"/api/v5/load_rebalance/availability_check\"");
    let gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), &probe(&keys))).await;
    let name = crew.name().to_owned();
    until("a good answer", || probes(&gate, &name, "http", "passed") >= 1.0).await;
    for (answer, result) in [(503, "status"), (0, "http")] {
        status.store(answer, Ordering::Relaxed);
        until(&format!("its fall by {answer}"), || !is_up(&gate, &name)).await;
        assert!(probes(&gate, &name, "http", result) >= 3.0, "{result}");
        status.store(204, Ordering::Relaxed);
        until("its rise", || is_up(&gate, &name)).await;
    }
    assert_eq!(crew.count(), 0, "MQTT was not asked for");
}

#[tokio::test]
async fn a_broker_that_says_nothing_fails_by_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("{{ url = \"mqtt://{}\", name = \"silent\" }}", silent.local_addr().unwrap());
    let more = "probe = { kind = \"mqtt\", timeout = \"50ms\", jitter = \"0s\" }";
    let gate = Gate::start(&simple(&[endpoint], more)).await;
    until("its fall", || !is_up(&gate, "silent")).await;
    assert_eq!(probes(&gate, "silent", "mqtt", "probe_timeout"), 1.0, "the first result decides at once");
}

#[tokio::test]
async fn shares_grow_after_a_return() {
    let stays = Crew::serve("").await;
    let returns = Crew::serve("").await;
    let more = format!("slow_start = \"1h\"\n{}", probe("kind = \"tcp\""));
    let gate = Gate::start(&simple(&[stays.endpoint.clone(), returns.endpoint.clone()], &more)).await;
    let name = returns.name().to_owned();
    for client in 0..10 {
        drop(join(&gate, &format!("start-{client}")).await);
    }
    assert_eq!((stays.count(), returns.count()), (5, 5), "a start of the gateway is no return");
    let dead = returns.stop_listening().await;
    until("its fall", || !is_up(&gate, &name)).await;
    let back = dead.listen_again().await;
    until("its rise", || is_up(&gate, &name)).await;
    for client in 0..22 {
        drop(join(&gate, &format!("return-{client}")).await);
    }
    assert_eq!((stays.count(), back.count()), (25, 2), "a tenth of the other's");
}

#[tokio::test]
async fn probes_end_with_their_snapshot() {
    let patient = Patient::serve("left-alone", Manner::default()).await;
    let with = simple(std::slice::from_ref(&patient.endpoint), &probe("kind = \"mqtt\""));
    let gate = Gate::start(&with).await;
    patient.answer(5);
    until("its fall", || !is_up(&gate, "left-alone")).await;

    let without = simple(std::slice::from_ref(&patient.endpoint), "");
    let without = config::parse(Path::new("test.toml"), &without, &|_| None).unwrap();
    let old = gate.shared.snapshot.load_full();
    let next =
        Snapshot::build(Arc::new(without), &gate.shared.metrics, &gate.shared.sessions, Some(&old)).unwrap();
    gate.shared.snapshot.store(Arc::new(next));
    assert!(is_up(&gate, "left-alone"), "without probes their verdict is void");
    let upstream = Arc::downgrade(&old.pools["brokers"]);
    drop(old);
    until("the end of its probes", || upstream.strong_count() == 0).await;
    is_left_alone(&patient).await;
}

/// Nobody probes it any more, while another gateway probes another broker several times.
async fn is_left_alone(patient: &Patient) {
    let asked = patient.examinations().len();
    let other = Patient::serve("goes-on", Manner::default()).await;
    let _gate = Gate::start(&simple(std::slice::from_ref(&other.endpoint), &probe("kind = \"mqtt\""))).await;
    until("probes of the other", || other.examinations().len() >= 5).await;
    assert!(patient.examinations().len() <= asked + 1, "one that was under way, and no more");
}

#[tokio::test]
async fn probes_end_with_the_gateway() {
    let patient = Patient::serve("outlives-it", Manner::default()).await;
    let mut gate =
        Gate::start(&simple(std::slice::from_ref(&patient.endpoint), &probe("kind = \"mqtt\""))).await;
    until("a probe", || !patient.examinations().is_empty()).await;
    let shared = Arc::clone(&gate.shared);
    gate.ask();
    gate.stopped().await;
    is_left_alone(&patient).await;
    drop(shared);
}
