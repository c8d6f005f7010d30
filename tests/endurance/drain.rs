//! A drain of all: goodbyes at an even rate, each in its version's words, and exit code 0.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::task::JoinSet;

use super::Options;
use super::broker::Broker;
use super::client::{Client, Door, Heard};
use super::gateway::{Gateway, pool};
use super::packet::{Version, kind};
use super::report::Report;

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(10);

/// What a client heard at the end.
struct Goodbye {
    at: Instant,
    /// Against the words that are due.
    wrong: Option<String>,
}

pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (sessions, window) = (options.size(5000, 600), options.size(10 * SECOND, 3 * SECOND));
    let broker = Broker::serve().await?;
    let keys = pool("", &[format!("  \"{}\"", broker.url())]);
    let drain = format!("[drain]\nwindow = \"{}s\"\ngrace = \"{}s\"\n\n", window.as_secs(), GRACE.as_secs());
    let mut gateway = Gateway::start(options, &format!("{drain}{keys}")).await?;
    let clients = gather(&gateway.door, sessions).await?;
    let mut waiting = JoinSet::new();
    for (number, client) in clients {
        waiting.spawn(goodbye(number, client));
    }

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

    let times: Vec<Duration> = goodbyes.iter().map(|goodbye| goodbye.at.duration_since(began)).collect();
    let configured = sessions as f64 / window.as_secs_f64();
    let most = most_in_a_second(&times) as f64;
    let (first, last) = (times[0], times[times.len() - 1]);
    let figures = format!(
        "{most} in the fullest second of {configured:.0} configured; the first after {first:.2?}, the last after {last:.2?}"
    );
    let even = most <= configured * 1.1 && last <= window + SECOND;
    report.expect("goodbyes keep to their rate, to a tenth", &figures, even);

    let status = status?;
    report.expect("the gateway ends with 0", &format!("{status} after {took:.1?}"), status.code() == Some(0));
    Ok(())
}

/// Connect so many; the half speak MQTT 5.
async fn gather(door: &Door, count: usize) -> Result<Vec<(usize, Client)>> {
    let (mut arriving, mut clients) = (JoinSet::new(), Vec::with_capacity(count));
    for number in 0..count {
        if arriving.len() >= 64 {
            clients.extend(arriving.join_next().await.transpose()?.transpose()?);
        }
        let door = door.clone();
        arriving.spawn(async move {
            let client = Client::connect(&door, &format!("client-{number}"), Version::of(number)).await;
            anyhow::Ok((number, client.with_context(|| format!("client {number}"))?))
        });
    }
    while let Some(arrived) = arriving.join_next().await {
        clients.push(arrived??);
    }
    Ok(clients)
}

/// Wait for the goodbye, and go.
async fn goodbye(number: usize, mut client: Client) -> Goodbye {
    let mut heard = client.hear().await;
    let at = Instant::now();
    let mut said = Vec::new();
    if let Heard::Packet(packet) = &heard {
        said.push(heard.words());
        let is_due = client.version == Version::V5
            && packet.kind() == kind::DISCONNECT
            && packet.body.first() == Some(&0x8B);
        if is_due {
            said.clear();
        }
        heard = client.hear().await;
    } else if client.version == Version::V5 {
        said.push("no DISCONNECT".to_owned());
    }
    if !matches!(heard, Heard::Close(1001)) {
        said.push(heard.words());
    }
    let wrong = (!said.is_empty())
        .then(|| format!("client {number} ({:?}) heard: {}", client.version, said.join(", then ")));
    client.follow_close().await;
    Goodbye { at, wrong }
}

/// The most of these, which are in order, in any second that begins with one.
fn most_in_a_second(times: &[Duration]) -> usize {
    let in_second = |(at, time): (usize, &Duration)| times.partition_point(|it| *it < *time + SECOND) - at;
    times.iter().enumerate().map(in_second).max().unwrap_or_default()
}
