//! Reloads in a row under steady traffic and new clients: weights, endpoints, certificates, and every third
//! time a file that is wrong. Nobody may notice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use rustix::process::Signal;
use tokio::time::{MissedTickBehavior, interval};

use super::Options;
use super::broker::Broker;
use super::churn::Churn;
use super::client::Client;
use super::crowd::Crowd;
use super::gateway::{Gateway, pool};
use super::mosquitto::Mosquitto;
use super::packet::Version;
use super::report::Report;

/// From one reload to the next, at the least.
const PACE: Duration = Duration::from_millis(250);

/// What one reload may take.
const PATIENCE: Duration = Duration::from_secs(15);

const APPLIED: &str = "brokergate_reloads_total{result=\"applied\"}";
const REFUSED: &str = "brokergate_reloads_total{result=\"refused\"}";

/// Growth that is no leak: so much of the memory after the warm-up, and so many bytes.
const GROWTH: (f64, f64) = (0.10, 4e6);

/// Who asks for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Signal,
    Post,
    /// The file's change does.
    File,
}

impl Way {
    /// Three reloads go one way: a wrong file, then two that are right.
    fn of(round: usize) -> Self {
        [Self::Signal, Self::Post, Self::File][round / 3 % 3]
    }
}

fn is_wrong(round: usize) -> bool {
    round.is_multiple_of(3)
}

pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (sessions, rounds) = (options.size(2000, 200), options.size(201, 30));
    let brokers = [Broker::serve().await?, Broker::serve().await?, Broker::serve().await?];
    let mosquitto = Mosquitto::start().await?;
    let text = |round: usize| configuration(&brokers, &mosquitto, round);
    let mut gateway = Gateway::start(options, &text(0)).await?;
    let crowd = Crowd::gather(&gateway.door, "steady", sessions, Duration::from_secs(1)).await?;
    let churn = Churn::start(&gateway.door, 50);

    let (mut pace, mut memory, mut slowest) = (interval(PACE), vec![], Duration::ZERO);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut against = Vec::new();
    for round in 0..rounds {
        pace.tick().await;
        // Every other time the one that is at work is replaced.
        if !is_wrong(round) && round.is_multiple_of(2) {
            gateway.renew()?;
        }
        let began = Instant::now();
        if let Err(error) = reload(&gateway, round, &text(round)).await {
            against.push(format!("reload {round} ({:?}): {error:#}", Way::of(round)));
        }
        slowest = slowest.max(began.elapsed());
        if !is_wrong(round) {
            let shown = Client::connect(&gateway.door, "certificate", Version::V5).await?;
            if shown.certificate().as_ref() != Some(&gateway.certificate.der) {
                against.push(format!("reload {round}: a handshake shows another certificate"));
            }
            shown.leave().await;
        }
        memory.push(gateway.memory()?);
    }
    let figures = format!("{rounds} in a row, slowest {:.0} ms", slowest.as_secs_f64() * 1e3);
    report.check(
        "reloads are applied or refused as they should, and new certificates shown",
        &figures,
        &against,
    );

    let counts = (gateway.metric(APPLIED).await?, gateway.metric(REFUSED).await?);
    let wrong = (0..rounds).filter(|round| is_wrong(*round)).count();
    let figures = format!("applied {}, refused {}", counts.0, counts.1);
    report.expect("metrics count them", &figures, counts == ((rounds - wrong) as f64, wrong as f64));

    let churned = churn.end().await?;
    report.check("new clients come in all the while", &churned.figures(), &churned.failures);
    let held = mosquitto_share(&gateway, &mosquitto).await?;
    let talked = crowd.end().await;
    let complaints = brokers.iter().flat_map(Broker::complaints);
    let against: Vec<String> = talked.faults.iter().cloned().chain(complaints).collect();
    let figures = format!("{}; {held} sessions were Mosquitto's", talked.figures());
    report.check("no session is lost, no message lost or doubled", &figures, &against);

    let (warm, end) = (memory[rounds / 5] as f64, memory[rounds - 1] as f64);
    let most = memory.iter().copied().max().unwrap_or_default() as f64;
    let figures = format!(
        "PSS {:.1} MiB after {} reloads, {:.1} MiB after {rounds}, at most {:.1} MiB",
        mib(warm),
        rounds / 5 + 1,
        mib(end),
        mib(most)
    );
    let flat = end <= warm * (1.0 + GROWTH.0) + GROWTH.1;
    report.expect("memory is flat (within 10 % and 4 MB)", &figures, flat);
    Ok(())
}

fn mib(bytes: f64) -> f64 {
    bytes / (1 << 20) as f64
}

async fn mosquitto_share(gateway: &Gateway, mosquitto: &Mosquitto) -> Result<f64> {
    let labels = format!("upstream=\"brokers\",endpoint=\"{}\"", mosquitto.url());
    gateway.metric(&format!("brokergate_endpoint_sessions{{{labels}}}")).await
}

/// Weights change each time; the third broker comes and goes; files are watched while they are the way.
fn configuration(brokers: &[Broker; 3], mosquitto: &Mosquitto, round: usize) -> String {
    let weight = |salt: usize| (round + salt) % 5 + 1;
    let mut endpoints = vec![
        format!("  {{ url = \"{}\", weight = {} }}", brokers[0].url(), weight(0)),
        format!("  {{ url = \"{}\", weight = {} }}", mosquitto.url(), weight(1)),
        format!("  {{ url = \"{}\", weight = {} }}", brokers[1].url(), weight(3)),
    ];
    match round % 4 {
        // It is the second that leaves, too.
        1 => endpoints.truncate(2),
        2 => endpoints.push(format!("  {{ url = \"{}\" }}", brokers[2].url())),
        _ => {}
    }
    let watch = Way::of(round + 1) == Way::File;
    format!("[reload]\nwatch = {watch}\n\n{}", pool("on_removal = \"keep\"", &endpoints))
}

/// Reload once, and wait for the outcome that is due.
async fn reload(gateway: &Gateway, round: usize, text: &str) -> Result<()> {
    let wrong = is_wrong(round);
    let result = if wrong { REFUSED } else { APPLIED };
    let counted = gateway.metric(result).await?;
    if wrong {
        // A route to nowhere, a word that nobody knows, half a file.
        let text = ["[upstreams.others]\nendpoints = []\n", "[resolver]\nnameserver = 1\n", "[upstreams.bro"];
        gateway.configure(text[round / 3 % 3])?;
    } else {
        gateway.configure(text)?;
    }
    match Way::of(round) {
        Way::Signal => gateway.signal(Signal::HUP)?,
        Way::Post => {
            let (status, words) = gateway.post("/reload").await?;
            let due = if wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
            ensure!(status == due, "answered {status} where {due} was due: {words}");
        }
        Way::File => {}
    }
    let counts = gateway.until(result, PATIENCE, |count| count >= counted + 1.0).await;
    counts.context("no reload was counted")?;
    let last = gateway.metric("brokergate_config_last_reload_successful").await?;
    ensure!((last == 1.0) != wrong, "brokergate_config_last_reload_successful is {last}");
    Ok(())
}
