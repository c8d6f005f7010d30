//! Weighted rendezvous hashing: every candidate scores for a key, and the highest is picked.
//!
//! The score is `-weight / ln(unit)` with `unit` the hash of key and candidate in (0, 1): candidates
//! win in the ratio of their weights, and one that leaves moves only its own keys. No table is shared
//! between gateways.

use super::hash::mix;
use super::{Candidate, Standing, open};

/// The place of the highest score for `key`, a [`stable_hash`](super::stable_hash).
pub(in crate::upstream) fn highest_score(candidates: &[Candidate], key: u64) -> Option<usize> {
    highest(open(candidates), key)
}

/// The same with bounded load: a candidate with more than 1.25 times its share of the sessions, plus one,
/// is passed over for the next best. When that leaves none, the bound is forgotten. `expected` are sessions that
/// there will be again, where some are on the move: without them the bound would shrink meanwhile.
pub(in crate::upstream) fn highest_score_below_bound(
    candidates: &[Candidate],
    key: u64,
    expected: usize,
) -> Option<usize> {
    let bound = Bound::of(candidates, expected);
    highest(open(candidates).filter(|(_, candidate)| bound.allows(candidate)), key)
        .or_else(|| highest_score(candidates, key))
}

/// How many sessions each candidate has at the most by the bound, once all sessions are at those that are in play.
/// One that is out has none.
pub(in crate::upstream) fn bounds(candidates: &[Candidate]) -> Vec<usize> {
    let all = candidates.iter().map(|candidate| candidate.sessions).sum();
    let bound = Bound::of(candidates, all);
    candidates.iter().map(|candidate| bound.most(candidate)).collect()
}

