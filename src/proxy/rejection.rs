//! Every no before 101: its status, its label, and the sentence that says what to change.
//!
//! The body is for the person who sets up a client or a proxy before us, so it names what we saw. What a
//! client sent is shown escaped and cut.

use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};

use crate::backend::BackendError;
use crate::net::{Body, full};
use crate::route::BadHost;

use super::handshake::SUBPROTOCOLS;

/// How long a client that found us full should wait, in seconds.
const RETRY_AFTER_SECONDS: &str = "5";

/// Why a request was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// An MQTT route was asked for a page.
    NotWebSocket,
    /// Some of a handshake is here, but `Connection: Upgrade` or `Upgrade: websocket` is not.
    UpgradeHeaders,
    /// A handshake over HTTP/1.0.
    HttpVersion,
    /// A method that the target has no answer for.
    Method {
        /// The `Allow` header.
        allow: &'static str,
    },
    /// `Sec-WebSocket-Version` is not 13.
    WebSocketVersion,
    /// `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes in base64.
    Key,
    /// A handshake that carries a body.
    HandshakeBody,
    /// A page that may not open this route.
    Origin {
        /// The `Origin`, shown.
        origin: String,
    },
    /// Subprotocols were offered, but none of MQTT's.
    Subprotocol {
        /// The offer, shown.
        offered: String,
    },
    /// No subprotocol was offered, and the route wants one.
    NoSubprotocol,
    /// A limit is reached.
    Full(Limit),
    /// No broker is up, or each is at its cap.
    NoEndpoint,
    /// No route for the path.
    NotFound {
        /// Where MQTT is on this host; empty for a request that is no handshake.
        mqtt_paths: Vec<String>,
    },
    /// No route for the host.
    UnknownHost {
        /// The host, shown.
        host: String,
    },
    /// The request names no host, or several.
    BadHost(BadHost),
    /// What arrived is no HTTP request.
    BadRequest,
    /// The request did not arrive within `limits.arrival_timeout`.
    ArrivalTimeout,
    /// Plain HTTP on a TLS port.
    HttpOnTls,
    /// We are about to stop.
    Draining,
    /// The backend did not answer as HTTP, or could not be reached.
    BackendFailed {
        /// What went wrong, without addresses: the client reads it.
        hint: String,
    },
    /// The backend took too long.
    BackendTimeout {
        /// What went wrong, without addresses: the client reads it.
        hint: String,
    },
}

/// A limit that a new connection can run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.connections`
    Connections,
    /// `limits.connections_per_address`
    ConnectionsPerAddress,
    /// The pool's endpoints are all at their `max_sessions`.
    Sessions,
}

impl Rejection {
    /// Every [`label`](Self::label), so that each series exists before its first rejection.
    pub const LABELS: [&'static str; 23] = [
        "not_websocket",
        "upgrade_headers",
        "http_version",
        "method",
        "websocket_version",
        "key",
        "handshake_body",
        "origin",
        "subprotocol",
        "no_subprotocol",
        "full_connections",
        "full_connections_per_address",
        "full_sessions",
        "no_endpoint",
        "not_found",
        "unknown_host",
        "bad_host",
        "bad_request",
        "arrival_timeout",
        "http_on_tls",
        "draining",
        "backend_failed",
        "backend_timeout",
    ];

