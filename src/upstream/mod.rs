//! Brokers: a [`Pool`] picks an [`Endpoint`] that is up and under its cap, and dials it.
//!
//! Primaries come first; backups serve when each primary is down, full or tried. When nothing untried is
//! up at all, a session that is already here tries the avoided ones, the soonest to return first, while
//! [`Pool::is_available`] turns away who comes later. What happened is returned, never logged or counted.

mod balance;
mod dial;
mod discovery;
mod endpoint;
mod error;
mod health;
mod history;
mod members;
mod offer;
mod pick;
mod probe;
mod proxy_protocol;
mod rebalance;
mod resolve;
mod source_address;
mod upgrade;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use self::balance::Weighted;
use self::endpoint::{Slot, Trial};
use self::health::Event;
use self::members::{Answers, assemble};
use self::pick::Balancer;
use self::rebalance::Rebalance;
use self::source_address::SourceAddresses;
use crate::config;
use crate::net::SocketOptions;
use crate::tls::{BrokerConnector, BrokerTlsError, Dated};

pub use self::dial::{Dialled, Hello};
pub use self::discovery::{Changes, Found};
pub use self::endpoint::Endpoint;
pub use self::error::{DialError, Step, UpgradeError};
pub use self::health::{Change, Health};
pub use self::history::{Failure, History, Probed};
pub use self::offer::{Answer, First, OfferError, offer};
pub use self::pick::{Key, NoEndpoint, Tried};
pub use self::probe::ProbeError;
pub use self::rebalance::NoRebalance;
pub use self::resolve::Resolver;

/// How often a handshake is let in while no endpoint is up.
const BETWEEN_CHANCES: Duration = Duration::from_secs(1);

/// An upstream at work.
#[derive(Debug)]
pub struct Pool {
    config: Arc<config::Upstream>,
    options: SocketOptions,
    /// Swapped when names have other answers, under the balancer's lock.
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    answers: Mutex<Answers>,
    changed: watch::Sender<()>,
    resolver: Resolver,
    sources: SourceAddresses,
    /// `None` where no endpoint speaks TLS.
    tls: Option<BrokerConnector>,
    balancer: Mutex<Balancer>,
    /// When a handshake was last let in although no endpoint was up.
    last_chance: Mutex<Option<Instant>>,
    /// The latest rebalance, of the pools before and after a reload too.
    rebalance: Arc<Rebalance>,
}

/// Why a pool cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Certificates or roots toward brokers.
    #[error("upstream {upstream}: TLS toward its brokers cannot be set up")]
    Tls {
        /// The upstream.
        upstream: Arc<str>,
        /// The cause.
        source: BrokerTlsError,
    },
    /// A name that no certificate can be for.
    #[error(
        "upstream {upstream}, endpoint {endpoint}: {name:?} is no name a certificate can be for: set server_name"
    )]
    ServerName {
        /// The upstream.
        upstream: Arc<str>,
        /// The endpoint.
        endpoint: Arc<str>,
        /// The name.
        name: Box<str>,
    },
    /// TLS inside a Unix socket.
    #[error("upstream {upstream}, endpoint {endpoint}: a Unix socket carries no TLS: use ws or mqtt on it")]
    TlsOnUnix {
        /// The upstream.
        upstream: Arc<str>,
        /// The endpoint.
        endpoint: Arc<str>,
    },
}

/// An endpoint with a session's place at it, and the trial when it was due. Dropped, both are returned.
#[derive(Debug)]
pub struct Picked {
    slot: Slot,
    trial: Option<Trial>,
}

