//! The results against the budget.

use super::contestant::{Contestant, Kind};
use super::figure::{Bound, Figure, GROWTH, Row, TCP_FORM};
use super::results::Results;

/// One line of the budget, for one build of the gateway.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    /// Whose.
    pub(super) name: String,
    /// What.
    pub(super) title: String,
    pub(super) value: f64,
    /// The measure, and whose it is.
    pub(super) best: f64,
    pub(super) best_of: String,
    pub(super) must: String,
    pub(super) aim: String,
    pub(super) grade: Grade,
}

/// How a figure stands to its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// Below the aim.
    Aim,
    /// Below what must be, above the aim.
    Must,
    Missed,
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
    let mut verdicts = Vec::new();
    for ours in contestants.iter().filter(|contestant| contestant.kind == Kind::Brokergate) {
        let rows = results.rows();
        verdicts.extend(rows.iter().filter_map(|row| against_peers(results, contestants, &ours.name, *row)));
        for figure in [Figure::HeldMemory, Figure::HeldCpu] {
            verdicts.extend(growth(results, &ours.name, figure));
        }
        let tcp = format!("{}-tcp", ours.name);
        verdicts.extend(rows.iter().filter_map(|row| tcp_form(results, &ours.name, &tcp, *row)));
    }
    verdicts
}

/// The best of these kinds in a row: its value and its name.
pub(super) fn best(
    results: &Results,
    contestants: &[Contestant],
    kinds: &[Kind],
    row: Row,
) -> Option<(f64, String)> {
    let peers = contestants.iter().filter(|contestant| kinds.contains(&contestant.kind));
    let values = peers.filter_map(|peer| Some((results.median(row, &peer.name)?, peer.name.clone())));
    values.min_by(|one, other| one.0.total_cmp(&other.0))
}

fn against_peers(results: &Results, contestants: &[Contestant], name: &str, row: Row) -> Option<Verdict> {
    let budget = row.figure.budget()?;
    let (best, best_of) = best(results, contestants, budget.against, row)?;
    Some(judge(
        name,
        row.title(),
        results.median(row, name)?,
        (best, best_of),
        budget.must,
        budget.aim,
        row.figure,
    ))
}

/// The most sessions held against the fewest; of memory against the thousand, for a few bear the process' own.
fn growth(results: &Results, name: &str, figure: Figure) -> Option<Verdict> {
    let fewest = if figure == Figure::HeldMemory { 1000 } else { 0 };
    let rows: Vec<Row> =
        results.rows().into_iter().filter(|row| row.figure == figure && row.held >= fewest).collect();
    let (first, last) = (*rows.first()?, *rows.last()?);
    if first == last {
        return None;
    }
    let best = (results.median(first, name)?, format!("with {} held", first.held));
    let (must, aim) = (Bound::ratio(GROWTH.0), Bound::ratio(GROWTH.1));
    Some(judge(name, last.title(), results.median(last, name)?, best, must, aim, figure))
}

/// Our TCP form against our WebSocket form.
fn tcp_form(results: &Results, name: &str, tcp: &str, row: Row) -> Option<Verdict> {
    let best = (results.median(row, name)?, name.to_owned());
    let (must, aim) = (Bound::ratio(TCP_FORM.0), Bound::ratio(TCP_FORM.1));
    Some(judge(tcp, row.title(), results.median(row, tcp)?, best, must, aim, row.figure))
}

fn judge(
    name: &str,
    title: String,
    value: f64,
    (best, best_of): (f64, String),
    must: Bound,
    aim: Bound,
    figure: Figure,
) -> Verdict {
    let (_, _, unit) = figure.words();
    let grade = match () {
        () if !must.holds(value, best) => Grade::Missed,
        () if !aim.holds(value, best) => Grade::Must,
        () => Grade::Aim,
    };
    Verdict {
        name: name.to_owned(),
        title,
        value,
        best,
        best_of,
        must: must.words(unit),
        aim: aim.words(unit),
        grade,
    }
}
