//! Scouts go to the brokers before any client does: they look up the names that stand for many, and probe
//! each endpoint. They live as long as their snapshot: dropped with it, they stop where they stand.
//!
//! They run on the main thread's runtime, where no sessions are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{debug, info, warn};

use super::UpstreamAtWork;
use crate::config::{self, OnLoss, Probe, ProbeKind};
use crate::drain::{Drain, Terms};
use crate::telemetry::ErrorChain;
use crate::upstream::{Change, Changes, Endpoint};

/// How soon a name that never had an answer is looked up again.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// How much longer an interval between two look-ups may be, so that many gateways do not ask in step.
const JITTER: f64 = 0.1;

/// The scouts of a snapshot.
#[derive(Debug)]
pub(super) struct Scouts {
    /// Aborted when dropped.
    tasks: Mutex<JoinSet<()>>,
    /// Names that were never looked up.
    first_look_ups: TaskTracker,
}

/// Says goodbye to the sessions of endpoints that are lost.
#[derive(Debug, Clone)]
pub(super) struct Goodbyes {
    /// The drain of all sessions.
    pub(super) sessions: Drain,
    /// How goodbyes are said to an endpoint's.
    pub(super) terms: Terms,
}

impl Goodbyes {
    /// It left: who is still dialling it is asked too.
    fn to_removed(&self, endpoint: &Endpoint) {
        self.say(endpoint.drain(&self.sessions));
    }

    /// It may come back: who comes then stays.
    fn to_down(&self, endpoint: &Endpoint) {
        // Who was drained by hand is asked already.
        if let Some(drain) = Some(endpoint).filter(|it| !it.is_closed()).and_then(Endpoint::take_drain) {
            self.say(drain);
        }
    }

    /// What has begun is finished, whatever becomes of the snapshot.
    fn say(&self, drain: Drain) {
        let round = drain.begin(self.terms);
        tokio::spawn(async move { drain.carry_out(&round).await });
    }
}

impl Scouts {
    /// Send them out, on the runtime that this is called in. Without one, nobody goes.
    pub(super) fn send(pools: &BTreeMap<Arc<str>, Arc<UpstreamAtWork>>, goodbyes: &Goodbyes) -> Self {
        let mut tasks = JoinSet::new();
        let first_look_ups = TaskTracker::new();
        first_look_ups.close();
        if let Ok(runtime) = Handle::try_current() {
            for upstream in pools.values() {
                let config = upstream.pool.config();
                for endpoint in config.endpoints.iter().filter(|endpoint| endpoint.discover.is_some()) {
                    let (upstream, endpoint) = (Arc::clone(upstream), Arc::clone(endpoint));
                    let looking = discover(upstream, endpoint, goodbyes.clone(), first_look_ups.token());
                    tasks.spawn_on(looking, &runtime);
                }
                if let Some(probe) = &config.probe {
                    tasks
                        .spawn_on(probe_all(Arc::clone(upstream), probe.clone(), goodbyes.clone()), &runtime);
                }
            }
        }
        Self { tasks: Mutex::new(tasks), first_look_ups }
    }

