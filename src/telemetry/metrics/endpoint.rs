//! What is counted for each upstream and each of its endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::Metrics;
use crate::config::ProbeKind;
use crate::telemetry::recorder::{Closed, Recorder};
use crate::upstream::{DialError, OfferError, ProbeError};

/// The most endpoints that have series of their own, which never go; those behind them share the name `other`.
pub(super) const MOST_NAMED: usize = 1024;

/// What is counted for one endpoint of one upstream.
#[derive(Debug)]
pub struct EndpointMetrics {
    /// Sessions it holds.
    pub sessions: Gauge,
    /// CONNECTs it answered.
    pub opened: Counter,
    /// How long its dials took when they succeeded.
    pub dial_seconds: Histogram,
    /// Whether it is up.
    pub up: Gauge,
    /// Whether it is drained, or goodbyes are said to its sessions.
    pub draining: Gauge,
    /// Sessions and dials under way, which count under its cap.
    pub permits: Gauge,
    /// Its cap.
    pub permits_limit: Gauge,
    /// How much of its weight counts now.
    pub weight: Gauge,
    dials_failed: Closed<1>,
    probes: Option<Probes>,
}

/// What is counted for an upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    /// Whether an endpoint takes sessions.
    pub available: Gauge,
    /// How many endpoints it has.
    pub endpoints: Gauge,
    /// Whether a rebalance of it is under way.
    pub rebalancing: Gauge,
}

/// Look-ups of names that stand for many brokers, by name.
#[derive(Debug)]
pub struct LookUps(BTreeMap<Arc<str>, Closed<1>>);

#[derive(Debug)]
struct Probes {
    results: Closed<1>,
    seconds: Histogram,
}

/// Endpoints with series of their own.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeSet<Arc<str>>>);

impl Metrics {
    /// The handles of one endpoint, which probes of `probe` look at.
    #[must_use]
    pub fn endpoint(
        &self,
        upstream: &str,
        endpoint: &Arc<str>,
        probe: Option<&ProbeKind>,
    ) -> EndpointMetrics {
        let recorder = &self.recorder;
        let endpoint = if self.names.take(endpoint) { &**endpoint } else { "other" };
        let labels = [("upstream", upstream), ("endpoint", endpoint)];
        EndpointMetrics {
            sessions: recorder.gauge(
                "brokergate_endpoint_sessions",
                "Sessions an endpoint holds",
                &labels,
            ),
            opened: recorder.counter(
                "brokergate_endpoint_sessions_opened_total",
                "Sessions an endpoint took, by any answer to their CONNECT",
                &labels,
            ),
            dial_seconds: recorder.histogram(
                "brokergate_dial_seconds",
                "How long successful dials took, TLS and handshake included",
                &labels,
            ),
            up: recorder.gauge(
                "brokergate_endpoint_up",
                "Whether an endpoint is up (1), or avoided, down by its probes or drained (0); NaN once it was removed",
                &labels,
            ),
            draining: recorder.gauge(
                "brokergate_endpoint_draining",
                "Whether an endpoint is drained by hand, or goodbyes are said to its sessions (1), or not (0)",
                &labels,
            ),
            permits: recorder.gauge(
                "brokergate_endpoint_permits",
                "Sessions of an endpoint and dials of it under way, which count under its max_sessions",
                &labels,
            ),
            permits_limit: recorder.gauge(
                "brokergate_endpoint_permits_limit",
                "An endpoint's max_sessions; +Inf where there is none",
                &labels,
            ),
            weight: recorder.gauge(
                "brokergate_endpoint_weight",
                "An endpoint's weight as it counts now: less than configured while it starts slowly",
                &labels,
            ),
            dials_failed: recorder.closed(
                "brokergate_dials_failed_total",
                "Dials and CONNECTs that an endpoint did not take, by reason",
                &labels,
                ["reason"],
                DialError::LABELS.into_iter().chain(OfferError::LABELS).map(|reason| [reason]),
            ),
            probes: probe.map(|kind| Probes::register(recorder, &labels, kind)),
        }
    }

