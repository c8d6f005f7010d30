//! A line for each check, and the sum at the end.
#![expect(clippy::print_stdout, reason = "the report is what this program is for")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Error;

/// What was checked so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    began: Option<Instant>,
}

impl Report {
    pub(crate) fn begin(&mut self, scenario: &str) {
        let began = self.began.get_or_insert_with(Instant::now);
        println!("\n== {scenario} ({} s)", began.elapsed().as_secs());
    }

    /// A check that passes when nothing is told against it.
    pub(crate) fn check(&mut self, what: &str, figures: &str, against: &[String]) {
        if against.is_empty() {
            self.passed += 1;
            println!("ok    {what}: {figures}");
            return;
        }
        self.failed += 1;
        println!("FAIL  {what}: {figures}");
        against.iter().take(5).for_each(|line| println!("        {line}"));
        if against.len() > 5 {
            println!("        and {} more", against.len() - 5);
        }
    }

    /// A check that passes when `holds`.
    pub(crate) fn expect(&mut self, what: &str, figures: &str, holds: bool) {
        let against = if holds { vec![] } else { vec!["that is not as promised".to_owned()] };
        self.check(what, figures, &against);
    }

    /// What could not be checked to its end.
    pub(crate) fn failed(&mut self, what: &str, error: &Error) {
        self.failed += 1;
        println!("FAIL  {what}: {error:#}");
    }

    /// A figure that nothing is expected of.
    pub(crate) fn note(&self, text: &str) {
        println!("      {text}");
    }

    pub(crate) fn end(&self) -> ExitCode {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
