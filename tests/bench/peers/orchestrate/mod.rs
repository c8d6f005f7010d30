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

use std::ops::Range;
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
use stage::{Stage, Trial};

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
    let program = std::env::current_exe().context("where am I?")?;
    // TARGET/release/deps/peers-…
    let target = program.ancestors().nth(3).context("where is the build?")?;
    let contestants = options.contestants(root, target)?;
    let _alone = place::lock()?;
    let _preferred = Priority::raise();
    let cores = Cores { proxy: options.proxy_core.clone(), load: options.load_core.clone() };
    let names = contestants.iter().map(|contestant| contestant.name.as_str());
    let place = Place::prepare(&target.join("bench-peers"), cores, options.key(), names)?;
    let machine = machine::words(&place, &contestants, options.key(), options.rounds())?;
    let stage = Stage { place, program: program.clone(), seconds: options.seconds };

    let results = compete(&stage, &options.scenarios(), &contestants, options.rounds());
    let verdicts = verdict::verdicts(&results, &contestants);
    let report = report::markdown(&results, &contestants, &verdicts, &machine);
    print(&report);
    let values = format!("{:#}\n", results.json(&machine, &verdicts));
    let file = stage.place.write("results.json", &values)?;
    eprintln!("all values are in {}", file.display());
    if options.save {
        save::save(root, &results, &contestants, &report, &values)?;
    }
    ensure!(results.failures.is_empty(), "somebody failed: see above");
    Ok(())
}

/// All scenarios with all contestants.
fn compete(stage: &Stage, scenarios: &[Scenario], contestants: &[Contestant], rounds: u32) -> Results {
    let start = Instant::now();
    let mut results = Results::default();
    for scenario in scenarios {
        eprint!("{:>4} s  {}:", start.elapsed().as_secs(), scenario.name());
        let contestants = contestants.iter().filter(|contestant| scenario.concerns(contestant.kind));
        let rounds = scenario.rounds(rounds);
        if scenario.is_alone() {
            for round in 0..rounds {
                let contestants = contestants.clone();
                for contestant in contestants.filter(|contestant| contestant.kind.takes_part_in(round)) {
                    let mut trial = begin(stage, *scenario, contestant, &mut results);
                    measure(*scenario, &mut trial, &mut results);
                }
            }
        } else {
            for rounds in parts(rounds, scenario.starts()) {
                let mut trials: Vec<Option<Trial<'_>>> =
                    contestants.clone().map(|it| begin(stage, *scenario, it, &mut results)).collect();
                for round in rounds {
                    eprint!(" .");
                    // In another order each time: who comes right behind itself finds its memory in the caches.
                    fastrand::Rng::with_seed(round.into()).shuffle(&mut trials);
                    for trial in &mut trials {
                        if trial.as_ref().is_some_and(|it| it.contestant.kind.takes_part_in(round)) {
                            measure(*scenario, trial, &mut results);
                        }
                    }
                }
            }
        }
        eprintln!();
    }
    eprintln!("{:>4} s  done", start.elapsed().as_secs());
    results
}

/// The rounds in so many parts at most, none of them empty.
fn parts(rounds: u32, count: u32) -> impl Iterator<Item = Range<u32>> {
    let length = rounds.div_ceil(count);
    (0..rounds).step_by(length as usize).map(move |first| first..rounds.min(first + length))
}

#[expect(clippy::print_stdout, reason = "it is what was asked for")]
fn print(report: &str) {
    println!("{report}");
}

/// Starts a contestant and opens the scenario's sessions; nothing where that failed.
fn begin<'a>(
    stage: &'a Stage,
    scenario: Scenario,
    contestant: &'a Contestant,
    results: &mut Results,
) -> Option<Trial<'a>> {
    eprint!(" {}", contestant.name);
    let opened = stage.begin(contestant, scenario).and_then(|mut trial| {
        scenario.open(&mut trial)?;
        Ok(trial)
    });
    opened.map_err(|error| fail(scenario, contestant, &error, results)).ok()
}

/// Measures once; who fails takes part no more.
fn measure(scenario: Scenario, trial: &mut Option<Trial<'_>>, results: &mut Results) {
    let Some(at_work) = trial else { return };
    let contestant = at_work.contestant;
    match scenario.measure(at_work) {
        Ok(samples) => {
            results.add(contestant, &samples);
            results.add_usages(scenario, contestant, &std::mem::take(&mut at_work.usages));
            results.add_tls(contestant, &at_work.tls);
        }
        Err(error) => {
            *trial = None;
            fail(scenario, contestant, &error, results);
        }
    }
}

fn fail(scenario: Scenario, contestant: &Contestant, error: &anyhow::Error, results: &mut Results) {
    eprint!(" ({} failed: {error:#})", contestant.name);
    results.failures.insert((scenario.name(), contestant.name.clone()), format!("{error:#}"));
}
