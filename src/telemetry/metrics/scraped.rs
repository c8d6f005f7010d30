//! What is looked at only when somebody scrapes: what is counted elsewhere, and how things stand.

use std::sync::{Mutex, PoisonError};

use metrics::{Counter, Gauge};

use crate::mqtt::PacketType;
use crate::telemetry::recorder::{Closed, Recorder, number, whether};

/// See above. Whoever answers a scrape sets all of it before.
#[derive(Debug)]
pub struct Scraped {
    /// From clients to brokers.
    pub up: Flowed,
    /// From brokers to clients.
    pub down: Flowed,
    /// Connections, and how many may be.
    pub connections: [Gauge; 2],
    /// Connections over a cap that wait for their 503, and how many may be.
    pub refused: [Gauge; 2],
    /// Client addresses that hold connections under `limits.connections_per_address`.
    pub addresses: Gauge,
    /// Buffers that sessions borrow, and the bytes of them.
    pub lent: [Gauge; 2],
    /// Copies that wait for whoever does not read, and the bytes of them.
    pub waiting: [Gauge; 2],
    /// Sessions that are left while the gateway drains.
    pub drain_left: Gauge,
    /// Sessions of them that were asked to go.
    pub drain_asked: Gauge,
    /// When what is left is cut, in Unix seconds.
    pub drain_deadline: Gauge,
    /// Rounds of goodbyes, of the gateway and of endpoints.
    pub rounds: [Counter; 2],
    /// Log lines that were dropped rather than waited for.
    pub log_lines_dropped: Counter,
    stages: Vec<(&'static str, Gauge)>,
    workers: Mutex<Vec<WorkerMetrics>>,
}

/// What flowed in one direction.
#[derive(Debug)]
pub struct Flowed {
    /// Bytes, framing included.
    pub bytes: Counter,
    packets: Closed<2>,
    direction: &'static str,
}

#[derive(Debug)]
struct WorkerMetrics {
    connections: Gauge,
    busy: Gauge,
}

impl Scraped {
    pub(super) fn register(recorder: &Recorder, stages: &[&'static str]) -> Self {
        let permits = |cap| {
            let labels = [("cap", cap)];
            [
                recorder.gauge("brokergate_permits", "Permits that are out, by their cap", &labels),
                recorder.gauge("brokergate_permits_limit", "Permits there are, by their cap", &labels),
            ]
        };
        let buffers = |state| {
            let labels = [("state", state)];
            [
                recorder.gauge("brokergate_buffers", "Buffers of sessions, by their state", &labels),
                recorder.gauge("brokergate_buffers_bytes", "Bytes of them, by their state", &labels),
            ]
        };
        let rounds = |of| {
            let help = "Rounds of goodbyes that began, by whom they are said to";
            recorder.counter("brokergate_drain_rounds_total", help, &[("of", of)])
        };
        let stage = |stage: &'static str| {
            let help = "1 for the stage of the gateway's life, 0 for the others";
            (stage, recorder.gauge("brokergate_stage", help, &[("stage", stage)]))
        };
        Self {
            up: Flowed::register(recorder, "up"),
            down: Flowed::register(recorder, "down"),
            connections: permits("connections"),
            refused: permits("refused"),
            addresses: recorder.gauge(
                "brokergate_client_addresses",
                "Client addresses that hold connections; 0 without limits.connections_per_address",
                &[],
            ),
            lent: buffers("lent"),
            waiting: buffers("waiting"),
            drain_left: recorder.gauge(
                "brokergate_drain_sessions_left",
                "Sessions that are left while the gateway drains",
                &[],
            ),
            drain_asked: recorder.gauge(
                "brokergate_drain_sessions_asked",
                "Sessions that the gateway's drain has said goodbye to",
                &[],
            ),
            drain_deadline: recorder.gauge(
                "brokergate_drain_deadline_timestamp_seconds",
                "When a drain of the gateway cuts what is left; 0 while there is none",
                &[],
            ),
            rounds: [rounds("gateway"), rounds("endpoint")],
            log_lines_dropped: recorder.counter(
                "brokergate_log_lines_dropped_total",
                "Log lines that were dropped because standard error was slower",
                &[],
            ),
            stages: stages.iter().map(|label| stage(label)).collect(),
            workers: Mutex::default(),
        }
    }

    /// The gateway is in this stage.
    pub fn stage(&self, now: &str) {
        for (stage, gauge) in &self.stages {
            gauge.set(whether(*stage == now));
        }
    }
}

impl super::Metrics {
    /// How a worker is: the connections it serves, and the seconds in all that it was busy.
    pub fn worker(&self, index: usize, connections: usize, busy: f64) {
        let mut workers = self.scraped.workers.lock().unwrap_or_else(PoisonError::into_inner);
        while workers.len() <= index {
            let label = workers.len().to_string();
            workers.push(WorkerMetrics::register(&self.recorder, &label));
        }
        workers[index].connections.set(number(connections));
        workers[index].busy.set(busy);
    }
}

impl WorkerMetrics {
    fn register(recorder: &Recorder, worker: &str) -> Self {
        let labels = [("worker", worker)];
        Self {
            connections: recorder.gauge(
                "brokergate_worker_connections",
                "Client connections that a worker serves",
                &labels,
            ),
            // A sum, though a gauge: counters have no fractions.
            busy: recorder.gauge(
                "brokergate_worker_busy_seconds",
                "Seconds in all in which a worker did not wait",
                &labels,
            ),
        }
    }
}

impl Flowed {
    fn register(recorder: &Recorder, direction: &'static str) -> Self {
        Self {
            bytes: recorder.counter(
                "brokergate_bytes_total",
                "Bytes of sessions, framing included; up is from client to broker",
                &[("direction", direction)],
            ),
            packets: recorder.closed(
                "brokergate_packets_total",
                "MQTT packets of sessions behind the CONNECT, by direction and type",
                &[],
                ["direction", "type"],
                PacketType::ALL.map(|packet_type| [direction, packet_type.label()]),
            ),
            direction,
        }
    }

    /// How many packets of each type flowed.
    pub fn packets(&self, sum: impl Fn(PacketType) -> u64) {
        for packet_type in PacketType::ALL {
            if let Some(counter) = self.packets.of([self.direction, packet_type.label()]) {
                counter.absolute(sum(packet_type));
            }
        }
    }
}