    /// Call them back: the gateway stops, though somebody may still hold its snapshot.
    pub(super) fn recall(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Wait until each name was looked up once, whatever the answer.
    pub(super) async fn looked_up(&self) {
        self.first_look_ups.wait().await;
    }
}

/// Look up the name of `endpoint` again and again. When that fails, the last good answer holds on.
async fn discover(
    upstream: Arc<UpstreamAtWork>,
    endpoint: Arc<config::Endpoint>,
    goodbyes: Goodbyes,
    first: TaskTrackerToken,
) {
    let interval = upstream.pool.config().resolve_interval;
    let mut first = Some(first);
    let (mut has_answer, mut has_failed, mut was_cut) = (false, false, false);
    loop {
        let outcome = upstream.pool.look_up(&endpoint).await;
        upstream.looked_up(&endpoint, &outcome);
        let name = &endpoint.name;
        let adopted = match outcome {
            Ok(found) => upstream.adopt(&endpoint, found).map_err(|error| ErrorChain(&error).to_string()),
            Err(error) => Err(ErrorChain(&error).to_string()),
        };
        match adopted {
            Ok(Changes { added, removed, left_out }) => {
                // At the first answer sessions may still come by the snapshot from before, where these endpoints
                // are at work: the reload says goodbye itself, once it is sure.
                if first.is_none() && upstream.pool.config().on_removal == OnLoss::Drain {
                    removed.iter().for_each(|endpoint| goodbyes.to_removed(endpoint));
                }
                let removed: Vec<_> = removed.iter().map(|endpoint| endpoint.name()).collect();
                if !added.is_empty() || !removed.is_empty() {
                    info!(upstream = %upstream.pool.name(), endpoint = %name, ?added, ?removed, "a name has other brokers");
                } else if has_failed {
                    info!(upstream = %upstream.pool.name(), endpoint = %name, "a name is answered again");
                }
                if left_out > 0 && !was_cut {
                    warn!(upstream = %upstream.pool.name(), endpoint = %name, left_out, "a name has more brokers than `max_endpoints`: raise it");
                }
                (has_answer, has_failed, was_cut) = (true, false, left_out > 0);
            }
            Err(error) if has_failed => {
                debug!(upstream = %upstream.pool.name(), endpoint = %name, error, "a name has no answer");
            }
            Err(error) => {
                warn!(upstream = %upstream.pool.name(), endpoint = %name, error, "a name has no answer: its last one holds on, if there was any");
                has_failed = true;
            }
        }
        drop(first.take());
        let pause = if has_answer { interval } else { interval.min(IMPATIENCE) };
        sleep(pause + pause.mul_f64(JITTER * fastrand::f64())).await;
    }
}

/// Probe the endpoints of an upstream, each in its own rhythm, those that join later too.
async fn probe_all(upstream: Arc<UpstreamAtWork>, probe: Probe, goodbyes: Goodbyes) {
    let mut changes = upstream.pool.changes();
    let mut rounds: Vec<(Arc<Endpoint>, AbortOnDropHandle<()>)> = Vec::new();
    loop {
        let endpoints = upstream.pool.endpoints();
        rounds.retain(|(probed, _)| endpoints.iter().any(|endpoint| Arc::ptr_eq(endpoint, probed)));
        for endpoint in endpoints.iter() {
            if !rounds.iter().any(|(probed, _)| Arc::ptr_eq(endpoint, probed)) {
                let (upstream, probe, goodbyes) = (Arc::clone(&upstream), probe.clone(), goodbyes.clone());
                let round = probe_again_and_again(upstream, Arc::clone(endpoint), probe, goodbyes);
                rounds.push((Arc::clone(endpoint), AbortOnDropHandle::new(tokio::spawn(round))));
            }
        }
        // The pool is held, so this ends only with us.
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn probe_again_and_again(
    upstream: Arc<UpstreamAtWork>,
    endpoint: Arc<Endpoint>,
    probe: Probe,
    goodbyes: Goodbyes,
) {
    let on_down = upstream.pool.config().on_down;
    let client_id = client_id(&probe);
    let mut pause = probe.jitter.mul_f64(fastrand::f64());
    loop {
        sleep(pause).await;
        let began = Instant::now();
        let outcome = upstream.pool.probe(&endpoint, &probe, &client_id).await;
        let took = began.elapsed();
        upstream.probed(&endpoint, took, &outcome);
        let change = upstream.pool.tell_probe(&endpoint, &probe, outcome.is_ok());
        endpoint.probed(took, outcome.as_ref().err().map(|error| ErrorChain(error).to_string()));
        if change == Some(Change::Fell) && on_down == OnLoss::Drain {
            goodbyes.to_down(&endpoint);
        }
        let (upstream, endpoint, kind) = (upstream.pool.name(), endpoint.name(), probe.kind.label());
        match (&outcome, change) {
            (Ok(()), Some(Change::Rose)) => {
                info!(%upstream, %endpoint, kind, "probes pass: an endpoint is up")
            }
            (Ok(()), _) => debug!(%upstream, %endpoint, kind, "a probe passed"),
            (Err(error), Some(Change::Fell)) => {
                warn!(%upstream, %endpoint, kind, error = %ErrorChain(error), "probes fail: an endpoint is down");
            }
            (Err(error), _) => {
                debug!(%upstream, %endpoint, kind, error = %ErrorChain(error), "a probe failed");
            }
        }
        pause = probe.interval + probe.jitter.mul_f64(fastrand::f64());
    }
}

/// A ClientID that nobody else has, whichever gateway, endpoint or snapshot: the broker would end the session
/// of one for the other's (MQTT 3.1.1, 3.1.4).
fn client_id(probe: &Probe) -> String {
    match &probe.kind {
        ProbeKind::Mqtt(login) => format!("{}-{:016x}", login.client_id, fastrand::u64(..)),
        ProbeKind::Tcp | ProbeKind::Http { .. } => String::new(),
    }
}
