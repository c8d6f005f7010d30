//! PromQL, as far as it names metrics and labels. Whether it is PromQL at all, promtool says.

use std::collections::BTreeSet;

use super::page::{Labels, Page};

/// Labels that Prometheus adds to all that it scrapes.
const ADDED: [&str; 2] = ["job", "instance"];

/// What Prometheus says itself of a target.
const PROMETHEUS: [&str; 1] = ["up"];

/// Words between operands, which are no metrics.
const OPERATORS: [&str; 5] = ["and", "or", "unless", "offset", "bool"];

/// Words that a list of labels follows.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What an expression asks for that the page does not have; `words` are labels that a text takes from its result.
pub fn faults(expression: &str, words: &[String], page: &Page) -> Vec<String> {
    let mut faults = Vec::new();
    let read = Read::of(expression);
    let mut known: BTreeSet<String> = ADDED.map(str::to_owned).into();
    let mut is_empty = true;
    for (metric, matchers) in &read.selectors {
        is_empty = false;
        if PROMETHEUS.contains(&&**metric) {
            continue;
        }
        let Some(labels) = page.labels(metric) else {
            faults.push(format!("there is no metric {metric}"));
            continue;
        };
        faults.extend(matchers.iter().filter_map(|matcher| matcher.fault(metric, &labels)));
        known.extend(labels.into_keys());
    }
    if is_empty {
        faults.push("it asks for no metric".to_owned());
    }
    if faults.is_empty() {
        let unknown = read.listed.iter().filter(|label| !known.contains(*label));
        faults.extend(unknown.map(|label| format!("no metric here has a label {label}")));
        // An aggregation leaves the labels it lists, and no others.
        let given = if read.kept.is_empty() { &known } else { &read.kept };
        let missing = words.iter().filter(|word| !given.contains(*word));
        faults.extend(missing.map(|word| format!("the words use {word}, which it does not give")));
    }
    faults
}

/// The labels that a text takes: `{{ $labels.endpoint }}` by the prefix `$labels.`, `{{endpoint}}` by none.
pub fn templates(text: &str, prefix: &str) -> Vec<String> {
    let holes = text.split("{{").skip(1).filter_map(|hole| hole.split("}}").next());
    let names =
        holes.filter_map(|hole| hole.trim().strip_prefix(prefix)).filter(|name| !name.starts_with('$'));
    names.map(|name| name.split([' ', '|']).next().unwrap_or_default().to_owned()).collect()
}

struct Matcher {
    label: String,
    operator: String,
    value: String,
}

impl Matcher {
    fn fault(&self, metric: &str, labels: &Labels) -> Option<String> {
        let Self { label, operator, value } = self;
        // Those that are added, and a dashboard's variables, have whatever values there are.
        if ADDED.contains(&&**label) {
            return None;
        }
        let Some(values) = labels.get(label) else { return Some(format!("{metric} has no label {label}")) };
        if value.starts_with('$') || label == "le" {
            return None;
        }
        let is_there = |alternative: &str| match alternative.strip_suffix(".*") {
            Some(start) => values.iter().any(|value| value.starts_with(start)),
            None => values.contains(alternative),
        };
        let mut alternatives: Vec<&str> =
            if operator.ends_with('~') { value.split('|').collect() } else { vec![value] };
        alternatives.retain(|alternative| !is_there(alternative));
        let missing = alternatives.first()?;
        Some(format!("{label} has no value {missing:?} in {metric}"))
    }
}

/// What was found in an expression.
#[derive(Default)]
struct Read {
    selectors: Vec<(String, Vec<Matcher>)>,
    /// Labels in any list.
    listed: BTreeSet<String>,
    /// Those of `by` lists.
    kept: BTreeSet<String>,
}

impl Read {
    fn of(expression: &str) -> Self {
        let mut read = Self::default();
        let mut rest = expression;
        while let Some(first) = rest.chars().next() {
            if first.is_ascii_alphabetic() || first == '_' {
                rest = read.word(rest);
            } else if first.is_ascii_digit() {
                // A number or a duration, with its unit and exponent.
                rest = rest.trim_start_matches(|sign: char| sign.is_ascii_alphanumeric() || sign == '.');
            } else if first == '[' {
                rest = rest.split_once(']').expect("a range ends").1;
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        read
    }

    /// Read a word and what belongs to it; what is behind.
    fn word<'a>(&mut self, text: &'a str) -> &'a str {
        let end = text.find(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_' && sign != ':');
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        let rest = rest.trim_start();
        if LISTS.contains(&word) {
            let (list, behind) = rest.strip_prefix('(').expect("a list").split_once(')').expect("its end");
            let labels = list.split(',').map(|label| label.trim().to_owned()).filter(|it| !it.is_empty());
            let labels: Vec<String> = labels.collect();
            if word == "by" {
                self.kept.extend(labels.iter().cloned());
            }
            self.listed.extend(labels);
            return behind;
        }
        // A function or an aggregation.
        if OPERATORS.contains(&word) || rest.starts_with('(') || is_aggregation(word) {
            return rest;
        }
        let (matchers, rest) = match rest.strip_prefix('{') {
            Some(inside) => inside.split_once('}').expect("matchers end"),
            None => ("", rest),
        };
        self.selectors.push((word.to_owned(), matchers_of(matchers)));
        rest
    }
}

/// Those that may have their list before their operand.
fn is_aggregation(word: &str) -> bool {
    ["sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile"].contains(&word)
}

fn matchers_of(text: &str) -> Vec<Matcher> {
    let parts = text.split("\",").map(|part| part.trim().trim_end_matches('"'));
    let matcher = |part: &str| {
        let (left, value) = part.split_once('"').expect("a matcher has a value");
        let operator =
            left.trim_start_matches(|sign: char| sign.is_ascii_alphanumeric() || sign == '_').trim();
        let label = left.trim().trim_end_matches(['=', '!', '~']).trim();
        Matcher { label: label.to_owned(), operator: operator.to_owned(), value: value.to_owned() }
    };
    parts.filter(|part| !part.is_empty()).map(matcher).collect()
}
