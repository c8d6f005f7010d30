//! One immutable answer to "what are we configured to do now".
//!
//! A connection reads it once a request; a session holds its endpoint, not the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::backend::Backend;
use crate::config::{self, Config, MqttTarget, Redirect};
use crate::net::SocketOptions;
use crate::route::Routes;
use crate::site::{Files, SiteError};
use crate::telemetry::{EndpointMetrics, Metrics};
use crate::upstream::{self, Pool};

/// A configuration at work.
#[derive(Debug)]
pub struct Snapshot {
    /// What was asked for.
    pub config: Arc<Config>,
    /// Where requests lead.
    pub routes: Routes<Target>,
    /// The upstreams at work, by name.
    pub pools: BTreeMap<Arc<str>, Arc<UpstreamAtWork>>,
}

/// What a route leads to, ready to work.
#[derive(Debug, Clone)]
pub enum Target {
    /// MQTT over WebSocket.
    Mqtt(Arc<MqttTarget>, Arc<UpstreamAtWork>),
    /// Static files.
    Site(Arc<Files>),
    /// A plain HTTP application server.
    Backend(Arc<config::Backend>, Box<Backend>),
    /// Another URL.
    Redirect(Redirect),
}

/// A pool, and what is counted for its endpoints.
#[derive(Debug)]
pub struct UpstreamAtWork {
    /// Where sessions go.
    pub pool: Pool,
    /// By the endpoint's name.
    metrics: BTreeMap<Arc<str>, EndpointMetrics>,
}

/// Why a configuration can't go to work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An upstream.
    #[error(transparent)]
    Upstream(#[from] upstream::BuildError),
    /// A site.
    #[error(transparent)]
    Site(#[from] SiteError),
}

impl Target {
    /// The word for it in logs and metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Mqtt(..) => "mqtt",
            Self::Site(_) => "site",
            Self::Backend(..) => "backend",
            Self::Redirect(_) => "redirect",
        }
    }
}

impl UpstreamAtWork {
    /// The handles of an endpoint of this upstream.
    #[must_use]
    pub fn metrics(&self, endpoint: &upstream::Endpoint) -> Option<&EndpointMetrics> {
        self.metrics.get(endpoint.name())
    }

    /// The gauges of endpoints that `next` does not have say nothing any more: a gauge can't be taken back,
    /// and an alert must not ring for a broker that is gone.
    pub fn retire(&self, next: Option<&Self>) {
        let goes_on = |name| next.is_some_and(|next| next.metrics.contains_key(name));
        for (_, metrics) in self.metrics.iter().filter(|(name, _)| !goes_on(*name)) {
            metrics.up.set(f64::NAN);
        }
    }

    /// Set the gauges of what is only looked at when scraped.
    pub fn publish(&self, now: Instant) {
        for endpoint in self.pool.endpoints() {
            if let Some(metrics) = self.metrics(endpoint) {
                metrics.up.set(if endpoint.is_up(now) { 1.0 } else { 0.0 });
            }
        }
    }
}

impl Snapshot {
    /// Put a configuration to work. Endpoints that `old` has too keep their health and counts.
    ///
    /// # Errors
    /// When a CA file or a site's root can't be read. Nothing was changed then.
    pub fn build(config: Arc<Config>, metrics: &Metrics, old: Option<&Self>) -> Result<Self, BuildError> {
        let options = SocketOptions {
            keepalive: config.limits.tcp_keepalive,
            user_timeout: config.limits.tcp_user_timeout,
        };
        let mut pools = BTreeMap::new();
        for (name, upstream) in &config.upstreams {
            let before = old.and_then(|old| old.pools.get(name)).map(|old| &old.pool);
            let pool = Pool::build(upstream, options, before)?;
            let handles = |endpoint: &Arc<upstream::Endpoint>| {
                (Arc::clone(endpoint.name()), metrics.endpoint(name, endpoint.name()))
            };
            let metrics = pool.endpoints().iter().map(handles).collect();
            pools.insert(Arc::clone(name), Arc::new(UpstreamAtWork { pool, metrics }));
        }
        let mut routes = Vec::new();
        for route in &config.routes {
            let target = match &route.target {
                config::Target::Mqtt(mqtt) => match pools.get(&mqtt.upstream) {
                    Some(pool) => Target::Mqtt(Arc::clone(mqtt), Arc::clone(pool)),
                    // The configuration was checked: its routes have their upstreams.
                    None => continue,
                },
                config::Target::Site(site) => Target::Site(Arc::new(Files::build(site)?)),
                config::Target::Backend(backend) => {
                    Target::Backend(Arc::clone(backend), Box::new(Backend::build(backend, options)))
                }
                config::Target::Redirect(redirect) => Target::Redirect(*redirect),
            };
            routes.push((route.host.clone(), route.path.clone(), target));
        }
        Ok(Self { config, routes: Routes::build(routes), pools })
    }
}
