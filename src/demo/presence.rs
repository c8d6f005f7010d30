//! Who is connected through which endpoint, told to the page by the broker itself.
//!
//! The board holds every session at work. After a change it is published whole, retained, on
//! [`TOPIC`]: a page that joins late, or misses one, is right again with the next.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use mqtt5::QoS;
use mqtt5::broker::router::MessageRouter;
use mqtt5::packet::publish::PublishPacket;
use serde::Serialize;
use tokio::sync::Notify;

use super::Broker;

/// Where the board is published. `$`, so that a subscription to `#` shows only what people wrote
/// (MQTT 3.1.1, 4.7.2).
pub(super) const TOPIC: &str = "$demo/clients";
/// Sessions listed by name, the newest; all are counted.
const LISTED: usize = 200;
/// Characters of a ClientID that are shown.
const CLIENT_ID_SHOWN: usize = 64;
/// Changes within this time are published together.
const PACE: Duration = Duration::from_millis(60);

/// A session came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// It came, or it went.
    pub opened: bool,
    /// The CONNECT's ClientID.
    pub client_id: String,
    /// The client's address; with the ClientID it names the session.
    pub client: SocketAddr,
    /// The endpoint's name.
    pub endpoint: String,
    /// The MQTT version, such as `3.1.1`.
    pub protocol: &'static str,
}

/// The list of sessions at work, shared with whoever opens and closes them.
#[derive(Debug, Clone)]
pub struct PresenceBoard {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    board: Mutex<Board>,
    changed: Arc<Notify>,
}

impl PresenceBoard {
    /// An empty board that is published by `broker` until its last clone is dropped.
    pub(super) fn start(broker: &Broker) -> Self {
        let shared = Arc::new(Shared::default());
        tokio::spawn(publish(Arc::downgrade(&shared), Arc::clone(&shared.changed), broker.router()));
        // A page that finds no sessions should be told so, too.
        shared.changed.notify_one();
        Self { shared }
    }

    /// Take note of a session. Never waits, so that a guard may call it when it is dropped.
    pub fn record(&self, event: Presence) {
        self.shared.board.lock().unwrap_or_else(PoisonError::into_inner).apply(event, SystemTime::now());
        self.shared.changed.notify_one();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The publisher wakes, finds the board gone, and ends.
        self.changed.notify_one();
    }
}

async fn publish(board: Weak<Shared>, changed: Arc<Notify>, router: Arc<MessageRouter>) {
    loop {
        changed.notified().await;
        let Some(shared) = board.upgrade() else { return };
        let text = shared.board.lock().unwrap_or_else(PoisonError::into_inner).to_json();
        drop(shared);
        let packet = PublishPacket::new(TOPIC, text, QoS::AtMostOnce).with_retain(true);
        // As the broker's own message: the limits on clients' retained messages are not for it.
        router.route_sys_message(&packet).await;
        tokio::time::sleep(PACE).await;
    }
}

/// The sessions at work, in the order they came.
#[derive(Debug, Default)]
struct Board {
    sessions: BTreeMap<u64, Session>,
    opened: BTreeMap<String, u64>,
    next: u64,
}

#[derive(Debug)]
struct Session {
    client_id: String,
    client: SocketAddr,
    endpoint: String,
    protocol: &'static str,
    since: SystemTime,
}

impl Board {
    fn apply(&mut self, event: Presence, now: SystemTime) {
        let Presence { opened, client_id, client, endpoint, protocol } = event;
        if opened {
            *self.opened.entry(endpoint.clone()).or_default() += 1;
            self.sessions.insert(self.next, Session { client_id, client, endpoint, protocol, since: now });
            self.next += 1;
        } else {
            // By address as well: when a ClientID is taken over, the old session ends after the new one began.
            self.sessions.retain(|_, session| session.client != client || session.client_id != client_id);
        }
    }

