//! The fewest sessions for the weight.
//!
//! Compared is the load *with* the new session, `(sessions + 1) / weight`: a small empty broker does
//! not go before a large one with a single session.

use std::cmp::Ordering;

use super::{Candidate, open};

/// The place of the least loaded candidate; `random` chooses among equals, so that many gateways do
/// not all begin with the same broker.
pub(in crate::upstream) fn fewest_sessions(candidates: &[Candidate], random: u32) -> Option<usize> {
    let (_, least) = open(candidates).min_by(|(_, a), (_, b)| by_load(a, b))?;
    let equals = || open(candidates).filter(|(_, other)| by_load(other, least) == Ordering::Equal);
    let nth = random as usize % equals().count().max(1);
    equals().nth(nth).map(|(place, _)| place)
}

fn by_load(a: &Candidate, b: &Candidate) -> Ordering {
    // a.sessions / a.weight < b.sessions / b.weight, without the division.
    let load = |this: &Candidate, other: &Candidate| (this.sessions as u128 + 1) * u128::from(other.pull());
    load(a, b).cmp(&load(b, a))
}

#[cfg(test)]
mod tests {
    use super::super::Standing;
    use super::*;

    fn candidate(weight: u16, sessions: usize) -> Candidate {
        Candidate { weight, share: 100, sessions, seed: 0, standing: Standing::Open }
    }

    #[test]
    fn the_least_loaded_for_its_weight_is_picked() {
        let table: [(&[(u16, usize)], usize); 4] = [
            (&[(1, 2), (1, 1), (1, 3)], 1),
            (&[(1, 1), (4, 3)], 1),
            (&[(1, 0), (100, 1)], 1),
            (&[(1, 0), (2, 4)], 0),
        ];
        for (weights_and_sessions, expected) in table {
            let all: Vec<_> = weights_and_sessions.iter().map(|(w, s)| candidate(*w, *s)).collect();
            assert_eq!(fewest_sessions(&all, 7), Some(expected), "{weights_and_sessions:?}");
        }
    }

    #[test]
    fn equals_are_chosen_by_the_random_number() {
        let all = [candidate(1, 1), candidate(1, 0), candidate(1, 0)];
        assert_eq!(fewest_sessions(&all, 0), Some(1));
        assert_eq!(fewest_sessions(&all, 1), Some(2));
    }

    #[test]
    fn a_thousand_sessions_end_in_the_ratio_of_the_weights() {
        let mut all = [candidate(5, 0), candidate(3, 0), candidate(2, 0)];
        for random in 0..1000 {
            let place = fewest_sessions(&all, random).unwrap();
            all[place].sessions += 1;
        }
        assert_eq!(all.map(|candidate| candidate.sessions), [500, 300, 200]);
    }

    #[test]
    fn one_that_just_returned_does_not_get_all() {
        let mut two = [candidate(1, 100), candidate(1, 0)];
        two[1].share = 10;
        for random in 0..15 {
            let place = fewest_sessions(&two, random).unwrap();
            two[place].sessions += 1;
        }
        assert_eq!(two.map(|candidate| candidate.sessions), [105, 10], "a tenth of the other's");
    }

    #[test]
    fn closed_ones_are_skipped() {
        let mut all = [candidate(1, 0), candidate(1, 9)];
        all[0].standing = Standing::Closed;
        assert_eq!(fewest_sessions(&all, 0), Some(1));
        all[1].standing = Standing::Out;
        assert_eq!(fewest_sessions(&all, 0), None);
    }
}
