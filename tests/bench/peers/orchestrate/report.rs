//! The results as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::contestant::{Contestant, Kind};
use super::figure::Row;
use super::results::{Busy, Results};
use super::scenario::Scenario;
use super::verdict::{Verdict, best};

/// Cores' worth of other work, past which latencies tell little.
const MUCH: f64 = 0.1;

/// Medians, verdicts, and what a reader needs to believe them.
pub(super) fn markdown(
    results: &Results,
    contestants: &[Contestant],
    verdicts: &[Verdict],
    machine: &str,
) -> String {
    let mut text = format!("{machine}\n\n");
    medians(&mut text, results, contestants);
    budget(&mut text, verdicts);
    notes(&mut text, results, contestants);
    cores(&mut text, results, contestants);
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
    text.push('\n');
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
    let measure = measure(results, contestants, row).filter(|measure| *measure != contestant.name);
    let ratio = measure.and_then(|measure| results.ratio((row, &contestant.name), (row, &measure)));
    match ratio.filter(|_| contestant.is_brokergate()) {
        Some(ratio) => format!("{} ({ratio:.2})", number(value)),
        None => number(value),
    }
}

fn measure(results: &Results, contestants: &[Contestant], row: Row) -> Option<String> {
    let kinds = row.figure.budget().map_or(&[Kind::Nginx, Kind::HaProxy][..], |budget| budget.against);
    best(results, contestants, kinds, row).or_else(|| Some(contestants.first()?.name.clone()))
}

/// That of the contestant where it is largest.
fn spread(results: &Results, names: &[&str], row: Row) -> String {
    let widest = names.iter().filter_map(|name| results.spread(row, name)).fold(0.0, f64::max);
    if widest > 0.0 { format!("±{:.0} %", widest * 100.0) } else { String::new() }
}

fn budget(text: &mut String, verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    line(text, "budget", ["of", "is", "compared with", "ratio", "must", "aim", ""].into_iter());
    text.push_str("|---|---|---:|---:|---:|---|---|---|\n");
    for verdict in verdicts {
        let (_, _, unit) = verdict.row.figure.words();
        let cells = [
            verdict.name.clone(),
            number(verdict.value),
            format!("{} ({})", number(verdict.measure), verdict.measure_of),
            format!("{:.2}", verdict.ratio),
            verdict.must.words(unit),
            verdict.aim.words(unit),
            verdict.grade().word().to_owned(),
        ];
        line(text, &verdict.row.title(), cells.into_iter());
    }
    text.push('\n');
}

fn notes(text: &mut String, results: &Results, contestants: &[Contestant]) {
    for ((scenario, name), why) in &results.failures {
        let _ = writeln!(text, "- **{name} failed in {scenario}**: {why}");
    }
    for contestant in contestants {
        let mut sizes: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for scenario in Scenario::ALL {
            if let Some(size) = contestant.kind.buffers(scenario) {
                sizes.entry(size).or_default().push(scenario.name());
            }
        }
        let sizes: Vec<String> =
            sizes.iter().map(|(size, scenarios)| format!("{size} KiB in {}", scenarios.join(", "))).collect();
        if !sizes.is_empty() {
            let _ = writeln!(text, "- Buffers of {}: {}.", contestant.name, sizes.join("; "));
        }
    }
    let mut negotiated: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, tls) in &results.tls {
        negotiated.entry(tls).or_default().push(name);
    }
    for (tls, names) in negotiated {
        let _ = writeln!(text, "- {tls}: {}.", names.join(", "));
    }
}

/// How busy the cores were, by scenario.
fn cores(text: &mut String, results: &Results, contestants: &[Contestant]) {
    let busy = |scenario| -> Vec<Option<Busy>> {
        contestants.iter().map(|contestant| results.busy(scenario, &contestant.name)).collect()
    };
    let most =
        |all: &[Option<Busy>], share: fn(&Busy) -> f64| all.iter().flatten().map(share).fold(0.0, f64::max);
    let percent = |share: f64| format!("{:.0}", share * 100.0);

    let all: Vec<Option<Busy>> = Scenario::ALL.into_iter().flat_map(busy).collect();
    if all.iter().all(Option::is_none) {
        return;
    }
    let others = most(&all, |it| it.others);
    if others > MUCH {
        let _ = writeln!(
            text,
            "- **The machine had other work**, up to {} % of a core: latencies and small differences tell little.",
            percent(others)
        );
    }
    text.push_str("\nThe cores, in % of one: the proxy's / that of clients and brokers.\n\n");
    let names = contestants.iter().map(|contestant| contestant.name.as_str());
    line(text, "scenario", names.chain(["others", "stolen"]));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(contestants.len() + 2));
    for scenario in Scenario::ALL {
        let here = busy(scenario);
        if here.iter().all(Option::is_none) {
            continue;
        }
        let cells = here.iter().map(|busy| match busy {
            Some(busy) => format!("{} / {}", percent(busy.proxy), percent(busy.clients + busy.broker)),
            None => "–".to_owned(),
        });
        let rest = [percent(most(&here, |it| it.others)), percent(most(&here, |it| it.stolen))];
        line(text, scenario.name(), cells.chain(rest));
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
