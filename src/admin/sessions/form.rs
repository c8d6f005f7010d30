//! The form of `/sessions`. Keys are only ever added.

use serde::{Deserialize, Serialize};

/// A page of sessions, in no order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Page {
    /// Those that were found.
    pub sessions: Vec<Session>,
    /// Where the next page begins, as its `cursor`; `null` at the end.
    pub next: Option<String>,
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// What to call it, as long as it is open.
    pub id: String,
    /// The ClientID; `null` before the CONNECT.
    pub client_id: Option<String>,
    /// The username, where sessions are logged and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The client's address and port.
    pub address: String,
    /// The upstream it was routed to.
    pub upstream: String,
    /// The endpoint that answered its CONNECT; `null` before.
    pub endpoint: Option<String>,
    /// `3.1`, `3.1.1` or `5`; `null` before the CONNECT.
    pub protocol: Option<String>,
    /// In seconds, as the client asked; 0 is none.
    pub keepalive: u16,
    /// `opening`, until a broker has answered; `open`; `leaving`, once its ending is known.
    pub state: String,
    /// Since its 101.
    pub age_seconds: f64,
    /// Since its client was last heard.
    pub idle_seconds: f64,
    /// From client to broker behind the CONNECT, framing included.
    pub bytes_up: u64,
    /// From broker to client.
    pub bytes_down: u64,
    /// MQTT packets behind the CONNECT.
    pub packets_up: u64,
    /// MQTT packets.
    pub packets_down: u64,
    /// Whether somebody looks on.
    pub tapped: bool,
}
