//! The metrics of the gateway as a whole: where each has its name, its help and its labels.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use metrics_exporter_prometheus::BuildError;

use super::endpoint::Names;
use super::{Labels, Metrics, ReloadMetrics, Scraped, now};
use crate::mqtt::{Connack, Level};
use crate::telemetry::Tally;
use crate::telemetry::recorder::Recorder;
use crate::tls::AcceptError;
use crate::tunnel::Ending;

/// The first digit of a status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// As rustls names them.
const TLS_VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

impl Metrics {
    /// All series of closed sets of labels at zero.
    ///
    /// # Errors
    /// None in practice.
    pub fn build(labels: &Labels) -> Result<Arc<Self>, BuildError> {
        let recorder = Recorder::build()?;
        let one = |label: &&'static str| [*label];
        let endings: Vec<_> = Ending::all_labels().collect();
        let process = metrics_process::Collector::default();
        recorder.with(|| process.describe());
        show_build(&recorder);
        let metrics = Self {
            names: Names::default(),
            process,
            upkept: AtomicU64::new(0),
            connections: recorder.gauge(
                "brokergate_connections",
                "Client connections being served, sessions included",
                &[],
            ),
            accepted: recorder.counter(
                "brokergate_connections_accepted_total",
                "Client connections that got past the PROXY preamble",
                &[],
            ),
            sessions: recorder.gauge(
                "brokergate_sessions",
                "Sessions between their 101 and their ending",
                &[],
            ),
            tally: Tally::new(labels.rejections, &endings),
            connect_seconds: recorder.histogram(
                "brokergate_connect_seconds",
                "From the handshake's 101 to the broker's first packet",
                &[],
            ),
            scraped: Scraped::register(&recorder, labels.stages),
            opened: recorder.counter("brokergate_sessions_opened_total", "Handshakes answered with 101", &[]),
            ended: recorder.closed(
                "brokergate_sessions_ended_total",
                "Sessions ended, by reason and by whose doing",
                &[],
                ["reason", "by"],
                endings.iter().map(|(reason, by)| [*reason, *by]),
            ),
            rejected: recorder.closed(
                "brokergate_rejections_total",
                "Requests turned away before 101, by reason",
                &[],
                ["reason"],
                labels.rejections.iter().map(one),
            ),
            arrivals_failed: recorder.closed(
                "brokergate_arrivals_failed_total",
                "Connections that never became a request, by reason",
                &[],
                ["reason"],
                labels.arrivals.iter().map(one),
            ),
            tls_handshakes: recorder.closed(
                "brokergate_tls_handshakes_total",
                "TLS handshakes with clients that succeeded, by version and by whether a ticket was resumed",
                &[],
                ["version", "resumed"],
                TLS_VERSIONS.into_iter().flat_map(|version| [[version, "yes"], [version, "no"]]),
            ),
            tls_failed: recorder.closed(
                "brokergate_tls_handshakes_failed_total",
                "TLS handshakes with clients that failed, by reason",
                &[],
                ["reason"],
                AcceptError::LABELS.iter().map(one),
            ),
            requests: recorder.closed(
                "brokergate_requests_total",
                "Requests answered, by target and status class; a session is mqtt, 1xx",
                &[],
                ["target", "status"],
                labels.targets.iter().flat_map(|target| CLASSES.map(|class| [*target, class])),
            ),
            connects: recorder.closed(
                "brokergate_connects_total",
                "Well-formed CONNECTs of clients, by the version of MQTT",
                &[],
                ["protocol"],
                Level::ALL.map(|level| [level.label()]),
            ),
            connacks: recorder.closed(
                "brokergate_connacks_total",
                "CONNACKs of brokers that reached clients, by code",
                &[],
                ["code"],
                Connack::LABELS.iter().map(one),
            ),
            upgrades: recorder.closed(
                "brokergate_upgrades_total",
                "Upgrades in place, by what came of them",
                &[],
                ["result"],
                [["took_over"], ["failed"]],
            ),
            reload: ReloadMetrics::register(&recorder),
            recorder,
        };
        Ok(Arc::new(metrics))
    }
}

impl ReloadMetrics {
    /// As they stand after the start: it read the configuration, too.
    fn register(recorder: &Recorder) -> Self {
        let reloads = |result| {
            recorder.counter("brokergate_reloads_total", "Reloads, by result", &[("result", result)])
        };
        let metrics = Self {
            applied: reloads("applied"),
            refused: reloads("refused"),
            last_successful: recorder.gauge(
                "brokergate_config_last_reload_successful",
                "Whether the latest reload put its configuration to work (1) or was refused (0)",
                &[],
            ),
            last_applied: recorder.gauge(
                "brokergate_config_last_reload_timestamp_seconds",
                "When the configuration at work was put to work",
                &[],
            ),
        };
        metrics.last_successful.set(1.0);
        metrics.last_applied.set(now());
        metrics
    }
}

fn show_build(recorder: &Recorder) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("os", std::env::consts::OS),
        ("arch", std::env::consts::ARCH),
    ];
    recorder.gauge("brokergate_build_info", "1, with what is running", &labels).set(1.0);
}
