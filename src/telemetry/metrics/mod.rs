//! All that is counted, by kept handles, and where each metric has its name and its help: `register`, `endpoint`
//! and `scraped`.
//!
//! Labels come from the configuration, from enums or from DNS, never from clients. Closed sets of them are
//! there from the start, at zero.

mod endpoint;
mod register;
mod scraped;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use metrics::{Counter, Gauge, Histogram};

use self::endpoint::Names;
use super::Tally;
use super::recorder::{Closed, Recorder, whether};
use crate::mqtt::{Connack, Level};

pub use self::endpoint::{EndpointMetrics, LookUps, UpstreamMetrics};
pub use self::scraped::{Flowed, Scraped};

/// How often the samples of histograms are summed up. Until then each is kept: 16 bytes.
const UPKEEP: Duration = Duration::from_secs(2);

/// All metrics of one gateway.
#[derive(Debug)]
pub struct Metrics {
    recorder: Recorder,
    names: Names,
    process: metrics_process::Collector,
    /// How often samples were summed up.
    upkept: AtomicU64,
    /// Connections being served, sessions included.
    pub connections: Gauge,
    /// Connections accepted.
    pub accepted: Counter,
    /// Sessions between their 101 and their ending.
    pub sessions: Gauge,
    /// What `/status` reads: the recorder's own counters can't be read one by one.
    pub tally: Tally,
    /// From 101 to the broker's CONNACK, in seconds.
    pub connect_seconds: Histogram,
    /// What is looked at only when somebody scrapes.
    pub scraped: Scraped,
    opened: Counter,
    ended: Closed<2>,
    rejected: Closed<1>,
    arrivals_failed: Closed<1>,
    tls_handshakes: Closed<2>,
    tls_failed: Closed<1>,
    requests: Closed<2>,
    connects: Closed<1>,
    connacks: Closed<1>,
    upgrades: Closed<1>,
    reload: ReloadMetrics,
}

/// The labels of enums that live above us.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// Noes before 101.
    pub rejections: &'static [&'static str],
    /// Why a connection became no request.
    pub arrivals: &'static [&'static str],
    /// What requests are routed to.
    pub targets: &'static [&'static str],
    /// The stages of the gateway's life.
    pub stages: &'static [&'static str],
}

/// How reloads went.
#[derive(Debug)]
struct ReloadMetrics {
    applied: Counter,
    refused: Counter,
    last_successful: Gauge,
    last_applied: Gauge,
}

impl Metrics {
    /// Count a no before 101.
    pub fn rejected(&self, reason: &'static str) {
        self.tally.rejected(reason);
        self.rejected.count([reason]);
    }

    /// Count an upgrade in place, by what came of it.
    pub fn upgraded(&self, result: &'static str) {
        self.upgrades.count([result]);
    }

    /// Count a session's ending.
    pub fn ended(&self, reason: &'static str, by: &'static str) {
        self.tally.ended(reason);
        self.ended.count([reason, by]);
    }

    /// Count an arrival that never became a request.
    pub fn arrival_failed(&self, reason: &'static str) {
        self.arrivals_failed.count([reason]);
    }

    /// Count a TLS handshake.
    pub fn tls_handshake(&self, version: &'static str, resumed: bool) {
        self.tls_handshakes.count([version, if resumed { "yes" } else { "no" }]);
    }

    /// Count one that failed.
    pub fn tls_failed(&self, reason: &'static str) {
        self.tls_failed.count([reason]);
    }

    /// Count an answered request. `target` is what it was routed to, `class` is `2xx` and so on.
    pub fn answered(&self, target: &'static str, class: &'static str) {
        self.requests.count([target, class]);
    }

    /// Count a well-formed CONNECT.
    pub fn connect(&self, level: Level) {
        self.connects.count([level.label()]);
    }

    /// Count a CONNACK by its code's name.
    pub fn connack(&self, connack: &Connack) {
        self.connacks.count([connack.label()]);
    }

    /// When a certificate ends, in Unix seconds. `kind` is who shows it: `listener` or `upstream`.
    pub fn certificate_expiry(&self, kind: &'static str, name: &str, chain: &str) -> Gauge {
        self.recorder.gauge(
            "brokergate_certificate_expiry_timestamp_seconds",
            "When a certificate in use ends, by the file of its chain",
            &[("kind", kind), ("name", name), ("certificate", chain)],
        )
    }

