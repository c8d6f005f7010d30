//! `[upstreams.NAME]`: brokers, and how to reach them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::endpoint::{Endpoint, EndpointTable, Transport, WrittenEndpoint};
use super::forwarded::{ForwardedOptions, ForwardedTable};
use super::listener::CertificateTable;
use super::probe::{Probe, ProbeTable, WrittenProbe};
use super::review::{Review, Span};
use super::value::{Label, Leaf, OrOff, Written, WrittenList};

/// A named group of brokers.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its key in the file.
    pub name: Arc<str>,
    /// How an endpoint is picked.
    pub balance: Balance,
    /// Its brokers, in the file's order. Never empty; at least one is no backup.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Endpoints tried for one session at the most, 1 or more.
    pub attempts: usize,
    /// How long one dial may take: TCP, TLS, PROXY, WebSocket.
    pub dial_timeout: Duration,
    /// From our CONNECT to the broker's first packet.
    pub connack_timeout: Duration,
    /// How long an endpoint that failed to dial is avoided.
    pub avoid: Duration,
    /// How endpoints are probed; `None` leaves their health to dials.
    pub probe: Option<Probe>,
    /// How long the share of an endpoint that returned grows to its weight; zero is at once.
    pub slow_start: Duration,
    /// How often names with `discover` are looked up.
    pub resolve_interval: Duration,
    /// The most endpoints that one such name may stand for, 1 or more.
    pub max_endpoints: usize,
    /// Whether the gateway is ready only while an endpoint is up.
    pub required: bool,
    /// What becomes of the sessions of an endpoint that a reload or discovery removes.
    pub on_removal: OnLoss,
    /// What becomes of the sessions of an endpoint that its probes take down.
    pub on_down: OnLoss,
    /// How long after 1.5 x keepalive we cut a silent client, so that the broker acts first.
    pub keepalive_margin: Duration,
    /// How `wss` and `mqtts` brokers prove themselves.
    pub tls: BrokerTls,
    /// What WebSocket brokers learn about the client.
    pub forwarded: ForwardedOptions,
    /// Local addresses to dial from, in turn; empty is the kernel's choice.
    pub source_addresses: Vec<IpAddr>,
}

/// How a pool picks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Smooth weighted round robin.
    #[default]
    Weighted,
    /// The fewest sessions for its weight.
    LeastSessions,
    /// Weighted rendezvous hash of the ClientID, with bounded load.
    ClientId,
    /// Weighted rendezvous hash of the client's address.
    SourceAddress,
}

impl Balance {
    /// The file's word for it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Weighted => "weighted",
            Self::LeastSessions => "least-sessions",
            Self::ClientId => "client-id",
            Self::SourceAddress => "source-address",
        }
    }

    /// Whether a share may change for a while: not where that would move clients to other brokers.
    #[must_use]
    pub const fn grows_shares(self) -> bool {
        matches!(self, Self::Weighted | Self::LeastSessions)
    }
}

/// What becomes of sessions whose endpoint is removed or down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// They live on.
    #[default]
    Keep,
    /// They get the goodbyes of a drain, spread over its window.
    Drain,
}

/// How TLS brokers prove themselves, and we to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerTls {
    /// PEM file of CAs; `None` is the system's roots.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where the broker asks for one.
    pub client_certificate: Option<super::CertificateFiles>,
}

/// How long a dial may take, of endpoints and backends.
pub(super) const DIAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(10);

/// `[upstreams.NAME]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as [upstreams.NAME]")]
pub(super) struct UpstreamTable {
    balance: Balance,
    endpoints: Option<Spanned<Vec<WrittenEndpoint>>>,
    attempts: Option<Spanned<i64>>,
    dial_timeout: Written<Duration>,
    connack_timeout: Written<Duration>,
    avoid: Written<Duration>,
    probe: Option<WrittenProbe>,
    slow_start: Written<OrOff<Duration>>,
    resolve_interval: Written<Duration>,
    max_endpoints: Option<Spanned<i64>>,
    required: bool,
    on_removal: OnLoss,
    on_down: Option<Spanned<OnLoss>>,
    keepalive_margin: Written<Duration>,
    tls: Option<Spanned<BrokerTlsTable>>,
    forwarded: Option<Spanned<ForwardedTable>>,
    source_addresses: WrittenList<IpAddr>,
}

