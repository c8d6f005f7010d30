//! `[limits]`: what one client, and all clients together, may cost.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::review::Review;
use super::value::{OrOff, Size, Written};
use crate::net::SocketOptions;

/// Caps, deadlines and sizes. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all clients together.
    pub connections: usize,
    /// Connections of one client address (IPv6: one /64); `None` is no cap.
    pub connections_per_address: Option<usize>,
    /// Accept, PROXY preamble, TLS and request head together.
    pub arrival_timeout: Duration,
    /// From our 101 to a whole CONNECT.
    pub connect_timeout: Duration,
    /// Bytes of a request head; at least 8192.
    pub max_head_size: usize,
    /// Header fields in a request head.
    pub max_headers: usize,
    /// Bytes of a CONNECT packet.
    pub max_connect_size: usize,
    /// Bytes of any later packet, in either direction.
    pub max_packet_size: usize,
    /// Bytes a client may pipeline behind its CONNECT before there is a broker.
    pub max_pending_size: usize,
    /// How long one side may refuse our bytes before the session ends.
    pub write_stall_timeout: Duration,
    /// How long the other direction may go on after one side has closed.
    pub half_close_timeout: Duration,
    /// How long a kept-alive HTTP connection may idle between two requests.
    pub idle_request_timeout: Duration,
    /// Silence after which the kernel probes a TCP peer, four times within as long again; `None` is never.
    pub tcp_keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`), and no less than keepalive takes; `None` is
    /// the kernel's choice.
    pub tcp_user_timeout: Option<Duration>,
}

impl Limits {
    /// What TCP sockets get, toward clients and brokers.
    #[must_use]
    pub const fn socket_options(&self) -> SocketOptions {
        SocketOptions { keepalive: self.tcp_keepalive, user_timeout: self.tcp_user_timeout }
    }
}

/// `[limits]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsTable {
    connections: Option<Spanned<i64>>,
    connections_per_address: Written<OrOff<i64>>,
    arrival_timeout: Written<Duration>,
    connect_timeout: Written<Duration>,
    max_head_size: Written<Size>,
    max_headers: Option<Spanned<i64>>,
    max_connect_size: Written<Size>,
    max_packet_size: Written<Size>,
    max_pending_size: Written<Size>,
    write_stall_timeout: Written<Duration>,
    half_close_timeout: Written<Duration>,
    idle_request_timeout: Written<Duration>,
    tcp_keepalive: Written<OrOff<Duration>>,
    tcp_user_timeout: Written<OrOff<Duration>>,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Beyond this, a cap is a slip of the finger.
const MANY: usize = 10_000_000;
/// Deadlines: long enough for a slow link, short enough to be one.
const DEADLINE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
/// Linux takes up to 32767 s, and a quarter of it is our interval.
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_secs(4)..=Duration::from_hours(9);

impl LimitsTable {
    pub(super) fn check(self, review: &mut Review<'_>) -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            connections: review.count(self.connections, 1..=MANY, 65_536),
            connections_per_address: review.count_or_off(self.connections_per_address, 1..=MANY),
            arrival_timeout: review.time(self.arrival_timeout, DEADLINE, seconds(10)),
            connect_timeout: review.time(self.connect_timeout, DEADLINE, seconds(10)),
            // hyper reads a head into no less than 8 KiB.
            max_head_size: review.size(self.max_head_size, 8 * KIB..=MIB, 16 * KIB),
            max_headers: review.count(self.max_headers, 16..=1000, 100),
            // A CONNECT holds five strings of up to 64 KiB, and properties.
            max_connect_size: review.size(self.max_connect_size, KIB..=MIB, 64 * KIB),
            // MQTT's own bound is 256 MiB ([MQTT5] 1.5.5).
            max_packet_size: review.size(self.max_packet_size, KIB..=256 * MIB, 16 * MIB),
            max_pending_size: review.size(self.max_pending_size, KIB..=16 * MIB, 64 * KIB),
            write_stall_timeout: review.time(self.write_stall_timeout, DEADLINE, seconds(30)),
            half_close_timeout: review.time(self.half_close_timeout, DEADLINE, seconds(10)),
            idle_request_timeout: review.time(self.idle_request_timeout, DEADLINE, seconds(60)),
            tcp_keepalive: review.time_or_off(self.tcp_keepalive, KEEPALIVE, seconds(60)),
            tcp_user_timeout: review.time_or_off(self.tcp_user_timeout, KEEPALIVE, seconds(120)),
        }
    }
}
