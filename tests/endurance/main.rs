//! What the gateway promises its operators, under load: reloads, brokers that die, goodbyes, rebalances, upgrades,
//! names that move, and many idle sessions. The release binary runs as a child, as a user would start it.
//!
//! `just endurance` runs all in full size, `just endurance --quick` in two minutes, `just endurance drain` one.
#![allow(unreachable_pub, reason = "the DNS server is the harness's of `tests/gateway`")]

mod broker;
mod certificate;
mod churn;
mod client;
mod crowd;
mod drain;
mod gateway;
mod goodbye;
mod idle;
mod kills;
mod mosquitto;
mod moves;
#[path = "../gateway/harness/names.rs"]
#[expect(clippy::unwrap_used, dead_code, reason = "a test's own server, and its words for all tests")]
mod names;
mod packet;
mod process;
mod rebalance;
mod regulars;
mod reloads;
mod report;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

use report::Report;

/// The scenarios, in their order.
const SCENARIOS: [&str; 7] = ["reloads", "kills", "drain", "rebalance", "upgrade", "moves", "idle"];

/// What the processes of a scenario that is over may take to end.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// A scenario that takes longer has failed.
const MOST: Duration = Duration::from_secs(400);

/// The gateway under load, for a while.
#[derive(Debug, Parser)]
#[command(name = "endurance")]
pub(crate) struct Options {
    /// Fewer sessions and rounds: all in about two minutes.
    #[arg(long)]
    quick: bool,
    /// The gateway's binary.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_brokergate"))]
    gateway: PathBuf,
    /// Only these: reloads, kills, drain, rebalance, upgrade, moves, idle.
    scenarios: Vec<String>,
}

impl Options {
    /// What counts in full, and what with `--quick`.
    fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() -> ExitCode {
    // cargo adds `--bench` when it runs us.
    let options = Options::parse_from(std::env::args().filter(|it| it != "--bench"));
    let mut report = Report::default();
    if let Err(error) = run(&options, &mut report) {
        report.failed("endurance", &error);
    }
    report.end()
}

fn run(options: &Options, report: &mut Report) -> Result<()> {
    if let Some(other) = options.scenarios.iter().find(|it| !SCENARIOS.contains(&it.as_str())) {
        bail!("there is no scenario {other}; take of {}", SCENARIOS.join(", "));
    }
    // A process that took over from another is left to us by that one.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("prctl")?;
    let open_files = rlimit::increase_nofile_limit(u64::MAX).context("the limit of open files")?;
    for scenario in SCENARIOS {
        if !options.scenarios.is_empty() && !options.scenarios.iter().any(|it| it == scenario) {
            continue;
        }
        report.begin(scenario);
        // A runtime each: whatever a scenario leaves behind ends with it.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let ended = runtime.block_on(async {
            let run = async {
                match scenario {
                    "reloads" => reloads::run(options, report).await,
                    "kills" => kills::run(options, report).await,
                    "drain" => drain::run(options, report).await,
                    "rebalance" => rebalance::run(options, report).await,
                    "upgrade" => upgrade::run(options, report).await,
                    "moves" => moves::run(options, report).await,
                    _ => idle::run(options, report, open_files).await,
                }
            };
            tokio::time::timeout(MOST, run).await
        });
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report.failed(scenario, &error),
            Err(_) => report.failed(scenario, &anyhow::anyhow!("it was not over after {MOST:?}")),
        }
        runtime.shutdown_timeout(Duration::from_secs(5));
        end_what_is_left(scenario, report)?;
    }
    Ok(())
}

/// No process outlives its scenario: a successor whose gateway was killed ends by itself, or else by us.
fn end_what_is_left(scenario: &str, report: &mut Report) -> Result<()> {
    let (began, mut is_told) = (Instant::now(), false);
    loop {
        let left = process::children()?;
        if left.is_empty() || began.elapsed() > 2 * LAST_MOMENTS {
            return Ok(());
        }
        if began.elapsed() > LAST_MOMENTS {
            if !is_told {
                report.failed(scenario, &anyhow::anyhow!("it left processes behind: {left:?}"));
                is_told = true;
            }
            // Dropped, each is killed. Whom it leaves behind is ours then.
            left.iter().for_each(|(id, _)| drop(process::Process::of(*id)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
