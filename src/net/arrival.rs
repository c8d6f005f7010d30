//! How a client came to us: facts taken once, at the edge, and believed from there on.

use std::net::SocketAddr;

/// One client connection's facts.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The TCP peer: the client itself, or the proxy before us.
    pub peer: SocketAddr,
    /// The client: the peer, or what a trusted proxy's PROXY preamble says. IPv4-mapped IPv6
    /// addresses are written as IPv4.
    pub client: SocketAddr,
    /// Our address that the client reached (behind a PROXY preamble: the one it names).
    pub local: SocketAddr,
    /// TLS on our listener.
    pub tls: Option<TlsFacts>,
}

impl Arrival {
    /// `https` or `http`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// What TLS told us of a client.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// The SNI.
    pub server_name: Option<Box<str>>,
    /// The common name of a verified client certificate.
    pub client_common_name: Option<Box<str>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}
