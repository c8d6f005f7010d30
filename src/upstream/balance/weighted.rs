//! Smooth weighted round robin, as nginx does it: 5:3:1 gives A B A C A B A B A.
//!
//! At each pick every open candidate gains its weight; the highest is picked and pays the sum back. A
//! candidate that cannot be picked neither gains nor pays, so the others keep their ratio.

use super::{Candidate, open};

/// How far each candidate has come, in their order.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Weighted {
    current: Vec<i64>,
}

impl Weighted {
    /// The start for `candidates` candidates.
    pub(in crate::upstream) fn new(candidates: usize) -> Self {
        Self { current: vec![0; candidates] }
    }

    /// The next one's place; `None` when none is open.
    pub(in crate::upstream) fn pick(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let mut sum = 0;
        let mut best: Option<(usize, i64)> = None;
        for (place, candidate) in open(candidates) {
            let current = self.current.get_mut(place)?;
            *current += i64::from(candidate.pull());
            sum += i64::from(candidate.pull());
            if best.is_none_or(|(_, highest)| *current > highest) {
                best = Some((place, *current));
            }
        }
        let (place, _) = best?;
        *self.current.get_mut(place)? -= sum;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Standing;
    use super::*;
    use proptest::prelude::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let open = |weight: &u16| Candidate {
            weight: *weight,
            share: 100,
            sessions: 0,
            seed: 0,
            standing: Standing::Open,
        };
        weights.iter().map(open).collect()
    }

    fn counts(weighted: &mut Weighted, candidates: &[Candidate], picks: usize) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        for _ in 0..picks {
            counts[weighted.pick(candidates).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn nine_picks_are_smooth_and_900_exact() {
        let three = candidates(&[5, 3, 1]);
        let mut weighted = Weighted::new(3);
        let order: String = (0..9).map(|_| ['A', 'B', 'C'][weighted.pick(&three).unwrap()]).collect();
        assert_eq!(order, "ABACABABA");
        assert_eq!(counts(&mut weighted, &three, 900), [500, 300, 100]);
    }

    #[test]
    fn one_that_is_out_does_not_distort_the_others() {
        let mut three = candidates(&[5, 3, 1]);
        let mut weighted = Weighted::new(3);
        counts(&mut weighted, &three, 4);
        three[0].standing = Standing::Out;
        let without = counts(&mut weighted, &three, 400);
        assert_eq!(without[0], 0);
        assert!(without[1].abs_diff(300) <= 1, "{without:?}");
        three[0].standing = Standing::Open;
        let with = counts(&mut weighted, &three, 900);
        for (count, share) in with.into_iter().zip([500usize, 300, 100]) {
            assert!(count.abs_diff(share) <= 3);
        }
    }

    #[test]
    fn a_growing_share_gets_its_part_and_no_burst_of_what_it_missed() {
        let mut two = candidates(&[1, 1]);
        let mut weighted = Weighted::new(2);
        two[1].share = 10;
        assert_eq!(counts(&mut weighted, &two, 110), [100, 10]);
        two[1].share = 50;
        let grown = counts(&mut weighted, &two, 30);
        assert!(grown[1].abs_diff(10) <= 1, "{grown:?}");
        two[1].share = 100;
        let whole = counts(&mut weighted, &two, 100);
        assert!(whole[1].abs_diff(50) <= 1, "{whole:?}");
    }

    #[test]
    fn none_open_is_none() {
        let mut one = candidates(&[1]);
        one[0].standing = Standing::Closed;
        assert_eq!(Weighted::new(1).pick(&one), None);
        assert_eq!(Weighted::new(0).pick(&[]), None);
    }

    proptest! {
        #[test]
        fn a_round_is_exact_for_any_weights(weights in prop::collection::vec(1u16..=50, 1..8)) {
            let all = candidates(&weights);
            let round = weights.iter().map(|weight| usize::from(*weight)).sum();
            let expected: Vec<usize> = weights.iter().map(|weight| usize::from(*weight)).collect();
            let mut weighted = Weighted::new(all.len());
            prop_assert_eq!(counts(&mut weighted, &all, round), expected);
        }
    }
}
