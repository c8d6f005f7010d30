//! `probe` of an upstream: how its endpoints are asked whether they work.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use serde::Deserialize;
use toml::Spanned;

use super::endpoint::{Endpoint, EndpointAddress};
use super::review::{Review, Span};
use super::secret::{Secret, SecretTable, WrittenSecret};
use super::value::{Either, Leaf, Parsed, Written};

/// How endpoints are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What a probe does.
    pub kind: ProbeKind,
    /// From the end of one probe to the next.
    pub interval: Duration,
    /// Up to so much is added to each interval, at random.
    pub jitter: Duration,
    /// What one probe may take.
    pub timeout: Duration,
    /// So many successes in a row bring an endpoint up, 1 or more.
    pub rise: u32,
    /// So many failures in a row take it down, 1 or more.
    pub fall: u32,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// Open a connection and close it.
    Tcp,
    /// A whole dial, CONNECT, CONNACK and DISCONNECT.
    Mqtt(ProbeLogin),
    /// GET; 2xx is up.
    Http {
        /// The port on the endpoint's host.
        port: u16,
        /// Path and query.
        path: Box<str>,
    },
}

/// Who a probe is, to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeLogin {
    /// What its ClientIDs begin with.
    pub client_id: Box<str>,
    /// Its username.
    pub username: Option<Box<str>>,
    /// Its password; only beside a username (MQTT 3.1.1, 3.1.2.9).
    pub password: Option<Secret>,
}

impl ProbeKind {
    /// The word for it in the file and in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Mqtt(_) => "mqtt",
            Self::Http { .. } => "http",
        }
    }
}

/// `probe` as written: a kind, or a table.
pub(super) type WrittenProbe = Spanned<Either<Kind, ProbeTable>>;

/// `probe` as a table.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ProbeTable {
    kind: Written<Kind>,
    interval: Written<Duration>,
    jitter: Written<Duration>,
    timeout: Written<Duration>,
    rise: Option<Spanned<i64>>,
    fall: Option<Spanned<i64>>,
    client_id: Written<ClientIdPrefix>,
    username: Written<String>,
    password: Option<WrittenSecret>,
    port: Option<Spanned<i64>>,
    path: Written<HttpPath>,
}

impl ProbeTable {
    /// The probe, if there is enough of it.
    pub(super) fn check(
        written: WrittenProbe,
        endpoints: &[Arc<Endpoint>],
        review: &mut Review<'_>,
    ) -> Option<Probe> {
        const TIME: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);
        let span = written.span();
        let mut table = match written.into_inner() {
            Either::Word(kind) => {
                Self { kind: Some(Spanned::new(span.clone(), Parsed(kind))), ..Self::default() }
            }
            Either::Table(table) => table,
        };
        let Some(kind) = table.kind.take().map(|kind| kind.into_inner().0) else {
            review.missing(span, "kind", "write \"tcp\", \"mqtt\" or \"http\"");
            return None;
        };
        table.refuse_keys_of_other_kinds(kind, review);
        let seconds = Duration::from_secs;
        let interval = review.time(table.interval, TIME, seconds(5));
        let jitter =
            review.time(table.jitter, Duration::ZERO..=Duration::from_hours(1), Duration::from_millis(500));
        let timeout = review.time(table.timeout, TIME, seconds(2));
        let rise = review.count(table.rise, 1..=1000, 2) as u32;
        let fall = review.count(table.fall, 1..=1000, 3) as u32;
        let kind = match kind {
            Kind::Tcp => ProbeKind::Tcp,
            Kind::Mqtt => {
                let login = |written: Option<Spanned<Parsed<String>>>| {
                    written.map(|text| text.into_inner().0.into_boxed_str())
                };
                if let Some(password) = table.password.as_ref().filter(|_| table.username.is_none()) {
                    review.mistake(
                        password.span(),
                        "MQTT 3.1.1 has no password without a name; add `username`",
                    );
                }
                ProbeKind::Mqtt(ProbeLogin {
                    client_id: table
                        .client_id
                        .map_or_else(|| "brokergate-probe".into(), |id| id.into_inner().0.0),
                    username: login(table.username),
                    password: table.password.and_then(|password| SecretTable::check(password, review)),
                })
            }
            Kind::Http => Self::check_http(span, table.port, table.path, endpoints, review)?,
        };
        Some(Probe { kind, interval, jitter, timeout, rise, fall })
    }

    fn check_http(
        span: Span,
        port: Option<Spanned<i64>>,
        path: Written<HttpPath>,
        endpoints: &[Arc<Endpoint>],
        review: &mut Review<'_>,
    ) -> Option<ProbeKind> {
        if endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Unix(_))) {
            review.mistake(
                span.clone(),
                "a unix: endpoint has no host to ask by HTTP; probe this upstream by \"tcp\" or \"mqtt\"",
            );
        }
        if port.is_none() {
            review.missing(span.clone(), "port", "EMQX answers on its dashboard's, 18083");
        }
        if path.is_none() {
            review.missing(
                span,
                "path",
                "EMQX has \"/status\" and \"/api/v5/load_rebalance/availability_check\"",
            );
        }
        let port = review.count(Some(port?), 1..=65535, 1);
        Some(ProbeKind::Http { port: port as u16, path: path?.into_inner().0.0 })
    }

    fn refuse_keys_of_other_kinds(&self, kind: Kind, review: &mut Review<'_>) {
        let mqtt = [
            self.client_id.as_ref().map(Spanned::span),
            self.username.as_ref().map(Spanned::span),
            self.password.as_ref().map(Spanned::span),
        ];
        let http = [self.port.as_ref().map(Spanned::span), self.path.as_ref().map(Spanned::span)];
        for span in mqtt.into_iter().flatten().filter(|_| kind != Kind::Mqtt) {
            review.mistake(span, "only a probe of kind \"mqtt\" says CONNECT; leave this out");
        }
        for span in http.into_iter().flatten().filter(|_| kind != Kind::Http) {
            review.mistake(span, "only a probe of kind \"http\" asks for this; leave it out");
        }
    }
}

/// `kind` of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Mqtt,
    Http,
}

impl Leaf for Kind {
    const FORM: &'static str = "\"tcp\", \"mqtt\" or \"http\"";

    fn text(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "mqtt" => Ok(Self::Mqtt),
            "http" => Ok(Self::Http),
            "ws" | "wss" | "mqtts" | "websocket" => Err(format!(
                "{text:?} is no kind of probe; \"mqtt\" dials each endpoint by its own transport"
            )),
            _ => Err(format!("{text:?} is no kind of probe; write {}", Self::FORM)),
        }
    }
}

/// What the ClientIDs of probes begin with.
#[derive(Debug, Clone)]
struct ClientIdPrefix(Box<str>);

impl Leaf for ClientIdPrefix {
    const FORM: &'static str = "a text such as \"brokergate-probe\"";

    fn text(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 200 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a probe's ClientID begins with 1 to 200 ASCII characters without spaces".to_owned());
        }
        Ok(Self(text.into()))
    }
}

/// A path to GET.
#[derive(Debug, Clone)]
struct HttpPath(Box<str>);

impl Leaf for HttpPath {
    const FORM: &'static str = "a path such as \"/status\"";

    fn text(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') || !text.is_ascii() || PathAndQuery::try_from(text).is_err() {
            return Err(format!("{text:?} is not a path; write {}", Self::FORM));
        }
        Ok(Self(text.into()))
    }
}
