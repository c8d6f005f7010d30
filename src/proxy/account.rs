//! A session's account: what it holds, and what it was, written once when it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Admission, Inner, SessionEvent, Shared};
use crate::mqtt::{Connect, Level};
use crate::telemetry::{EndpointMetrics, Open, access};
use crate::tunnel::{Ending, Moved, Traffic};
use crate::upstream::{Endpoint, First};

/// Dropping it counts and logs the session: a session can end at any await.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) shared: Arc<Shared>,
    /// Endpoints tried.
    pub(super) attempts: usize,
    client: SocketAddr,
    /// By its name: a session outlives the configuration it came by.
    upstream: Arc<str>,
    endpoint: Option<Arc<Endpoint>>,
    connect: Option<Introduction>,
    began: Instant,
    up: Moved,
    down: Moved,
    ending: Ending,
    log: bool,
    endpoint_sessions: Option<Open>,
    _sessions: Open,
    /// The connection's slots are the session's now.
    admission: Arc<Admission>,
}

/// What the log says of a CONNECT.
#[derive(Debug)]
struct Introduction {
    client_id: Box<str>,
    username: Option<Box<str>>,
    level: Level,
    keepalive: u16,
}

impl Account {
    pub(super) fn open(client: SocketAddr, log: bool, inner: &Inner, upstream: &Arc<str>) -> Self {
        inner.shared.metrics.tally.opened();
        Self {
            shared: Arc::clone(&inner.shared),
            attempts: 0,
            client,
            upstream: Arc::clone(upstream),
            endpoint: None,
            connect: None,
            began: Instant::now(),
            up: Moved::default(),
            down: Moved::default(),
            ending: Ending::Cut,
            log,
            endpoint_sessions: None,
            _sessions: Open::new(&inner.shared.metrics.sessions),
            admission: Arc::clone(&inner.admission),
        }
    }

    /// The client has said who it is.
    pub(super) fn introduce(&mut self, connect: &Connect) {
        self.connect = Some(Introduction {
            client_id: connect.client_id.clone(),
            username: connect.username.clone(),
            level: connect.level,
            keepalive: connect.keepalive,
        });
    }

    /// A broker has answered the CONNECT.
    pub(super) fn commit(
        &mut self,
        endpoint: &Arc<Endpoint>,
        metrics: Option<&EndpointMetrics>,
        first: &First,
    ) {
        self.shared.metrics.tally.connected();
        self.shared.metrics.connect_seconds.record(self.began.elapsed().as_secs_f64());
        if let First::Connack(connack) = first {
            self.shared.metrics.connack(connack.label());
        }
        if let Some(metrics) = metrics {
            metrics.opened.increment(1);
            self.endpoint_sessions = Some(Open::new(&metrics.sessions));
        }
        endpoint.history().taken();
        self.endpoint = Some(Arc::clone(endpoint));
        self.tell(true);
    }

    /// What the tunnel moved, up and down.
    pub(super) fn moved(&mut self, (up, down): (Moved, Moved)) {
        (self.up, self.down) = (up, down);
    }

    /// What flows on the session's worker.
    pub(super) fn traffic(&self) -> &Traffic {
        self.admission.traffic()
    }

    fn tell(&self, opened: bool) {
        if let (Some(endpoint), Some(connect)) = (&self.endpoint, &self.connect) {
            self.shared.tell(&SessionEvent {
                opened,
                client_id: &connect.client_id,
                client: self.client,
                endpoint: endpoint.name(),
                protocol: connect.level.label(),
            });
        }
    }

    /// Close the account.
    pub(super) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (label, by) = (self.ending.label(), self.ending.by().label());
        self.shared.metrics.ended(label, by);
        self.tell(false);
        if !self.log {
            return;
        }
        let connect = self.connect.as_ref();
        access::Session {
            client: self.client,
            client_id: connect.map_or("", |connect| &connect.client_id),
            username: connect.and_then(|connect| connect.username.as_deref()),
            protocol: connect.map_or("", |connect| connect.level.label()),
            keepalive: connect.map_or(0, |connect| connect.keepalive),
            upstream: &self.upstream,
            endpoint: self.endpoint.as_ref().map_or("", |endpoint| endpoint.name()),
            attempts: self.attempts,
            duration: self.began.elapsed(),
            bytes_up: self.up.bytes,
            bytes_down: self.down.bytes,
            packets_up: self.up.packets,
            packets_down: self.down.packets,
            ending: label,
            by,
            detail: self.ending.detail(),
        }
        .write();
    }
}
