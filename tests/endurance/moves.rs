//! A name that moves is followed, and sessions at the address it left live on. A resolver that fails changes
//! nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Options;
use super::broker::Broker;
use super::churn::Churn;
use super::crowd::Crowd;
use super::gateway::{Gateway, pool};
use super::names::{Mood, Names};
use super::report::Report;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (sessions, moves) = (options.size(1000, 200), options.size(10, 4));
    let [first, second] = neighbours().await?;
    let port = first.address.port();
    let names = Names::serve().await;
    names.addresses("brokers.test", [[127, 0, 0, 2]]);
    let keys = "resolve_interval = \"100ms\"\non_removal = \"keep\"";
    let endpoint =
        format!("  {{ url = \"mqtt://brokers.test:{port}\", name = \"all\", discover = \"addresses\" }}");
    let gateway = Gateway::start(options, &format!("{}\n{}", names.toml(), pool(keys, &[endpoint]))).await?;
    let crowd = Crowd::gather(&gateway.door, "steady", sessions, Duration::from_secs(1)).await?;
    let churn = Churn::start(&gateway.door, 50);

    let mut slowest = Duration::ZERO;
    for turn in 1..=moves {
        let (from, to) = if turn % 2 == 1 { (&first, &second) } else { (&second, &first) };
        let [.., last] = to.address.ip().to_string().parse::<std::net::Ipv4Addr>()?.octets();
        names.addresses("brokers.test", [[127, 0, 0, last]]);
        let began = Instant::now();
        let metric = |broker: &Broker| {
            format!("brokergate_endpoint_up{{upstream=\"brokers\",endpoint=\"all@{}\"}}", broker.address)
        };
        gateway.until(&metric(to), PATIENCE, |up| up == 1.0).await?;
        gateway.until(&metric(from), PATIENCE, f64::is_nan).await?;
        slowest = slowest.max(began.elapsed());
        // Those that come from now on come there, and there alone.
        let (left, come) = (from.connects(), to.connects());
        until(|| to.connects() > come + 20).await.context("nobody comes to where the name moved")?;
        // Who had begun before the move may still arrive.
        if from.connects() > left + 5 {
            bail!("move {turn}: clients go on coming to where the name was");
        }
    }
    let figures = format!("{moves} moves, the slowest after {slowest:.0?}");
    report.expect("a name that moves is followed", &figures, slowest < Duration::from_secs(2));

    let at_work = if moves % 2 == 1 { &second } else { &first };
    let mut against = Vec::new();
    let mut failed = [0.0; 2];
    for (at, (mood, result)) in [(Mood::Failing, "failed"), (Mood::Silent, "timeout")].into_iter().enumerate()
    {
        names.feels(mood);
        let labels = format!("upstream=\"brokers\",endpoint=\"all\",result=\"{result}\"");
        let lookups = format!("brokergate_lookups_total{{{labels}}}");
        let (come, before) = (at_work.connects(), gateway.metric(&lookups).await?);
        gateway.until(&lookups, PATIENCE, |count| count >= before + 5.0).await?;
        until(|| at_work.connects() > come + 20).await.context("nobody comes while the resolver fails")?;
        failed[at] = gateway.metric(&lookups).await?;
        let up =
            format!("brokergate_endpoint_up{{upstream=\"brokers\",endpoint=\"all@{}\"}}", at_work.address);
        let value = gateway.metric(&up).await?;
        if value != 1.0 {
            against.push(format!("{up} is {value} while the resolver is {mood:?}"));
        }
    }
    names.feels(Mood::Well);
    let figures = format!("{} look-ups failed, {} had no answer", failed[0], failed[1]);
    report.check("a resolver that fails changes nothing", &figures, &against);

    let churned = churn.end().await?;
    report.check("new clients come in all the while", &churned.figures(), &churned.failures);
    let talked = crowd.end().await;
    let complaints = [&first, &second].into_iter().flat_map(Broker::complaints);
    let against: Vec<String> = talked.faults.iter().cloned().chain(complaints).collect();
    report.check("no session is lost, no message lost or doubled", &talked.figures(), &against);
    Ok(())
}

/// Two brokers on one port, of 127.0.0.2 and 127.0.0.3.
async fn neighbours() -> Result<[Broker; 2]> {
    for _ in 0..20 {
        let first = Broker::serve_on(SocketAddr::from(([127, 0, 0, 2], 0))).await?;
        let beside = SocketAddr::from(([127, 0, 0, 3], first.address.port()));
        // Somebody else may have the port there.
        if let Ok(second) = Broker::serve_on(beside).await {
            return Ok([first, second]);
        }
    }
    bail!("no port is free on both 127.0.0.2 and 127.0.0.3")
}

async fn until(holds: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            bail!("not after {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
