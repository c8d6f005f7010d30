//! TCP toward a broker, from the configured source addresses in turn.
//!
//! One source address has some 28,000 ports to one broker's address and port: with thousands of
//! sessions a broker they run out, and more source addresses are the way out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpSocket, TcpStream};

use crate::net::SocketOptions;

/// The addresses to dial from.
#[derive(Debug)]
pub(super) struct SourceAddresses {
    addresses: Vec<IpAddr>,
    next: AtomicUsize,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The broker's side, or the way to it.
    Broker(io::Error),
    /// Our side: no address or port to dial from, no file descriptor.
    Own(io::Error),
}

impl SourceAddresses {
    pub(super) fn new(addresses: &[IpAddr]) -> Self {
        Self { addresses: addresses.to_vec(), next: AtomicUsize::new(0) }
    }

    /// Connect to `broker`. A source without a free port is passed over for the next.
    pub(super) async fn connect(
        &self,
        broker: SocketAddr,
        options: SocketOptions,
    ) -> Result<TcpStream, ConnectError> {
        if self.addresses.is_empty() {
            return connect_from(None, broker, options).await;
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        let (late, early) = self.addresses.split_at(first);
        let mut outcome = Err(ConnectError::Own(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("none of source_addresses is of the family of {}", broker.ip()),
        )));
        for source in early.iter().chain(late).filter(|source| source.is_ipv4() == broker.is_ipv4()) {
            outcome = connect_from(Some(*source), broker, options).await;
            match &outcome {
                Err(ConnectError::Own(error)) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                _ => break,
            }
        }
        outcome
    }
}

async fn connect_from(
    source: Option<IpAddr>,
    broker: SocketAddr,
    options: SocketOptions,
) -> Result<TcpStream, ConnectError> {
    let socket = match source {
        Some(source) => bound_socket(source),
        None => new_socket(broker.ip()),
    };
    let socket = socket.map_err(ConnectError::Own)?;
    let stream = socket.connect(broker).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => ConnectError::Own(error),
        _ => ConnectError::Broker(error),
    })?;
    options.apply(&stream).map_err(ConnectError::Broker)?;
    Ok(stream)
}

fn new_socket(like: IpAddr) -> io::Result<TcpSocket> {
    if like.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// A socket that dials from `source`.
pub(super) fn bound_socket(source: IpAddr) -> io::Result<TcpSocket> {
    let socket = new_socket(source)?;
    choose_port_at_connect(&socket);
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
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
