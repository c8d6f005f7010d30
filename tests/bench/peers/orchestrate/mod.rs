//! Runs the contestants by turns under the same load, and compares what they cost.

mod certificate;
mod contestant;
mod figure;
mod job;
mod machine;
mod options;
mod place;
mod plot;
mod priority;
mod process;
mod report;
mod results;
mod save;
mod scenario;
mod stage;
mod usage;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use contestant::Contestant;
use options::Options;
use place::{Cores, Place};
use priority::Priority;
use results::Results;
use scenario::Scenario;
use stage::Stage;

/// Runs the role with the arguments behind its name.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let name = "just bench-peers".to_owned();
    let options = Options::parse_from(std::iter::once(&name).chain(arguments));
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contestants = options.contestants(root)?;
    let scenarios = options.scenarios();
    let _alone = place::lock()?;
    let _preferred = Priority::raise();
    let cores = Cores { proxy: options.proxy_core.clone(), load: options.load_core.clone() };
    let place = Place::prepare(&root.join("target/bench-peers"), cores)?;
    let machine = machine::words(&place, &contestants, options.rounds())?;
    let program = std::env::current_exe().context("where am I?")?;
    let stage = Stage { place, program, seconds: options.seconds, is_quick: options.quick };

    let start = Instant::now();
    let mut results = Results::default();
    for scenario in scenarios {
        eprint!("{:>4} s  {}:", start.elapsed().as_secs(), scenario.name());
        for round in 0..scenario.rounds(options.rounds()) {
            for contestant in by_turns(&contestants, round) {
                if scenario.concerns(contestant.kind) {
                    trial(&stage, scenario, contestant, &mut results);
                }
            }
        }
        eprintln!();
    }
    eprintln!("{:>4} s  done", start.elapsed().as_secs());

    let report = report::markdown(&results, &contestants, &machine);
    print(&report);
    let file = stage.place.write("results.json", &format!("{:#}\n", results.json()))?;
    eprintln!("all values are in {}", file.display());
    if options.save {
        save::save(root, &results, &contestants, &report)?;
    }
    ensure!(results.failures.is_empty(), "somebody failed: see above");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what was asked for")]
fn print(report: &str) {
    println!("{report}");
}

/// All contestants, each round begun by another, so that none always follows the same.
fn by_turns(contestants: &[Contestant], round: u32) -> impl Iterator<Item = &Contestant> {
    let count = contestants.len();
    contestants.iter().cycle().skip(round as usize % count.max(1)).take(count)
}

/// One contestant, one scenario, once.
fn trial(stage: &Stage, scenario: Scenario, contestant: &Contestant, results: &mut Results) {
    eprint!(" {}", contestant.name);
    let done = stage.begin(contestant, scenario).and_then(|mut trial| {
        let samples = scenario.run(&mut trial)?;
        results.add_usages(scenario, contestant, &trial.usages);
        if !trial.tls.is_empty() {
            results.tls.insert(contestant.name.clone(), trial.tls.clone());
        }
        Ok(samples)
    });
    match done {
        Ok(samples) => results.add(contestant, &samples),
        Err(error) => {
            eprint!(" (failed: {error:#})");
            results.failures.insert((scenario.name(), contestant.name.clone()), format!("{error:#}"));
        }
    }
}
