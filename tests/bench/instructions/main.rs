//! What the pure parts cost, in instructions: `cargo bench --bench instructions [-- [--accept] [WORD…]]`
//!
//! valgrind runs each case in a process of its own and counts. Only the instructions of this program's own file
//! count: what libc does for us (copies, allocations) it does differently on each processor, so of that the calls
//! are counted. What is left is the same on every x86-64 machine. `figures.toml` holds what we have accepted.
#![expect(clippy::print_stdout, reason = "it reports")]

mod cases;
mod figures;
mod profile;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

use cases::{CASES, Case, Operation};
use figures::{Counts, Figures, Verdict};

// Not gungraun: its runner is one more program to install, and it compares with what target/ happens to hold.

/// Runs of an operation that are one unit: a case runs once with one and once with two of them, and the difference
/// is its figure. A multiple of 16, for operations that take turns.
const TIMES: usize = 128;

const FIGURES: &str = "tests/bench/instructions/figures.toml";

fn main() -> Result<ExitCode> {
    // cargo says `--bench` to every benchmark.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--count", name, times] => count(name, times.parse()?),
        ["--accept", words @ ..] => accept(words),
        words => check(words),
    }
}

// --- Under valgrind ----------------------------------------------------------------------------------

fn count(name: &str, times: usize) -> Result<ExitCode> {
    let case =
        CASES.iter().chain([&cases::NOTHING]).find(|case| case.name == name).context("no such case")?;
    let mut operation = (case.prepare)();
    counted_window(black_box(times), black_box(&mut operation));
    Ok(ExitCode::SUCCESS)
}

/// What runs in here is counted; valgrind is told the name.
#[inline(never)]
fn counted_window(times: usize, operation: &mut Operation) {
    for turn in 0..times {
        operation(turn);
    }
}

// --- Beside it ---------------------------------------------------------------------------------------

fn check(words: &[&str]) -> Result<ExitCode> {
    let accepted = Figures::load(Path::new(FIGURES))?;
    let counted = count_all(words)?;
    let (mut good, mut bad) = (0, 0);
    for (name, counts) in &counted {
        let verdict = accepted.judge(name, *counts);
        println!("{}  {name:26} {counts}{verdict}", if verdict.is_good() { "ok    " } else { "FAILED" });
        *(if verdict.is_good() { &mut good } else { &mut bad }) += 1;
    }
    for name in accepted.names().filter(|name| CASES.iter().all(|case| case.name != *name)) {
        println!("FAILED  {name:26} {}", Verdict::NoCase);
        bad += 1;
    }
    if bad > 0 {
        println!(
            "\nWhere a case is worth its new figure, say so by `just bench-accept` and commit {FIGURES}."
        );
    }
    println!("{good} passed, {bad} failed");
    Ok(if bad == 0 && good > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn accept(words: &[&str]) -> Result<ExitCode> {
    let path = Path::new(FIGURES);
    let mut figures = Figures::load(path)?;
    let counted = count_all(words)?;
    for (name, counts) in &counted {
        println!("{name:26} {counts}{}", figures.judge(name, *counts));
        figures.accept(name, *counts);
    }
    figures.retain(|name| CASES.iter().any(|case| case.name == name));
    figures.store(path)?;
    println!("{} figures are in {FIGURES}", counted.len());
    Ok(ExitCode::SUCCESS)
}

/// The counts of the cases that have one of `words` in their names, by name: of one operation each.
fn count_all(words: &[&str]) -> Result<BTreeMap<&'static str, Counts>> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("the figures are x86-64's");
    }
    if cfg!(target_feature = "sse3") {
        bail!("this was built for one processor and not for every x86-64: take target-cpu out of RUSTFLAGS");
    }
    let wanted = |case: &&Case| words.is_empty() || words.iter().any(|word| case.name.contains(word));
    let wanted: Vec<&Case> = CASES.iter().filter(wanted).collect();
    if wanted.is_empty() {
        bail!("no case has {} in its name", words.join(" or "));
    }
    // What an operation is called by costs something too.
    let empty = count_one(&cases::NOTHING)?;
    let counted = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(case) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let counts = count_one(case)?.less(empty);
            counted.lock().map_err(|_| anyhow::anyhow!("a count panicked"))?.insert(case.name, counts);
        }
        Ok(())
    };
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a count panicked")))
    })?;
    Ok(counted.into_inner()?)
}

/// Once with as many operations again as before: what happens only once falls out.
fn count_one(case: &Case) -> Result<Counts> {
    let once = profile::run(case.name, TIMES)?;
    let twice = profile::run(case.name, 2 * TIMES)?;
    Ok(twice.less(once).each(TIMES))
}
