//! Which port the demo's gateway can have.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::DemoError;

/// Where the demo listens when nobody says otherwise.
pub const DEFAULT_PORT: u16 = 8443;

/// Ports tried after the first.
const FURTHER: u16 = 100;

/// The first port from `start` on that is free on every loopback address of this machine.
///
/// Another process may still take it before we bind it; then binding says so.
///
/// # Errors
/// [`DemoError::NoFreePort`] when `start` and the hundred after it are taken.
pub fn free_port(start: u16) -> Result<u16, DemoError> {
    (start..=start.saturating_add(FURTHER)).find(|port| is_free(*port)).ok_or(DemoError::NoFreePort(start))
}

/// `127.0.0.1` and, where there is IPv6, `::1`: `localhost` is either.
pub(super) fn loopback(port: u16) -> Vec<SocketAddr> {
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    }
    addresses
}

fn is_free(port: u16) -> bool {
    loopback(port).into_iter().all(|address| TcpListener::bind(address).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        for address in loopback(0) {
            let taken = TcpListener::bind(address).unwrap();
            let port = taken.local_addr().unwrap().port();
            let free = free_port(port).unwrap();
            assert!(free > port, "{address} was taken");
        }
    }
}
