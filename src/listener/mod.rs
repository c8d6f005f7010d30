//! Where clients arrive: bind, accept, and hand each connection to a worker.

pub mod connection;
mod preamble;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tracing::{debug, error, warn};

use crate::config;
use crate::net::is_passing_accept_error;
use crate::tls;

/// Connections that the kernel completes before we accept them. A storm of reconnects after an outage
/// must not be refused.
const BACKLOG: i32 = 4096;

/// How long accept rests when the process has no descriptor or memory left for another connection.
const REST: Duration = Duration::from_millis(100);

/// A listener at work: what its connections share.
#[derive(Debug)]
pub struct Listener {
    /// What was asked for.
    pub config: Arc<config::Listener>,
    /// TLS, or plain.
    pub tls: Option<Arc<ServerConfig>>,
}

/// A bound address.
#[derive(Debug)]
pub struct Bound {
    listener: Arc<Listener>,
    socket: TcpListener,
    address: SocketAddr,
}

/// A client that was accepted and belongs to no runtime yet.
#[derive(Debug)]
pub struct Accepted {
    /// Its listener.
    pub listener: Arc<Listener>,
    /// Its socket, non-blocking.
    pub stream: std::net::TcpStream,
    /// Its address.
    pub peer: SocketAddr,
}

/// Why a listener does not listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address.
    #[error("listener `{name}` can't listen on {address}: {}", hint(.source))]
    Address {
        /// The listener.
        name: Arc<str>,
        /// What it was to listen on.
        address: SocketAddr,
        /// The kernel's no.
        source: io::Error,
    },
    /// Its TLS.
    #[error("listener `{name}` has no TLS")]
    Tls {
        /// The listener.
        name: Arc<str>,
        /// What is wrong with it.
        source: tls::ServerError,
    },
}

impl BindError {
    /// The address that somebody else has already.
    #[must_use]
    pub fn address_in_use(&self) -> Option<SocketAddr> {
        match self {
            Self::Address { address, source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some(*address)
            }
            _ => None,
        }
    }
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it, or choose another port".into(),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; grant it, or choose a higher port".into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has the address; use one it has, 0.0.0.0 or [::]".into()
        }
        _ => "the system says no".into(),
    }
}

/// Bind all addresses of a listener, within a runtime.
///
/// # Errors
/// The first address or certificate that does not do; nothing listens then.
pub fn bind(config: &Arc<config::Listener>) -> Result<Vec<Bound>, BindError> {
    let name = || Arc::clone(&config.name);
    let tls = config.tls.as_ref().map(tls::server_config).transpose();
    let tls = tls.map_err(|source| BindError::Tls { name: name(), source })?;
    let listener = Arc::new(Listener { config: Arc::clone(config), tls });
    let bind = |&address: &SocketAddr| {
        let listener = Arc::clone(&listener);
        bind_one(listener, address).map_err(|source| BindError::Address { name: name(), address, source })
    };
    config.addresses.iter().map(bind).collect()
}

fn bind_one(listener: Arc<Listener>, address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]:443` beside `0.0.0.0:443` is what people write, and each must bind.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from_std(socket.into())?;
    let address = socket.local_addr()?;
    Ok(Bound { listener, socket, address })
}

impl Bound {
    /// The address it listens on: with the port the kernel chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener it belongs to.
    #[must_use]
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Accept for ever. Dropping the future stops listening.
    pub async fn accept_all(self, mut hand: impl FnMut(Accepted)) {
        loop {
            match accept(&self.socket).await {
                Ok((stream, peer)) => hand(Accepted { listener: Arc::clone(&self.listener), stream, peer }),
                Err(error) if is_passing_accept_error(&error) => {
                    debug!(listener = %self.listener.config.name, %error, "a client left before it was accepted");
                }
                Err(error) => {
                    error!(
                        listener = %self.listener.config.name, %error,
                        "can't accept for now; raise the limit of open files, or lower limits.connections"
                    );
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

/// The next client, as a socket that any runtime can take.
async fn accept(socket: &TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let (stream, peer) = socket.accept().await?;
    Ok((stream.into_std()?, peer))
}

/// The soft limit of open files, raised to the hard one; `None` where it can't be read.
pub fn raise_open_files() -> Option<u64> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => Some(limit),
        Err(error) => {
            warn!(%error, "can't raise the limit of open files");
            rlimit::getrlimit(rlimit::Resource::NOFILE).ok().map(|(soft, _)| soft)
        }
    }
}
