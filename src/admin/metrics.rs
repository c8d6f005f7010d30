//! `/metrics`: what is only looked at when somebody asks, then all that was counted.
//!
//! A thread of its own does it, so that no session and no probe waits: the page is long, and `/proc` may be slow.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Response, StatusCode};
use metrics::Gauge;
use tokio::time::Instant;

use super::Stage;
use super::answer::{text, typed};
use crate::net::{Body, full};
use crate::proxy::Shared;
use crate::telemetry::{Flowed, log, number};
use crate::tunnel::{Flow, Held, Traffic};

pub(super) async fn answer(shared: Arc<Shared>, stage: Stage) -> Response<Body> {
    let page = tokio::task::spawn_blocking(move || page(&shared, stage)).await;
    let Ok(page) = page else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be shown\n");
    };
    typed("text/plain; version=0.0.4; charset=utf-8", full(page))
}

fn page(shared: &Shared, stage: Stage) -> String {
    let scraped = &shared.metrics.scraped;
    flowed(&scraped.up, shared, |traffic| &traffic.up);
    flowed(&scraped.down, shared, |traffic| &traffic.down);
    for upstream in shared.snapshot.load().pools.values() {
        upstream.publish(Instant::now());
    }
    permits(shared);
    buffers(shared);
    drain(shared, stage);
    for (index, (connections, busy)) in shared.loads.look().into_iter().enumerate() {
        shared.metrics.worker(index, connections, busy.as_secs_f64());
    }
    scraped.log_lines_dropped.absolute(log::dropped_lines() as u64);
    shared.metrics.render()
}

fn flowed(metrics: &Flowed, shared: &Shared, of: impl Fn(&Traffic) -> &Flow) {
    metrics.bytes.absolute(shared.traffic.sum(|traffic| of(traffic).bytes()));
    metrics.packets(|packet_type| shared.traffic.sum(|traffic| of(traffic).packets(packet_type)));
}

fn permits(shared: &Shared) {
    let (scraped, permits) = (&shared.metrics.scraped, shared.permits());
    set(&scraped.connections, permits.connections);
    set(&scraped.refused, permits.refused);
    scraped.addresses.set(number(permits.addresses));
}

fn buffers(shared: &Shared) {
    let (scraped, held) = (&shared.metrics.scraped, Held::look());
    set(&scraped.lent, (held.lent, held.lent_bytes));
    set(&scraped.waiting, (held.waiting, held.waiting_bytes));
}

/// A drain that is over leaves nothing but its rounds.
fn drain(shared: &Shared, stage: Stage) {
    let (scraped, sessions) = (&shared.metrics.scraped, &shared.sessions);
    scraped.stage(stage.label());
    for (counter, rounds) in scraped.rounds.iter().zip(sessions.rounds()) {
        counter.absolute(rounds);
    }
    let progress = sessions.progress().filter(|_| stage == Stage::Draining);
    scraped.drain_left.set(number(progress.map_or(0, |progress| progress.left)));
    scraped.drain_asked.set(number(progress.map_or(0, |progress| progress.asked)));
    scraped.drain_deadline.set(progress.map_or(0.0, |progress| unix(progress.deadline)));
}

fn set([first, second]: &[Gauge; 2], to: (usize, usize)) {
    first.set(number(to.0));
    second.set(number(to.1));
}

/// A moment in Unix seconds.
fn unix(moment: Instant) -> f64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().as_ref().map_or(0.0, Duration::as_secs_f64);
    let (ahead, behind) = (moment.saturating_duration_since(Instant::now()), moment.elapsed());
    now + ahead.as_secs_f64() - behind.as_secs_f64()
}
