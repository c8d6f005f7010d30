//! Active health: what probes tell of an endpoint. Pure: state + result -> state.
//!
//! It takes a streak of equal results to change our mind, so that one lost packet takes no broker down.
//! Before the first result an endpoint counts as up, and that first result decides at once.

/// What the probes of an endpoint made us believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::upstream) struct Streak {
    belief: Belief,
    /// Results in a row that speak against the belief.
    against: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Belief {
    #[default]
    Untested,
    Up,
    Down,
}

/// What a probe changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The first probe passed.
    Confirmed,
    /// It was down, and is up.
    Rose,
    /// It is down.
    Fell,
}

impl Streak {
    /// Whether its probes say that it is down.
    #[must_use]
    pub(in crate::upstream) const fn is_down(self) -> bool {
        matches!(self.belief, Belief::Down)
    }

    /// The next state, and what changed. `rise` successes in a row bring it up, `fall` failures down.
    #[must_use]
    pub(in crate::upstream) fn after(self, passed: bool, rise: u32, fall: u32) -> (Self, Option<Change>) {
        let settled = |belief| Self { belief, against: 0 };
        match (self.belief, passed) {
            (Belief::Untested, true) => (settled(Belief::Up), Some(Change::Confirmed)),
            (Belief::Untested, false) => (settled(Belief::Down), Some(Change::Fell)),
            (Belief::Up, true) | (Belief::Down, false) => (settled(self.belief), None),
            (Belief::Up, false) if self.against + 1 >= fall => (settled(Belief::Down), Some(Change::Fell)),
            (Belief::Down, true) if self.against + 1 >= rise => (settled(Belief::Up), Some(Change::Rose)),
            (Belief::Up, false) | (Belief::Down, true) => (Self { against: self.against + 1, ..self }, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results as `+` and `-`; the state after each as `?` untested, `U` up, `D` down.
    fn story(results: &str, rise: u32, fall: u32) -> (String, Vec<Change>) {
        let mut streak = Streak::default();
        let mut changes = Vec::new();
        let states = results.chars().map(|result| {
            let (next, change) = streak.after(result == '+', rise, fall);
            streak = next;
            changes.extend(change);
            if streak.is_down() { 'D' } else { 'U' }
        });
        (states.collect(), changes)
    }

    #[test]
    fn a_streak_changes_our_mind_and_one_result_does_not() {
        use Change::{Confirmed, Fell, Rose};
        let table: &[(&str, u32, u32, &str, &[Change])] = &[
            ("+", 2, 3, "U", &[Confirmed]),
            ("-", 2, 3, "D", &[Fell]),
            ("+---", 2, 3, "UUUD", &[Confirmed, Fell]),
            ("+--+--", 2, 3, "UUUUUU", &[Confirmed]),
            ("+---+-++", 2, 3, "UUUDDDDU", &[Confirmed, Fell, Rose]),
            ("-++---", 2, 3, "DDUUUD", &[Fell, Rose, Fell]),
            ("+-+-", 1, 1, "UDUD", &[Confirmed, Fell, Rose, Fell]),
            ("-----+++++", 5, 1, "DDDDDDDDDU", &[Fell, Rose]),
        ];
        for (results, rise, fall, states, changes) in table {
            let (said, changed) = story(results, *rise, *fall);
            assert_eq!((said.as_str(), changed.as_slice()), (*states, *changes), "{results} {rise} {fall}");
        }
        assert!(!Streak::default().is_down(), "innocent until probed");
    }
}