fn highest<'a>(candidates: impl Iterator<Item = (usize, &'a Candidate)>, key: u64) -> Option<usize> {
    candidates
        .map(|(place, candidate)| (place, score(candidate, key)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(place, _)| place)
}

fn score(candidate: &Candidate, key: u64) -> f64 {
    // 52 bits and a half: neither 0 nor 1, and exact in an f64.
    let unit = ((mix(candidate.seed, key) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    -f64::from(candidate.weight) / unit.ln()
}

/// Sessions and weights of all that are up.
struct Bound {
    sessions: u128,
    weights: u128,
}

impl Bound {
    fn of(candidates: &[Candidate], expected: usize) -> Self {
        let now = candidates.iter().filter(|candidate| candidate.standing != Standing::Out).fold(
            Self { sessions: 0, weights: 0 },
            |sum, candidate| Self {
                sessions: sum.sessions + candidate.sessions as u128,
                weights: sum.weights + u128::from(candidate.weight),
            },
        );
        Self { sessions: now.sessions.max(expected as u128), ..now }
    }

    /// `sessions <= 1.25 * share + 1`, in whole numbers.
    fn allows(&self, candidate: &Candidate) -> bool {
        let above = (candidate.sessions as u128).saturating_sub(1);
        4 * above * self.weights <= 5 * self.sessions * u128::from(candidate.weight)
    }

    /// With one session less a candidate is still allowed one more.
    fn most(&self, candidate: &Candidate) -> usize {
        if candidate.standing == Standing::Out {
            return 0;
        }
        let share = 5 * self.sessions * u128::from(candidate.weight) / (4 * self.weights).max(1);
        usize::try_from(share + 2).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{stable_hash, stable_hash_of_address};
    use super::*;
    use proptest::prelude::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let named = |(place, weight): (usize, &u16)| Candidate {
            weight: *weight,
            share: 100,
            sessions: 0,
            seed: stable_hash(format!("ws://192.0.2.{place}:8083/mqtt").as_bytes()),
            standing: Standing::Open,
        };
        weights.iter().enumerate().map(named).collect()
    }

    fn key(number: usize) -> u64 {
        stable_hash(format!("client-{number}").as_bytes())
    }

    #[test]
    fn clients_spread_by_weight_within_two_percent() {
        let weights = [5, 3, 1, 1];
        let all = candidates(&weights);
        let mut counts = [0usize; 4];
        for number in 0..100_000 {
            counts[highest_score(&all, key(number)).unwrap()] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = f64::from(weight) * 10_000.0;
            assert!((count as f64 - expected).abs() < expected * 0.02 + 100.0, "{counts:?}");
        }
    }

    #[test]
    fn addresses_spread_too() {
        let all = candidates(&[1, 1]);
        let counts = (0u32..10_000)
            .map(|number| stable_hash_of_address(std::net::Ipv4Addr::from(0xc633_6400 + number).into()))
            .filter(|hash| highest_score(&all, *hash) == Some(0))
            .count();
        assert!(counts.abs_diff(5000) < 200, "{counts}");
    }

    #[test]
    fn one_that_leaves_moves_only_its_own_clients() {
        let all = candidates(&[2, 1, 1, 3, 1]);
        for leaving in 0..all.len() {
            let mut rest = all.clone();
            rest[leaving].standing = Standing::Out;
            for number in 0..5000 {
                let before = highest_score(&all, key(number)).unwrap();
                let after = highest_score(&rest, key(number)).unwrap();
                assert!(before == leaving || before == after);
                assert_ne!(after, leaving);
            }
        }
    }

    #[test]
    fn a_growing_share_moves_no_client() {
        let mut all = candidates(&[2, 1]);
        let before: Vec<_> = (0..100).map(|number| highest_score(&all, key(number))).collect();
        all[0].share = 10;
        let after: Vec<_> = (0..100).map(|number| highest_score(&all, key(number))).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn a_client_goes_where_every_version_sent_it() {
        let all = candidates(&[1, 1, 1]);
        let places: Vec<_> = (0..12).map(|number| highest_score(&all, key(number)).unwrap()).collect();
        assert_eq!(places, [0, 1, 2, 0, 2, 1, 0, 1, 1, 0, 2, 0]);
    }

    #[test]
    fn an_overloaded_one_is_passed_over_for_the_next_best() {
        let mut all = candidates(&[1, 1, 1]);
        let first = highest_score(&all, key(1)).unwrap();
        all[first].standing = Standing::Out;
        let second = highest_score(&all, key(1)).unwrap();
        all[first].standing = Standing::Open;
        for candidate in &mut all {
            candidate.sessions = 100;
        }
        assert_eq!(highest_score_below_bound(&all, key(1), 0), Some(first));
        all[first].sessions = 144;
        assert_eq!(highest_score_below_bound(&all, key(1), 0), Some(first), "144 <= 1.25 * 344 / 3 + 1");
        all[first].sessions = 145;
        assert_eq!(highest_score_below_bound(&all, key(1), 0), Some(second));
        assert_eq!(highest_score(&all, key(1)), Some(first));
        all[second].standing = Standing::Closed;
        let third = 3 - first - second;
        assert_eq!(highest_score_below_bound(&all, key(1), 0), Some(third));
        all[third].standing = Standing::Closed;
        assert_eq!(
            highest_score_below_bound(&all, key(1), 0),
            Some(first),
            "rather above the bound than nowhere"
        );
    }

    #[test]
    fn clients_aimed_at_one_broker_spill_over() {
        let mut all = candidates(&[1, 1, 1]);
        for _ in 0..300 {
            let place = highest_score_below_bound(&all, key(1), 0).unwrap();
            all[place].sessions += 1;
        }
        assert!(all.iter().all(|candidate| candidate.sessions <= 127), "{all:?}");
    }

    #[test]
    fn who_is_on_the_move_counts_for_the_bound() {
        let mut all = candidates(&[1, 1]);
        let home = highest_score(&all, key(1)).unwrap();
        all[home].sessions = 60;
        all[1 - home].sessions = 20;
        assert_eq!(highest_score_below_bound(&all, key(1), 0), Some(1 - home), "60 > 1.25 * 80 / 2 + 1");
        assert_eq!(highest_score_below_bound(&all, key(1), 100), Some(home), "20 are on the move");
    }

    proptest! {
        #[test]
        fn a_bound_is_where_picks_pass_over(
            weights in prop::collection::vec(1u16..=1000, 2..6),
            sessions in prop::collection::vec(0usize..1000, 6),
        ) {
            let mut all = candidates(&weights);
            for (candidate, sessions) in all.iter_mut().zip(sessions) {
                candidate.sessions = sessions;
            }
            let (bound, most) = (Bound::of(&all, 0), bounds(&all));
            for (candidate, most) in all.iter().zip(most) {
                let allows = |sessions| bound.allows(&Candidate { sessions, ..*candidate });
                prop_assert!(allows(most - 1) && !allows(most));
            }
        }

        #[test]
        fn some_open_candidate_is_always_found(
            weights in prop::collection::vec(1u16..=1000, 1..6),
            sessions in prop::collection::vec(0usize..100_000, 6),
            key: u64,
        ) {
            let mut all = candidates(&weights);
            for (candidate, sessions) in all.iter_mut().zip(sessions) {
                candidate.sessions = sessions;
            }
            prop_assert!(highest_score_below_bound(&all, key, 0).is_some());
        }
    }
}
