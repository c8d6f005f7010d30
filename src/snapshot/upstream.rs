//! A pool at work, and what is counted for its endpoints.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::config;
use crate::telemetry::{EndpointMetrics, LookUps, Metrics, UpstreamMetrics, number, whether};
use crate::upstream::{BuildError, Changes, Endpoint, Found, Pool, ProbeError};

/// By the endpoint's name.
type Handles = BTreeMap<Arc<str>, Arc<EndpointMetrics>>;

/// A pool, and what is counted for its endpoints.
#[derive(Debug)]
pub struct UpstreamAtWork {
    /// Where sessions go.
    pub pool: Pool,
    handles: ArcSwap<Handles>,
    /// From when it goes to work on. Held while the handles follow the endpoints.
    own: Mutex<Option<UpstreamMetrics>>,
    look_ups: LookUps,
    metrics: Arc<Metrics>,
}

impl UpstreamAtWork {
    /// A pool with its counters.
    pub(super) fn new(pool: Pool, metrics: &Arc<Metrics>) -> Self {
        let names = pool.config().endpoints.iter().filter(|endpoint| endpoint.discover.is_some());
        let look_ups = metrics.look_ups(pool.name(), names.map(|endpoint| &endpoint.name));
        let (handles, own, metrics) = (ArcSwap::default(), Mutex::default(), Arc::clone(metrics));
        Self { pool, handles, own, look_ups, metrics }
    }

    /// Nothing is shown of it before: what a refused reload named must ring no alert.
    pub fn go_to_work(&self) {
        let mut own = self.own();
        own.get_or_insert_with(|| self.metrics.upstream(self.pool.name()));
        self.follow(own);
    }

    /// The gauges of what `next` does not have say nothing any more.
    pub fn retire(&self, next: Option<&Self>) {
        match next {
            Some(next) => silence(&self.handles.load(), &next.handles.load()),
            None => {
                silence(&self.handles.load(), &Handles::new());
                self.own().iter().for_each(UpstreamMetrics::retire);
            }
        }
    }

    /// The handles of an endpoint of this upstream.
    #[must_use]
    pub fn metrics(&self, endpoint: &Endpoint) -> Option<Arc<EndpointMetrics>> {
        self.handles.load().get(endpoint.name()).cloned()
    }

    /// Set the gauges of what is only looked at when scraped.
    pub fn publish(&self, now: Instant) {
        let pool = &self.pool;
        let endpoints = pool.endpoints();
        if let Some(own) = &*self.own() {
            own.available.set(whether(pool.is_available(now)));
            own.endpoints.set(number(endpoints.len()));
            own.rebalancing.set(whether(pool.rebalancing().is_some()));
        }
        let slow_start = pool.config().slow_start;
        for endpoint in endpoints.iter() {
            let Some(metrics) = self.metrics(endpoint) else { continue };
            let config = endpoint.config();
            let share = f64::from(endpoint.share(slow_start, now)) / 100.0;
            metrics.up.set(whether(endpoint.is_up(now)));
            metrics.draining.set(whether(endpoint.is_closed() || endpoint.progress().is_some()));
            metrics.weight.set(f64::from(config.weight.value()) * share);
            metrics.permits.set(number(endpoint.sessions()));
            metrics.permits_limit.set(config.max_sessions.map_or(f64::INFINITY, number));
        }
    }

    /// Count a probe.
    pub(super) fn probed(&self, endpoint: &Endpoint, took: Duration, outcome: &Result<(), ProbeError>) {
        if let Some(metrics) = self.metrics(endpoint) {
            metrics.probed(outcome, took);
        }
    }

    /// Count a look-up of the name of an endpoint that stands for many.
    pub(super) fn looked_up(&self, endpoint: &config::Endpoint, outcome: &io::Result<Vec<Found>>) {
        let result = match outcome {
            Ok(_) => "answered",
            Err(error) if error.kind() == io::ErrorKind::TimedOut => "timeout",
            Err(_) => "failed",
        };
        self.look_ups.count(&endpoint.name, result);
    }

    /// Put the answer to a name to work.
    pub(super) fn adopt(
        &self,
        endpoint: &config::Endpoint,
        found: Vec<Found>,
    ) -> Result<Changes, BuildError> {
        let changes = self.pool.adopt(endpoint, found)?;
        let own = self.own();
        if own.is_some() {
            self.follow(own);
        }
        Ok(changes)
    }

    /// Let the handles follow the endpoints; one at a time.
    fn follow(&self, _own: MutexGuard<'_, Option<UpstreamMetrics>>) {
        let known = self.handles.load();
        let probe = self.pool.config().probe.as_ref().map(|probe| &probe.kind);
        let make = |name| Arc::new(self.metrics.endpoint(self.pool.name(), name, probe));
        let endpoints = self.pool.endpoints();
        let handles = endpoints.iter().map(|endpoint| {
            let name = endpoint.name();
            let handles = known.get(name).cloned().unwrap_or_else(|| make(name));
            (Arc::clone(name), handles)
        });
        let handles: Handles = handles.collect();
        silence(&known, &handles);
        self.handles.store(Arc::new(handles));
    }

    fn own(&self) -> MutexGuard<'_, Option<UpstreamMetrics>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn silence(known: &Handles, next: &Handles) {
    known.iter().filter(|(name, _)| !next.contains_key(*name)).for_each(|(_, gone)| gone.retire());
}
