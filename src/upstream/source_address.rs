//! TCP toward a broker, from the configured source addresses in turn.
//!
//! One source address has some 28,000 ports to one broker's address and port: with thousands of
//! sessions a broker they run out, and more source addresses are the way out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpSocket, TcpStream};

use crate::net::SocketOptions;

/// The addresses to dial from. Empty leaves the choice to the kernel.
#[derive(Debug)]
pub(super) struct SourceAddresses {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    next: AtomicUsize,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The broker, or the way to it.
    Broker(io::Error),
    /// No address or port of ours to dial from.
    SourceAddress(io::Error),
    /// No socket of ours.
    Socket(io::Error),
}

impl SourceAddresses {
    pub(super) fn new(addresses: &[IpAddr]) -> Self {
        let (v4, v6) = addresses.iter().partition(|address| address.is_ipv4());
        Self { v4, v6, next: AtomicUsize::new(0) }
    }

    /// Connect to `broker`. A source without a free port is passed over for the next.
    pub(super) async fn connect(
        &self,
        broker: SocketAddr,
        options: SocketOptions,
    ) -> Result<TcpStream, ConnectError> {
        if self.v4.is_empty() && self.v6.is_empty() {
            let socket = new_socket(broker.ip()).map_err(ConnectError::Socket)?;
            return connect(socket, broker, options).await;
        }
        let sources = if broker.is_ipv4() { &self.v4 } else { &self.v6 };
        let first = self.next.fetch_add(1, Ordering::Relaxed) % sources.len().max(1);
        let (late, early) = sources.split_at(first);
        let mut wanting = io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("none of source_addresses is of the family of {}", broker.ip()),
        );
        for source in early.iter().chain(late) {
            let socket = new_socket(*source).map_err(ConnectError::Socket)?;
            match bind(&socket, *source) {
                Ok(()) => match connect(socket, broker, options).await {
                    Err(ConnectError::SourceAddress(error)) => wanting = error,
                    outcome => return outcome,
                },
                Err(error) => wanting = error,
            }
        }
        Err(ConnectError::SourceAddress(wanting))
    }
}

async fn connect(
    socket: TcpSocket,
    broker: SocketAddr,
    options: SocketOptions,
) -> Result<TcpStream, ConnectError> {
    let stream = socket.connect(broker).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => ConnectError::SourceAddress(error),
        _ => ConnectError::Broker(error),
    })?;
    options.apply(&stream).map_err(ConnectError::Broker)?;
    Ok(stream)
}

fn new_socket(like: IpAddr) -> io::Result<TcpSocket> {
    if like.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Dial from `source`.
pub(super) fn bind(socket: &TcpSocket, source: IpAddr) -> io::Result<()> {
    choose_port_at_connect(socket);
    socket.bind(SocketAddr::new(source, 0))
}

/// Let the kernel choose the port when it knows the broker, so that a port can serve once a broker
/// (`IP_BIND_ADDRESS_NO_PORT`, ip(7)). Without it the port is chosen at bind, once for all brokers.
fn choose_port_at_connect(socket: &TcpSocket) {
    #[cfg(target_os = "linux")]
    {
        // An old kernel knows no such option: then there are only fewer ports.
        let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}
