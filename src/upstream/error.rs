//! Why a dial failed, whose doing that was, and what to do about it.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::CertificateError;

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its name has no address.
    #[error("endpoint {endpoint}: its name cannot be resolved: check the url and the resolver")]
    Resolve {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The resolver's error.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("endpoint {endpoint}: cannot connect: check that the broker runs and listens there")]
    Connect {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The kernel's error.
        source: io::Error,
    },
    /// No address or port of ours to dial from.
    #[error(
        "endpoint {endpoint}: no address or port left to dial from: add addresses of this host to source_addresses"
    )]
    SourceAddress {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The kernel's error.
        source: io::Error,
    },
    /// No socket to dial with.
    #[error("endpoint {endpoint}: no socket to dial with: raise the limit of open files (NOFILE)")]
    Socket {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The kernel's error.
        source: io::Error,
    },
    /// The PROXY preamble was not taken.
    #[error("endpoint {endpoint}: the PROXY preamble could not be sent")]
    ProxyProtocol {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The kernel's error.
        source: io::Error,
    },
    /// No TLS.
    #[error("endpoint {endpoint}: the TLS handshake failed{}", tls_hint(source))]
    Tls {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The kernel's error, or a [`rustls::Error`] inside.
        source: io::Error,
    },
    /// No WebSocket.
    #[error("endpoint {endpoint}: the WebSocket handshake failed")]
    Upgrade {
        /// The endpoint.
        endpoint: Arc<str>,
        /// What was wrong.
        source: UpgradeError,
    },
    /// The upstream's `dial_timeout` passed.
    #[error("endpoint {endpoint}: dial_timeout passed while {step}")]
    Timeout {
        /// The endpoint.
        endpoint: Arc<str>,
        /// What was being waited for.
        step: Step,
    },
}

/// A step of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// DNS.
    Resolve,
    /// TCP or Unix socket.
    Connect,
    /// The PROXY preamble.
    ProxyProtocol,
    /// TLS.
    Tls,
    /// The WebSocket handshake.
    Upgrade,
}

/// Mosquitto 2.0 gives no answer to a handshake that it refuses.
const HANGS_UP: &str = ": some do so when a handshake displeases them (path, subprotocol, large headers), and a \
                        plain MQTT port always does, so use mqtt:// for that";

/// What was wrong with a broker's answer to our WebSocket handshake.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The connection broke.
    #[error("the broker broke the connection without an answer{HANGS_UP}")]
    Broken(#[source] io::Error),
    /// The connection was closed.
    #[error("the broker hung up without an answer{HANGS_UP}")]
    HungUp,
    /// The head was too large.
    #[error("the answer's head is larger than 16 KiB or has more than 64 headers")]
    HeadTooLarge,
    /// It does not speak HTTP.
    #[error("the answer is no HTTP{}", if *.tls { ": it is TLS, so use wss://" } else { "" })]
    NotHttp {
        /// Whether it looks like TLS.
        tls: bool,
    },
    /// It speaks HTTP badly.
    #[error("the answer's head is malformed")]
    Malformed(#[source] httparse::Error),
    /// It said no.
    #[error("the broker answered {status}{}{}", status_hint(*.status), location_hint(.location.as_deref()))]
    Status {
        /// The HTTP status.
        status: u16,
        /// Where a redirect leads; shown escaped.
        location: Option<Box<str>>,
    },
    /// A header of the handshake is missing or wrong (RFC 6455 section 4.1).
    #[error("the broker's 101 has no good {0} header: is that a WebSocket server?")]
    Header(&'static str),
    /// A subprotocol that was not offered.
    #[error("the broker chose a subprotocol that was not offered: {0:?}")]
    Subprotocol(Box<str>),
    /// An extension; none was offered.
    #[error("the broker uses WebSocket extensions that were not offered")]
    Extensions,
}

impl DialError {
    /// Whether the broker refused this client (401 or 403): another endpoint would do the same.
    #[must_use]
    pub const fn refused_client(&self) -> bool {
        matches!(self, Self::Upgrade { source: UpgradeError::Status { status: 401 | 403, .. }, .. })
    }

    /// Whether it says that the broker is in trouble. A want of ports or sockets is ours, and
    /// an answer to the handshake that a client's headers can cause must not take brokers down.
    #[must_use]
    pub const fn counts_against_health(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::ProxyProtocol { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. } => true,
            Self::SourceAddress { .. } | Self::Socket { .. } => false,
            Self::Upgrade { source, .. } => match source {
                UpgradeError::HeadTooLarge
                | UpgradeError::NotHttp { .. }
                | UpgradeError::Malformed(_)
                | UpgradeError::Header(_) => true,
                // Whatever its number: a front that does not know the client's `Host` says 503.
                UpgradeError::Status { .. }
                | UpgradeError::Broken(_)
                | UpgradeError::HungUp
                | UpgradeError::Subprotocol(_)
                | UpgradeError::Extensions => false,
            },
        }
    }

    /// Every [`label`](Self::label), so that each series exists from the start.
    pub const LABELS: [&'static str; 9] = [
        "resolve",
        "connect",
        "source_address",
        "socket",
        "proxy_protocol",
        "tls",
        "refused_client",
        "upgrade",
        "timeout",
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::SourceAddress { .. } => "source_address",
            Self::Socket { .. } => "socket",
            Self::ProxyProtocol { .. } => "proxy_protocol",
            Self::Tls { .. } => "tls",
            Self::Upgrade { .. } if self.refused_client() => "refused_client",
            Self::Upgrade { .. } => "upgrade",
            Self::Timeout { .. } => "timeout",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Resolve => "resolving its name",
            Self::Connect => "connecting",
            Self::ProxyProtocol => "sending the PROXY preamble",
            Self::Tls => "shaking hands for TLS",
            Self::Upgrade => "shaking hands for WebSocket",
        })
    }
}

fn tls_hint(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => ": its certificate is for another name, so set server_name to that",
        // A CA that was made anew under its old name shows as a bad signature.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => ": nobody we trust issued its certificate, so set tls.ca to the CA's file",
        Some(rustls::Error::InvalidMessage(_)) => {
            ": the answer is no TLS, so check the port, or use ws or mqtt"
        }
        _ => "",
    }
}

const fn status_hint(status: u16) -> &'static str {
    match status {
        400 => {
            ": EMQX says so to a subprotocol it does not know, NanoMQ to a list of them; set the endpoint's subprotocol"
        }
        401 | 403 => ": it refused this client",
        404 => {
            ": check the path in the url (EMQX and Mosquitto: /mqtt, RabbitMQ: /ws) and the Host it expects"
        }
        200..=299 => ": that is a web server, or the path is not the broker's",
        301 | 302 | 303 | 307 | 308 => ": the url is not the broker's own",
        426 => ": it does not take our upgrade; check the path in the url",
        503 => ": it is overloaded, or a proxy before it finds no broker",
        _ => "",
    }
}

fn location_hint(location: Option<&str>) -> String {
    location.map(|location| format!(", it points to {location:?}")).unwrap_or_default()
}
