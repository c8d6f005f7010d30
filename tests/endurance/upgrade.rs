//! Upgrades in a row while new clients come without a pause: none of them is refused or reset, and whoever is at the
//! process that leaves stays until its goodbye, and comes back to the next.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Options;
use super::broker::Broker;
use super::churn::Churn;
use super::gateway::{Gateway, pool};
use super::process::{End, Process};
use super::regulars::Regulars;
use super::report::Report;

/// Upgrades. The one before the last is not waited for: then three processes are at work.
const UPGRADES: usize = 5;

/// New clients a second.
const NEW: u32 = 200;

/// Of each process' goodbyes.
const WINDOW: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(5);

/// What a process' end may take beyond both: who has arrived is let in first.
const MARGIN: Duration = Duration::from_secs(30);

/// Growth that is no leak: so much of the memory after the first, and so many bytes.
const GROWTH: (f64, f64) = (0.10, 4e6);

/// What was seen.
#[derive(Default)]
struct Seen {
    took: Vec<Duration>,
    ends: Vec<End>,
    memory: Vec<u64>,
    /// Sessions that moved, by upgrade.
    moved: Vec<usize>,
    /// Against the sessions that were there.
    faults: Vec<String>,
}

pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let sessions = options.size(1000, 150);
    let brokers = [Broker::serve().await?, Broker::serve().await?];
    let endpoints = brokers.each_ref().map(|broker| format!("  {{ url = \"{}\" }}", broker.url()));
    let drain = format!("[drain]\nwindow = \"{}s\"\ngrace = \"{}s\"\n\n", WINDOW.as_secs(), GRACE.as_secs());
    let mut gateway = Gateway::start(options, &format!("{drain}{}", pool("", &endpoints))).await?;
    let regulars = Regulars::gather(&gateway.door, sessions).await?;
    let (churn, began) = (Churn::start(&gateway.door, NEW), Instant::now());

    let mut seen = Seen::default();
    let upgraded = upgrade_all(&mut gateway, &regulars, sessions, &mut seen).await;
    // What became of new clients is worth knowing in any case.
    let churned = churn.end().await?;
    let rate = churned.connected as f64 / began.elapsed().as_secs_f64();
    let figures = format!("{} ({rate:.0} a second)", churned.figures());
    report.check("no new client is refused, reset or lost", &figures, &churned.failures);
    let slowest = seen.took.iter().max().copied().unwrap_or_default();
    upgraded.with_context(|| format!("after {} upgrades, the slowest in {slowest:.2?}", seen.took.len()))?;

    let figures = format!("{} in a row, in {slowest:.2?} at most", seen.took.len());
    report.expect("each upgrade hands over", &figures, seen.took.len() == UPGRADES);
    let figures = format!("{:?}", seen.ends);
    let all_well =
        seen.ends.len() == UPGRADES && seen.ends.iter().all(|end| matches!(end, End::Exit(0) | End::Unknown));
    report.expect("each process that has handed over drains, and ends with 0", &figures, all_well);
    let figures = format!("{sessions} sessions, moved by upgrade: {:?}", seen.moved);
    report.check("each session lives until its goodbye, and comes back", &figures, &seen.faults);
    let complaints: Vec<String> = brokers.iter().flat_map(Broker::complaints).collect();
    report.check("brokers have nothing to complain of", "no session broke MQTT's rules", &complaints);

    let mib: Vec<f64> = seen.memory.iter().map(|bytes| *bytes as f64 / f64::from(1 << 20)).collect();
    let figures = format!("PSS of each, with all sessions: {mib:.1?} MiB");
    let (first, most) = (seen.memory.first().copied(), seen.memory.iter().max().copied());
    let is_flat = first
        .zip(most)
        .is_some_and(|(first, most)| most as f64 <= first as f64 * (1.0 + GROWTH.0) + GROWTH.1);
    report.expect("memory is flat over upgrades (within 10 % and 4 MB)", &figures, is_flat);
    Ok(())
}

async fn upgrade_all(
    gateway: &mut Gateway,
    regulars: &Regulars,
    sessions: usize,
    seen: &mut Seen,
) -> Result<()> {
    let mut leaving: Vec<Process> = Vec::new();
    for upgrade in 1..=UPGRADES {
        let began = Instant::now();
        leaving.push(gateway.upgrade().await.with_context(|| format!("upgrade {upgrade}"))?);
        seen.took.push(began.elapsed());
        if upgrade + 1 == UPGRADES {
            continue;
        }
        for mut process in leaving.drain(..) {
            seen.ends.push(process.ended(WINDOW + GRACE + MARGIN).await?);
        }
        // All who were there have gone, and are back.
        regulars.moved(sessions, MARGIN).await?;
        seen.memory.push(gateway.memory()?);
        let moves = regulars.moves();
        seen.moved.push(moves.len());
        for it in moves {
            seen.faults.extend(it.goodbye.wrong.into_iter().chain(it.failures));
        }
    }
    Ok(())
}
