//! The results against the budget.

use super::contestant::{Contestant, Kind};
use super::figure::{Bound, Budget, Figure, GROWTH, Row, TCP_FORM};
use super::results::Results;

/// One line of the budget, for one build of the gateway.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    /// Whose.
    pub(super) name: String,
    pub(super) row: Row,
    pub(super) value: f64,
    /// What it is compared with, and whose that is.
    pub(super) measure: f64,
    pub(super) measure_of: String,
    pub(super) ratio: f64,
    pub(super) must: Bound,
    pub(super) aim: Bound,
}

/// How a figure stands to its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// Within the aim.
    Aim,
    /// Within what must be, but not within the aim.
    Must,
    Missed,
}

impl Verdict {
    pub(super) fn grade(&self) -> Grade {
        match () {
            () if !self.must.holds(self.value, self.ratio) => Grade::Missed,
            () if !self.aim.holds(self.value, self.ratio) => Grade::Must,
            () => Grade::Aim,
        }
    }
}

impl Grade {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Aim => "aim met",
            Self::Must => "must met",
            Self::Missed => "missed",
        }
    }
}

/// All lines of the budget that the results have both sides of.
pub(super) fn verdicts(results: &Results, contestants: &[Contestant]) -> Vec<Verdict> {
    let rows = results.rows();
    let budgeted: Vec<(Row, Budget)> =
        rows.iter().filter_map(|row| Some((*row, row.figure.budget()?))).collect();
    let mut verdicts = Vec::new();
    for ours in contestants.iter().filter(|contestant| contestant.kind == Kind::Brokergate) {
        let peers = |(row, budget): &(Row, Budget)| {
            let best = best(results, contestants, budget.against, *row)?;
            compare(results, (*row, &ours.name), (*row, &best), (budget.must, budget.aim))
        };
        verdicts.extend(budgeted.iter().filter_map(peers));
        let held = [Figure::HeldMemory, Figure::HeldCpu];
        verdicts.extend(held.into_iter().filter_map(|figure| growth(results, &rows, &ours.name, figure)));
    }
    for tcp in contestants.iter().filter(|contestant| contestant.kind == Kind::BrokergateTcp) {
        let Some(websocket) = tcp.name.strip_suffix("-tcp") else { continue };
        let form = |(row, _): &(Row, Budget)| {
            compare(results, (*row, &tcp.name), (*row, websocket), bounds(TCP_FORM))
        };
        verdicts.extend(budgeted.iter().filter_map(form));
    }
    verdicts
}

/// Who of these kinds is best in a row.
pub(super) fn best(
    results: &Results,
    contestants: &[Contestant],
    kinds: &[Kind],
    row: Row,
) -> Option<String> {
    let peers = contestants.iter().filter(|contestant| kinds.contains(&contestant.kind));
    let values = peers.filter_map(|peer| Some((results.median(row, &peer.name)?, &peer.name)));
    values.min_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name.clone())
}

fn bounds((must, aim): (f64, f64)) -> (Bound, Bound) {
    (Bound::ratio(must), Bound::ratio(aim))
}

/// A contestant's row beside another's, or beside another of its own with fewer sessions held.
fn compare(
    results: &Results,
    ours: (Row, &str),
    theirs: (Row, &str),
    (must, aim): (Bound, Bound),
) -> Option<Verdict> {
    let measure_of =
        if ours.1 == theirs.1 { format!("with {} held", theirs.0.held) } else { theirs.1.to_owned() };
    Some(Verdict {
        name: ours.1.to_owned(),
        row: ours.0,
        value: results.median(ours.0, ours.1)?,
        measure: results.median(theirs.0, theirs.1)?,
        measure_of,
        ratio: results.ratio(ours, theirs)?,
        must,
        aim,
    })
}

/// The most sessions held against the fewest.
fn growth(results: &Results, rows: &[Row], name: &str, figure: Figure) -> Option<Verdict> {
    let mut rows = rows.iter().filter(|row| row.figure == figure);
    let (first, last) = (*rows.next()?, *rows.next_back()?);
    compare(results, (last, name), (first, name), bounds(GROWTH))
}
