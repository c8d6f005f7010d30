//! A drain of all: goodbyes at an even rate, each in its version's words, and exit code 0.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::Options;
use super::broker::Broker;
use super::client;
use super::gateway::{Gateway, pool};
use super::goodbye::{hear_all, most_in_a_second};
use super::process::End;
use super::report::Report;

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (sessions, window) = (options.size(5000, 600), options.size(10 * SECOND, 3 * SECOND));
    let broker = Broker::serve().await?;
    let keys = pool("", &[format!("  \"{}\"", broker.url())]);
    let drain = format!("[drain]\nwindow = \"{}s\"\ngrace = \"{}s\"\n\n", window.as_secs(), GRACE.as_secs());
    let mut gateway = Gateway::start(options, &format!("{drain}{keys}")).await?;
    let clients = client::gather(&gateway.door, sessions).await?;
    let waiting = hear_all(clients);

    let began = Instant::now();
    gateway.signal(Signal::TERM)?;
    let ended = gateway.ended(window + GRACE + GRACE);
    let goodbyes = tokio::time::timeout(window + GRACE + GRACE, waiting.join_all());
    let (status, goodbyes) = tokio::join!(ended, goodbyes);
    let took = began.elapsed();
    let mut goodbyes = goodbyes.context("clients wait for their goodbyes")?;
    goodbyes.sort_by_key(|goodbye| goodbye.at);

    let wrong: Vec<String> = goodbyes.iter_mut().filter_map(|goodbye| goodbye.wrong.take()).collect();
    let figures = format!("{} of {sessions}", goodbyes.len() - wrong.len());
    report.check("MQTT 5 hears 0x8B and 1001, MQTT 3 hears 1001 alone", &figures, &wrong);

    let times: Vec<Instant> = goodbyes.iter().map(|goodbye| goodbye.at).collect();
    let configured = sessions as f64 / window.as_secs_f64();
    let most = most_in_a_second(&times) as f64;
    let [first, last] = [times[0], times[times.len() - 1]].map(|at| at.duration_since(began));
    let figures = format!(
        "{most} in the fullest second of {configured:.0} configured; the first after {first:.2?}, the last after {last:.2?}"
    );
    let even = most <= configured * 1.1 && last <= window + SECOND;
    report.expect("goodbyes keep to their rate, to a tenth", &figures, even);

    let end = status?;
    report.expect("the gateway ends with 0", &format!("{end:?} after {took:.1?}"), end == End::Exit(0));
    Ok(())
}
