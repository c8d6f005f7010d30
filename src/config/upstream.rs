//! `[upstreams.NAME]`: brokers, and how to reach them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::Weight;

/// A named group of brokers.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its key in the file.
    pub name: Arc<str>,
    /// How an endpoint is picked.
    pub balance: Balance,
    /// Its brokers, in the file's order. Never empty; at least one is no backup.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Endpoints tried for one session at the most, 1 or more.
    pub attempts: usize,
    /// How long one dial may take: TCP, TLS, PROXY, WebSocket.
    pub dial_timeout: Duration,
    /// From our CONNECT to the broker's first packet.
    pub connack_timeout: Duration,
    /// How long an endpoint that failed to dial is avoided.
    pub avoid: Duration,
    /// How long after 1.5 x keepalive we cut a silent client, so that the broker acts first.
    pub keepalive_margin: Duration,
    /// How `wss` and `mqtts` brokers prove themselves.
    pub tls: BrokerTls,
    /// What WebSocket brokers learn about the client.
    pub forwarded: ForwardedOptions,
    /// Local addresses to dial from, in turn; empty is the kernel's choice.
    pub source_addresses: Vec<IpAddr>,
}

/// How a pool picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Smooth weighted round robin.
    Weighted,
    /// The fewest sessions for its weight.
    LeastSessions,
    /// Weighted rendezvous hash of the ClientID, with bounded load.
    ClientId,
    /// Weighted rendezvous hash of the client's address.
    SourceAddress,
}

/// One broker address.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name in logs and metrics: the configured one, or its URL.
    pub name: Arc<str>,
    /// What we speak to it.
    pub transport: Transport,
    /// Where it listens.
    pub address: EndpointAddress,
    /// Whether the transport is wrapped in TLS (`wss`, `mqtts`).
    pub tls: bool,
    /// The name verified in its certificate and sent as SNI; by default the URL's host.
    pub server_name: Option<Box<str>>,
    /// Its share.
    pub weight: Weight,
    /// Its cap of sessions; `None` is no cap.
    pub max_sessions: Option<usize>,
    /// Used only when no other endpoint is up.
    pub backup: bool,
    /// PROXY preamble sent first.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// MQTT packets right on the stream.
    Mqtt,
    /// MQTT inside WebSocket.
    WebSocket {
        /// Path and query of the handshake.
        path: Box<str>,
        /// The URL's authority: the `Host` unless the client's own is passed on.
        authority: Box<str>,
        /// The subprotocol offered; `None` passes on the client's choice (or `mqtt` if it had none).
        subprotocol: Option<Box<str>>,
    },
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointAddress {
    /// An IP address.
    Ip(SocketAddr),
    /// A name.
    Name {
        /// DNS name.
        host: Box<str>,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary, with TLVs about TLS.
    V2,
}

/// How TLS brokers prove themselves, and we to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerTls {
    /// PEM file of CAs; `None` is the system's roots.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where the broker asks for one.
    pub client_certificate: Option<super::CertificateFiles>,
}

/// What HTTP-speaking brokers and backends learn about the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardedOptions {
    /// The form of `X-Forwarded-For`.
    pub forwarded_for: ForwardedFor,
    /// The meaning of `X-Forwarded-Port`.
    pub port: ForwardedPort,
    /// Whose `Host` is sent.
    pub host: HostHeader,
    /// Whether `Cookie` is passed on.
    pub cookie: bool,
    /// Headers added or overwritten, last.
    pub set_headers: Vec<(HeaderName, Template)>,
}

/// The form of `X-Forwarded-For`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedFor {
    /// `192.0.2.1`
    #[default]
    Address,
    /// `192.0.2.1:50000`, `[2001:db8::1]:50000`
    AddressPort,
}

/// The meaning of `X-Forwarded-Port`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedPort {
    /// The client's source port: what EMQX reads.
    #[default]
    Client,
    /// The port of our listener.
    Listener,
}

/// Whose `Host` is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// As the client sent it.
    #[default]
    Client,
    /// The endpoint's own authority.
    Endpoint,
}

/// A header's value with facts of the client in it, such as `{client_address}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<TemplatePart>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// As written.
    Text(Box<str>),
    /// `{client_address}`
    ClientAddress,
    /// `{client_port}`
    ClientPort,
    /// `{listener_port}`
    ListenerPort,
    /// `{host}`: the request's host.
    Host,
    /// `{scheme}`: `https` or `http`.
    Scheme,
    /// `{client_id}`: the CONNECT's ClientID; empty toward a backend.
    ClientId,
    /// `{username}`: the CONNECT's username; empty toward a backend.
    Username,
    /// `{tls_version}`: `TLSv1.3`; empty on a plain listener.
    TlsVersion,
    /// `{server_name}`: the SNI; empty where there is none.
    ServerName,
}
