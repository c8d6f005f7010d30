//! A session's account: what it holds, and what it was, written once when it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use super::roster::{Entry, Place};
use super::{Inner, SessionEvent, Shared};
use crate::drain::Watch;
use crate::mqtt::Connect;
use crate::telemetry::{EndpointMetrics, Open, access};
use crate::tunnel::{Ending, Traffic};
use crate::upstream::{Endpoint, First};

/// Dropping it counts and logs the session, and the roster forgets it: a session can end at any await.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) shared: Arc<Shared>,
    /// Endpoints tried.
    pub(super) attempts: usize,
    /// What others may see of the session, and how they find it.
    place: Place,
    ending: Ending,
    endpoint_sessions: Option<Open>,
    _sessions: Open,
}

impl Account {
    pub(super) fn open(
        client: SocketAddr,
        is_logged: bool,
        inner: &Inner,
        upstream: &Arc<str>,
        watch: &Watch,
    ) -> Self {
        inner.shared.metrics.tally.opened();
        Self {
            shared: Arc::clone(&inner.shared),
            attempts: 0,
            place: Place::take(Entry::new(client, upstream, watch, is_logged), &inner.admission),
            ending: Ending::Cut,
            endpoint_sessions: None,
            _sessions: Open::new(&inner.shared.metrics.sessions),
        }
    }

    /// What others see of it.
    pub(super) const fn entry(&self) -> &Arc<Entry> {
        self.place.entry()
    }

    /// The client has said who it is.
    pub(super) fn introduce(&mut self, connect: &Connect) {
        self.shared.metrics.connect(connect.level);
        self.place.introduce(connect);
    }

    /// A broker has answered the CONNECT.
    pub(super) fn commit(
        &mut self,
        endpoint: &Arc<Endpoint>,
        metrics: Option<&Arc<EndpointMetrics>>,
        first: &First,
    ) {
        self.shared.metrics.tally.connected();
        self.shared.metrics.connect_seconds.record(self.place.meter.began().elapsed());
        if let First::Connack(connack) = first {
            self.shared.metrics.connack(connack);
        }
        if let Some(metrics) = metrics {
            metrics.opened.increment(1);
            self.endpoint_sessions = Some(Open::new(&metrics.sessions));
        }
        endpoint.history().taken();
        self.place.commit(endpoint);
        self.tell(true);
    }

    /// What flows on the session's worker.
    pub(super) fn traffic(&self) -> &Traffic {
        self.place.admission().traffic()
    }

    fn tell(&self, opened: bool) {
        if let (Some(endpoint), Some(connect)) = (self.place.endpoint(), self.place.introduction()) {
            self.shared.tell(&SessionEvent {
                opened,
                client_id: &connect.client_id,
                client: self.place.client,
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
        let entry = &self.place;
        entry.meter.end(label);
        self.shared.metrics.ended(label, by);
        self.tell(false);
        if !entry.is_logged {
            return;
        }
        let connect = entry.introduction();
        let (up, down) = (entry.meter.up(), entry.meter.down());
        access::Session {
            client: entry.client,
            client_id: connect.map_or("", |connect| &connect.client_id),
            username: entry.shown_username(),
            protocol: connect.map_or("", |connect| connect.level.label()),
            keepalive: connect.map_or(0, |connect| connect.keepalive),
            upstream: &entry.upstream,
            endpoint: entry.endpoint().map_or("", |endpoint| endpoint.name()),
            attempts: self.attempts,
            duration: entry.meter.began().elapsed(),
            bytes_up: up.bytes,
            bytes_down: down.bytes,
            packets_up: up.packets,
            packets_down: down.packets,
            ending: label,
            by,
            detail: self.ending.detail(),
        }
        .write();
    }
}
