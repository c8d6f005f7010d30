//! Where clients arrive: bind, accept, and hand each connection to a worker.

pub mod connection;
mod listeners;
mod open_files;
mod preamble;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, error};

use crate::config::{self, Config};
use crate::handover::{Inherited, Role};
use crate::net::{SocketOptions, is_passing_accept_error};
use crate::tls::{self, Dated, ServerTls, Tickets};

pub use self::listeners::{Listeners, Next};
pub use self::open_files::ensure_open_files;

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
    /// What its resumption tickets are made with.
    pub tickets: Option<Tickets>,
    /// When its certificates end.
    pub certificates: Vec<Dated>,
    /// What its clients' sockets get.
    options: SocketOptions,
}

/// A bound address.
#[derive(Debug)]
pub struct Bound {
    /// Swapped by a reload, for the connections that come then.
    listener: Arc<ArcSwap<Listener>>,
    socket: std::net::TcpListener,
    /// The same socket, for a process that takes over: the one above belongs to whoever accepts.
    copy: std::net::TcpListener,
    /// As configured; port 0 is any.
    asked: SocketAddr,
    address: SocketAddr,
}

/// A client that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its listener.
    pub listener: Arc<Listener>,
    /// Its socket.
    pub socket: Socket,
    /// Its address.
    pub peer: SocketAddr,
}

/// A client's socket, and where it may be used.
#[derive(Debug)]
pub enum Socket {
    /// In the runtime that accepted it.
    Here(TcpStream),
    /// In any runtime, which has to make it its own.
    Anywhere(std::net::TcpStream),
}

impl Accepted {
    /// For another runtime than the one that accepted it.
    ///
    /// # Errors
    /// The kernel's; the client is hung up on.
    pub fn move_away(self) -> io::Result<Self> {
        let socket = match self.socket {
            Socket::Here(stream) => Socket::Anywhere(stream.into_std()?),
            socket => socket,
        };
        Ok(Self { socket, ..self })
    }
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
    /// The address, which overlaps one of our own.
    #[error(
        "listener `{name}` can't listen on {address} while this gateway listens on {own}: \
         restart it, or remove {own} by one reload and add {address} by the next"
    )]
    Ours {
        /// The listener.
        name: Arc<str>,
        /// What it was to listen on.
        address: SocketAddr,
        /// What is in its way.
        own: SocketAddr,
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
    /// The same, where the address is taken by one of our own that it overlaps: `0.0.0.0:443` does not go
    /// beside `127.0.0.1:443`.
    fn beside(self, mut ours: impl Iterator<Item = SocketAddr>) -> Self {
        let overlaps = |taken: SocketAddr| {
            ours.find(|own| {
                let either = own.ip().is_unspecified() || taken.ip().is_unspecified();
                own.port() == taken.port() && own.is_ipv4() == taken.is_ipv4() && either
            })
        };
        match (self.address_in_use().and_then(overlaps), self) {
            (Some(own), Self::Address { name, address, source }) => Self::Ours { name, address, own, source },
            (_, error) => error,
        }
    }

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

/// The settings of all listeners of `config`, ready to work. Clients come back to the address they know, and resume
/// there with the tickets of whoever is `at_work` on it.
///
/// # Errors
/// The first certificate that does not do.
pub fn build(
    config: &Config,
    at_work: &[(SocketAddr, Arc<Listener>)],
) -> Result<Vec<Arc<Listener>>, BindError> {
    let options = config.limits.socket_options();
    let build = |config: &Arc<config::Listener>| {
        let before = at_work.iter().filter(|(address, _)| config.addresses.contains(address));
        let tickets = before.into_iter().find_map(|(_, listener)| listener.tickets.clone());
        Listener::build(config, options, tickets).map(Arc::new)
    };
    config.listeners.iter().map(build).collect()
}

impl Listener {
    fn build(
        config: &Arc<config::Listener>,
        options: SocketOptions,
        tickets: Option<Tickets>,
    ) -> Result<Self, BindError> {
        let tls = config.tls.as_ref().map(|tls| tls::server_tls(tls, tickets)).transpose();
        let tls = tls.map_err(|source| BindError::Tls { name: Arc::clone(&config.name), source })?;
        let mut listener =
            Self { config: Arc::clone(config), tls: None, tickets: None, certificates: Vec::new(), options };
        if let Some(ServerTls { config, tickets, certificates }) = tls {
            (listener.tls, listener.tickets, listener.certificates) =
                (Some(config), Some(tickets), certificates);
        }
        Ok(listener)
    }
}

/// Bind all addresses of a listener, within a runtime, but for those whose sockets are inherited.
///
/// # Errors
/// The first address that does not do; nothing listens then.
pub fn bind(listener: &Arc<Listener>, inherited: &mut Inherited) -> Result<Vec<Bound>, BindError> {
    let bind = |address: &SocketAddr| match inherited.take_tcp(&Role::Clients(*address), *address) {
        Some(socket) => {
            Bound::new(&Arc::new(ArcSwap::from(Arc::clone(listener))), *address, *address, Ok(socket))
        }
        None => bind_one(listener, *address).map_err(|error| error.beside(inherited.addresses())),
    };
    listener.config.addresses.iter().map(bind).collect()
}

fn bind_one(listener: &Arc<Listener>, address: SocketAddr) -> Result<Bound, BindError> {
    bind_at(&Arc::new(ArcSwap::from(Arc::clone(listener))), address, address)
}

/// Bind `address` for a listener that was `asked` to listen somewhere: the same, or any port that it had then.
fn bind_at(
    listener: &Arc<ArcSwap<Listener>>,
    asked: SocketAddr,
    address: SocketAddr,
) -> Result<Bound, BindError> {
    Bound::new(listener, asked, address, listen(address))
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]:443` beside `0.0.0.0:443` is what people write, and each must bind.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Bound {
    fn new(
        listener: &Arc<ArcSwap<Listener>>,
        asked: SocketAddr,
        address: SocketAddr,
        socket: io::Result<std::net::TcpListener>,
    ) -> Result<Self, BindError> {
        let bound = socket.and_then(|socket| Ok((socket.local_addr()?, socket.try_clone()?, socket)));
        let (bound, copy, socket) = bound.map_err(|source| {
            let name = Arc::clone(&listener.load().config.name);
            BindError::Address { name, address, source }
        })?;
        Ok(Self { listener: Arc::clone(listener), socket, copy, asked, address: bound })
    }

    /// The address it listens on: with the port the kernel chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accept for ever. Dropping the future stops listening.
async fn accept_all(
    listener: Arc<ArcSwap<Listener>>,
    socket: std::net::TcpListener,
    hand: impl Fn(Accepted),
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            error!(listener = %listener.load().config.name, %error, "can't wait for clients; restart the gateway");
            return;
        }
    };
    let mut inherited = None;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let listener = listener.load_full();
                // Six system calls that each client inherits, but for the first (`full`).
                if inherited != Some(listener.options) {
                    let set = listener.options.apply(&socket).and_then(|()| listener.options.apply(&stream));
                    inherited = set.is_ok().then_some(listener.options);
                }
                hand(Accepted { listener, socket: Socket::Here(stream), peer });
            }
            Err(error) if is_passing_accept_error(&error) => {
                debug!(listener = %listener.load().config.name, %error, "a client left before it was accepted");
            }
            Err(error) => {
                error!(
                    listener = %listener.load().config.name, %error,
                    "can't accept for now; raise the limit of open files, or lower limits.connections"
                );
                tokio::time::sleep(REST).await;
            }
        }
    }
}
