//! A page of `/metrics`, read by the rules of Prometheus' text format.

use std::collections::{BTreeMap, BTreeSet};

/// The values of each label.
pub type Labels = BTreeMap<String, BTreeSet<String>>;

/// What there is under a name.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    labels: Labels,
}

/// All metrics, by name.
pub struct Page(BTreeMap<String, Family>);

impl Page {
    /// Each sample must belong to the family before it, and each series be there once.
    pub fn parse(text: &str) -> Self {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let (mut current, mut seen) = (String::new(), BTreeSet::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                current = name.to_owned();
                let family = Family { help: help.to_owned(), ..Family::default() };
                assert!(families.insert(current.clone(), family).is_none(), "{name} is there twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current);
                families.get_mut(name).unwrap().kind = kind.to_owned();
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(seen.insert(series.to_owned()), "{series} is there twice");
                assert!(value.trim_start_matches('+').parse::<f64>().is_ok(), "{line}");
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let family = families.get_mut(&current).unwrap();
                assert!(
                    names_of(&current, &family.kind).contains(&name.to_owned()),
                    "{name} below {current}"
                );
                for (label, value) in pairs(labels.strip_suffix('}').unwrap()) {
                    if label != "le" {
                        family.labels.entry(label).or_default().insert(value);
                    }
                }
            }
        }
        Self(families)
    }

    pub fn families(&self) -> impl Iterator<Item = (&String, &Family)> {
        self.0.iter()
    }

    /// Name, type, and the names of its labels.
    pub fn metrics(&self) -> impl Iterator<Item = (String, String, Vec<String>)> {
        self.families().map(|(name, family)| {
            (name.clone(), family.kind.clone(), family.labels.keys().cloned().collect())
        })
    }

    /// The labels of what a query calls by `name`: of a histogram that is one of its three.
    pub fn labels(&self, name: &str) -> Option<Labels> {
        let (_, family) = self
            .families()
            .find(|(family, Family { kind, .. })| names_of(family, kind).contains(&name.to_owned()))?;
        let mut labels = family.labels.clone();
        if name.ends_with("_bucket") {
            labels.insert("le".into(), BTreeSet::new());
        }
        Some(labels)
    }
}

/// What samples of a family are called.
fn names_of(family: &str, kind: &str) -> Vec<String> {
    match kind {
        "histogram" => ["_bucket", "_sum", "_count"].map(|end| format!("{family}{end}")).to_vec(),
        _ => vec![family.to_owned()],
    }
}

/// `a="b",c="d"`; no value of these tests has a quote in it.
fn pairs(labels: &str) -> Vec<(String, String)> {
    let parts = labels.split("\",").filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (label, value) = part.split_once("=\"").unwrap();
        (label.to_owned(), value.trim_end_matches('"').to_owned())
    };
    parts.map(pair).collect()
}
