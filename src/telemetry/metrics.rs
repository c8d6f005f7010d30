//! The counters, with kept handles: a kept counter costs nanoseconds, a looked-up one a hundred.
//!
//! Labels come from the configuration or from enums, never from clients. Each gateway has its own
//! recorder, so that two in one process (tests) do not mix.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::Tally;

/// How often the samples of histograms are summed up. Until then each is kept: 16 bytes.
const UPKEEP: Duration = Duration::from_secs(2);

/// Seconds: from a LAN's dial to a deadline.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The most endpoints that have series of their own; those behind them share the name `other`.
const MOST_NAMED: usize = 4096;

/// All metrics of one gateway.
pub struct Metrics {
    /// Endpoints with series of their own.
    named: Mutex<BTreeSet<Arc<str>>>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
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
    reload: ReloadMetrics,
}

/// How reloads went.
struct ReloadMetrics {
    applied: Counter,
    refused: Counter,
    last_successful: Gauge,
    last_applied: Gauge,
}

/// What is counted for one endpoint of one upstream.
#[derive(Debug, Clone)]
pub struct EndpointMetrics {
    /// Sessions it holds.
    pub sessions: Gauge,
    /// Sessions it accepted.
    pub opened: Counter,
    /// How long its dials took, in seconds, when they succeeded.
    pub dial_seconds: Histogram,
    /// Whether it is up: 1 or 0.
    pub up: Gauge,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A recorder with every series of a closed set of labels at zero. `rejections` and `endings` are the
    /// labels of those enums, which live above us.
    ///
    /// # Errors
    /// None in practice: the buckets are constants of ours.
    pub fn build(
        rejections: &[&'static str],
        endings: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Result<Arc<Self>, metrics_exporter_prometheus::BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
            .build_recorder();
        let handle = recorder.handle();
        let endings: Vec<_> = endings.into_iter().collect();
        let tally = Tally::new(rejections, &endings);
        let metrics = metrics::with_local_recorder(&recorder, || {
            describe();
            for reason in rejections {
                counter!("brokergate_rejections_total", "reason" => *reason).absolute(0);
            }
            for (reason, by) in &endings {
                counter!("brokergate_sessions_ended_total", "reason" => *reason, "by" => *by).absolute(0);
            }
            let process = metrics_process::Collector::default();
            process.describe();
            (
                process,
                gauge!("brokergate_connections"),
                counter!("brokergate_connections_accepted_total"),
                gauge!("brokergate_sessions"),
                histogram!("brokergate_connect_seconds"),
                ReloadMetrics::register(),
            )
        });
        let (process, connections, accepted, sessions, connect_seconds, reload) = metrics;
        connections.set(0.0);
        sessions.set(0.0);
        Ok(Arc::new(Self {
            named: Mutex::default(),
            recorder,
            handle,
            process,
            upkept: AtomicU64::new(0),
            connections,
            accepted,
            sessions,
            tally,
            connect_seconds,
            reload,
        }))
    }

    /// The handles of one endpoint.
    #[must_use]
    pub fn endpoint(&self, upstream: &Arc<str>, endpoint: &Arc<str>) -> EndpointMetrics {
        let endpoint = self.label(endpoint);
        let labels = || [("upstream", Arc::clone(upstream)), ("endpoint", Arc::clone(&endpoint))];
        self.record(|| EndpointMetrics {
            sessions: gauge!("brokergate_endpoint_sessions", &labels()),
            opened: counter!("brokergate_endpoint_sessions_opened_total", &labels()),
            dial_seconds: histogram!("brokergate_dial_seconds", &labels()),
            up: gauge!("brokergate_endpoint_up", &labels()),
        })
    }

    /// When a certificate ends, in Unix seconds. `kind` is who shows it: `listener` or `upstream`.
    pub fn certificate_expiry(&self, kind: &'static str, name: &Arc<str>, chain: &str) -> Gauge {
        let labels = [(kind, Arc::clone(name)), ("certificate", chain.into())];
        self.record(|| gauge!("brokergate_certificate_expiry_timestamp_seconds", &labels))
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
        reload.last_successful.set(if applied { 1.0 } else { 0.0 });
    }

    /// Count an upgrade in place, by what came of it.
    pub fn upgraded(&self, result: &'static str) {
        self.record(|| counter!("brokergate_upgrades_total", "result" => result).increment(1));
    }

    /// Count a no before 101.
    pub fn rejected(&self, reason: &'static str) {
        self.tally.rejected(reason);
        self.record(|| counter!("brokergate_rejections_total", "reason" => reason).increment(1));
    }

    /// Count an arrival that never became a request.
    pub fn arrival_failed(&self, reason: &'static str) {
        self.record(|| counter!("brokergate_arrivals_failed_total", "reason" => reason).increment(1));
    }

    /// Count a TLS handshake.
    pub fn tls_handshake(&self, version: &'static str, resumed: bool) {
        let resumed = if resumed { "yes" } else { "no" };
        self.record(|| {
            counter!("brokergate_tls_handshakes_total", "version" => version, "resumed" => resumed)
                .increment(1);
        });
    }

    /// Count an answered request. `target` is what it was routed to, `class` is `2xx` and so on.
    pub fn answered(&self, target: &'static str, class: &'static str) {
        self.record(|| {
            counter!("brokergate_requests_total", "target" => target, "status" => class).increment(1);
        });
    }

    /// Count a session's ending.
    pub fn ended(&self, reason: &'static str, by: &'static str) {
        self.tally.ended(reason);
        self.record(|| {
            counter!("brokergate_sessions_ended_total", "reason" => reason, "by" => by).increment(1);
        });
    }

    /// Count a dial that failed, or an endpoint that did not accept a CONNECT.
    pub fn dial_failed(&self, upstream: &Arc<str>, endpoint: &Arc<str>, reason: &'static str) {
        let labels = [
            ("upstream", metrics::SharedString::from(Arc::clone(upstream))),
            ("endpoint", self.label(endpoint).into()),
            ("reason", reason.into()),
        ];
        self.record(|| counter!("brokergate_dials_failed_total", &labels).increment(1));
    }

    /// Count a probe of an endpoint, and how many `seconds` it took if it passed.
    pub fn probed(
        &self,
        upstream: &Arc<str>,
        endpoint: &Arc<str>,
        kind: &'static str,
        result: &'static str,
        seconds: Option<f64>,
    ) {
        let named = [
            ("upstream", metrics::SharedString::from(Arc::clone(upstream))),
            ("endpoint", self.label(endpoint).into()),
        ];
        let [by_upstream, by_endpoint] = named.clone();
        let labels = [by_upstream, by_endpoint, ("kind", kind.into()), ("result", result.into())];
        self.record(|| {
            counter!("brokergate_probes_total", &labels).increment(1);
            if let Some(seconds) = seconds {
                histogram!("brokergate_probe_seconds", &named).record(seconds);
            }
        });
    }

    /// Count a look-up of the name of an endpoint that stands for many.
    pub fn looked_up(&self, upstream: &Arc<str>, endpoint: &Arc<str>, result: &'static str) {
        let labels = [
            ("upstream", metrics::SharedString::from(Arc::clone(upstream))),
            ("endpoint", Arc::clone(endpoint).into()),
            ("result", result.into()),
        ];
        self.record(|| counter!("brokergate_lookups_total", &labels).increment(1));
    }

    /// The label of an endpoint: its name, for as many as fit. Names of brokers that are discovered come and
    /// go for as long as we run, and no series ever goes.
    fn label(&self, endpoint: &Arc<str>) -> Arc<str> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < MOST_NAMED || named.contains(endpoint) {
            named.insert(Arc::clone(endpoint));
            return Arc::clone(endpoint);
        }
        "other".into()
    }

