//! The WebSocket handshake: who gets 101, and what everybody else is told.

use super::harness::{Broker, Client, Gate, KINDS, Message, connect_v3, raw, simple, until};

use brokergate::websocket::{Mask, Opcode, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

/// A gateway with MQTT at /mqtt for every host, and at /only/* for mqtt.example.org and some pages.
async fn gate(broker: &Broker) -> Gate {
    let more = "\
        [[routes]]\nhost = \"mqtt.example.org\"\npath = \"/only/*\"\nupstream = \"brokers\"\n\
        origins = [\"https://app.example.org\", \"https://*.apps.example.org\"]\nrequire_subprotocol = true\n";
    Gate::start(&simple(&[broker.ws()], more)).await
}

/// Send `head` without its end, with `Connection: close` where it asks for no upgrade; the whole answer.
async fn answer(gate: &Gate, head: &str) -> String {
    raw(gate.plain(), format!("{head}\r\n").as_bytes()).await
}

fn get(path: &str, host: &str, headers: &[&str]) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{}", headers.concat())
}

async fn refused(gate: &Gate, head: &str, status: u16, label: &str, says: &str) {
    let name = format!("brokergate_rejections_total{{reason=\"{label}\"}}");
    let before = gate.metric(&name);
    // A second request ends the connection where the first left it open.
    let end = "\r\nGET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let answer = answer(gate, &format!("{head}{end}")).await;
    let answer = answer.split("HTTP/1.1 404").next().filter(|first| !first.is_empty()).unwrap_or(&answer);
    assert!(answer[..7] == *"HTTP/1." && answer[8..].starts_with(&format!(" {status} ")), "{head}\n{answer}");
    assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains(says), "{head}\n{answer}");
    until("counting", || gate.metric(&name) > before).await;
}

#[tokio::test]
async fn each_wrong_handshake_is_told_what_to_change() {
    let broker = Broker::listen().await;
    let gate = gate(&broker).await;
    let cases: &[(String, u16, &str, &str)] = &[
        (get("/mqtt", "localhost", &[]), 426, "not_websocket", "upgrade: websocket\r\n"),
        (get("/mqtt", "localhost", &[]), 426, "not_websocket", "Open it with an MQTT client (wss://)"),
        (
            get("/mqtt", "localhost", &[UPGRADE, KEY, "Sec-WebSocket-Version: 8\r\n"]),
            426,
            "websocket_version",
            "sec-websocket-version: 13\r\n",
        ),
        (get("/mqtt", "localhost", &[UPGRADE, KEY]), 426, "websocket_version", "version 13"),
        (get("/mqtt", "localhost", &[KEY, VERSION]), 400, "upgrade_headers", "Connection: Upgrade"),
        (
            get("/mqtt", "localhost", &["Upgrade: websocket\r\nConnection: close\r\n", KEY, VERSION]),
            400,
            "upgrade_headers",
            "Connection: Upgrade",
        ),
        (get("/mqtt", "localhost", &[UPGRADE, VERSION]), 400, "key", "Sec-WebSocket-Key"),
        (
            get("/mqtt", "localhost", &[UPGRADE, VERSION, "Sec-WebSocket-Key: short\r\n"]),
            400,
            "key",
            "16 random bytes",
        ),
        (get("/mqtt", "localhost", &[UPGRADE, VERSION, KEY, KEY]), 400, "key", "one Sec-WebSocket-Key"),
        (
            get("/mqtt", "localhost", &[UPGRADE, VERSION, KEY, "Content-Length: 3\r\n"]),
            400,
            "handshake_body",
            "carries no body",
        ),
        (
            get(
                "/mqtt",
                "localhost",
                &[UPGRADE, VERSION, KEY, "Sec-WebSocket-Protocol: graphql-ws, soap\r\n"],
            ),
            400,
            "subprotocol",
            "(\"graphql-ws, soap\")",
        ),
        (
            get("/only/x", "mqtt.example.org", &[UPGRADE, VERSION, KEY]),
            400,
            "no_subprotocol",
            "Offer \"mqtt\"",
        ),
        (
            get(
                "/only/x",
                "mqtt.example.org",
                &[UPGRADE, VERSION, KEY, "Origin: https://evil.example.org\r\n"],
            ),
            403,
            "origin",
            "\"https://evil.example.org\"",
        ),
        (
            get(
                "/only/x",
                "mqtt.example.org",
                &[UPGRADE, VERSION, KEY, "Origin: https://app.example.org.evil.example.com\r\n"],
            ),
            403,
            "origin",
            "may not open this path",
        ),
        (get("/wrong", "localhost", &[UPGRADE, VERSION, KEY]), 404, "not_found", "it is at: /mqtt."),
        (get("/mqtt/", "localhost", &[UPGRADE, VERSION, KEY]), 404, "not_found", "it is at: /mqtt."),
        (get("/", "localhost", &[]), 404, "not_found", "Nothing is at this path."),
        (
            "POST /mqtt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n".into(),
            405,
            "method",
            "allow: GET",
        ),
        ("GET /mqtt HTTP/1.1\r\n".into(), 400, "bad_host", "no Host header"),
        ("GET /mqtt HTTP/1.1\r\nHost: a\r\nHost: b\r\n".into(), 400, "bad_host", "several Host headers"),
        ("GET /mqtt HTTP/1.1\r\nHost: a@b\r\n".into(), 400, "bad_host", "not a host and port"),
        (
            format!("GET /mqtt HTTP/1.0\r\nHost: localhost\r\n{UPGRADE}{VERSION}{KEY}"),
            505,
            "http_version",
            "needs HTTP/1.1",
        ),
    ];
    for (head, status, label, says) in cases {
        refused(&gate, head, *status, label, says).await;
    }
    gate.idle().await;
}

