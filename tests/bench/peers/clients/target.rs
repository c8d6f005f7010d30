//! Where the sessions go: `wss://127.0.0.1:8443/mqtt`, from which addresses, and as whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::failure::Failure;
use super::tickets::Tickets;
use super::tls;

/// The same for all sessions.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsTarget>,
    /// The WebSocket request, whole. Its key is the same each time: checking the answer costs nothing.
    pub(super) request: Vec<u8>,
    /// What the answer must say.
    pub(super) accept: String,
    sources: u8,
}

/// How TLS is spoken there.
pub(super) struct TlsTarget {
    /// Each handshake is a full one.
    full: Arc<ClientConfig>,
    /// Tickets are kept, and used.
    resuming: Arc<ClientConfig>,
    resumes: bool,
    pub(super) name: ServerName<'static>,
}

impl TlsTarget {
    pub(super) fn config(&self) -> &Arc<ClientConfig> {
        if self.resumes { &self.resuming } else { &self.full }
    }
}

impl Target {
    /// Read the URL; `name` is what certificate and `Host` are to say, by default the URL's host.
    pub(super) fn parse(
        url: &str,
        ca: Option<&Path>,
        name: Option<&str>,
        sources: u8,
    ) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(format!("--target {url}: {why}"));
        let uri: Uri = url.parse()?;
        let host = uri.host().ok_or_else(|| wrong("no host"))?;
        let ip: IpAddr = host.parse().map_err(|_| wrong("the host is not an address"))?;
        let name = name.unwrap_or(host);
        let (is_tls, default_port) = match uri.scheme_str() {
            Some("wss") => (true, 443),
            Some("ws") => (false, 80),
            _ => return Err(wrong("the scheme is neither ws nor wss")),
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let tls = if is_tls {
            let ca = ca.ok_or_else(|| wrong("wss wants --ca, the authority to trust"))?;
            let name = ServerName::try_from(name.to_owned())?;
            let tickets = Resumption::store(Arc::<Tickets>::default());
            Some(TlsTarget {
                full: tls::configuration(ca, Resumption::disabled())?,
                resuming: tls::configuration(ca, tickets)?,
                resumes: false,
                name,
            })
        } else {
            None
        };
        let host = if port == default_port { name.to_owned() } else { format!("{name}:{port}") };
        let path = uri.path();
        let key = generate_key();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        Ok(Self {
            address: SocketAddr::new(ip, port),
            tls,
            request: request.into_bytes(),
            accept: derive_accept_key(key.as_bytes()),
            sources,
        })
    }

    /// Whether the sessions that begin now keep and use tickets.
    pub(super) fn resume(&mut self, resumes: bool) {
        if let Some(tls) = &mut self.tls {
            tls.resumes = resumes;
        }
    }

    /// Where session `id` comes from: 127.0.0.2 and so on in rotation, so that ports suffice.
    pub(super) fn source(&self, id: u32) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && self.sources > 0 => {
                IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + (id % u32::from(self.sources)) as u8))
            }
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(ip, 0)
    }
}
