//! Which endpoint a session gets: the pool's balance over those that are up, under their cap and untried.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::balance::{self, Candidate, Standing, Weighted};
use super::endpoint::Leave;
use super::{Endpoint, Picked, Pool};
use crate::config::Balance;

/// What picks share. Its lock is held for one pick, so that rounds and caps are exact.
#[derive(Debug)]
pub(super) struct Balancer {
    pub(super) weighted: Weighted,
    /// Kept, so that a pick allocates nothing.
    pub(super) candidates: Vec<Candidate>,
}

/// Who asks for an endpoint: what `client-id` and `source-address` balance by.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The CONNECT's ClientID; empty falls back to weighted.
    pub client_id: &'a str,
    /// The client's address.
    pub address: IpAddr,
}

/// The endpoints that one session has tried.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    endpoints: Vec<Arc<Endpoint>>,
}

/// Why there is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// None is up, and those that are avoided are full.
    #[error("no endpoint is up")]
    Down,
    /// All that are up are at `max_sessions`.
    #[error("every endpoint that is up is at its max_sessions")]
    Full,
    /// All were tried.
    #[error("every endpoint was tried")]
    Tried,
}

impl Pool {
    /// An endpoint under its cap and not in `tried`; its slot is held by what is returned.
    ///
    /// # Errors
    /// When there is none, and why.
    pub fn pick(&self, key: &Key<'_>, tried: &Tried, now: Instant) -> Result<Picked, NoEndpoint> {
        let mut balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoints = self.endpoints.load();
        let expected = self.rebalance.expected(now);
        for backup in [false, true] {
            self.survey(&endpoints, &mut balancer.candidates, backup, tried, expected.is_some(), now);
            while let Some(place) = self.choose(&mut balancer, key, expected) {
                if let Some(picked) = endpoints.get(place).and_then(|endpoint| take(endpoint, now)) {
                    return Ok(picked);
                }
                // Another pool of the same brokers, from before a reload, was quicker.
                if let Some(candidate) = balancer.candidates.get_mut(place) {
                    candidate.standing = Standing::Closed;
                }
            }
        }
        drop(balancer);
        last_resort(&endpoints, tried, now)
    }

    /// Look at every endpoint, with either primaries or backups in play. A rebalance `evens_out`: by whole weights.
    pub(super) fn survey(
        &self,
        endpoints: &[Arc<Endpoint>],
        candidates: &mut Vec<Candidate>,
        backup: bool,
        tried: &Tried,
        evens_out: bool,
        now: Instant,
    ) {
        candidates.clear();
        let slow_start = if evens_out { Duration::ZERO } else { self.config.slow_start };
        candidates.extend(endpoints.iter().map(|endpoint| {
            let standing = if endpoint.config().backup != backup || !endpoint.is_up(now) {
                Standing::Out
            } else if endpoint.is_full() || tried.contains(endpoint) {
                Standing::Closed
            } else {
                Standing::Open
            };
            let weight = endpoint.config().weight.value();
            let share = endpoint.share(slow_start, now);
            Candidate { weight, share, sessions: endpoint.sessions(), seed: endpoint.seed, standing }
        }));
    }

    /// `expected` are the sessions that there will be again, while a rebalance is under way.
    fn choose(&self, balancer: &mut Balancer, key: &Key<'_>, expected: Option<usize>) -> Option<usize> {
        let Balancer { weighted, candidates } = balancer;
        match self.config.balance {
            Balance::LeastSessions => balance::fewest_sessions(candidates, fastrand::u32(..)),
            Balance::ClientId if !key.client_id.is_empty() => {
                balance::highest_score_below_bound(candidates, self.home_key(key), expected.unwrap_or(0))
            }
            Balance::SourceAddress => balance::highest_score(candidates, self.home_key(key)),
            // Rounds alone would send those who are to move everywhere.
            Balance::Weighted | Balance::ClientId if expected.is_some() => {
                balance::fewest_sessions(candidates, fastrand::u32(..))
            }
            Balance::Weighted | Balance::ClientId => weighted.pick(candidates),
        }
    }
}

/// The slot, and the trial where one is due; `None` when somebody else has it.
fn take(endpoint: &Arc<Endpoint>, now: Instant) -> Option<Picked> {
    let slot = endpoint.take_slot()?;
    let trial = match endpoint.admit(now)? {
        Leave::Up => None,
        Leave::Trial(trial) => Some(trial),
    };
    Some(Picked { slot, trial })
}

/// The avoided endpoint whose time ends soonest, when nothing untried is up.
fn last_resort(endpoints: &[Arc<Endpoint>], tried: &Tried, now: Instant) -> Result<Picked, NoEndpoint> {
    let untried = || endpoints.iter().filter(|endpoint| !tried.contains(endpoint));
    if untried().next().is_none() && !endpoints.is_empty() {
        return Err(NoEndpoint::Tried);
    }
    if untried().any(|endpoint| endpoint.is_up(now) && endpoint.is_full()) {
        return Err(NoEndpoint::Full);
    }
    untried()
        .filter(|endpoint| !endpoint.is_full() && !endpoint.is_down_by_probe() && !endpoint.is_closed())
        .min_by_key(|endpoint| endpoint.health().avoided_until())
        .and_then(|endpoint| Some(Picked { slot: endpoint.take_slot()?, trial: None }))
        .ok_or(NoEndpoint::Down)
}

impl Tried {
    /// Nothing tried yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Do not pick this one again.
    pub fn add(&mut self, picked: &Picked) {
        if !self.contains(picked.endpoint()) {
            self.endpoints.push(Arc::clone(picked.endpoint()));
        }
    }

    /// How many endpoints were tried.
    #[must_use]
    pub fn count(&self) -> usize {
        self.endpoints.len()
    }

    fn contains(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.endpoints.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
    }
}