    /// The metric's label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotWebSocket => "not_websocket",
            Self::UpgradeHeaders => "upgrade_headers",
            Self::HttpVersion => "http_version",
            Self::Method { .. } => "method",
            Self::WebSocketVersion => "websocket_version",
            Self::Key => "key",
            Self::HandshakeBody => "handshake_body",
            Self::Origin { .. } => "origin",
            Self::Subprotocol { .. } => "subprotocol",
            Self::NoSubprotocol => "no_subprotocol",
            Self::Full(Limit::Connections) => "full_connections",
            Self::Full(Limit::ConnectionsPerAddress) => "full_connections_per_address",
            Self::Full(Limit::Sessions) => "full_sessions",
            Self::NoEndpoint => "no_endpoint",
            Self::NotFound { .. } => "not_found",
            Self::UnknownHost { .. } => "unknown_host",
            Self::BadHost(_) => "bad_host",
            Self::BadRequest => "bad_request",
            Self::ArrivalTimeout => "arrival_timeout",
            Self::HttpOnTls => "http_on_tls",
            Self::Draining => "draining",
            Self::BackendFailed { .. } => "backend_failed",
            Self::BackendTimeout { .. } => "backend_timeout",
        }
    }

    /// The status: RFC 9110 section 15, and RFC 6455 section 4.4 for 426.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NotWebSocket | Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::UpgradeHeaders
            | Self::Key
            | Self::HandshakeBody
            | Self::Subprotocol { .. }
            | Self::NoSubprotocol
            | Self::BadHost(_)
            | Self::BadRequest
            | Self::HttpOnTls => StatusCode::BAD_REQUEST,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Origin { .. } => StatusCode::FORBIDDEN,
            Self::Full(_) | Self::NoEndpoint | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::UnknownHost { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::ArrivalTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BackendFailed { .. } => StatusCode::BAD_GATEWAY,
            Self::BackendTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The answer.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(full(self.text()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        for (name, value) in self.headers() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// The answer as bytes, for a stream that never became HTTP, such as [`Self::HttpOnTls`].
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let text = self.text();
        let mut bytes = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", self.status(), text.len());
        for (name, value) in self.headers().filter(|(name, _)| name != CONNECTION) {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str(&format!("connection: close\r\n\r\n{text}"));
        bytes.into_bytes()
    }

    fn headers(&self) -> impl Iterator<Item = (HeaderName, &'static str)> {
        let always = [
            (CONTENT_TYPE, "text/plain; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let own = match self {
            // RFC 9110 section 7.8: who sends Upgrade names it in Connection.
            Self::NotWebSocket => vec![(UPGRADE, "websocket"), (CONNECTION, "upgrade")],
            Self::WebSocketVersion => {
                vec![(SEC_WEBSOCKET_VERSION, "13"), (UPGRADE, "websocket"), (CONNECTION, "upgrade")]
            }
            Self::Method { allow } => vec![(ALLOW, *allow)],
            Self::NoEndpoint => vec![(RETRY_AFTER, RETRY_AFTER_SECONDS)],
            Self::Full(_) | Self::Draining => vec![(RETRY_AFTER, RETRY_AFTER_SECONDS), (CONNECTION, "close")],
            // What follows on this connection is unknown, or was never meant for us.
            Self::BadHost(_)
            | Self::BadRequest
            | Self::ArrivalTimeout
            | Self::HttpOnTls
            | Self::HandshakeBody
            | Self::UnknownHost { .. } => vec![(CONNECTION, "close")],
            _ => Vec::new(),
        };
        always.into_iter().chain(own)
    }

    fn text(&self) -> String {
        let known = SUBPROTOCOLS.join(", ");
        let sentence = match self {
            Self::NotWebSocket => "This path carries MQTT over WebSocket, and this request is no WebSocket \
                handshake. Open it with an MQTT client (wss://), not as a page."
                .into(),
            Self::UpgradeHeaders => "This WebSocket handshake has lost its \"Connection: Upgrade\" or \
                \"Upgrade: websocket\" header. A proxy before this gateway must pass both on."
                .into(),
            Self::HttpVersion => {
                "A WebSocket handshake needs HTTP/1.1. A proxy before this gateway must use \
                it too (nginx: proxy_http_version 1.1)."
                    .into()
            }
            Self::Method { allow } => format!("This path answers these methods only: {allow}."),
            Self::WebSocketVersion => "This gateway speaks WebSocket version 13 (RFC 6455). Send \
                \"Sec-WebSocket-Version: 13\"."
                .into(),
            Self::Key => {
                "A WebSocket handshake needs one Sec-WebSocket-Key: 16 random bytes in base64.".into()
            }
            Self::HandshakeBody => "A WebSocket handshake carries no body. Leave out Content-Length and \
                Transfer-Encoding."
                .into(),
            Self::Origin { origin } => format!(
                "Pages of the origin \"{origin}\" may not open this path. Its operator can add the origin \
                 to the route's list."
            ),
            Self::Subprotocol { offered } => format!(
                "None of the offered WebSocket subprotocols (\"{offered}\") is one of MQTT's. Offer \
                 \"mqtt\". Known are: {known}."
            ),
            Self::NoSubprotocol => {
                format!("This path wants a WebSocket subprotocol. Offer \"mqtt\". Known are: {known}.")
            }
            Self::Full(Limit::ConnectionsPerAddress) => "Too many connections are open from your address. \
                Close some, or try again later."
                .into(),
            Self::Full(Limit::Connections | Limit::Sessions) => "The gateway is full. Try again in a \
                moment, with a growing, random pause."
                .into(),
            Self::NoEndpoint => "No MQTT broker can be reached now. Try again in a moment, with a growing, \
                random pause."
                .into(),
            Self::NotFound { mqtt_paths } if mqtt_paths.is_empty() => "Nothing is at this path.".into(),
            Self::NotFound { mqtt_paths } => {
                format!("No MQTT is at this path. On this host it is at: {}.", mqtt_paths.join(", "))
            }
            Self::UnknownHost { host } => format!(
                "Nothing is served for the host \"{host}\". Use the name that the gateway is configured \
                 for, not its address."
            ),
            Self::BadHost(why) => format!("Bad request: {why}."),
            Self::BadRequest => "What arrived is not an HTTP request.".into(),
            Self::ArrivalTimeout => "The request did not arrive in time.".into(),
            Self::HttpOnTls => "This port speaks TLS, and plain HTTP arrived. Use https:// or wss://.".into(),
            Self::Draining => "The gateway is about to stop. Connect again: another will answer.".into(),
            Self::BackendFailed { hint } => format!("Bad gateway: {hint}."),
            Self::BackendTimeout { hint } => format!("Gateway timeout: {hint}."),
        };
        format!("{sentence}\n")
    }
}

impl From<BadHost> for Rejection {
    fn from(why: BadHost) -> Self {
        Self::BadHost(why)
    }
}

impl From<&BackendError> for Rejection {
    fn from(error: &BackendError) -> Self {
        match error {
            BackendError::Dial(_) | BackendError::Exchange(_) | BackendError::UnaskedUpgrade => {
                Self::BackendFailed { hint: error.to_string() }
            }
            BackendError::DialTimeout(_) | BackendError::ResponseTimeout(_) => {
                Self::BackendTimeout { hint: error.to_string() }
            }
            BackendError::ClientSilent(_) => Self::ArrivalTimeout,
            BackendError::ConnectMethod => {
                Self::Method { allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" }
            }
        }
    }
}

/// What a client sent, fit to be shown: at most 100 bytes, in printable ASCII.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 100;
    let mut text = bytes[..bytes.len().min(MOST)].escape_ascii().to_string();
    if bytes.len() > MOST {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests;
