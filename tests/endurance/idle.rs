//! As many sessions as descriptors allow, nearly all of them silent: what one costs, and whether those that
//! talk notice when somebody asks how things are, or when all the silent ones are sent away.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use http::StatusCode;
use tokio::time::timeout;

use super::Options;
use super::broker::Broker;
use super::client::{self, Client};
use super::crowd::Crowd;
use super::gateway::{Gateway, pool};
use super::goodbye::hear_all;
use super::report::Report;

/// What is asked of the admin listener. For a ClientID that nobody has each session is looked at.
const PAGES: [&str; 4] = ["/metrics", "/status", "/sessions?limit=100", "/sessions?client_id=nobody"];

/// What a session may cost, in bytes of PSS: with what its last handshakes left behind.
const MOST_MEMORY: f64 = 9.0 * 1024.0;

/// By how much the talkers' p99 may grow meanwhile; in small by more, for a few talkers' p99 is one
/// message on a machine that others use.
const JUMP: Duration = Duration::from_millis(10);
const JUMP_OF_FEW: Duration = Duration::from_millis(100);

/// How fast all the silent ones are sent away: as by default, and in haste.
const WINDOWS: [&str; 2] = ["5s", "0s"];

/// What their goodbyes may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(options: &Options, report: &mut Report, open_files: u64) -> Result<()> {
    // Each takes two descriptors of the gateway, and two of ours.
    let possible = usize::try_from(open_files.saturating_sub(400) / 2)?;
    let sessions = options.size(50_000, 1000).min(possible);
    let talkers = sessions / 100;
    let watching = options.size(Duration::from_secs(15), Duration::from_secs(4));
    let brokers = [Broker::serve().await?, Broker::serve().await?];
    // Full with the talkers, so that all others come to be the other's.
    let theirs = format!("  {{ url = \"{}\", max_sessions = {talkers} }}", brokers[0].url());
    let others = format!("  {{ url = \"{}\", name = \"silent\" }}", brokers[1].url());
    let gateway = Gateway::start(options, &pool("", std::slice::from_ref(&theirs))).await?;
    // What the first sessions make the process take is not of those that follow.
    let talking = Crowd::gather(&gateway.door, "talking", talkers, Duration::from_millis(200)).await?;
    gateway.configure(&pool("", &[theirs, others]))?;
    gateway.order("/reload").await?;
    let before = gateway.memory()?;
    let began = Instant::now();
    let mut silent = client::gather(&gateway.door, sessions - talkers).await?;
    let took = began.elapsed().as_secs_f64();
    report.note(&format!(
        "{sessions} sessions, {talkers} of them talking; of the silent {:.0} came in a second",
        silent.len() as f64 / took
    ));
    let each = (gateway.memory()? as f64 - before as f64) / silent.len() as f64;
    report.expect("memory of a session (PSS)", &format!("{:.2} KiB", each / 1024.0), each <= MOST_MEMORY);

    talking.times();
    let cpu = gateway.cpu()?;
    // The measurement is that much time, with nothing to wait for.
    tokio::time::sleep(watching).await;
    let quiet = talking.times();
    let share = (gateway.cpu()? - cpu).as_secs_f64() / watching.as_secs_f64();
    report.note(&format!(
        "undisturbed: {:.0} messages a second, {:.1} % of a core, {}",
        quiet.len() as f64 / watching.as_secs_f64(),
        share * 100.0,
        delays(&quiet)
    ));
    let jump = options.size(JUMP, JUMP_OF_FEW);
    for page in PAGES {
        talking.times();
        let asked = ask(&gateway, page, watching).await?;
        let disturbed = talking.times();
        let figures = format!("{asked}; talkers' {}", delays(&disturbed));
        report.expect(&format!("{page} disturbs nobody"), &figures, grew(&quiet, &disturbed) <= jump);
    }
    let open = gateway.metric("brokergate_sessions").await?;
    report.expect("all sessions are there at the end", &format!("{open}"), open == sessions as f64);

    for window in WINDOWS {
        if silent.is_empty() {
            gateway.order("/resume?upstream=brokers&endpoint=silent").await?;
            silent = client::gather(&gateway.door, sessions - talkers).await?;
        }
        talking.times();
        let said = send_away(&gateway, std::mem::take(&mut silent), window, report).await?;
        let disturbed = talking.times();
        let figures = format!("{said}; talkers' {}", delays(&disturbed));
        // In haste few messages fall into it, and who leaves keeps this machine busy as well.
        let jump = if window == "0s" { JUMP_OF_FEW } else { jump };
        let holds = grew(&quiet, &disturbed) <= jump;
        report.expect(&format!("goodbyes to all others over {window} disturb nobody"), &figures, holds);
    }
    let talked = talking.end().await;
    let complaints = brokers.iter().flat_map(Broker::complaints);
    let against: Vec<String> = talked.faults.iter().cloned().chain(complaints).collect();
    report.check("no session is lost, no message lost or doubled", &talked.figures(), &against);
    Ok(())
}

/// Ask for a page as often as ten people have it open; what came of it.
async fn ask(gateway: &Gateway, page: &str, watching: Duration) -> Result<String> {
    let (mut times, mut size) = (Histogram::<u64>::new(3)?, 0);
    let began = Instant::now();
    let mut schedule = tokio::time::interval(Duration::from_millis(100));
    while began.elapsed() < watching {
        schedule.tick().await;
        let asked = Instant::now();
        let (status, text) = gateway.get(page).await?;
        ensure!(status == StatusCode::OK, "{page} is answered {status}: {text}");
        times.saturating_record(asked.elapsed().as_micros() as u64);
        size = text.len();
    }
    Ok(format!("{} asked, {} KiB, {}", times.len(), size / 1024, delays(&times)))
}

/// Drain the endpoint of the silent ones, and wait until all have left; what that took.
async fn send_away(
    gateway: &Gateway,
    silent: Vec<(usize, Client)>,
    window: &str,
    report: &mut Report,
) -> Result<String> {
    let leaving = hear_all(silent);
    let (began, cpu) = (Instant::now(), gateway.cpu()?);
    gateway.order(&format!("/drain?upstream=brokers&endpoint=silent&grace=30s&window={window}")).await?;
    let goodbyes = timeout(PATIENCE, leaving.join_all()).await.context("clients wait for their goodbyes")?;
    let (took, cpu) = (began.elapsed(), gateway.cpu()? - cpu);
    let count = goodbyes.len();
    let wrong: Vec<String> = goodbyes.into_iter().filter_map(|goodbye| goodbye.wrong).collect();
    let figures = format!("{} of {count}", count - wrong.len());
    report.check(&format!("over {window} all hear goodbye"), &figures, &wrong);
    Ok(format!("{took:.2?}, {:.0} us of a core each", cpu.as_secs_f64() * 1e6 / count as f64))
}

/// For the report.
fn delays(times: &Histogram<u64>) -> String {
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(0.5), at(0.99), at(1.0))
}

/// By how much the p99 did.
fn grew(quiet: &Histogram<u64>, disturbed: &Histogram<u64>) -> Duration {
    let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99);
    Duration::from_micros(p99(disturbed).saturating_sub(p99(quiet)))
}
