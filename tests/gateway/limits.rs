//! Caps on connections: who is over one is told so, and comes in once there is room.

use tokio::net::TcpStream;

use super::harness::{Broker, Client, Gate, Kind, Session, connect_v3, dial_from, raw, simple, until};

/// A handshake at the gateway from this address.
async fn knock(gate: &Gate, source: &str) -> Result<Client, http::Response<Option<Vec<u8>>>> {
    let wire = dial_from(source, gate.plain()).await;
    Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.map(|(client, _)| client)
}

fn is_told(answer: &http::Response<Option<Vec<u8>>>, sentence: &str) {
    assert_eq!(answer.status(), 503);
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(answer.headers()["connection"], "close");
    let body = String::from_utf8_lossy(answer.body().as_ref().unwrap()).into_owned();
    assert!(body.contains(sentence), "{body}");
}

#[tokio::test]
async fn over_the_cap_of_connections_everybody_is_told() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "[limits]\nconnections = 3")).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(knock(&gate, "127.0.0.1").await.ok().unwrap());
    }
    is_told(&knock(&gate, "127.0.0.1").await.err().unwrap(), "The gateway is full.");
    is_told(&knock(&gate, "127.0.0.2").await.err().unwrap(), "The gateway is full.");
    // Over TLS and as a page as well.
    is_told(&Client::open(gate.tls(), true, &[]).await.err().unwrap(), "The gateway is full.");
    let page = raw(gate.plain(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
    assert_eq!(gate.metric("brokergate_rejections_total{reason=\"full_connections\"}"), 4.0);
    until("the rejected to be gone", || gate.metric("brokergate_connections") == 3.0).await;
    // Room for one.
    drop(held.pop());
    until("a free slot", || gate.metric("brokergate_connections") == 2.0).await;
    held.push(knock(&gate, "127.0.0.1").await.ok().unwrap());
    drop(held);
    gate.idle().await;
}

#[tokio::test]
async fn over_the_cap_of_an_address_that_address_is_told() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "[limits]\nconnections_per_address = 2")).await;
    let held = [knock(&gate, "127.0.0.1").await.ok().unwrap(), knock(&gate, "127.0.0.1").await.ok().unwrap()];
    is_told(&knock(&gate, "127.0.0.1").await.err().unwrap(), "from your address");
    let other = knock(&gate, "127.0.0.2").await.ok().unwrap();
    assert_eq!(gate.metric("brokergate_rejections_total{reason=\"full_connections_per_address\"}"), 1.0);
    drop(held);
    until("free slots", || gate.metric("brokergate_connections") == 1.0).await;
    let again = knock(&gate, "127.0.0.1").await.ok().unwrap();
    drop((again, other));
    gate.idle().await;
}

#[tokio::test]
async fn a_session_holds_its_connections_slot_to_its_end() {
    let mut session = Session::open(Kind::Mqtt, &connect_v3("one", 0), "[limits]\nconnections = 1").await;
    is_told(&knock(&session.gate, "127.0.0.1").await.err().unwrap(), "The gateway is full.");
    session.client.say(&[0xC0, 0]).await;
    assert_eq!(session.visit.hear(2).await, [0xC0, 0]);
    let Session { gate, client, visit, .. } = session;
    drop((client, visit));
    gate.idle().await;
    assert!(knock(&gate, "127.0.0.1").await.is_ok());
}

#[tokio::test]
async fn silent_connections_hold_slots_no_longer_than_they_may() {
    let broker = Broker::listen().await;
    let limits = "[limits]\nconnections = 2\narrival_timeout = \"200ms\"";
    let gate = Gate::start(&simple(&[broker.ws()], limits)).await;
    let _silent =
        [TcpStream::connect(gate.plain()).await.unwrap(), TcpStream::connect(gate.tls()).await.unwrap()];
    until("both", || gate.metric("brokergate_connections") == 2.0).await;
    gate.idle().await;
    assert!(knock(&gate, "127.0.0.1").await.is_ok());
}

#[tokio::test]
async fn a_backends_websocket_holds_its_slot() {
    let application = Broker::listen().await;
    let text = format!(
        r#"
        [limits]
        connections = 1
        [[listeners]]
        addresses = ["127.0.0.1:0"]
        [[routes]]
        path = "/"
        backend = "http://{}"
        "#,
        application.address()
    );
    let gate = Gate::start(&text).await;
    let (held, visit) = tokio::join!(knock(&gate, "127.0.0.1"), application.visit_ws());
    is_told(&knock(&gate, "127.0.0.1").await.err().unwrap(), "The gateway is full.");
    drop((held.ok(), visit));
    gate.idle().await;
}
