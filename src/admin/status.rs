//! `GET /status`: how things are, as JSON. It reads counters and endpoints and never looks at sessions, so that
//! it costs well under a millisecond however many there are.

pub mod form;

use std::time::{Duration, SystemTime};

use http::Response;
use tokio::time::Instant;

use self::form::{
    Certificate, Connections, Drain, Ending, Endpoint, History, LastError, LastProbe, Process, Rates,
    Rejection, Reload, Sessions, State, Status, Upgrade, Upstream,
};
use super::answer::typed;
use super::rates::{Minute, Reading};
use super::{Served, Stage};
use crate::drain::Progress;
use crate::handover::{Latest, Outcome};
use crate::net::{Body, full};
use crate::proxy::Shared;
use crate::snapshot::UpstreamAtWork;
use crate::telemetry::Tally;
use crate::tls::Complaint;
use crate::upstream::{self, Health};

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// The answer.
pub(super) fn answer(served: &Served) -> Response<Body> {
    // Text and numbers: there is nothing that could fail.
    let json = serde_json::to_vec(&tell(served)).unwrap_or_default();
    typed("application/json", full(json))
}

fn tell(served: &Served) -> Status {
    let shared = &served.shared;
    let stage = *served.stage.borrow();
    let reading = Reading::take(shared);
    let minute = served.rates.minute(&reading);
    let (tally, counted) = (&shared.metrics.tally, &reading.counted);
    let snapshot = shared.snapshot.load();
    let (held, limit) = shared.connections();
    let process = minute.process;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        now: date(SystemTime::now()),
        started: date(served.started.0),
        uptime_seconds: served.started.1.elapsed().as_secs(),
        stage: stage.label().to_owned(),
        left: matches!(stage, Stage::Draining | Stage::Drained).then(|| shared.sessions.work() as u64),
        drain: shared.sessions.progress().map(tell_drain),
        sessions: Sessions { open: counted.open(), opened: counted.opened, ended: counted.ended() },
        rates: rates(&minute),
        history: history(&minute),
        upstreams: snapshot.pools.values().map(|upstream| tell_upstream(upstream)).collect(),
        endings: endings(tally, &minute, &reading),
        rejections: rejections(tally, &minute, &reading),
        certificates: certificates(served),
        config: snapshot.config.source.display().to_string(),
        reload: reload(served),
        upgrade: served.upgrades.latest().map(upgrade),
        warnings: warnings(served, shared),
        connections: Connections { held: held as u64, limit: limit as u64 },
        process: Process {
            memory_bytes: process.memory,
            descriptors: process.descriptors,
            descriptors_limit: process.descriptors_limit,
        },
    }
}

fn rates(minute: &Minute) -> Rates {
    let now = &minute.now;
    Rates {
        connects: short(now.connects),
        publish_up: short(now.publish_up),
        publish_down: short(now.publish_down),
        bytes_up: short(now.bytes_up),
        bytes_down: short(now.bytes_down),
    }
}

fn history(minute: &Minute) -> History {
    let seconds = || minute.seconds.iter();
    History {
        sessions: seconds().map(|(sessions, _)| *sessions).collect(),
        connects: seconds().map(|(_, rate)| short(rate.connects)).collect(),
        publish_up: seconds().map(|(_, rate)| short(rate.publish_up)).collect(),
        publish_down: seconds().map(|(_, rate)| short(rate.publish_down)).collect(),
    }
}

