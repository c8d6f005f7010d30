//! The figures we have accepted, and what is said of new ones.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// What a figure may grow by, as a share of what was accepted.
const TOLERANCE: f64 = 0.05;

const HEAD: &str = "\
# What one operation of each case costs: instructions of our own code, and calls into libc.
# `just bench-check` compares with these, `just bench-accept` writes them. A commit that lets one grow says why.
";

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counts {
    /// Instructions of our own program file.
    pub(crate) instructions: f64,
    /// Calls from there into libraries of the system.
    pub(crate) calls: f64,
}

impl Counts {
    pub(crate) fn less(self, other: Self) -> Self {
        Self { instructions: self.instructions - other.instructions, calls: self.calls - other.calls }
    }

    /// Of one of so many, to the tenth.
    pub(crate) fn each(self, count: usize) -> Self {
        let tenth = |sum: f64| (sum / count as f64 * 10.0).round() / 10.0;
        Self { instructions: tenth(self.instructions), calls: tenth(self.calls) }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:10.1} instructions {:6.1} calls", self.instructions, self.calls)
    }
}

/// Accepted counts, by case.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<String, Counts>);

/// What there is to say of a case.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Within tolerance.
    Same,
    /// Less than before, by this share.
    Shrunk(f64),
    /// More than before.
    Grown { what: &'static str, from: f64, by: f64 },
    /// It has no figure yet.
    NoFigure,
    /// A figure of a case that is not there.
    NoCase,
}

impl Figures {
    /// Those in the file; none where there is no file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path)?;
        Ok(Self(toml::from_str(&text).with_context(|| format!("{} is not what we write", path.display()))?))
    }

    pub(crate) fn store(&self, path: &Path) -> Result<()> {
        let mut text = HEAD.to_owned();
        for (name, Counts { instructions, calls }) in &self.0 {
            writeln!(text, "{name} = {{ instructions = {instructions:.1}, calls = {calls:.1} }}")?;
        }
        Ok(std::fs::write(path, text)?)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn accept(&mut self, name: &str, counts: Counts) {
        self.0.insert(name.to_owned(), counts);
    }

    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_wanted(name));
    }

    pub(crate) fn judge(&self, name: &str, now: Counts) -> Verdict {
        let Some(then) = self.0.get(name) else { return Verdict::NoFigure };
        let figures =
            [("instructions", then.instructions, now.instructions), ("calls", then.calls, now.calls)];
        let grown = figures.into_iter().find(|(_, then, now)| *now > then * (1.0 + TOLERANCE));
        if let Some((what, from, now)) = grown {
            return Verdict::Grown { what, from, by: now / from - 1.0 };
        }
        let shrunk = figures.into_iter().find(|(_, then, now)| *now < then * (1.0 - TOLERANCE));
        shrunk.map_or(Verdict::Same, |(_, then, now)| Verdict::Shrunk(1.0 - now / then))
    }
}

impl Verdict {
    /// Whether it may pass.
    pub(crate) const fn is_good(&self) -> bool {
        matches!(self, Self::Same | Self::Shrunk(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => Ok(()),
            Self::Shrunk(by) => {
                write!(f, "   {:.1} % less: accept the new figure by `just bench-accept`", by * 100.0)
            }
            Self::Grown { what, from, by } => write!(f, "   {:.1} % more {what} than {from:.1}", by * 100.0),
            Self::NoFigure => write!(f, "   no figure was accepted"),
            Self::NoCase => write!(f, "   there is a figure and no such case"),
        }
    }
}