    /// Count a CONNACK by its code's name.
    pub fn connack(&self, code: &'static str) {
        self.record(|| counter!("brokergate_connacks_total", "code" => code).increment(1));
    }

    /// Set what was counted elsewhere: bytes and packets of one direction.
    pub fn traffic(
        &self,
        direction: &'static str,
        bytes: u64,
        packets: impl Iterator<Item = (&'static str, u64)>,
    ) {
        self.record(|| {
            counter!("brokergate_bytes_total", "direction" => direction).absolute(bytes);
            for (packet_type, count) in packets {
                counter!("brokergate_packets_total", "direction" => direction, "type" => packet_type)
                    .absolute(count);
            }
        });
    }

    /// Sum up the samples of histograms again and again, until dropped: the recorder keeps each of them until
    /// then, and there may be nobody who scrapes.
    pub async fn look_after(self: Arc<Self>) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.handle.run_upkeep();
            self.upkept.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often that was done.
    #[must_use]
    pub fn upkept(&self) -> u64 {
        self.upkept.load(Ordering::Relaxed)
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.record(|| self.process.collect());
        self.handle.render()
    }

    fn record<T>(&self, count: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.recorder, count)
    }
}

impl ReloadMetrics {
    /// As they stand after the start: it read the configuration, too.
    fn register() -> Self {
        let reloads = |result| counter!("brokergate_reloads_total", "result" => result);
        let metrics = Self {
            applied: reloads("applied"),
            refused: reloads("refused"),
            last_successful: gauge!("brokergate_config_last_reload_successful"),
            last_applied: gauge!("brokergate_config_last_reload_timestamp_seconds"),
        };
        metrics.applied.absolute(0);
        metrics.refused.absolute(0);
        metrics.last_successful.set(1.0);
        metrics.last_applied.set(now());
        metrics
    }
}

