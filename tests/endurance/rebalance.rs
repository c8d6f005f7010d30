//! A broker is taken away and comes back, and weights change: after a rebalance each has what its weight says,
//! nobody was asked twice, all came back at the pace that was set, and who came new saw nothing of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use brokergate::admin::status::form::State;

use super::Options;
use super::broker::Broker;
use super::churn::Churn;
use super::gateway::{Gateway, pool};
use super::goodbye::most_in_a_second;
use super::regulars::{Move, Regulars};
use super::report::Report;

/// Whoever was asked last has so long to come back.
const GRACE: Duration = Duration::from_secs(3);

/// What a round may take beyond its window and grace.
const MARGIN: Duration = Duration::from_secs(15);

/// New clients a second.
const NEW: u32 = 50;

/// The brokers' names, and so the homes of clients.
const NAMES: [&str; 3] = ["one", "two", "three"];

/// What is watched: three brokers behind a gateway, and the clients that stay.
struct Scene {
    brokers: [Broker; 3],
    gateway: Gateway,
    regulars: Regulars,
    balance: &'static str,
    window: Duration,
}

pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    by_weight(&Scene::set(options, "weighted", [1, 1, 2]).await?, report).await?;
    by_client_id(&Scene::set(options, "client-id", [1, 1, 2]).await?, report).await
}

/// One is taken away and comes back; then a reload makes another one the largest.
async fn by_weight(scene: &Scene, report: &mut Report) -> Result<()> {
    let churn = Churn::start(&scene.gateway.door, NEW);
    scene.take_away(2, report).await?;
    scene.rebalance("after the return of one", report).await?;
    scene.has_shares([1, 1, 2], report);

    scene.gateway.configure(&configuration(&scene.brokers, scene.balance, scene.window, [2, 1, 1]))?;
    scene.gateway.order("/reload").await?;
    scene.rebalance("after a reload", report).await?;
    scene.has_shares([2, 1, 1], report);

    let churned = churn.end().await?;
    report.check("new clients come in all the while", &churned.figures(), &churned.failures);
    Ok(())
}

/// One is taken away and comes back; then all are at home again.
async fn by_client_id(scene: &Scene, report: &mut Report) -> Result<()> {
    // All came in at once, and some found no room at home.
    scene.ask_to_move().await?;
    scene.regulars.moves();
    let homes = scene.residents();
    scene.take_away(2, report).await?;
    let arrived = scene.brokers[2].connects();
    let asked = scene.rebalance("by ClientID", report).await?;
    let arrived = scene.brokers[2].connects() - arrived;
    let astray: usize =
        homes.iter().zip(&scene.residents()).map(|(home, now)| home.difference(now).count()).sum();
    let figures = format!("{asked} asked, {arrived} came home, {astray} are astray");
    report.expect(
        "each is where it was, and nobody moved in vain",
        &figures,
        astray == 0 && asked == arrived,
    );
    Ok(())
}

impl Scene {
    async fn set(options: &Options, balance: &'static str, weights: [usize; 3]) -> Result<Self> {
        let (sessions, window) = (options.size(2000, 240), Duration::from_secs(options.size(5, 2)));
        let brokers = [Broker::serve().await?, Broker::serve().await?, Broker::serve().await?];
        let gateway = Gateway::start(options, &configuration(&brokers, balance, window, weights)).await?;
        let regulars = Regulars::gather(&gateway.door, sessions).await?;
        Ok(Self { brokers, gateway, regulars, balance, window })
    }

    /// Who of the regulars is at which broker, as the brokers know it.
    fn residents(&self) -> [HashSet<String>; 3] {
        self.brokers.each_ref().map(|broker| {
            let mut present = broker.present();
            present.retain(|id| id.starts_with("client-"));
            present
        })
    }

    /// The longest that all of a round may take.
    fn longest(&self) -> Duration {
        self.window + GRACE + MARGIN
    }

