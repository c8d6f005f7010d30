//! What `/metrics` says of how things stand, held against how they stand.

use std::time::{Duration, SystemTime};

use brokergate::tunnel::Held;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{
    Broker, CERTIFICATES, Client, Crew, Gate, Kind, Message, Session, accepted, connect_v3, connect_v5,
    publish, raw, secure, simple, until, within,
};

async fn page(gate: &Gate) -> String {
    raw(gate.admin(), b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await
}

/// The value of a series, such as `brokergate_sessions`; `None` where there is none.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// All series of a name, added up.
fn sum(page: &str, name: &str) -> f64 {
    let of_it = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    of_it.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

async fn join(gate: &Gate, connect: &[u8]) -> Client {
    let mut client = Client::plain(gate.plain()).await;
    client.say(connect).await;
    assert!(matches!(client.hear().await, Message::Mqtt(packet) if packet[0] == 0x20));
    client
}

async fn post(gate: &Gate, path: &str) {
    let request = format!("POST {path} HTTP/1.0\r\nHost: localhost\r\nX-Brokergate: 1\r\n\r\n");
    let answer = raw(gate.admin(), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}

#[tokio::test]
async fn what_is_held_is_shown_with_its_caps() {
    let (first, second) = (Crew::serve("max_sessions = 7, weight = 3").await, Crew::serve("").await);
    let limits = "[limits]\nconnections = 9\nconnections_per_address = 8";
    let endpoints = [first.endpoint.clone(), second.endpoint.clone()];
    let text = simple(&endpoints, limits).replace("workers = 1", "workers = 2");
    let gate = Gate::start(&text).await;
    let mut clients = Vec::new();
    for number in 0..4 {
        clients.push(join(&gate, &connect_v3(&format!("client-{number}"), 0)).await);
    }
    clients.push(join(&gate, &connect_v5("client-4", 0)).await);
    let page = page(&gate).await;
    let of = |name: &str, crew: &Crew| {
        value(&page, &format!("brokergate_{name}{{upstream=\"brokers\",endpoint=\"{}\"}}", crew.name()))
    };
    let one = |series: &str| value(&page, &format!("brokergate_{series}"));
    assert_eq!(first.count() + second.count(), 5);
    for (crew, limit, weight) in [(&first, 7.0, 3.0), (&second, f64::INFINITY, 1.0)] {
        let count = Some(crew.count() as f64);
        for name in ["endpoint_sessions", "endpoint_permits", "endpoint_sessions_opened_total"] {
            assert_eq!(of(name, crew), count, "{name}");
        }
        assert_eq!(
            (of("endpoint_permits_limit", crew), of("endpoint_weight", crew)),
            (Some(limit), Some(weight))
        );
        assert_eq!((of("endpoint_up", crew), of("endpoint_draining", crew)), (Some(1.0), Some(0.0)));
        assert_eq!(of("dial_seconds_count", crew), count);
    }
    for (series, expected) in [
        ("permits{cap=\"connections\"}", 5.0),
        ("permits_limit{cap=\"connections\"}", 9.0),
        ("permits{cap=\"refused\"}", 0.0),
        ("client_addresses", 1.0),
        ("connections", 5.0),
        ("sessions", 5.0),
        ("sessions_opened_total", 5.0),
        ("connects_total{protocol=\"3.1.1\"}", 4.0),
        ("connects_total{protocol=\"5\"}", 1.0),
        ("connacks_total{code=\"accepted\"}", 5.0),
        ("connect_seconds_count", 5.0),
        ("upstream_available{upstream=\"brokers\"}", 1.0),
        ("upstream_endpoints{upstream=\"brokers\"}", 2.0),
        ("upstream_rebalancing{upstream=\"brokers\"}", 0.0),
        ("stage{stage=\"ready\"}", 1.0),
        ("stage{stage=\"draining\"}", 0.0),
        ("drain_deadline_timestamp_seconds", 0.0),
    ] {
        assert_eq!(one(series), Some(expected), "{series}");
    }
    // Sessions are spread over both, and both had something to do.
    assert_eq!(sum(&page, "brokergate_worker_connections"), 5.0);
    for worker in ["0", "1"] {
        assert!(one(&format!("worker_connections{{worker=\"{worker}\"}}")).unwrap() >= 2.0);
        assert!(one(&format!("worker_busy_seconds{{worker=\"{worker}\"}}")).unwrap() > 0.0);
    }
    assert_eq!(
        one(&format!(
            "build_info{{version=\"{}\",os=\"{}\",arch=\"{}\"}}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        )),
        Some(1.0)
    );
    assert!(value(&page, "process_resident_memory_bytes").unwrap() > 1e6);
    drop(clients);
    gate.idle().await;
}

#[tokio::test]
async fn a_drain_is_shown_from_its_first_word_to_its_end() {
    let crew = Crew::serve("").await;
    let text = simple(std::slice::from_ref(&crew.endpoint), "[drain]\nwindow = \"0s\"\ngrace = \"60s\"");
    let gate = Gate::start(&text).await;
    // Two that do not leave when they are asked to.
    let clients = [join(&gate, &connect_v3("one", 0)).await, join(&gate, &connect_v3("two", 0)).await];
    post(&gate, &format!("/drain?upstream=brokers&endpoint={}&window=60s", crew.name())).await;
    let at_endpoint = page(&gate).await;
    let of_endpoint = format!("{{upstream=\"brokers\",endpoint=\"{}\"}}", crew.name());
    assert_eq!(value(&at_endpoint, &format!("brokergate_endpoint_draining{of_endpoint}")), Some(1.0));
    assert_eq!(value(&at_endpoint, "brokergate_drain_rounds_total{of=\"endpoint\"}"), Some(1.0));
    assert_eq!(value(&at_endpoint, "brokergate_upstream_available{upstream=\"brokers\"}"), Some(0.0));
    assert_eq!(
        value(&at_endpoint, "brokergate_drain_sessions_left"),
        Some(0.0),
        "the gateway does not drain"
    );
    post(&gate, &format!("/resume?upstream=brokers&endpoint={}", crew.name())).await;

    let before = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    post(&gate, "/drain?window=50s").await;
    let draining = page(&gate).await;
    assert_eq!(value(&draining, "brokergate_stage{stage=\"draining\"}"), Some(1.0));
    assert_eq!(value(&draining, "brokergate_stage{stage=\"ready\"}"), Some(0.0));
    assert_eq!(value(&draining, "brokergate_drain_rounds_total{of=\"gateway\"}"), Some(1.0));
    assert_eq!(value(&draining, "brokergate_drain_sessions_left"), Some(2.0));
    let deadline = value(&draining, "brokergate_drain_deadline_timestamp_seconds").unwrap() - before;
    assert!((100.0..140.0).contains(&deadline), "in {deadline} s");
    drop(clients);
    let drained = within("the end", async {
        loop {
            let page = page(&gate).await;
            if value(&page, "brokergate_stage{stage=\"drained\"}") == Some(1.0) {
                return page;
            }
        }
    });
    let drained = drained.await;
    assert_eq!(value(&drained, "brokergate_drain_deadline_timestamp_seconds"), Some(0.0));
    assert_eq!(value(&drained, "brokergate_drain_sessions_left"), Some(0.0));
}

#[tokio::test]
async fn a_tls_handshake_that_fails_is_counted_by_its_reason() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "[limits]\narrival_timeout = \"500ms\"")).await;
    let failed =
        |reason: &str| gate.metric(&format!("brokergate_tls_handshakes_failed_total{{reason=\"{reason}\"}}"));
    // Trusts nobody, and says so.
    let config = rustls::ClientConfig::builder_with_provider(brokergate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(gate.tls()).await.unwrap();
    assert!(connector.connect("localhost".try_into().unwrap(), stream).await.is_err());
    until("a refused certificate", || failed("certificate_refused") == 1.0).await;

    drop(TcpStream::connect(gate.tls()).await.unwrap());
    until("one that left", || failed("closed") == 1.0).await;

    let mut stream = TcpStream::connect(gate.tls()).await.unwrap();
    stream.write_all(b"\x16\x03\x01\0\x05hello").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    until("rubbish", || failed("no_tls") == 1.0).await;

    assert!(raw(gate.tls(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.contains("wss"));
    until("plain HTTP", || failed("plain_http") == 1.0).await;

    let silent = TcpStream::connect(gate.tls()).await.unwrap();
    until("a silent one", || failed("timeout") == 1.0).await;
    drop(silent);

    let succeeded = "brokergate_tls_handshakes_total{version=\"TLSv1.3\",resumed=\"no\"}";
    assert_eq!(gate.metric(succeeded), 0.0);
    let stream = TcpStream::connect(gate.tls()).await.unwrap();
    drop(secure(stream, CERTIFICATES.client()).await);
    until("a good one", || gate.metric(succeeded) == 1.0).await;
    assert_eq!(sum(&gate.shared.metrics.render(), "brokergate_tls_handshakes_failed_total"), 5.0);
}

/// What a client does not read waits in a copy, whose memory is shown, and given back with the session.
#[tokio::test]
async fn what_waits_for_a_slow_client_is_shown() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "")).await;
    let mut client = Client::plain(gate.plain()).await;
    let connect = connect_v3("slow", 0);
    client.say(&connect).await;
    let mut visit = broker.visit(Kind::Mqtt).await;
    visit.welcome(&connect).await;
    client.hear().await;
    // More than all sockets on the way hold.
    let message = publish(4, 1_000_000);
    let saying = tokio::spawn(async move {
        for _ in 0..64 {
            visit.say(&message).await;
        }
        visit
    });
    // What waits is whatever the sockets left of a buffer. That may be next to nothing, or the whole of it, which
    // counts as lent: then the client reads a message, and where it stalls next is another place.
    let waits = || async {
        while value(&page(&gate).await, "brokergate_buffers_bytes{state=\"waiting\"}").unwrap() < 1024.0 {}
    };
    within("a copy", async {
        while timeout(Duration::from_millis(500), waits()).await.is_err() {
            client.hear().await;
        }
    })
    .await;
    assert!(value(&page(&gate).await, "brokergate_buffers{state=\"lent\"}").unwrap() >= 1.0);
    saying.abort();
    drop(client);
    gate.idle().await;
    until("the copy to be gone", || Held::look().waiting == 0).await;
}

/// Where TLS has taken what the socket does not, what comes next waits in a copy of its size, not in a lent buffer.
#[tokio::test]
async fn what_waits_behind_tls_holds_no_lent_buffer() {
    let connect = connect_v3("slow", 0);
    let Session { gate, client, mut visit, .. } =
        Session::open_by(Kind::Mqtt, true, &connect, accepted(&connect), "").await;
    let bytes = "brokergate_bytes_total{direction=\"down\"}";
    let mut taken = value(&page(&gate).await, bytes).unwrap();
    // The next message comes when the gateway has taken the one before and has nothing else to read, until it holds
    // one for which TLS has no room.
    let message = publish(4, 16_000);
    while Held::look().waiting == 0 {
        visit.say(&message).await;
        taken += message.len() as f64;
        within("to take it", async {
            while value(&page(&gate).await, bytes).unwrap() < taken && Held::look().waiting == 0 {}
        })
        .await;
        assert!(taken < 64e6, "it takes everything");
    }
    assert!(Held::look().waiting_bytes <= 20_000);
    drop((client, visit));
    gate.idle().await;
}
