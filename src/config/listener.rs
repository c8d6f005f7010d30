//! `[[listeners]]`: where clients arrive.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Redirect;

/// One or more bound addresses that share their settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name in logs and metrics: the configured one, or its first address.
    pub name: Arc<str>,
    /// Addresses to bind. Never empty.
    pub addresses: Vec<SocketAddr>,
    /// TLS, or plain.
    pub tls: Option<ListenerTls>,
    /// Whether trusted proxies send a PROXY preamble here.
    pub proxy_protocol: bool,
    /// Answer every request with a redirect to https instead of routing it.
    pub redirect: Option<Redirect>,
}

/// How a listener speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Chosen by SNI; the first is the default. Never empty.
    pub certificates: Vec<CertificateFiles>,
    /// The lowest version we accept.
    pub min_version: TlsVersion,
    /// TLS 1.3 tickets sent after a handshake, 0 to 4.
    pub session_tickets: usize,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}