    /// Drain a broker by hand, see its clients come in elsewhere, and put it back to work.
    async fn take_away(&self, place: usize, report: &mut Report) -> Result<()> {
        let (name, held) = (NAMES[place], self.residents()[place].len());
        let of = format!("upstream=brokers&endpoint={name}");
        self.gateway.order(&format!("/drain?{of}")).await?;
        self.regulars.moved(held, self.longest()).await?;
        let began = Instant::now();
        while self.gateway.state(name).await? != State::Drained {
            ensure!(
                began.elapsed() < MARGIN,
                "{name} is {:?} after {MARGIN:?}",
                self.gateway.state(name).await?
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let moves = self.regulars.moves();
        let figures = format!("{held} sessions, {}", figures(&moves));
        report.check(&format!("broker {name} is taken away"), &figures, &self.faults(&moves, held));
        self.gateway.order(&format!("/resume?{of}")).await?;
        Ok(())
    }

    /// Rebalance, to its end; how many were asked.
    async fn ask_to_move(&self) -> Result<usize> {
        let words = self.gateway.order("/rebalance?upstream=brokers").await?;
        let asked = words.split(' ').nth(1).and_then(|count| count.parse().ok());
        let asked: usize = asked.with_context(|| format!("no number in {words:?}"))?;
        let began = Instant::now();
        while self.gateway.status().await?.upstreams.iter().any(|it| it.rebalance.is_some()) {
            ensure!(began.elapsed() < self.longest(), "it is under way after {:?}", began.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.regulars.moved(0, MARGIN).await?;
        Ok(asked)
    }

    /// Rebalance, and look at the moves; how many were asked.
    async fn rebalance(&self, when: &str, report: &mut Report) -> Result<usize> {
        let asked = self.ask_to_move().await?;
        let moves = self.regulars.moves();
        let mut against = self.faults(&moves, asked);
        let clients: HashSet<usize> = moves.iter().map(|it| it.goodbye.client).collect();
        if clients.len() < moves.len() {
            against.push(format!("{} moves of {} clients", moves.len(), clients.len()));
        }
        // New clients are among those who are asked, and gone by then.
        if moves.is_empty() || moves.len() > asked {
            against.push(format!("{} moved", moves.len()));
        }
        let figures = format!("{asked} asked, {}", figures(&moves));
        report.check(&format!("a rebalance {when} moves nobody twice, and loses nobody"), &figures, &against);
        Ok(asked)
    }

    /// What must not be: other words than a goodbye's, another pace than `total` over the window, and failures.
    fn faults(&self, moves: &[Move], total: usize) -> Vec<String> {
        let wrong = moves.iter().filter_map(|it| it.goodbye.wrong.clone());
        let mut against: Vec<String> = wrong.chain(moves.iter().flat_map(|it| it.failures.clone())).collect();
        let rate = total as f64 / self.window.as_secs_f64();
        let most = most_in_a_second(&times(moves)) as f64;
        if most > (rate * 1.1).max(rate + 5.0) {
            against.push(format!("{most} goodbyes in a second where {rate:.0} are configured"));
        }
        against
    }

    /// Whether each broker has what its weight says, to a tenth.
    fn has_shares(&self, weights: [usize; 3], report: &mut Report) {
        let held = self.residents().map(|residents| residents.len());
        let (all, sum) = (held.iter().sum::<usize>() as f64, weights.iter().sum::<usize>() as f64);
        let is_fair = |(held, weight): (usize, usize)| {
            let due = all * weight as f64 / sum;
            (held as f64 - due).abs() <= due * 0.1
        };
        let [first, second, third] = weights;
        report.expect(
            "shares are within a tenth of the weights",
            &format!("{held:?} by {first}:{second}:{third}"),
            held.into_iter().zip(weights).all(is_fair),
        );
    }
}

fn configuration(brokers: &[Broker; 3], balance: &str, window: Duration, weights: [usize; 3]) -> String {
    let endpoints: Vec<_> = (0..3)
        .map(|place| {
            let (url, name, weight) = (brokers[place].url(), NAMES[place], weights[place]);
            format!("  {{ url = \"{url}\", name = \"{name}\", weight = {weight} }}")
        })
        .collect();
    let drain = format!("[drain]\nwindow = \"{}s\"\ngrace = \"{}s\"", window.as_secs(), GRACE.as_secs());
    format!("{drain}\n\n{}", pool(&format!("balance = \"{balance}\""), &endpoints))
}

fn times(moves: &[Move]) -> Vec<Instant> {
    moves.iter().map(|it| it.goodbye.at).collect()
}

fn figures(moves: &[Move]) -> String {
    let times = times(moves);
    let over =
        times.last().zip(times.first()).map_or(Duration::ZERO, |(last, first)| last.duration_since(*first));
    let slowest = moves.iter().map(|it| it.took).max().unwrap_or_default();
    format!(
        "{} moved over {over:.1?}, {} in the fullest second, back after {slowest:.2?} at most",
        moves.len(),
        most_in_a_second(&times)
    )
}
