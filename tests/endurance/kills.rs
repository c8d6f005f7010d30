//! A broker that is killed and comes back, again and again, with another beside it: whoever was at it is back
//! within its reconnect period, whoever comes new sees no error, and the gateway tells the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use brokergate::admin::status::form::State;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Options;
use super::broker::Broker;
use super::churn::Churn;
use super::client::{Client, Door, Heard};
use super::gateway::{Gateway, pool};
use super::mosquitto::Mosquitto;
use super::packet::Version;
use super::report::Report;

/// How long a client waits before it comes back, and what coming back may take.
const PERIOD: Duration = Duration::from_secs(1);
const MARGIN: Duration = Duration::from_secs(1);

/// Probes; one that fails is enough.
const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(500);
/// What our own look at the metrics may take.
const LOOK: Duration = Duration::from_millis(200);

const PATIENCE: Duration = Duration::from_secs(20);

/// What all clients share.
struct Fleet {
    door: Door,
    open: AtomicUsize,
    events: mpsc::UnboundedSender<Event>,
}

enum Event {
    /// A client that had lost its session has one again, after so long.
    Back(Duration),
    /// What must not happen.
    Fault(String),
}

pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (clients, kills) = (options.size(200, 60), options.size(20, 4));
    let other = Broker::serve().await?;
    let mut mosquitto = Mosquitto::start().await?;
    let probe = format!(
        "probe = {{ kind = \"mqtt\", interval = \"{}ms\", jitter = \"0s\", timeout = \"{}ms\", rise = 1, fall = 1 }}",
        INTERVAL.as_millis(),
        TIMEOUT.as_millis()
    );
    let endpoints = [
        format!("  {{ url = \"{}\", name = \"mosquitto\" }}", mosquitto.url()),
        format!("  {{ url = \"{}\", name = \"other\" }}", other.url()),
    ];
    let gateway = Gateway::start(options, &pool(&probe, &endpoints)).await?;
    let (sender, mut events) = mpsc::unbounded_channel();
    let (round, rounds) = watch::channel(0_usize);
    let fleet = Arc::new(Fleet { door: gateway.door.clone(), open: AtomicUsize::new(0), events: sender });
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        tasks.spawn(live(Arc::clone(&fleet), number, rounds.clone()));
    }
    let churn = Churn::start(&gateway.door, 20);
    let up = "brokergate_endpoint_up{upstream=\"brokers\",endpoint=\"mosquitto\"}";
    let held = "brokergate_endpoint_sessions{upstream=\"brokers\",endpoint=\"mosquitto\"}";
    let third = (clients / 3) as f64;

    let (mut lost, mut down, mut risen) = (0.0, vec![], vec![]);
    let mut lies = Vec::new();
    for kill in 1..=kills {
        gateway.until(held, PATIENCE, |count| count >= third).await.context("nobody is at Mosquitto")?;
        all_open(&fleet, clients).await?;
        lost += gateway.metric(held).await?;
        mosquitto.kill().await?;
        down.push(gateway.until(up, PATIENCE, |value| value == 0.0).await?);
        let state = gateway.state("mosquitto").await?;
        if state != State::Down && state != State::Avoided {
            lies.push(format!("kill {kill}: /status says {state:?} of a broker that is gone"));
        }
        gateway.until(held, PATIENCE, |count| count == 0.0).await.context("it holds sessions")?;
        all_open(&fleet, clients).await.with_context(|| format!("after kill {kill}"))?;

        mosquitto.start_again().await?;
        risen.push(gateway.until(up, PATIENCE, |value| value == 1.0).await?);
        let state = gateway.state("mosquitto").await?;
        if state != State::Up {
            lies.push(format!("kill {kill}: /status says {state:?} of a broker that is back"));
        }
        // All come anew, to both brokers.
        round.send_replace(kill);
    }
    all_open(&fleet, clients).await?;
    let churned = churn.end().await?;
    tasks.shutdown().await;

    let (mut back, mut against) = (Vec::new(), Vec::new());
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Back(took) => back.push(took),
            Event::Fault(fault) => against.push(fault),
        }
    }
    let late = back.iter().filter(|took| **took > PERIOD + MARGIN);
    against.extend(late.map(|took| format!("a client was back after {took:?}")));
    let slowest = back.iter().max().copied().unwrap_or_default();
    let figures = format!(
        "{kills} kills, {lost} sessions ended, {} came back, the slowest after {slowest:.2?}",
        back.len()
    );
    if back.is_empty() {
        against.push("nobody had lost a session".to_owned());
    }
    report.check("everybody is back within the reconnect period and a second", &figures, &against);
    report.check("no new client sees an error", &churned.figures(), &churned.failures);
    let most = INTERVAL + TIMEOUT + LOOK;
    let (slow_down, slow_up) = (slowest_of(&down), slowest_of(&risen));
    if slow_down > most || slow_up > most {
        lies.push(format!("the bound is {most:?}"));
    }
    let figures = format!("down at the latest after {slow_down:.0?}, up after {slow_up:.0?}");
    report.check("metrics and status tell it within the probes' interval and timeout", &figures, &lies);
    Ok(())
}

fn slowest_of(times: &[Duration]) -> Duration {
    times.iter().max().copied().unwrap_or_default()
}

async fn all_open(fleet: &Fleet, clients: usize) -> Result<()> {
    let began = Instant::now();
    while fleet.open.load(Ordering::Relaxed) < clients {
        if began.elapsed() > PATIENCE {
            bail!("{} of {clients} clients are in after {PATIENCE:?}", fleet.open.load(Ordering::Relaxed));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// One client's life: it comes back when it has lost its session, and comes anew in each round.
async fn live(fleet: Arc<Fleet>, number: usize, mut rounds: watch::Receiver<usize>) {
    let (id, version) = (format!("client-{number}"), Version::of(number));
    let mut lost: Option<Instant> = None;
    loop {
        let mut client = match Client::connect(&fleet.door, &id, version).await {
            Ok(client) => client,
            Err(error) => {
                let _ = fleet.events.send(Event::Fault(format!("{id} could not come in: {error:#}")));
                tokio::time::sleep(PERIOD).await;
                continue;
            }
        };
        if let Some(lost) = lost.take() {
            let _ = fleet.events.send(Event::Back(lost.elapsed()));
        }
        fleet.open.fetch_add(1, Ordering::Relaxed);
        let heard = tokio::select! {
            heard = until_lost(&mut client) => Some(heard),
            _ = rounds.changed() => None,
        };
        fleet.open.fetch_sub(1, Ordering::Relaxed);
        if heard.is_some() {
            lost = Some(Instant::now());
            client.follow_close().await;
            tokio::time::sleep(PERIOD).await;
        } else {
            client.leave().await;
        }
    }
}

/// Hear what comes until the session is over.
async fn until_lost(client: &mut Client) -> Heard {
    loop {
        match client.hear().await {
            Heard::Packet(_) => {}
            end => return end,
        }
    }
}
