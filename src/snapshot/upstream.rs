//! A pool at work, and what is counted for its endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Probe;
use crate::telemetry::{EndpointMetrics, Metrics};
use crate::upstream::{self, Endpoint, Pool, ProbeError};

/// A pool, and what is counted for its endpoints.
#[derive(Debug)]
pub struct UpstreamAtWork {
    /// Where sessions go.
    pub pool: Pool,
    /// By the endpoint's name.
    handles: BTreeMap<Arc<str>, EndpointMetrics>,
    metrics: Arc<Metrics>,
}

impl UpstreamAtWork {
    /// A pool with its counters.
    pub(super) fn new(pool: Pool, metrics: &Arc<Metrics>) -> Self {
        let handles = |endpoint: &Arc<Endpoint>| {
            (Arc::clone(endpoint.name()), metrics.endpoint(pool.name(), endpoint.name()))
        };
        let handles = pool.endpoints().iter().map(handles).collect();
        Self { pool, handles, metrics: Arc::clone(metrics) }
    }

    /// The handles of an endpoint of this upstream.
    #[must_use]
    pub fn metrics(&self, endpoint: &upstream::Endpoint) -> Option<&EndpointMetrics> {
        self.handles.get(endpoint.name())
    }

    /// Set the gauges of what is only looked at when scraped.
    pub fn publish(&self, now: Instant) {
        for endpoint in self.pool.endpoints() {
            if let Some(metrics) = self.metrics(endpoint) {
                metrics.up.set(if endpoint.is_up(now) { 1.0 } else { 0.0 });
            }
        }
    }

    /// Count a probe.
    pub(super) fn probed(
        &self,
        endpoint: &Endpoint,
        probe: &Probe,
        took: Duration,
        outcome: &Result<(), ProbeError>,
    ) {
        let result = outcome.as_ref().map_or_else(ProbeError::label, |()| "passed");
        let seconds = outcome.is_ok().then(|| took.as_secs_f64());
        self.metrics.probed(self.pool.name(), endpoint.name(), probe.kind.label(), result, seconds);
    }
}
