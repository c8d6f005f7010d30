//! One immutable answer to "what are we configured to do now".
//!
//! A connection reads it once a request; a session holds its endpoint, not the snapshot.

mod scout;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::scout::{Goodbyes, Scouts};
use crate::backend::Backend;
use crate::config::{self, Config, MqttTarget, Redirect};
use crate::drain::Drain;
use crate::route::Routes;
use crate::site::{Files, SiteError};
use crate::telemetry::Metrics;
use crate::upstream::{BuildError as UpstreamError, Pool, Resolver};

pub use self::upstream::UpstreamAtWork;

/// A configuration at work.
#[derive(Debug)]
pub struct Snapshot {
    /// What was asked for.
    pub config: Arc<Config>,
    /// Where requests lead.
    pub routes: Routes<Target>,
    /// The upstreams at work, by name.
    pub pools: BTreeMap<Arc<str>, Arc<UpstreamAtWork>>,
    /// They look after the pools for as long as this snapshot is at work.
    scouts: Scouts,
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

/// Why a configuration can't go to work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An upstream.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// A site.
    #[error(transparent)]
    Site(#[from] SiteError),
}

impl Target {
    /// Every [`label`](Self::label), and the one for what has no target.
    pub const LABELS: &[&'static str] = &["mqtt", "site", "backend", "redirect", Self::NONE];

    /// The label of a request that leads nowhere.
    pub const NONE: &'static str = "none";

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

impl Snapshot {
    /// Put a configuration to work, within a runtime that lasts: brokers are probed and names looked up on it
    /// until the snapshot is dropped. Endpoints that `old` has too keep their health and counts. `sessions` is
    /// the drain of those that brokers are lost to.
    ///
    /// # Errors
    /// When a CA file or a site's root can't be read. Nothing was changed then.
    pub fn build(
        config: Arc<Config>,
        metrics: &Arc<Metrics>,
        sessions: &Drain,
        old: Option<&Self>,
    ) -> Result<Self, BuildError> {
        let options = config.limits.socket_options();
        // A new one each time: a reload is how a changed /etc/resolv.conf is read.
        let resolver = Resolver::new(&config.resolver);
        let mut pools = BTreeMap::new();
        for (name, upstream) in &config.upstreams {
            let before = old.and_then(|old| old.pools.get(name)).map(|old| &old.pool);
            let pool = Pool::build(upstream, options, &resolver, before)?;
            pools.insert(Arc::clone(name), Arc::new(UpstreamAtWork::new(pool, metrics)));
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
        let goodbyes = Goodbyes { sessions: sessions.clone(), terms: config.drain.terms() };
        let scouts = Scouts::send(&pools, &goodbyes);
        Ok(Self { config, routes: Routes::build(routes), pools, scouts })
    }

    /// Show in the metrics what it has: it is about to be the one at work.
    pub fn go_to_work(&self) {
        self.pools.values().for_each(|upstream| upstream.go_to_work());
    }

    /// Probe nobody and look up no name any more: the gateway has stopped.
    pub fn rest(&self) {
        self.scouts.recall();
    }

    /// Wait until each name that stands for many brokers was looked up once, whatever the answer: before that
    /// there may be no endpoint. It takes no longer than `resolver.timeout`.
    pub async fn looked_up(&self) {
        self.scouts.looked_up().await;
    }
}