    /// The handles of one upstream.
    #[must_use]
    pub fn upstream(&self, upstream: &str) -> UpstreamMetrics {
        let (recorder, labels) = (&self.recorder, [("upstream", upstream)]);
        UpstreamMetrics {
            available: recorder.gauge(
                "brokergate_upstream_available",
                "Whether an endpoint of the upstream takes sessions (1) or none does (0); NaN once it was removed",
                &labels,
            ),
            endpoints: recorder.gauge(
                "brokergate_upstream_endpoints",
                "Endpoints of the upstream, those that were discovered too; NaN once it was removed",
                &labels,
            ),
            rebalancing: recorder.gauge(
                "brokergate_upstream_rebalancing",
                "Whether a rebalance of the upstream is under way (1) or not (0); NaN once it was removed",
                &labels,
            ),
        }
    }

    /// The handles of those names of an upstream that stand for many brokers.
    pub fn look_ups<'a>(&self, upstream: &str, names: impl Iterator<Item = &'a Arc<str>>) -> LookUps {
        let look_ups = |name: &str| {
            self.recorder.closed(
                "brokergate_lookups_total",
                "Look-ups of names that stand for many brokers, by result",
                &[("upstream", upstream), ("endpoint", name)],
                ["result"],
                [["answered"], ["failed"], ["timeout"]],
            )
        };
        LookUps(names.map(|name| (Arc::clone(name), look_ups(name))).collect())
    }
}

impl EndpointMetrics {
    /// It is gone, and must ring no alert: of its gauges, which can't be taken back, only that of its sessions
    /// says something. They may live on.
    pub fn retire(&self) {
        let Self { up, draining, permits, permits_limit, weight, .. } = self;
        [up, draining, permits, permits_limit, weight].into_iter().for_each(|gauge| gauge.set(f64::NAN));
    }

    /// Count a dial that failed, or a CONNECT that it did not take.
    pub fn dial_failed(&self, reason: &'static str) {
        self.dials_failed.count([reason]);
    }

    /// Count a probe, and how long it took if it passed.
    pub fn probed(&self, outcome: &Result<(), ProbeError>, took: Duration) {
        let Some(probes) = &self.probes else { return };
        probes.results.count([outcome.as_ref().map_or_else(ProbeError::label, |()| PASSED)]);
        if outcome.is_ok() {
            probes.seconds.record(took);
        }
    }
}

impl UpstreamMetrics {
    /// It is gone, and its gauges, which can't be taken back, say nothing any more.
    pub fn retire(&self) {
        [&self.available, &self.endpoints, &self.rebalancing]
            .into_iter()
            .for_each(|gauge| gauge.set(f64::NAN));
    }
}

impl LookUps {
    /// Count a look-up.
    pub fn count(&self, name: &str, result: &'static str) {
        if let Some(results) = self.0.get(name) {
            results.count([result]);
        }
    }
}

const PASSED: &str = "passed";

impl Probes {
    fn register(recorder: &Recorder, labels: &[(&'static str, &str); 2], kind: &ProbeKind) -> Self {
        let [upstream, endpoint] = *labels;
        Self {
            results: recorder.closed(
                "brokergate_probes_total",
                "Probes of endpoints, by kind and result",
                &[upstream, endpoint, ("kind", kind.label())],
                ["result"],
                [PASSED].into_iter().chain(ProbeError::labels(kind)).map(|result| [result]),
            ),
            seconds: recorder.histogram(
                "brokergate_probe_seconds",
                "How long probes took that passed",
                labels,
            ),
        }
    }
}

impl Names {
    /// Whether an endpoint has series of its own: for as many as fit, names of brokers that are discovered come and
    /// go for as long as we run.
    fn take(&self, endpoint: &Arc<str>) -> bool {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_place = names.len() < MOST_NAMED || names.contains(endpoint);
        if has_place {
            names.insert(Arc::clone(endpoint));
        }
        has_place
    }
}
