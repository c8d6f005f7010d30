//! What was measured: values by row and contestant, what failed, and how undisturbed it was.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::contestant::Contestant;
use super::figure::{Figure, Row};
use super::scenario::Scenario;
use super::usage::Usage;
use super::verdict::Verdict;

/// One value of one trial, in the figure's unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    row: Row,
    value: f64,
}

impl Sample {
    pub(super) fn new(figure: Figure, value: f64) -> Self {
        Self { row: figure.into(), value }
    }

    /// With so many sessions held.
    pub(super) fn held(figure: Figure, held: u64, value: f64) -> Self {
        Self { row: Row { figure, held }, value }
    }
}

/// The shares of a core that a scenario's measurements took, on average.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Busy {
    pub(super) proxy: f64,
    pub(super) clients: f64,
    pub(super) broker: f64,
    pub(super) others: f64,
    pub(super) stolen: f64,
}

impl Busy {
    fn mean(usages: &[Usage]) -> Self {
        let mean =
            |share: &dyn Fn(&Usage) -> f64| usages.iter().map(share).sum::<f64>() / usages.len() as f64;
        let cores = |time: Duration, usage: &Usage| time.as_secs_f64() / usage.elapsed.as_secs_f64();
        Self {
            proxy: mean(&|it| cores(it.proxy, it)),
            clients: mean(&|it| cores(it.clients, it)),
            broker: mean(&|it| cores(it.broker, it)),
            others: mean(&|it| it.others),
            stolen: mean(&|it| it.stolen),
        }
    }
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Results {
    values: BTreeMap<(Row, String), Vec<f64>>,
    usages: BTreeMap<(&'static str, String), Vec<Usage>>,
    /// Why, by scenario and contestant.
    pub(super) failures: BTreeMap<(&'static str, String), String>,
    /// What each contestant negotiated.
    pub(super) tls: BTreeMap<String, String>,
}

impl Results {
    pub(super) fn add(&mut self, contestant: &Contestant, samples: &[Sample]) {
        for sample in samples {
            self.values.entry((sample.row, contestant.name.clone())).or_default().push(sample.value);
        }
    }

    pub(super) fn add_usages(&mut self, scenario: Scenario, contestant: &Contestant, usages: &[Usage]) {
        if usages.is_empty() {
            return;
        }
        let key = (scenario.name(), contestant.name.clone());
        self.usages.entry(key).or_default().extend_from_slice(usages);
    }

    /// What was negotiated with a contestant; nothing without TLS.
    pub(super) fn add_tls(&mut self, contestant: &Contestant, tls: &str) {
        if !tls.is_empty() {
            self.tls.insert(contestant.name.clone(), tls.to_owned());
        }
    }

    /// All rows that somebody has a value in, in the report's order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.values.keys().map(|(row, _)| *row).collect();
        rows.dedup();
        rows
    }

    /// The median of a contestant's values.
    pub(super) fn median(&self, row: Row, contestant: &str) -> Option<f64> {
        self.values.get(&(row, contestant.to_owned())).and_then(|values| median(values))
    }

    /// A contestant's value to another's, or to its own in another row. Those of one round are compared with each
    /// other, for the machine's pace drifts; of the ratios it is the median.
    pub(super) fn ratio(&self, ours: (Row, &str), theirs: (Row, &str)) -> Option<f64> {
        let values = |(row, name): (Row, &str)| self.values.get(&(row, name.to_owned()));
        let (ours, theirs) = (values(ours)?, values(theirs)?);
        if ours.len() == theirs.len() {
            return median(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>());
        }
        Some(median(ours)? / median(theirs)?)
    }

    /// How far the middle half of a contestant's values reaches from their middle, as a ratio to it.
    pub(super) fn spread(&self, row: Row, contestant: &str) -> Option<f64> {
        let mut sorted = self.values.get(&(row, contestant.to_owned()))?.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        Some((sorted[last - last / 4] - sorted[last / 4]) / 2.0 / median(&sorted)?)
    }

    /// How busy the cores were, where a scenario measures time.
    pub(super) fn busy(&self, scenario: Scenario, contestant: &str) -> Option<Busy> {
        self.usages.get(&(scenario.name(), contestant.to_owned())).map(|usages| Busy::mean(usages))
    }

    /// All of it, and how it stands to the budget.
    pub(super) fn json(&self, machine: &str, verdicts: &[Verdict]) -> Value {
        let mut rows = serde_json::Map::new();
        for row in self.rows() {
            let values = self.values.iter().filter(|((other, _), _)| *other == row);
            let values = values.map(|((_, name), values)| {
                (name.clone(), json!({ "median": median(values), "values": values }))
            });
            rows.insert(
                row.key(),
                json!({ "title": row.title(), "of": values.collect::<serde_json::Map<_, _>>() }),
            );
        }
        let failures = self.failures.iter().map(
            |((scenario, name), why)| json!({ "scenario": scenario, "contestant": name, "reason": why }),
        );
        let busy = self.usages.iter().map(|((scenario, name), usages)| {
            let busy = Busy::mean(usages);
            json!({
                "scenario": scenario, "contestant": name, "proxy": busy.proxy, "clients": busy.clients,
                "broker": busy.broker, "others": busy.others, "stolen": busy.stolen,
            })
        });
        let verdicts = verdicts.iter().map(|verdict| {
            json!({
                "figure": verdict.row.key(), "of": verdict.name, "is": verdict.value,
                "compared_with": verdict.measure_of, "ratio": verdict.ratio, "grade": verdict.grade().word(),
            })
        });
        json!({
            "machine": machine,
            "figures": rows,
            "budget": verdicts.collect::<Vec<_>>(),
            "failures": failures.collect::<Vec<_>>(),
            "tls": self.tls,
            "cores": busy.collect::<Vec<_>>(),
        })
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}
