//! Rebalance: say goodbye to as many sessions as are where they would not be sent today, once.
//!
//! Who is to go is computed once, of the sessions that there are. Who comes after that belongs to a later age
//! and is not asked, so nobody moves twice; and while it is under way, picks go to who has too few.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::balance::{self, Candidate};
use super::{Key, Pool, Tried};
use crate::config::Balance;
use crate::drain::{Drain, Member, Progress, Round, Terms};

/// The latest rebalance of an upstream.
#[derive(Debug, Default)]
pub(super) struct Rebalance(Mutex<Option<Arc<Round>>>);

/// Why there is nothing to rebalance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRebalance {
    /// One is under way.
    #[error("a rebalance of it is under way already; cancel that first, or wait for its end")]
    UnderWay,
    /// There is nobody to go to.
    #[error("none of its endpoints is up")]
    Down,
}

impl Rebalance {
    /// Whether clients are on the move: until those who were asked last had the grace to come back.
    pub(super) fn is_under_way(&self, now: Instant) -> bool {
        self.round().as_ref().is_some_and(|round| round.is_under_way(now))
    }

    fn current(&self, now: Instant) -> Option<Arc<Round>> {
        self.round().clone().filter(|round| round.is_under_way(now))
    }

    fn round(&self) -> MutexGuard<'_, Option<Arc<Round>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Begin a rebalance: find who is to move, and ask them on a task of its own, within a runtime. How many
    /// that are. `gateway` is the drain of all sessions.
    ///
    /// # Errors
    /// When there is nothing to do.
    pub async fn rebalance(&self, gateway: &Drain, terms: Terms) -> Result<usize, NoRebalance> {
        let now = Instant::now();
        if !self.is_available(now) {
            return Err(NoRebalance::Down);
        }
        let round = Round::new(terms);
        {
            let mut current = self.rebalance.round();
            if current.as_ref().is_some_and(|round| round.is_under_way(now)) {
                return Err(NoRebalance::UnderWay);
            }
            *current = Some(Arc::clone(&round));
        }
        // Picks go to who has too few from here on, and who comes from here on stays.
        let age = gateway.new_age();
        let mut moving = self.find_moving(gateway, age, now).await;
        fastrand::shuffle(&mut moving);
        let count = moving.len();
        tokio::spawn(async move { Drain::say_to(moving, &round).await });
        Ok(count)
    }

    /// Ask nobody more; whether there was anything to cancel.
    pub fn cancel_rebalance(&self) -> bool {
        let current = self.rebalance.current(Instant::now());
        current.inspect(|round| round.cancel()).is_some()
    }

    /// How far the rebalance is that is under way; `left` are those who were not asked yet.
    #[must_use]
    pub fn rebalancing(&self) -> Option<Progress> {
        self.rebalance.current(Instant::now()).map(|round| round.progress(round.unasked()))
    }

    /// What a client's home is found by, where the balance gives it one; 0 where it does not.
    #[must_use]
    pub fn home_key(&self, key: &Key<'_>) -> u64 {
        match self.config.balance {
            Balance::ClientId if !key.client_id.is_empty() => balance::stable_hash(key.client_id.as_bytes()),
            Balance::SourceAddress => balance::stable_hash_of_address(key.address),
            _ => 0,
        }
    }

    async fn find_moving(&self, gateway: &Drain, age: u32, now: Instant) -> Vec<Arc<Member>> {
        let endpoints = self.endpoints();
        let mut candidates: Vec<Candidate> = Vec::new();
        for backup in [false, true] {
            self.survey(&endpoints, &mut candidates, backup, &Tried::new(), true, now);
            if candidates.iter().any(|candidate| candidate.standing != balance::Standing::Out) {
                break;
            }
        }
        // Where all is full, a place is free when its session has gone.
        for candidate in &mut candidates {
            if candidate.standing == balance::Standing::Closed {
                candidate.standing = balance::Standing::Open;
            }
        }
        let caps: Vec<_> = endpoints.iter().map(|endpoint| endpoint.max_sessions()).collect();
        let excess = balance::excess(&candidates, &caps);
        let by_home = matches!(self.config.balance, Balance::ClientId | Balance::SourceAddress);
        let mut moving = Vec::new();
        for (place, endpoint) in endpoints.iter().enumerate() {
            // Who was drained by hand has asked its sessions itself.
            if endpoint.is_closed() {
                continue;
            }
            let goes = |member: &Member| {
                let is_asked_for = member.is_at_work() && member.is_older(age);
                let is_away =
                    || member.key() != 0 && balance::highest_score(&candidates, member.key()) != Some(place);
                is_asked_for && (!by_home || is_away())
            };
            let mut found = endpoint.drain(gateway).find(goes).await;
            if !by_home {
                found.truncate(excess[place]);
            }
            moving.append(&mut found);
        }
        moving
    }
}
