//! What was measured: values by row and contestant, what failed, and how undisturbed it was.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::contestant::Contestant;
use super::figure::{Figure, Row};
use super::scenario::Scenario;
use super::usage::Usage;

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
        let key = (scenario.name(), contestant.name.clone());
        self.usages.entry(key).or_default().extend_from_slice(usages);
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

    /// The smallest and the largest value.
    pub(super) fn range(&self, row: Row, contestant: &str) -> Option<(f64, f64)> {
        let values = self.values.get(&(row, contestant.to_owned()))?;
        let smallest = values.iter().copied().reduce(f64::min)?;
        Some((smallest, values.iter().copied().reduce(f64::max)?))
    }

    /// By scenario and contestant.
    pub(super) fn busy(&self) -> BTreeMap<(&'static str, &str), Busy> {
        let mean = |usages: &[Usage], share: &dyn Fn(&Usage) -> f64| {
            usages.iter().map(share).sum::<f64>() / usages.len().max(1) as f64
        };
        let busy = |usages: &Vec<Usage>| Busy {
            proxy: mean(usages, &|it| it.proxy.as_secs_f64() / it.elapsed.as_secs_f64()),
            clients: mean(usages, &|it| it.clients.as_secs_f64() / it.elapsed.as_secs_f64()),
            broker: mean(usages, &|it| it.broker.as_secs_f64() / it.elapsed.as_secs_f64()),
            others: mean(usages, &|it| it.others),
            stolen: mean(usages, &|it| it.stolen),
        };
        self.usages
            .iter()
            .map(|((scenario, name), usages)| ((*scenario, name.as_str()), busy(usages)))
            .collect()
    }

    /// All of it.
    pub(super) fn json(&self) -> Value {
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
        let busy = self.busy().into_iter().map(|((scenario, name), busy)| {
            json!({
                "scenario": scenario, "contestant": name, "proxy": busy.proxy, "clients": busy.clients,
                "broker": busy.broker, "others": busy.others, "stolen": busy.stolen,
            })
        });
        json!({
            "figures": rows,
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