    fn to_json(&self) -> Vec<u8> {
        let mut endpoints: BTreeMap<&str, Counts> = BTreeMap::new();
        for (endpoint, opened) in &self.opened {
            endpoints.entry(endpoint).or_default().opened = *opened;
        }
        for session in self.sessions.values() {
            endpoints.entry(&session.endpoint).or_default().connected += 1;
        }
        let clients = self.sessions.iter().rev().take(LISTED).map(|(number, session)| Row {
            number: *number,
            client_id: session.client_id.chars().take(CLIENT_ID_SHOWN).collect(),
            address: session.client.to_string(),
            endpoint: &session.endpoint,
            protocol: session.protocol,
            since: session.since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        });
        let list = List { connected: self.sessions.len(), endpoints, clients: clients.collect() };
        // Strings and numbers under string keys: there is nothing that could fail.
        serde_json::to_vec(&list).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct List<'a> {
    connected: usize,
    endpoints: BTreeMap<&'a str, Counts>,
    clients: Vec<Row<'a>>,
}

#[derive(Default, Serialize)]
struct Counts {
    connected: usize,
    opened: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    number: u64,
    client_id: String,
    address: String,
    endpoint: &'a str,
    protocol: &'static str,
    /// Seconds of Unix time.
    since: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(opened: bool, client_id: &str, port: u16, endpoint: &str) -> Presence {
        Presence {
            opened,
            client_id: client_id.to_owned(),
            client: SocketAddr::from(([127, 0, 0, 1], port)),
            endpoint: endpoint.to_owned(),
            protocol: "MQTT 5",
        }
    }

    fn board(events: impl IntoIterator<Item = Presence>) -> Value {
        let mut board = Board::default();
        for event in events {
            board.apply(event, SystemTime::UNIX_EPOCH + Duration::from_secs(7));
        }
        serde_json::from_slice(&board.to_json()).unwrap()
    }

    #[test]
    fn lists_the_newest_first_and_counts_by_endpoint() {
        let list = board([
            event(true, "a", 1, "websocket"),
            event(true, "b", 2, "tcp"),
            event(false, "a", 1, "websocket"),
        ]);
        assert_eq!(
            list,
            json!({
                "connected": 1,
                "endpoints": {
                    "tcp": { "connected": 1, "opened": 1 },
                    "websocket": { "connected": 0, "opened": 1 },
                },
                "clients": [{
                    "number": 1, "client_id": "b", "address": "127.0.0.1:2", "endpoint": "tcp",
                    "protocol": "MQTT 5", "since": 7,
                }],
            })
        );
    }

    #[test]
    fn a_takeover_leaves_the_new_session() {
        let list =
            board([event(true, "a", 1, "tcp"), event(true, "a", 2, "tcp"), event(false, "a", 1, "tcp")]);
        assert_eq!(list["connected"], 1);
        assert_eq!(list["clients"][0]["address"], "127.0.0.1:2");
    }

    #[test]
    fn is_bounded_whatever_clients_call_themselves() {
        let long = "\"\\\u{1}é".repeat(10_000);
        let list = board((0..1000).map(|port| event(true, &long, port, "tcp")));
        assert_eq!(list["connected"], 1000);
        assert_eq!(list["clients"].as_array().unwrap().len(), LISTED);
        assert_eq!(list["clients"][0]["client_id"].as_str().unwrap().chars().count(), CLIENT_ID_SHOWN);
        assert!(list.to_string().len() < 100_000);
    }

    #[tokio::test]
    async fn the_broker_tells_newcomers_and_those_who_listen() {
        let broker = Broker::start().await.unwrap();
        let presence = PresenceBoard::start(&broker);
        let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
        presence.record(event(true, "first", 1, "tcp"));

        let page = mqtt5::MqttClient::new("page");
        page.connect(&format!("mqtt://{}", broker.tcp())).await.unwrap();
        page.subscribe(TOPIC, move |message| {
            let list: Value = serde_json::from_slice(&message.payload).unwrap();
            let _ = heard.send(list["connected"].as_u64().unwrap());
        })
        .await
        .unwrap();
        while hears.recv().await.unwrap() != 1 {}
        presence.record(event(true, "second", 2, "websocket"));
        while hears.recv().await.unwrap() != 2 {}
    }
}
