//! When the certificates in use end: a gauge for each, and a word in time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use metrics::Gauge;
use tracing::{error, warn};

use super::journal;
use crate::listener::Listener;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::tls::{Complaint, Dated};

/// Who shows a certificate: `listener` or `upstream`, and its name; and the chain's file.
type Use = (&'static str, Arc<str>, PathBuf);

/// The certificates that have gauges.
#[derive(Default)]
pub(super) struct Certificates {
    shown: BTreeMap<Use, Gauge>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.shown.keys()).finish()
    }
}

impl Certificates {
    /// Set the gauges of the certificates in use, and log which of them end soon. These are they.
    pub(super) fn look(
        &mut self,
        at_work: &[(SocketAddr, Arc<Listener>)],
        snapshot: &Snapshot,
        metrics: &Metrics,
    ) -> Vec<journal::InUse> {
        let in_use = in_use(at_work, snapshot);
        let before = std::mem::take(&mut self.shown);
        for (of @ (kind, name, chain), dated) in &in_use {
            let gauge = metrics.certificate_expiry(kind, name, &chain.display().to_string());
            gauge.set(seconds(dated.not_after));
            self.shown.insert(of.clone(), gauge);
            match dated.complaint(SystemTime::now()) {
                Some(Complaint::Soon(words)) => warn!("{kind} {name}: {words}"),
                Some(Complaint::Wrong(words)) => error!("{kind} {name}: {words}"),
                None => {}
            }
        }
        // A gauge can't be taken back, and an alert must not ring for what is no longer there.
        let gone = before.into_iter().filter(|(of, _)| !in_use.contains_key(of));
        gone.for_each(|(_, gauge)| gauge.set(f64::NAN));
        in_use.into_iter().map(|((kind, name, _), dated)| journal::InUse { kind, name, dated }).collect()
    }
}

fn in_use(at_work: &[(SocketAddr, Arc<Listener>)], snapshot: &Snapshot) -> BTreeMap<Use, Dated> {
    let of_listeners = at_work.iter().flat_map(|(_, listener)| {
        let name = &listener.config.name;
        listener.certificates.iter().map(move |dated| ("listener", name, dated))
    });
    let of_upstreams = snapshot
        .pools
        .iter()
        .filter_map(|(name, upstream)| Some(("upstream", name, upstream.pool.client_certificate()?)));
    let all = of_listeners.chain(of_upstreams);
    all.map(|(kind, name, dated)| ((kind, Arc::clone(name), dated.chain.clone()), dated.clone())).collect()
}

#[expect(clippy::cast_precision_loss, reason = "seconds of this century are exact in a float")]
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()) as f64
}
