//! The results as Markdown.

use std::fmt::Write as _;

use super::contestant::{Contestant, Kind, Variant};
use super::figure::Row;
use super::results::Results;
use super::scenario::Scenario;
use super::verdict::{Verdict, best, verdicts};

/// Medians, verdicts, and what a reader needs to believe them.
pub(super) fn markdown(results: &Results, contestants: &[Contestant], machine: &str) -> String {
    let mut text = String::new();
    text.push_str(machine);
    text.push_str("\n\n");
    medians(&mut text, results, contestants);
    let verdicts = verdicts(results, contestants);
    if !verdicts.is_empty() {
        text.push('\n');
        budget(&mut text, &verdicts);
    }
    text.push('\n');
    notes(&mut text, results, contestants);
    text
}

fn medians(text: &mut String, results: &Results, contestants: &[Contestant]) {
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name.as_str()).collect();
    line(text, "figure", names.iter().copied().chain(["spread"]));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(names.len() + 1));
    for row in results.rows() {
        let cells = contestants.iter().map(|contestant| cell(results, contestants, contestant, row));
        line(text, &row.title(), cells.chain([spread(results, &names, row)]));
    }
}

fn line<T: AsRef<str>>(text: &mut String, title: &str, cells: impl Iterator<Item = T>) {
    let _ = write!(text, "| {title} |");
    for cell in cells {
        let _ = write!(text, " {} |", cell.as_ref());
    }
    text.push('\n');
}

/// A median; behind those of the gateway the ratio to the best peer, or to the first column without peers.
fn cell(results: &Results, contestants: &[Contestant], contestant: &Contestant, row: Row) -> String {
    let Some(value) = results.median(row, &contestant.name) else { return "–".to_owned() };
    let measure = measure(results, contestants, row);
    match measure.filter(|(_, name)| contestant.is_brokergate() && *name != contestant.name) {
        Some((best, _)) if best > 0.0 => format!("{} ({:.2})", number(value), value / best),
        _ => number(value),
    }
}

fn measure(results: &Results, contestants: &[Contestant], row: Row) -> Option<(f64, String)> {
    let kinds = row.figure.budget().map_or(&[Kind::Nginx, Kind::HaProxy][..], |budget| budget.against);
    best(results, contestants, kinds, row).or_else(|| {
        let first = contestants.first()?;
        Some((results.median(row, &first.name)?, first.name.clone()))
    })
}

/// From the median to the farthest value, of the contestant where that is farthest.
fn spread(results: &Results, names: &[&str], row: Row) -> String {
    let of = |name: &&str| {
        let (median, (least, most)) = (results.median(row, name)?, results.range(row, name)?);
        Some((most - median).max(median - least) / median)
    };
    let widest = names.iter().filter_map(of).fold(0.0, f64::max);
    if widest > 0.0 { format!("±{:.0} %", widest * 100.0) } else { String::new() }
}

fn budget(text: &mut String, verdicts: &[Verdict]) {
    text.push_str(
        "| budget | of | is | measure | ratio | must | aim | |\n|---|---|---:|---:|---:|---|---|---|\n",
    );
    for verdict in verdicts {
        let Verdict { name, title, value, best, best_of, must, aim, grade } = verdict;
        let _ = writeln!(
            text,
            "| {title} | {name} | {} | {} ({best_of}) | {:.2} | {must} | {aim} | {} |",
            number(*value),
            number(*best),
            value / best,
            grade.word()
        );
    }
}

fn notes(text: &mut String, results: &Results, contestants: &[Contestant]) {
    for contestant in contestants {
        let bulk: Vec<&str> = Scenario::ALL
            .into_iter()
            .filter(|scenario| contestant.kind.variant(*scenario) == Some(Variant::Bulk))
            .map(Scenario::name)
            .collect();
        if !bulk.is_empty() {
            let _ = writeln!(
                text,
                "- {}: 64 KiB buffers in {}, 16 KiB in all others.",
                contestant.name,
                bulk.join(" and ")
            );
        }
    }
    for (name, tls) in &results.tls {
        let _ = writeln!(text, "- {name} negotiated {tls}.");
    }
    for ((scenario, name), why) in &results.failures {
        let _ = writeln!(text, "- **{name} failed in {scenario}**: {why}");
    }
    let busy = results.busy();
    if !busy.is_empty() {
        text.push_str("\nHow busy the cores were, in % of one core:\n\n");
        text.push_str("| scenario | contestant | proxy | clients | brokers | others | stolen |\n|---|---|---:|---:|---:|---:|---:|\n");
        for ((scenario, name), busy) in busy {
            let shares = [busy.proxy, busy.clients, busy.broker, busy.others, busy.stolen];
            let shares = shares.map(|share| format!("{:.0}", share * 100.0));
            let _ = writeln!(text, "| {scenario} | {name} | {} |", shares.join(" | "));
        }
    }
}

/// Three digits that count.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
