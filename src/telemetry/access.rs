//! The access log: one line a session and one a request, on the target `access`.
//!
//! Text that a client chose is escaped by the log (`log.rs`), so that it stays on its line and steers no terminal.

use std::net::SocketAddr;
use std::time::Duration;

/// One request that is not an MQTT session.
#[derive(Debug)]
pub struct Request<'a> {
    /// Who asked.
    pub client: SocketAddr,
    /// The method.
    pub method: &'a str,
    /// The host it asked for.
    pub host: &'a str,
    /// The path it asked for, without its query: that may hold secrets.
    pub path: &'a str,
    /// What it was routed to: `site`, `backend`, `mqtt`…
    pub target: &'static str,
    /// The status we answered.
    pub status: u16,
    /// The rejection's label, where it was one.
    pub rejection: Option<&'static str>,
    /// From the request's head to the answer's.
    pub duration: Duration,
}

/// One MQTT session.
#[derive(Debug)]
pub struct Session<'a> {
    /// Who the client was.
    pub client: SocketAddr,
    /// Its ClientID; empty when there was no CONNECT.
    pub client_id: &'a str,
    /// Its username.
    pub username: Option<&'a str>,
    /// `3.1`, `3.1.1` or `5`; empty when there was no CONNECT.
    pub protocol: &'static str,
    /// Its keepalive in seconds.
    pub keepalive: u16,
    /// The upstream it was routed to.
    pub upstream: &'a str,
    /// The endpoint that accepted it; empty when none did.
    pub endpoint: &'a str,
    /// Endpoints tried.
    pub attempts: usize,
    /// From 101 to the ending.
    pub duration: Duration,
    /// Bytes from client to broker.
    pub bytes_up: u64,
    /// Bytes from broker to client.
    pub bytes_down: u64,
    /// Packets from client to broker behind the CONNECT.
    pub packets_up: u64,
    /// Packets from broker to client.
    pub packets_down: u64,
    /// Why it ended.
    pub ending: &'static str,
    /// Whose doing that was.
    pub by: &'static str,
    /// What exactly was wrong, for a session that broke a rule; empty otherwise.
    pub detail: String,
}

impl Request<'_> {
    /// Write the line.
    pub fn write(&self) {
        tracing::info!(
            target: "access",
            client = %self.client,
            method = %self.method,
            host = self.host,
            path = self.path,
            to = self.target,
            status = self.status,
            rejection = self.rejection.unwrap_or(""),
            duration_ms = self.duration.as_millis() as u64,
            "request"
        );
    }
}

impl Session<'_> {
    /// Write the line.
    pub fn write(&self) {
        tracing::info!(
            target: "access",
            client = %self.client,
            client_id = self.client_id,
            username = self.username.unwrap_or(""),
            protocol = self.protocol,
            keepalive = self.keepalive,
            upstream = self.upstream,
            endpoint = self.endpoint,
            attempts = self.attempts,
            duration_ms = self.duration.as_millis() as u64,
            bytes_up = self.bytes_up,
            bytes_down = self.bytes_down,
            packets_up = self.packets_up,
            packets_down = self.packets_down,
            ending = self.ending,
            by = self.by,
            detail = self.detail,
            "session"
        );
    }
}
