//! The endpoints of a pool, put together from the configuration and from answers to names. What stays the
//! same broker keeps its health and its sessions.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tokio::time::Instant;

use super::balance::Weighted;
use super::discovery::{Changes, Found, endpoint_of};
use super::{BuildError, Endpoint, Pool};
use crate::config::{self, EndpointAddress};

/// The last good answer to each name, by the name of the endpoint that is looked up.
pub(super) type Answers = BTreeMap<Arc<str>, Vec<Found>>;

impl Pool {
    /// Put the answer to a name to work; `looked_up` is the endpoint that was looked up. Sessions of endpoints
    /// that are gone live on.
    ///
    /// # Errors
    /// When an endpoint cannot be made of it. The answer before it holds on.
    pub fn adopt(&self, looked_up: &config::Endpoint, mut found: Vec<Found>) -> Result<Changes, BuildError> {
        let left_out = found.len().saturating_sub(self.config.max_endpoints);
        found.truncate(self.config.max_endpoints);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = answers.clone();
        // A broker that joins a pool at work has no sessions and cold caches. At a start all have.
        let since = next.insert(Arc::clone(&looked_up.name), found).map(|_| Instant::now());
        let before = self.endpoints();
        let after = assemble(&self.config, &next, &before, since)?;
        *answers = next;
        let is_new = |endpoint: &&Arc<Endpoint>| before.iter().all(|other| other.name() != endpoint.name());
        let added = after.iter().filter(is_new).map(|endpoint| Arc::clone(endpoint.name())).collect();
        let changes = Changes { added, removed: without_heir(&before, &after), left_out };
        let same = |(a, b): (&Arc<Endpoint>, &Arc<Endpoint>)| Arc::ptr_eq(a, b);
        if after.len() != before.len() || !after.iter().zip(before.iter()).all(same) {
            let mut balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
            balancer.weighted = Weighted::new(after.len());
            self.endpoints.store(Arc::new(after));
            drop(balancer);
            self.changed.send_replace(());
        }
        Ok(changes)
    }

    /// Hears of each change of the endpoints.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The answers that a pool with this configuration can go on with.
    pub(super) fn answers_for(&self, config: &config::Upstream) -> Answers {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |new: &&Arc<config::Endpoint>| {
            self.config
                .endpoints
                .iter()
                .any(|old| (&old.name, &old.address, old.discover) == (&new.name, &new.address, new.discover))
        };
        let kept = config.endpoints.iter().filter(same);
        kept.filter_map(|endpoint| answers.get_key_value(&endpoint.name))
            .map(|(name, found)| {
                let found = found.iter().take(config.max_endpoints).cloned().collect();
                (Arc::clone(name), found)
            })
            .collect()
    }
}

/// The endpoints, in the file's order, each answer in the place of its name. Of `old` go on those that are the
/// same broker; those that nobody knew are up `since` then.
pub(super) fn assemble(
    config: &config::Upstream,
    answers: &Answers,
    old: &[Arc<Endpoint>],
    since: Option<Instant>,
) -> Result<Vec<Arc<Endpoint>>, BuildError> {
    let mut old: Vec<_> = old.iter().collect();
    let wanted = config.endpoints.iter().flat_map(|endpoint| match endpoint.discover {
        None => vec![Arc::clone(endpoint)],
        Some(_) => {
            let found = answers.get(&endpoint.name).map(Vec::as_slice).unwrap_or_default();
            found.iter().map(|found| Arc::new(endpoint_of(endpoint, found))).collect()
        }
    });
    let probed = config.probe.is_some();
    wanted
        .map(|endpoint| {
            let server_name = server_name(&config.name, &endpoint)?;
            Ok(match take_same_broker(&mut old, &endpoint) {
                Some(old) if old.is_same(&endpoint, probed) => Arc::clone(old),
                Some(old) => Arc::new(Endpoint::of(old, &endpoint, server_name, probed)),
                None => Arc::new(Endpoint::new(&endpoint, server_name, probed, since)),
            })
        })
        .collect()
}

/// Those of `old` that go on in none of `new`.
pub(super) fn without_heir(old: &[Arc<Endpoint>], new: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
    let goes_on = |endpoint: &&Arc<Endpoint>| new.iter().any(|heir| heir.is_heir_of(endpoint));
    old.iter().filter(|endpoint| !goes_on(endpoint)).cloned().collect()
}

/// The old endpoint that is the same broker: of one address, the one with the same path before others.
fn take_same_broker<'a>(
    old: &mut Vec<&'a Arc<Endpoint>>,
    new: &config::Endpoint,
) -> Option<&'a Arc<Endpoint>> {
    let same = |endpoint: &&Arc<Endpoint>| endpoint.is_same_broker(new);
    let place = old
        .iter()
        .position(|endpoint| same(endpoint) && endpoint.config().transport == new.transport)
        .or_else(|| old.iter().position(same))?;
    Some(old.remove(place))
}

/// The name to verify, for an endpoint that speaks TLS.
fn server_name(
    upstream: &Arc<str>,
    endpoint: &config::Endpoint,
) -> Result<Option<ServerName<'static>>, BuildError> {
    if !endpoint.tls {
        return Ok(None);
    }
    let host = match (&endpoint.server_name, &endpoint.address) {
        (_, EndpointAddress::Unix(_)) => {
            return Err(BuildError::TlsOnUnix {
                upstream: Arc::clone(upstream),
                endpoint: Arc::clone(&endpoint.name),
            });
        }
        (Some(name), _) => name.clone(),
        (None, EndpointAddress::Ip(address)) => return Ok(Some(ServerName::from(address.ip()))),
        (None, EndpointAddress::Name { host, .. }) => host.clone(),
    };
    ServerName::try_from(String::from(host.clone())).map(Some).map_err(|_| BuildError::ServerName {
        upstream: Arc::clone(upstream),
        endpoint: Arc::clone(&endpoint.name),
        name: host,
    })
}
