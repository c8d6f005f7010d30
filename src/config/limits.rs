//! `[limits]`: what one client, and all clients together, may cost.

use std::time::Duration;

/// Caps, deadlines and sizes. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all clients together.
    pub connections: usize,
    /// Connections of one client address (IPv6: one /64); `None` is no cap.
    pub connections_per_address: Option<usize>,
    /// TLS handshakes under way at once; later ones wait inside their arrival deadline.
    pub tls_handshakes: usize,
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
    /// Silence after which the kernel probes a TCP peer; `None` is never.
    pub tcp_keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`); `None` is the kernel's choice.
    pub tcp_user_timeout: Option<Duration>,
}
