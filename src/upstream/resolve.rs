//! From an endpoint's address to addresses to dial.

use std::io;
use std::net::SocketAddr;

/// The addresses of `host`, in the resolver's order.
///
/// # Errors
/// The resolver's, or `NotFound` when the name has no address.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}
