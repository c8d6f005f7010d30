//! How many sessions each candidate has above its share of all.

use super::{Candidate, Standing};

/// What each candidate would have to give away, so that those that are in play have what their weights say,
/// within one session and within `caps`. One that is out has no share, and gives all it has.
pub(in crate::upstream) fn excess(candidates: &[Candidate], caps: &[usize]) -> Vec<usize> {
    let all: usize = candidates.iter().map(|candidate| candidate.sessions).sum();
    let targets = targets(candidates, caps, all);
    candidates
        .iter()
        .zip(targets)
        .map(|(candidate, target)| candidate.sessions.saturating_sub(target))
        .collect()
}

/// How many sessions of `all` each is to have. What one can't hold goes to the others.
fn targets(candidates: &[Candidate], caps: &[usize], all: usize) -> Vec<usize> {
    let mut targets = vec![0; candidates.len()];
    let mut free: Vec<usize> =
        (0..candidates.len()).filter(|place| candidates[*place].standing != Standing::Out).collect();
    let mut left = all;
    loop {
        let weights: u128 = free.iter().map(|place| u128::from(candidates[*place].weight)).sum();
        if weights == 0 {
            return targets;
        }
        // As the sum grows, so that all parts together are the whole.
        let (mut before, mut at) = (0, 0u128);
        for place in &free {
            at += u128::from(candidates[*place].weight);
            let until = (left as u128 * at / weights) as usize;
            targets[*place] = until - before;
            before = until;
        }
        let full: Vec<usize> = free.iter().copied().filter(|place| targets[*place] > caps[*place]).collect();
        if full.is_empty() {
            return targets;
        }
        for place in full {
            targets[place] = caps[place];
            left -= caps[place];
            free.retain(|other| *other != place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NO_CAP: usize = usize::MAX;

    fn candidate(weight: u16, sessions: usize) -> Candidate {
        Candidate { weight, share: 100, sessions, seed: 0, standing: Standing::Open }
    }

    #[test]
    fn what_is_above_the_share_goes() {
        for (weights_and_sessions, expected) in [
            (vec![(1, 100), (1, 0)], vec![50, 0]),
            (vec![(1, 100), (1, 100), (1, 0)], vec![34, 33, 0]),
            (vec![(2, 90), (1, 0)], vec![30, 0]),
            (vec![(1, 50), (1, 50)], vec![0, 0]),
            (vec![(1, 0), (1, 0)], vec![0, 0]),
        ] {
            let all: Vec<_> = weights_and_sessions.iter().map(|(w, s)| candidate(*w, *s)).collect();
            assert_eq!(excess(&all, &vec![NO_CAP; all.len()]), expected, "{weights_and_sessions:?}");
        }
    }

    #[test]
    fn one_that_is_out_gives_all_and_gets_nothing() {
        let mut all = [candidate(1, 10), candidate(1, 0), candidate(1, 20)];
        all[2].standing = Standing::Out;
        assert_eq!(excess(&all, &[NO_CAP; 3]), [0, 0, 20]);
    }

    #[test]
    fn what_a_cap_leaves_is_spread_over_the_others() {
        let all = [candidate(1, 90), candidate(1, 0), candidate(1, 0)];
        assert_eq!(targets(&all, &[NO_CAP, 10, NO_CAP], 90), [40, 10, 40]);
        assert_eq!(excess(&all, &[NO_CAP, 10, NO_CAP]), [50, 0, 0]);
    }

    proptest! {
        #[test]
        fn what_goes_is_what_others_lack(
            all in prop::collection::vec((1u16..=1000, 0usize..50_000), 1..8),
        ) {
            let all: Vec<_> = all.into_iter().map(|(weight, sessions)| candidate(weight, sessions)).collect();
            let caps = vec![NO_CAP; all.len()];
            let sum: usize = all.iter().map(|candidate| candidate.sessions).sum();
            let targets = targets(&all, &caps, sum);
            prop_assert_eq!(targets.iter().sum::<usize>(), sum);
            let lack: usize = all.iter().zip(&targets).map(|(it, target)| target.saturating_sub(it.sessions)).sum();
            prop_assert_eq!(excess(&all, &caps).iter().sum::<usize>(), lack);
        }
    }
}