/// Unix seconds.
fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64())
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

fn describe() {
    describe_gauge!("brokergate_connections", "Client connections being served, sessions included");
    describe_counter!("brokergate_connections_accepted_total", "Client connections accepted");
    describe_counter!(
        "brokergate_arrivals_failed_total",
        "Connections that never became a request, by reason"
    );
    describe_counter!("brokergate_tls_handshakes_total", "TLS handshakes that succeeded");
    describe_counter!("brokergate_requests_total", "Requests answered, by target and status class");
    describe_counter!("brokergate_rejections_total", "Requests turned away before 101, by reason");
    describe_gauge!("brokergate_sessions", "Sessions between their 101 and their ending");
    describe_counter!("brokergate_sessions_ended_total", "Sessions ended, by reason and by whose doing");
    describe_histogram!(
        "brokergate_connect_seconds",
        "From the handshake's 101 to the broker's first packet"
    );
    describe_gauge!("brokergate_endpoint_sessions", "Sessions an endpoint holds");
    describe_counter!("brokergate_endpoint_sessions_opened_total", "Sessions an endpoint accepted");
    describe_gauge!(
        "brokergate_endpoint_up",
        "Whether an endpoint is up (1), or avoided or down by its probes (0); NaN once it was removed"
    );
    describe_histogram!("brokergate_dial_seconds", "How long successful dials took");
    describe_counter!(
        "brokergate_dials_failed_total",
        "Dials and CONNECTs that an endpoint did not take, by reason"
    );
    describe_counter!("brokergate_lookups_total", "Look-ups of names that stand for many brokers, by result");
    describe_counter!("brokergate_probes_total", "Probes of endpoints, by kind and result");
    describe_histogram!("brokergate_probe_seconds", "How long probes took that passed");
    describe_counter!("brokergate_reloads_total", "Reloads, by result");
    describe_counter!("brokergate_upgrades_total", "Upgrades in place, by what came of them");
    describe_gauge!(
        "brokergate_config_last_reload_successful",
        "Whether the latest reload put its configuration to work (1) or was refused (0)"
    );
    describe_gauge!(
        "brokergate_config_last_reload_timestamp_seconds",
        "When the configuration at work was put to work"
    );
    describe_gauge!(
        "brokergate_certificate_expiry_timestamp_seconds",
        "When a certificate in use ends; NaN once it is not in use any more"
    );
    describe_counter!("brokergate_connacks_total", "CONNACKs of brokers, by code");
    describe_counter!(
        "brokergate_bytes_total",
        "Bytes of sessions, by direction: up is from client to broker"
    );
    describe_counter!("brokergate_packets_total", "MQTT packets of sessions, by direction and type");
}