impl UpstreamTable {
    /// The upstream, if there is enough of it.
    pub(super) fn check(
        name: &Spanned<String>,
        table: Spanned<Self>,
        review: &mut Review<'_>,
    ) -> Option<Upstream> {
        const HOUR: Duration = Duration::from_hours(1);
        let span = table.span();
        let table = table.into_inner();
        if let Err(sentence) = Label::text(name.get_ref()) {
            review.mistake(name.span(), sentence);
        }
        let endpoints = check_endpoints(table.endpoints, span, review);
        let speaks_tls = endpoints.iter().any(|endpoint| endpoint.tls);
        if let Some(tls) = table.tls.as_ref().filter(|_| !speaks_tls && !endpoints.is_empty()) {
            review.warning(tls.span(), "no endpoint here is wss:// or mqtts://, so this is never used");
        }
        let speaks_websocket = endpoints.iter().any(|endpoint| endpoint.transport != Transport::Mqtt);
        if let Some(forwarded) =
            table.forwarded.as_ref().filter(|_| !speaks_websocket && !endpoints.is_empty())
        {
            review.warning(
                forwarded.span(),
                "MQTT over TCP has no headers, so this is never used; \
                 endpoints can tell the client's address by `proxy_protocol`",
            );
        }
        let discovers = endpoints.iter().any(|endpoint| endpoint.discover.is_some());
        let spans = [
            table.resolve_interval.as_ref().map(Spanned::span),
            table.max_endpoints.as_ref().map(Spanned::span),
        ];
        for span in spans.into_iter().flatten().filter(|_| !discovers && !endpoints.is_empty()) {
            review.warning(span, "no endpoint here has `discover`, so this is never used");
        }
        if let Some(slow_start) = table.slow_start.as_ref().filter(|_| !table.balance.grows_shares()) {
            review.warning(
                slow_start.span(),
                "this balance keeps clients at their brokers, so shares do not grow and this is never used",
            );
        }
        if let Some(on_down) = table.on_down.as_ref().filter(|_| table.probe.is_none()) {
            review.warning(
                on_down.span(),
                "without `probe` nothing is known to be down before a dial, so this is never used",
            );
        }
        let seconds = Duration::from_secs;
        Some(Upstream {
            name: name.get_ref().as_str().into(),
            balance: table.balance,
            attempts: review.count(table.attempts, 1..=100, 3),
            dial_timeout: review.time(table.dial_timeout, DIAL, seconds(5)),
            connack_timeout: review.time(table.connack_timeout, DIAL, seconds(10)),
            avoid: review.time(table.avoid, Duration::ZERO..=HOUR, seconds(10)),
            probe: table.probe.and_then(|probe| ProbeTable::check(probe, &endpoints, review)),
            slow_start: table
                .slow_start
                .and_then(|time| review.time_or_off(Some(time), seconds(1)..=HOUR, seconds(1)))
                .unwrap_or_default(),
            resolve_interval: review.time(table.resolve_interval, DIAL, seconds(30)),
            max_endpoints: review.count(table.max_endpoints, 1..=1000, 64),
            required: table.required,
            on_removal: table.on_removal,
            on_down: table.on_down.map(Spanned::into_inner).unwrap_or_default(),
            keepalive_margin: review.time(table.keepalive_margin, Duration::ZERO..=HOUR, seconds(10)),
            tls: table.tls.map(|tls| tls.into_inner().check(review)).unwrap_or_default(),
            // A large cookie of the web application makes Mosquitto refuse the handshake.
            forwarded: table.forwarded.map(Spanned::into_inner).unwrap_or_default().check(false, review),
            source_addresses: table
                .source_addresses
                .map(Spanned::into_inner)
                .unwrap_or_default()
                .into_iter()
                .map(|address| address.into_inner().0)
                .collect(),
            endpoints,
        })
        .filter(|upstream| !upstream.endpoints.is_empty())
    }
}

fn check_endpoints(
    written: Option<Spanned<Vec<WrittenEndpoint>>>,
    upstream: Span,
    review: &mut Review<'_>,
) -> Vec<Arc<Endpoint>> {
    const ADVICE: &str = "list at least one broker, such as [\"ws://192.0.2.1:8083/mqtt\"]";
    let Some(written) = written else {
        review.missing(upstream, "endpoints", ADVICE);
        return Vec::new();
    };
    let list = written.span();
    if written.get_ref().is_empty() {
        review.empty(list, ADVICE);
        return Vec::new();
    }
    let mut names = HashSet::new();
    let mut endpoints = Vec::new();
    let mut complete = true;
    for item in written.into_inner() {
        let span = item.span();
        let Some(endpoint) = EndpointTable::check(item, review) else {
            complete = false;
            continue;
        };
        if !names.insert(Arc::clone(&endpoint.name)) {
            review.mistake(
                span,
                format!(
                    "this upstream has an endpoint {:?} already; \
                 raise its `weight`, or give this one a `name`",
                    endpoint.name
                ),
            );
        }
        endpoints.push(Arc::new(endpoint));
    }
    if complete && endpoints.iter().all(|endpoint| endpoint.backup) {
        review.mistake(list, "every endpoint is a backup; leave `backup` out of at least one");
    }
    endpoints
}

/// `tls` of an upstream, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { ca = \"ca.pem\" }")]
struct BrokerTlsTable {
    ca: Written<String>,
    client_certificate: Option<Spanned<CertificateTable>>,
}

impl BrokerTlsTable {
    fn check(self, review: &mut Review<'_>) -> BrokerTls {
        BrokerTls {
            ca: self.ca.map(|ca| review.file(ca.into_inner().0)),
            client_certificate: self
                .client_certificate
                .and_then(|files| CertificateTable::check(files, review)),
        }
    }
}
