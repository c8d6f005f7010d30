//! Rebalance: say goodbye to as many sessions as are where they would not be sent today, once.
//!
//! Who is to go is computed once, of the sessions that there are. Who comes after that belongs to a later age
//! and is not asked, so nobody moves twice; and while it is under way, picks go to who has too few.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::balance::{self, Away, Candidate, Standing};
use super::{Endpoint, Key, Pool, Tried};
use crate::config::Balance;
use crate::drain::{Drain, Member, Progress, Round, Terms};

/// The latest rebalance of an upstream.
#[derive(Debug, Default)]
pub(super) struct Rebalance(Mutex<Option<Latest>>);

#[derive(Debug)]
struct Latest {
    round: Arc<Round>,
    /// How many sessions there were when it began.
    sessions: usize,
}

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
    /// While clients are on the move, until those who were asked last had the grace to come back: how many
    /// sessions there were before, and will be.
    pub(super) fn expected(&self, now: Instant) -> Option<usize> {
        self.latest().as_ref().filter(|it| it.round.is_under_way(now)).map(|it| it.sessions)
    }

    fn current(&self, now: Instant) -> Option<Arc<Round>> {
        let latest = self.latest();
        latest.as_ref().map(|it| &it.round).filter(|round| round.is_under_way(now)).cloned()
    }

    fn latest(&self) -> MutexGuard<'_, Option<Latest>> {
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
            let mut latest = self.rebalance.latest();
            if latest.as_ref().is_some_and(|it| it.round.is_under_way(now)) {
                return Err(NoRebalance::UnderWay);
            }
            let sessions = self.endpoints().iter().map(|endpoint| endpoint.sessions()).sum();
            *latest = Some(Latest { round: Arc::clone(&round), sessions });
        }
        // Picks go to who has too few from here on, and who comes from here on stays.
        let age = gateway.new_age();
        let moving = self.find_moving(gateway, age, now).await;
        let count = moving.len();
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.say_to(moving, &round).await });
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

    /// Who is to move, in the order in which they are asked: of those who came before `age`.
    async fn find_moving(&self, gateway: &Drain, age: u32, now: Instant) -> Vec<Arc<Member>> {
        let endpoints = self.endpoints();
        let candidates = self.in_play(&endpoints, now);
        let caps: Vec<_> = endpoints.iter().map(|endpoint| endpoint.max_sessions()).collect();
        // Who was drained by hand has asked its sessions itself.
        let open = endpoints.iter().enumerate().filter(|(_, endpoint)| !endpoint.is_closed());
        let drains: Vec<_> = open.map(|(place, endpoint)| (place, endpoint.drain(gateway))).collect();
        match self.config.balance {
            Balance::Weighted | Balance::LeastSessions => {
                let excess = balance::excess(&candidates, &caps);
                find_too_many(&drains, age, &excess).await
            }
            Balance::SourceAddress => find_homeward(&drains, age, &candidates, &caps).await,
            Balance::ClientId => {
                let bounds = balance::bounds(&candidates).into_iter().zip(caps);
                let limits: Vec<_> = bounds.map(|(bound, cap)| bound.min(cap)).collect();
                find_homeward(&drains, age, &candidates, &limits).await
            }
        }
    }

    /// Whom picks would choose among, as soon as whoever moves has left.
    fn in_play(&self, endpoints: &[Arc<Endpoint>], now: Instant) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = Vec::new();
        for backup in [false, true] {
            self.survey(endpoints, &mut candidates, backup, &Tried::new(), true, now);
            if candidates.iter().any(|candidate| candidate.standing != Standing::Out) {
                break;
            }
        }
        // Where all is full, a place is free when its session has gone.
        for candidate in &mut candidates {
            if candidate.standing == Standing::Closed {
                candidate.standing = Standing::Open;
            }
        }
        candidates
    }
}

/// Sessions of endpoints, by their places.
type Drains = [(usize, Drain)];

/// As many as are too many at each place.
async fn find_too_many(drains: &Drains, age: u32, excess: &[usize]) -> Vec<Arc<Member>> {
    let mut moving = Vec::new();
    for (place, drain) in drains {
        let found = drain.find(|member| could_move(member, age)).await;
        moving.extend(found.into_iter().take(excess[*place]));
    }
    // Whose turn it is has nothing to do with who came first, or where.
    fastrand::shuffle(&mut moving);
    moving
}

/// Those who are away from home, where a place is free below its limit.
async fn find_homeward(
    drains: &Drains,
    age: u32,
    candidates: &[Candidate],
    limits: &[usize],
) -> Vec<Arc<Member>> {
    let mut movable = Vec::new();
    for (at, drain) in drains {
        let (at, mut homes) = (*at, Vec::new());
        let is_away = |member: &Member| {
            let has_home = could_move(member, age) && member.key() != 0;
            let home = has_home.then(|| balance::highest_score(candidates, member.key())).flatten();
            let home = home.filter(|home| *home != at);
            homes.extend(home);
            home.is_some()
        };
        let found = drain.find(is_away).await;
        movable.extend(found.into_iter().zip(homes).map(|(member, home)| (member, Away { at, home })));
    }
    fastrand::shuffle(&mut movable);
    let away: Vec<_> = movable.iter().map(|(_, away)| *away).collect();
    let coming = balance::homeward(candidates, limits, &away);
    coming.into_iter().map(|number| Arc::clone(&movable[number].0)).collect()
}

/// Whether it may be asked: it came before `age`, and was not asked for another reason.
fn could_move(member: &Member, age: u32) -> bool {
    member.is_at_work() && member.is_older(age)
}
