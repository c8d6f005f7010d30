//! `[[routes]]`: which host and path lead where.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ForwardedOptions;

/// A rule on host and path, and what it leads to.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths.
    pub path: PathPattern,
    /// What it leads to.
    pub target: Target,
}

/// Which `Host` a route is for. Compared without case and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// One name, in lower case.
    Exact(Box<str>),
    /// `*.example.org`: every name below; holds `.example.org`, in lower case.
    Below(Box<str>),
}

/// Which path a route is for. MQTT routes are exact unless written `/mqtt/*`, all others are prefixes
/// that end at a segment's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// This path alone.
    Exact(Box<str>),
    /// This path, and everything below it; without a trailing slash, so `/` is the empty string.
    Prefix(Box<str>),
}

/// What a route leads to.
#[derive(Debug, Clone)]
pub enum Target {
    /// MQTT over WebSocket, to an upstream.
    Mqtt(Arc<MqttTarget>),
    /// Static files.
    Site(Arc<Site>),
    /// A plain HTTP application server.
    Backend(Arc<Backend>),
    /// Another URL.
    Redirect(Redirect),
}

/// An MQTT route's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttTarget {
    /// The upstream's name; it exists.
    pub upstream: Arc<str>,
    /// Which pages may open it.
    pub origins: Origins,
    /// Whether a client that offers no subprotocol is refused.
    pub require_subprotocol: bool,
}

/// Which `Origin` an MQTT route accepts. A request without one does not come from a browser and passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// Those that match one of the list, in lower case: `https://app.example.org`, or `https://*.example.org`.
    Listed(Vec<Box<str>>),
}

/// A redirect to https.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// The port in the `Location`; 443 is left out of it.
    pub port: u16,
}

/// Static files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The folder; it existed when the configuration was checked.
    pub root: PathBuf,
    /// The file served for a folder.
    pub index: Box<str>,
    /// The file, relative to the root, served with 200 where nothing is found (single-page applications).
    pub fallback: Option<PathBuf>,
    /// `Cache-Control` of files other than the index and the fallback, which are always revalidated.
    pub cache_control: Box<str>,
    /// Serve `name.br`, `name.zst` and `name.gz` beside `name` to clients that accept them.
    pub precompressed: bool,
}

/// A plain HTTP application server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: BackendAddress,
    /// How long a dial may take.
    pub dial_timeout: Duration,
    /// How long it may take to begin its answer, and may be silent inside a body.
    pub response_timeout: Duration,
    /// What it learns about the client.
    pub forwarded: ForwardedOptions,
}

/// Where a backend listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendAddress {
    /// `http://127.0.0.1:3000`
    Ip(SocketAddr),
    /// `http://app:3000`
    Name {
        /// Resolved at each dial.
        host: Box<str>,
        /// TCP port.
        port: u16,
    },
    /// `unix:/run/app.sock`
    Unix(PathBuf),
}
