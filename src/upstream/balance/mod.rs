//! Balance: which of the candidates. Pure functions over a slice: no clock, no lock, no sockets.

mod excess;
mod hash;
mod homeward;
mod least_sessions;
mod rendezvous;
mod weighted;

pub(super) use excess::excess;
pub(super) use hash::{stable_hash, stable_hash_of_address};
pub(super) use homeward::{Away, homeward};
pub(super) use least_sessions::fewest_sessions;
pub(super) use rendezvous::{bounds, highest_score, highest_score_below_bound};
pub(super) use weighted::Weighted;

/// One endpoint, as a balance sees it. Candidates stand in the endpoints' order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Its share, 1 to 1000.
    pub(super) weight: u16,
    /// How much of its weight counts, in percent. Rendezvous hashing ignores it: a share that grows would
    /// move clients twice.
    pub(super) share: u32,
    /// Its sessions now.
    pub(super) sessions: usize,
    /// [`stable_hash`] of its name.
    pub(super) seed: u64,
    /// Whether it can be picked.
    pub(super) standing: Standing,
}

/// Whether a candidate can be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It can.
    Open,
    /// It is up and carries its share, but is full or was tried.
    Closed,
    /// It is down, or not asked for (a backup while primaries serve).
    Out,
}

impl Candidate {
    /// Its weight times its share.
    fn pull(&self) -> u32 {
        u32::from(self.weight) * self.share
    }

    fn is_open(&self) -> bool {
        self.standing == Standing::Open
    }
}

/// Candidates that can be picked, with their places.
fn open(candidates: &[Candidate]) -> impl Iterator<Item = (usize, &Candidate)> {
    candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_open())
}
