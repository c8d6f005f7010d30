//! A pool at work, and what is counted for its endpoints.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::config::{self, Probe};
use crate::telemetry::{EndpointMetrics, Metrics};
use crate::upstream::{BuildError, Changes, Endpoint, Found, Pool, ProbeError};

/// By the endpoint's name.
type Handles = BTreeMap<Arc<str>, EndpointMetrics>;

/// A pool, and what is counted for its endpoints.
#[derive(Debug)]
pub struct UpstreamAtWork {
    /// Where sessions go.
    pub pool: Pool,
    handles: ArcSwap<Handles>,
    metrics: Arc<Metrics>,
}

impl UpstreamAtWork {
    /// A pool with its counters.
    pub(super) fn new(pool: Pool, metrics: &Arc<Metrics>) -> Self {
        let this = Self { pool, handles: ArcSwap::default(), metrics: Arc::clone(metrics) };
        this.follow();
        this
    }

    /// The handles of an endpoint of this upstream.
    #[must_use]
    pub fn metrics(&self, endpoint: &Endpoint) -> Option<EndpointMetrics> {
        self.handles.load().get(endpoint.name()).cloned()
    }

    /// The gauges of endpoints that `next` does not have say nothing any more.
    pub fn retire(&self, next: Option<&Self>) {
        match next {
            Some(next) => silence(&self.handles.load(), &next.handles.load()),
            None => silence(&self.handles.load(), &Handles::new()),
        }
    }

    /// Set the gauges of what is only looked at when scraped.
    pub fn publish(&self, now: Instant) {
        for endpoint in self.pool.endpoints().iter() {
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
        let seconds = outcome.is_ok().then_some(took.as_secs_f64());
        self.metrics.probed(self.pool.name(), endpoint.name(), probe.kind.label(), result, seconds);
    }

    /// Count a look-up of the name of an endpoint that stands for many.
    pub(super) fn looked_up(&self, endpoint: &config::Endpoint, outcome: &io::Result<Vec<Found>>) {
        let result = match outcome {
            Ok(_) => "answered",
            Err(error) if error.kind() == io::ErrorKind::TimedOut => "timeout",
            Err(_) => "failed",
        };
        self.metrics.looked_up(self.pool.name(), &endpoint.name, result);
    }

    /// Put the answer to a name to work.
    pub(super) fn adopt(
        &self,
        endpoint: &config::Endpoint,
        found: Vec<Found>,
    ) -> Result<Changes, BuildError> {
        let changes = self.pool.adopt(endpoint, found)?;
        self.follow();
        Ok(changes)
    }

    /// Let the handles follow the endpoints.
    fn follow(&self) {
        let known = self.handles.load();
        let handles: Handles = self
            .pool
            .endpoints()
            .iter()
            .map(|endpoint| {
                let name = endpoint.name();
                let handles = known.get(name).cloned();
                let handles = handles.unwrap_or_else(|| self.metrics.endpoint(self.pool.name(), name));
                (Arc::clone(name), handles)
            })
            .collect();
        silence(&known, &handles);
        self.handles.store(Arc::new(handles));
    }
}

/// Who is not in `next` any more is neither up nor down: a gauge can't be taken back, and an alert must not
/// ring for a broker that is gone.
fn silence(known: &Handles, next: &Handles) {
    for (_, gone) in known.iter().filter(|(name, _)| !next.contains_key(*name)) {
        gone.up.set(f64::NAN);
    }
}
