//! `[runtime]`, `[admin]` and `[drain]`: the process itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The shape of the process. Not reloadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Worker threads, each with its own runtime; by default one a core.
    pub workers: usize,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; loopback by default.
    pub address: AdminAddress,
}

/// Where the admin listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How the gateway ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Not ready, but still serving, for so long: time for load balancers to notice.
    pub delay: Duration,
    /// Goodbyes are spread over so long.
    pub window: Duration,
    /// After the goodbyes, sessions have so long to end; then they are cut.
    pub grace: Duration,
}
