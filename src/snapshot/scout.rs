//! Scouts go to the brokers before any client does. They live as long as their snapshot: dropped with it,
//! they stop where they stand.
//!
//! They run on the main thread's runtime, where no sessions are.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::UpstreamAtWork;
use crate::config::{Probe, ProbeKind};
use crate::telemetry::ErrorChain;
use crate::upstream::{Change, Endpoint};

/// The scouts of a snapshot.
#[derive(Debug)]
pub(super) struct Scouts {
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Scouts {
    /// Send them out, on the runtime that this is called in. Without one, nobody goes.
    pub(super) fn send(pools: &BTreeMap<Arc<str>, Arc<UpstreamAtWork>>) -> Self {
        let mut tasks = JoinSet::new();
        if let Ok(runtime) = Handle::try_current() {
            for upstream in pools.values().filter(|upstream| upstream.pool.config().probe.is_some()) {
                tasks.spawn_on(probe_all(Arc::clone(upstream)), &runtime);
            }
        }
        Self { _tasks: tasks }
    }
}

/// Probe the endpoints of an upstream, each in its own rhythm.
async fn probe_all(upstream: Arc<UpstreamAtWork>) {
    let Some(probe) = &upstream.pool.config().probe else { return };
    let mut rounds = JoinSet::new();
    for endpoint in upstream.pool.endpoints() {
        rounds.spawn(probe_again_and_again(Arc::clone(&upstream), Arc::clone(endpoint), probe.clone()));
    }
    while rounds.join_next().await.is_some() {}
}

async fn probe_again_and_again(upstream: Arc<UpstreamAtWork>, endpoint: Arc<Endpoint>, probe: Probe) {
    let client_id = client_id(&probe);
    let mut pause = probe.jitter.mul_f64(fastrand::f64());
    loop {
        sleep(pause).await;
        let began = Instant::now();
        let outcome = upstream.pool.probe(&endpoint, &probe, &client_id).await;
        upstream.probed(&endpoint, &probe, began.elapsed(), &outcome);
        let change = upstream.pool.tell_probe(&endpoint, &probe, outcome.is_ok());
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