    /// Count a reload, applied or refused.
    pub fn reloaded(&self, applied: bool) {
        let reload = &self.reload;
        if applied {
            reload.applied.increment(1);
            reload.last_applied.set(now());
        } else {
            reload.refused.increment(1);
        }
        reload.last_successful.set(whether(applied));
    }

    /// Sum up the samples of histograms again and again, until dropped: the recorder keeps each of them until
    /// then, and there may be nobody who scrapes.
    pub async fn look_after(self: Arc<Self>) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.recorder.sum_up();
            self.upkept.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often that was done.
    #[must_use]
    pub fn upkept(&self) -> u64 {
        self.upkept.load(Ordering::Relaxed)
    }

    /// All metrics in Prometheus' text format. It reads `/proc`, which may block for milliseconds.
    #[must_use]
    pub fn render(&self) -> String {
        self.opened.absolute(self.tally.read().opened);
        self.recorder.with(|| self.process.collect());
        self.recorder.render()
    }
}

/// Unix seconds.
fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().as_ref().map_or(0.0, Duration::as_secs_f64)
}

/// One more of what a gauge counts, until dropped.
pub struct Open(Gauge);

impl Open {
    /// One more.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Open")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Arc<Metrics> {
        let none: &[&str] = &[];
        let labels = Labels { rejections: &["key"], arrivals: none, targets: &["mqtt"], stages: none };
        Metrics::build(&labels).unwrap()
    }

    #[test]
    fn closed_sets_are_there_before_anything_happens() {
        let page = metrics().render();
        for line in [
            "brokergate_rejections_total{reason=\"key\"} 0",
            "brokergate_sessions_ended_total{reason=\"client_closed\",by=\"client\"} 0",
            "brokergate_tls_handshakes_total{version=\"TLSv1.3\",resumed=\"yes\"} 0",
            "brokergate_tls_handshakes_failed_total{reason=\"timeout\"} 0",
            "brokergate_requests_total{target=\"mqtt\",status=\"5xx\"} 0",
            "brokergate_connects_total{protocol=\"3.1.1\"} 0",
            "brokergate_connacks_total{code=\"not_authorized\"} 0",
            "brokergate_packets_total{direction=\"up\",type=\"publish\"} 0",
            "brokergate_config_last_reload_successful 1",
        ] {
            assert!(page.lines().any(|other| other == line), "{line} in {page}");
        }
    }

    #[test]
    fn what_is_open_is_counted_until_it_is_dropped() {
        let metrics = metrics();
        let (one, two) = (Open::new(&metrics.sessions), Open::new(&metrics.sessions));
        drop(one);
        assert!(metrics.render().contains("\nbrokergate_sessions 1\n"));
        drop(two);
        assert!(metrics.render().contains("\nbrokergate_sessions 0\n"));
    }

    #[test]
    fn an_endpoint_that_is_at_work_again_counts_on_and_one_that_is_gone_says_nothing() {
        let metrics = metrics();
        let endpoint = metrics.endpoint("emqx", &"one".into(), None);
        endpoint.opened.increment(3);
        endpoint.retire();
        let of_it = "{upstream=\"emqx\",endpoint=\"one\"}";
        let page = metrics.render();
        assert!(page.contains(&format!("brokergate_endpoint_up{of_it} NaN\n")), "{page}");
        let next = metrics.endpoint("emqx", &"one".into(), None);
        next.opened.increment(1);
        next.up.set(1.0);
        let page = metrics.render();
        assert!(page.contains(&format!("brokergate_endpoint_sessions_opened_total{of_it} 4\n")), "{page}");
        assert!(page.contains(&format!("brokergate_endpoint_up{of_it} 1\n")), "{page}");
    }

    #[test]
    fn too_many_endpoints_share_a_name() {
        let metrics = metrics();
        for number in 0..=endpoint::MOST_NAMED {
            let _ = metrics.endpoint("emqx", &format!("e-{number}").into(), None);
        }
        let again = metrics.endpoint("emqx", &"e-0".into(), None);
        again.opened.increment(1);
        let page = metrics.render();
        let opened = |name: &str, count: u64| {
            let labels = format!("{{upstream=\"emqx\",endpoint=\"{name}\"}}");
            page.contains(&format!("brokergate_endpoint_sessions_opened_total{labels} {count}\n"))
        };
        assert!(opened("other", 0) && opened("e-0", 1));
        assert!(!page.contains(&format!("\"e-{}\"", endpoint::MOST_NAMED)));
    }
}