#[tokio::test]
async fn an_unknown_host_is_misdirected() {
    let broker = Broker::listen().await;
    let text = simple(&[broker.ws()], "")
        .replace("path = \"/mqtt\"", "host = \"mqtt.example.org\"\npath = \"/mqtt\"");
    let gate = Gate::start(&text).await;
    let head = get("/mqtt", "<b>.example.org", &[UPGRADE, VERSION, KEY]);
    refused(&gate, &head, 400, "bad_host", "not a host and port").await;
    let head = get("/mqtt", "192.0.2.1", &[UPGRADE, VERSION, KEY]);
    refused(&gate, &head, 421, "unknown_host", "\"192.0.2.1\"").await;
    for host in ["mqtt.example.org", "MQTT.example.org:8084", "mqtt.example.org."] {
        let head = get("/mqtt", host, &[]);
        refused(&gate, &head, 426, "not_websocket", "MQTT client").await;
    }
}

#[tokio::test]
async fn the_clients_choice_of_subprotocol_is_echoed() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        for (offered, chosen) in [
            (&["mqtt"][..], Some("mqtt")),
            (&["mqttv3.1"], Some("mqttv3.1")),
            (&["mqttv3.1.1", "mqtt"], Some("mqttv3.1.1")),
            (&["other, mqttv3.1"], Some("mqttv3.1")),
            (&["other", "mqtt"], Some("mqtt")),
            (&[], None),
        ] {
            let headers: Vec<_> = offered.iter().map(|offer| ("sec-websocket-protocol", *offer)).collect();
            // The independent client wants one offer in one line.
            let head = get("/mqtt", "localhost", &[UPGRADE, VERSION, KEY]);
            let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let mut stream = TcpStream::connect(gate.plain()).await.unwrap();
            stream.write_all(format!("{head}{lines}\r\n").as_bytes()).await.unwrap();
            let answer = head_of(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
            assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
            let echo = answer.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
            assert_eq!(echo, chosen, "{offered:?}");
        }
    }
}