/// One digit behind the point: more is noise.
fn short(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

fn tell_upstream(upstream: &UpstreamAtWork) -> Upstream {
    let (pool, now) = (&upstream.pool, Instant::now());
    let slow_start = pool.config().slow_start;
    Upstream {
        name: pool.name().to_string(),
        balance: pool.config().balance.label().to_owned(),
        required: pool.config().required,
        available: pool.is_available(now),
        endpoints: pool.endpoints().iter().map(|endpoint| tell_endpoint(endpoint, slow_start, now)).collect(),
        rebalance: pool.rebalancing().map(tell_drain),
    }
}

fn tell_endpoint(endpoint: &upstream::Endpoint, slow_start: Duration, now: Instant) -> Endpoint {
    let (config, history) = (endpoint.config(), endpoint.history());
    let state = state(endpoint, now);
    let avoided = match endpoint.health() {
        Health::Avoided { until, .. } if state == State::Avoided => {
            Some(until.saturating_duration_since(now))
        }
        _ => None,
    };
    let probe = history.last_probe().filter(|_| endpoint.is_probed());
    Endpoint {
        name: endpoint.name().to_string(),
        state,
        since: history.unwell_since().filter(|_| state != State::Up).map(date),
        avoided_seconds: avoided.map(|left| left.as_secs_f64().ceil() as u64),
        weight: u32::from(config.weight.value()),
        share_percent: endpoint.share(slow_start, now),
        backup: config.backup,
        sessions: endpoint.sessions() as u64,
        max_sessions: config.max_sessions.map(|max| max as u64),
        opened: history.sessions_taken(),
        probe: probe.map(|probe| LastProbe {
            at: date(probe.at),
            passed: probe.error.is_none(),
            milliseconds: short(probe.took.as_secs_f64() * 1000.0),
            error: probe.error.map(String::from),
        }),
        drain: endpoint.progress().map(tell_drain),
        error: history.last_failure().map(|it| LastError { at: date(it.at), words: it.words.into() }),
    }
}

fn tell_drain(progress: Progress) -> Drain {
    let now = Instant::now();
    Drain {
        total: progress.total as u64,
        asked: progress.asked as u64,
        left: progress.left as u64,
        since_seconds: short(now.saturating_duration_since(progress.since).as_secs_f64()),
        deadline_seconds: short(progress.deadline.saturating_duration_since(now).as_secs_f64()),
        will: progress.will.label().to_owned(),
    }
}

fn state(endpoint: &upstream::Endpoint, now: Instant) -> State {
    match endpoint.health() {
        _ if endpoint.is_closed() && endpoint.sessions() == 0 => State::Drained,
        _ if endpoint.is_closed() => State::Draining,
        _ if endpoint.is_down_by_probe() => State::Down,
        Health::Up | Health::Returned { .. } => State::Up,
        Health::Avoided { until, .. } if until > now => State::Avoided,
        Health::Avoided { .. } => State::TrialDue,
        Health::Trial { .. } => State::Trial,
    }
}

/// Those that there were, the most of the last minute first.
fn endings(tally: &Tally, minute: &Minute, reading: &Reading) -> Vec<Ending> {
    let counts = counts(&minute.before.endings, &reading.counted.endings);
    let all = tally.endings().zip(counts);
    let mut endings: Vec<_> = all
        .filter(|(_, (_, total))| *total > 0)
        .map(|((reason, by), (minute, total))| Ending {
            reason: reason.to_owned(),
            by: by.to_owned(),
            minute,
            total,
        })
        .collect();
    endings.sort_by_key(|ending| std::cmp::Reverse((ending.minute, ending.total)));
    endings
}

fn rejections(tally: &Tally, minute: &Minute, reading: &Reading) -> Vec<Rejection> {
    let counts = counts(&minute.before.rejections, &reading.counted.rejections);
    let all = tally.rejections().zip(counts);
    let mut rejections: Vec<_> = all
        .filter(|(_, (_, total))| *total > 0)
        .map(|(reason, (minute, total))| Rejection { reason: reason.to_owned(), minute, total })
        .collect();
    rejections.sort_by_key(|rejection| std::cmp::Reverse((rejection.minute, rejection.total)));
    rejections
}

/// How many since `before`, and in all.
fn counts<'a>(before: &'a [u64], now: &'a [u64]) -> impl Iterator<Item = (u64, u64)> + 'a {
    let before = |place: usize| before.get(place).copied().unwrap_or(0);
    now.iter().enumerate().map(move |(place, &total)| (total.saturating_sub(before(place)), total))
}

fn certificates(served: &Served) -> Vec<Certificate> {
    let now = SystemTime::now();
    let days = |until: SystemTime| match until.duration_since(now) {
        Ok(left) => (left.as_secs() / DAY).cast_signed(),
        Err(over) => -((over.duration().as_secs() / DAY).cast_signed()) - 1,
    };
    let mut certificates: Vec<_> = served
        .asker
        .journal()
        .certificates()
        .into_iter()
        .map(|it| Certificate {
            kind: it.kind.to_owned(),
            name: it.name.to_string(),
            chain: it.dated.chain.display().to_string(),
            expires: date(it.dated.not_after),
            days_left: days(it.dated.not_after),
            complaint: it
                .dated
                .complaint(now)
                .map(|(Complaint::Soon(words) | Complaint::Wrong(words))| words),
        })
        .collect();
    certificates.sort_by_key(|certificate| certificate.days_left);
    certificates
}

fn reload(served: &Served) -> Option<Reload> {
    let latest = served.asker.journal().latest()?;
    Some(Reload {
        at: date(latest.at),
        cause: latest.cause.label().to_owned(),
        applied: latest.mistakes.is_none(),
        mistakes: latest.mistakes.unwrap_or_default(),
    })
}

fn upgrade(latest: Latest) -> Upgrade {
    let (at, outcome) = (date(latest.at), latest.outcome.label().to_owned());
    let told = Upgrade { at, outcome, ..Upgrade::default() };
    match latest.outcome {
        Outcome::TookOver { pid, version } => Upgrade { pid: Some(pid), from_version: Some(version), ..told },
        Outcome::Failed { error } => Upgrade { error: Some(error), ..told },
    }
}

/// Of the configuration at work, however it got there.
fn warnings(served: &Served, shared: &Shared) -> Vec<String> {
    let at_start = || shared.snapshot.load().config.warnings.iter().map(ToString::to_string).collect();
    served.asker.journal().warnings().unwrap_or_else(at_start)
}

/// RFC 3339, in UTC.
fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_since_then_and_in_all() {
        let all = |before: &[u64], now: &[u64]| counts(before, now).collect::<Vec<_>>();
        assert_eq!(all(&[1, 2], &[4, 2]), [(3, 4), (0, 2)]);
        assert_eq!(all(&[], &[4]), [(4, 4)]);
    }
}
