//! Who of those who are not at home can go there: where there is room, or where one who leaves makes it.

use std::collections::VecDeque;

use super::{Candidate, Standing};

/// A session that is elsewhere than its key says. Both are places of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) struct Away {
    pub(in crate::upstream) at: usize,
    pub(in crate::upstream) home: usize,
}

/// The places in `away` of those who come home, in an order in which each finds room: no candidate ever has more
/// than its limit by that. Homes take turns. Whoever is left would come back elsewhere, and had better stay; but for
/// those at a candidate that is out, to whom elsewhere is better. They go last.
pub(in crate::upstream) fn homeward(candidates: &[Candidate], limits: &[usize], away: &[Away]) -> Vec<usize> {
    let mut sessions: Vec<usize> = candidates.iter().map(|candidate| candidate.sessions).collect();
    let mut waiting = vec![VecDeque::new(); candidates.len()];
    for (number, one) in away.iter().enumerate() {
        waiting[one.home].push_back(number);
    }
    let mut coming = Vec::with_capacity(away.len());
    // Homes that may have room. Each one who moves adds two, so that this ends.
    let mut homes: VecDeque<usize> = (0..candidates.len()).collect();
    while let Some(home) = homes.pop_front() {
        if sessions[home] >= limits[home] {
            continue;
        }
        let Some(number) = waiting[home].pop_front() else { continue };
        let left = away[number].at;
        sessions[home] += 1;
        sessions[left] = sessions[left].saturating_sub(1);
        coming.push(number);
        homes.extend([home, left]);
    }
    let is_out = |number: &usize| candidates[away[*number].at].standing == Standing::Out;
    coming.extend(waiting.into_iter().flatten().filter(is_out));
    coming
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(sessions: &[usize]) -> Vec<Candidate> {
        let with = |sessions: &usize| Candidate {
            weight: 1,
            share: 100,
            sessions: *sessions,
            seed: 0,
            standing: Standing::Open,
        };
        sessions.iter().map(with).collect()
    }

    fn away(pairs: &[(usize, usize)]) -> Vec<Away> {
        pairs.iter().map(|&(at, home)| Away { at, home }).collect()
    }

    #[test]
    fn who_finds_room_comes_and_who_does_not_stays() {
        for (sessions, limits, pairs, expected) in [
            (&[3, 0][..], &[9, 9][..], &[(0, 1), (0, 1)][..], &[0, 1][..]),
            (&[3, 0], &[9, 1], &[(0, 1), (0, 1)], &[0]),
            (&[3, 0], &[9, 0], &[(0, 1), (0, 1)], &[]),
            // Homes take turns.
            (&[4, 0, 0], &[9, 9, 9], &[(0, 1), (0, 1), (0, 2), (0, 2)], &[0, 2, 1, 3]),
            // The first home is full until somebody has left it for the second.
            (&[2, 1], &[2, 2], &[(1, 0), (0, 1)], &[1, 0]),
            // Two that are full can't swap.
            (&[1, 1], &[1, 1], &[(0, 1), (1, 0)], &[]),
            (&[1, 1, 0], &[1, 1, 1], &[(0, 1), (1, 2)], &[1, 0]),
        ] {
            let coming = homeward(&candidates(sessions), limits, &away(pairs));
            assert_eq!(coming, expected, "{sessions:?} {limits:?} {pairs:?}");
        }
    }

    #[test]
    fn nobody_stays_at_one_that_is_out() {
        let mut all = candidates(&[3, 0, 0]);
        all[0].standing = Standing::Out;
        assert_eq!(homeward(&all, &[0, 1, 9], &away(&[(0, 1), (0, 1), (0, 2)])), [0, 2, 1]);
    }

    proptest! {
        #[test]
        fn nobody_comes_in_vain_and_nobody_who_could_come_is_left(
            pairs in prop::collection::vec((0usize..4, 0usize..4), 0..60),
            at_home in prop::collection::vec(0usize..20, 4),
            limits in prop::collection::vec(0usize..40, 4),
        ) {
            let pairs: Vec<_> = pairs.into_iter().filter(|(at, home)| at != home).collect();
            let mut sessions = at_home;
            pairs.iter().for_each(|(at, _)| sessions[*at] += 1);
            let away = away(&pairs);
            let coming = homeward(&candidates(&sessions), &limits, &away);
            for number in &coming {
                let Away { at, home } = away[*number];
                prop_assert!(sessions[home] < limits[home]);
                sessions[home] += 1;
                sessions[at] -= 1;
            }
            for (number, one) in away.iter().enumerate() {
                prop_assert!(coming.contains(&number) || sessions[one.home] >= limits[one.home]);
            }
        }
    }
}