async fn head_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(super::harness::within("an answer", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_broker_is_offered_the_endpoints_subprotocol_whatever_the_client_chose() {
    let broker = Broker::listen().await;
    let old = broker.ws().replace(" }", ", subprotocol = \"mqttv3.1\" }");
    for (endpoint, asked) in [(broker.ws(), "mqtt"), (old, "mqttv3.1")] {
        let gate = Gate::start(&simple(&[endpoint], "")).await;
        for offered in [Some("mqttv3.1"), Some("mqtt"), None] {
            let headers: Vec<_> = offered.iter().map(|offer| ("sec-websocket-protocol", *offer)).collect();
            let (mut client, _) = Client::open(gate.plain(), false, &headers).await.unwrap();
            client.say(&connect_v3("one", 60)).await;
            let visit = broker.visit_ws().await;
            assert_eq!(visit.headers["sec-websocket-protocol"], asked);
            assert!(!visit.headers.contains_key("sec-websocket-extensions"));
        }
    }
}

#[tokio::test]
async fn odd_but_right_handshakes_are_taken() {
    let broker = Broker::listen().await;
    let gate = gate(&broker).await;
    let firefox = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n";
    let shouting = "UPGRADE: WebSocket\r\nCONNECTION: UPGRADE\r\n";
    let split = "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: h2c, websocket\r\n";
    let extension = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let page = "Origin: https://APP.example.org:443\r\nSec-WebSocket-Protocol: mqtt\r\n";
    let below = "Origin: https://x.y.apps.example.org\r\nSec-WebSocket-Protocol: mqtt\r\n";
    let nobody = "Sec-WebSocket-Protocol: mqtt\r\n";
    for head in [
        get("/mqtt", "localhost", &[firefox, VERSION, KEY, extension]),
        get("/mqtt", "localhost", &[shouting, VERSION, KEY]),
        get("/mqtt", "localhost", &[split, VERSION, KEY, "Content-Length: 0\r\n"]),
        get("/mqtt?token=x", "[::1]:8084", &[UPGRADE, VERSION, KEY]),
        get("http://localhost/mqtt", "localhost", &[UPGRADE, VERSION, KEY]),
        get("/%6dqtt", "localhost", &[UPGRADE, VERSION, KEY]),
        get("/only/x", "mqtt.example.org", &[UPGRADE, VERSION, KEY, page]),
        get("/only", "mqtt.example.org", &[UPGRADE, VERSION, KEY, below]),
        get("/only/a/b", "mqtt.example.org", &[UPGRADE, VERSION, KEY, nobody]),
    ] {
        let mut stream = TcpStream::connect(gate.plain()).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let answer = head_of(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{head}{answer}");
        assert!(!answer.contains("extensions"), "{answer}");
    }
}

#[tokio::test]
async fn what_comes_right_behind_the_request_is_not_lost() {
    let mask = Some(Mask::new([9, 8, 7, 6]));
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let connect = connect_v3("eager", 60);
        let bytes = [
            get("/mqtt", "localhost", &[UPGRADE, VERSION, KEY, "\r\n"]).as_bytes(),
            &frame(Opcode::Binary, &connect, mask),
            &frame(Opcode::Binary, &[0xC0, 0], mask),
        ]
        .concat();
        let head = bytes.len() - connect.len() - 14;
        // In one segment, and cut near the head's end.
        for cut in [bytes.len(), head - 1, head, head + 1, head + 7, bytes.len() - 1] {
            for tls in [false, true] {
                let address = if tls { gate.tls() } else { gate.plain() };
                let stream = TcpStream::connect(address).await.unwrap();
                let mut wire: Box<dyn super::harness::Wire> = if tls {
                    let config = super::harness::CERTIFICATES.client();
                    Box::new(super::harness::secure(stream, config).await)
                } else {
                    Box::new(stream)
                };
                wire.write_all(&bytes[..cut]).await.unwrap();
                wire.flush().await.unwrap();
                tokio::task::yield_now().await;
                wire.write_all(&bytes[cut..]).await.unwrap();
                wire.flush().await.unwrap();
                let mut visit = broker.visit(kind).await;
                visit.welcome(&connect).await;
                assert_eq!(visit.hear(2).await, [0xC0, 0], "{kind:?} {cut}");
            }
        }
    }
}

#[tokio::test]
async fn a_pipelined_request_behind_an_upgrade_is_no_request() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let upgrade = get("/mqtt", "localhost", &[UPGRADE, VERSION, KEY, "\r\n"]);
    let answer =
        raw(gate.plain(), format!("{upgrade}{}\r\n", get("/mqtt", "localhost", &[])).as_bytes()).await;
    // `G` has reserved bits: no second answer, but a close frame.
    assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains("426"), "{answer}");
    gate.ended("client_frame", "client").await;
    gate.idle().await;
}

#[tokio::test]
async fn a_request_smuggled_in_a_body_is_not_answered() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let inner = get("/mqtt", "localhost", &["\r\n"]);
    for framing in [
        format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
    ] {
        let head = get("/mqtt", "localhost", &[UPGRADE, VERSION, KEY]);
        let answer = raw(gate.plain(), format!("{head}{framing}").as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    gate.idle().await;
}

#[tokio::test]
async fn a_client_gone_right_after_its_request_holds_nothing() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let head = get("/mqtt", "localhost", &[UPGRADE, VERSION, KEY, "\r\n"]);
    for _ in 0..20 {
        let mut stream = TcpStream::connect(gate.plain()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.set_zero_linger().unwrap();
    }
    until("all gone", || gate.metric("brokergate_connections_accepted_total") == 20.0).await;
    gate.idle().await;
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3("one", 60)).await;
    broker.visit_ws().await.welcome(&connect_v3("one", 60)).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
}
