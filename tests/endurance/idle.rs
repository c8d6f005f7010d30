//! As many sessions as descriptors allow, nearly all of them silent: what one costs, and whether those that
//! talk notice when somebody asks how things are.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use http::StatusCode;

use super::Options;
use super::broker::Broker;
use super::client::Door;
use super::crowd::Crowd;
use super::gateway::{Gateway, pool};
use super::report::Report;

/// What is asked of the admin listener. For a ClientID that nobody has each session is looked at.
const PAGES: [&str; 4] = ["/metrics", "/status", "/sessions?limit=100", "/sessions?client_id=nobody"];

/// What a session may cost, in bytes of PSS: with what its last handshakes left behind.
const MOST_MEMORY: f64 = 9.0 * 1024.0;

/// By how much the talkers' p99 may grow while somebody asks; in small by more, for a few talkers' p99 is one
/// message on a machine that others use.
const JUMP: Duration = Duration::from_millis(10);
const JUMP_OF_FEW: Duration = Duration::from_millis(100);

pub(crate) async fn run(options: &Options, report: &mut Report, open_files: u64) -> Result<()> {
    // Each takes two descriptors of the gateway, and two of ours.
    let possible = usize::try_from(open_files.saturating_sub(400) / 2)?;
    let sessions = options.size(50_000, 1000).min(possible);
    let talkers = sessions / 100;
    let watching = options.size(Duration::from_secs(15), Duration::from_secs(4));
    let broker = Broker::serve().await?;
    let gateway = Gateway::start(options, &pool("", &[format!("  \"{}\"", broker.url())])).await?;
    // What the first sessions make the process take is not theirs.
    let talking = Crowd::gather(&gateway.door, "talking", talkers, Duration::from_millis(200)).await?;
    let before = gateway.memory()?;
    let began = Instant::now();
    let silent = gather_silent(&gateway.door, sessions - talkers).await?;
    let took = began.elapsed().as_secs_f64();
    report.note(&format!(
        "{sessions} sessions, {talkers} of them talking; of the silent {:.0} came in a second",
        (sessions - talkers) as f64 / took
    ));
    let held = (sessions - talkers) as f64;
    let each = (gateway.memory()? as f64 - before as f64) / held;
    report.expect("memory of a session (PSS)", &format!("{:.2} KiB", each / 1024.0), each <= MOST_MEMORY);

    talking.times();
    let cpu = gateway.cpu()?;
    // The measurement is that much time, with nothing to wait for.
    tokio::time::sleep(watching).await;
    let quiet = talking.times();
    let share = (gateway.cpu()? - cpu).as_secs_f64() / watching.as_secs_f64();
    report.note(&format!(
        "undisturbed: {:.0} messages a second, {:.1} % of a core, p50 {:.2} ms, p99 {:.2} ms",
        quiet.len() as f64 / watching.as_secs_f64(),
        share * 100.0,
        at(&quiet, 0.5),
        at(&quiet, 0.99)
    ));
    for page in PAGES {
        let (mut times, mut size) = (Histogram::<u64>::new(3)?, 0);
        talking.times();
        let began = Instant::now();
        // As often as a page that is open, by ten people.
        let mut schedule = tokio::time::interval(Duration::from_millis(100));
        while began.elapsed() < watching {
            schedule.tick().await;
            let asked = Instant::now();
            let (status, text) = gateway.get(page).await?;
            ensure!(status == StatusCode::OK, "{page} is answered {status}: {text}");
            times.saturating_record(asked.elapsed().as_micros() as u64);
            size = text.len();
        }
        let disturbed = talking.times();
        let figures = format!(
            "{} asked, {} KiB, p50 {:.2} ms, most {:.2} ms; talkers' p99 {:.2} ms, {:.2} ms undisturbed",
            times.len(),
            size / 1024,
            at(&times, 0.5),
            at(&times, 1.0),
            at(&disturbed, 0.99),
            at(&quiet, 0.99)
        );
        let jump = options.size(JUMP, JUMP_OF_FEW).as_secs_f64() * 1e3;
        let holds = at(&disturbed, 0.99) <= at(&quiet, 0.99) + jump;
        report.expect(&format!("{page} disturbs nobody"), &figures, holds);
    }
    let open = gateway.metric("brokergate_sessions").await?;
    report.expect("all sessions are there at the end", &format!("{open}"), open == sessions as f64);
    let (talked, kept) = tokio::join!(talking.end(), silent.end());
    let mut against = talked.faults.clone();
    against.extend(kept.faults);
    against.extend(broker.complaints());
    report.check("no session is lost, no message lost or doubled", &talked.figures(), &against);
    Ok(())
}

/// Sessions whose first message is due long after all is over.
async fn gather_silent(door: &Door, count: usize) -> Result<Crowd> {
    Crowd::gather(door, "silent", count, Duration::from_secs(50_000_000)).await
}

/// In milliseconds.
fn at(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}