impl Pool {
    /// An upstream put to work. Endpoints of the same address and transport keep health and sessions
    /// from `old`, and names that stand for many keep their last answers.
    ///
    /// # Errors
    /// When TLS toward brokers cannot be set up, or an endpoint's settings contradict each other.
    pub fn build(
        config: &Arc<config::Upstream>,
        options: SocketOptions,
        resolver: &Resolver,
        old: Option<&Self>,
    ) -> Result<Self, BuildError> {
        let answers = old.map(|old| old.answers_for(config)).unwrap_or_default();
        let before = old.map(Self::endpoints).unwrap_or_default();
        let endpoints = assemble(config, &answers, &before, None)?;
        let tls = config
            .endpoints
            .iter()
            .any(|endpoint| endpoint.tls)
            .then(|| BrokerConnector::build(&config.tls))
            .transpose()
            .map_err(|source| BuildError::Tls { upstream: Arc::clone(&config.name), source })?;
        let balancer = Balancer {
            weighted: Weighted::new(endpoints.len()),
            candidates: Vec::with_capacity(endpoints.len()),
        };
        Ok(Self {
            config: Arc::clone(config),
            options,
            endpoints: ArcSwap::from_pointee(endpoints),
            answers: Mutex::new(answers),
            changed: watch::Sender::new(()),
            resolver: resolver.clone(),
            sources: SourceAddresses::new(&config.source_addresses),
            tls,
            balancer: Mutex::new(balancer),
            last_chance: Mutex::default(),
            rebalance: old.map(|old| Arc::clone(&old.rebalance)).unwrap_or_default(),
        })
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// As configured.
    #[must_use]
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// Its endpoints as of now, in the file's order.
    #[must_use]
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// The endpoints that go on in no endpoint of `next`.
    #[must_use]
    pub fn without_heir(&self, next: Option<&Self>) -> Vec<Arc<Endpoint>> {
        let heirs = next.map(Self::endpoints).unwrap_or_default();
        members::without_heir(&self.endpoints(), &heirs)
    }

    /// Our own certificate, where brokers ask for one.
    #[must_use]
    pub fn client_certificate(&self) -> Option<&Dated> {
        self.tls.as_ref()?.certificate()
    }

    /// Whether some endpoint is up or due for a trial: when not, a handshake is better refused.
    #[must_use]
    pub fn is_available(&self, now: Instant) -> bool {
        self.endpoints.load().iter().any(|endpoint| endpoint.is_up(now))
    }

    /// Whether each endpoint that is up is at its cap: a handshake is better told to come back later.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        let endpoints = self.endpoints.load();
        let mut up = endpoints.iter().filter(|endpoint| endpoint.is_up(now)).peekable();
        up.peek().is_some() && up.all(|endpoint| endpoint.is_full())
    }

    /// Whether this handshake may try although none is up: one a second may, so that a broker that was
    /// only restarted is found before its avoided time is over, and not by a herd.
    #[must_use]
    pub fn takes_chance(&self, now: Instant) -> bool {
        // What its probes say is down, or was drained, is not dialled.
        let is_dialled = |endpoint: &Arc<Endpoint>| !endpoint.is_down_by_probe() && !endpoint.is_closed();
        if !self.endpoints.load().iter().any(is_dialled) {
            return false;
        }
        let mut last = self.last_chance.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last + BETWEEN_CHANCES <= now);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

impl Picked {
    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.slot.endpoint()
    }

    /// Dial it, all steps under the upstream's `dial_timeout`, and let its health follow from the
    /// outcome. A dial that is dropped says nothing about the endpoint.
    ///
    /// # Errors
    /// When it fails: [`DialError::refused_client`] tells a broker's no to this client from the rest.
    pub async fn dial(&self, pool: &Pool, hello: &Hello<'_>) -> Result<Dialled, DialError> {
        let began = Instant::now();
        let mut outcome = dial::dial(pool, self.endpoint(), hello).await;
        let event = match &outcome {
            Ok(_) => Event::Succeeded,
            Err(error) if error.counts_against_health() => Event::Failed { began },
            // Nothing was learnt of the broker: a trial goes to the next session.
            Err(_) => return outcome,
        };
        let returned = self.endpoint().tell(event, pool.config.avoid, Instant::now());
        if let Some(trial) = &self.trial {
            trial.end();
        }
        if let Ok(dialled) = &mut outcome {
            dialled.returned = returned;
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
