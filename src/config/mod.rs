//! The configuration: one TOML file, read once into types that cannot be wrong.
//!
//! The file's form (`file`, what a person writes) and the working form (here and in one file a
//! section) are different types. After [`load`] nobody asks again whether a weight is zero or a
//! route's upstream exists.

mod admin;
mod limits;
mod listener;
mod log;
mod route;
mod upstream;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

pub use admin::{Admin, AdminAddress, Drain, Runtime};
pub use limits::Limits;
pub use listener::{CertificateFiles, Listener, ListenerTls, TlsVersion};
pub use log::{Log, LogFormat};
pub use route::{
    Backend, BackendAddress, HostPattern, MqttTarget, Origins, PathPattern, Redirect, Route, Site, Target,
};
pub use upstream::{
    Balance, BrokerTls, Endpoint, EndpointAddress, ForwardedFor, ForwardedOptions, ForwardedPort, HostHeader,
    ProxyVersion, Template, TemplatePart, Transport, Upstream,
};
pub use value::Weight;

/// What the gateway is asked to do, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub source: PathBuf,
    /// How many workers, and of what kind.
    pub runtime: Runtime,
    /// Where and how we log.
    pub log: Log,
    /// The admin listener; `None` when switched off.
    pub admin: Option<Admin>,
    /// Caps, deadlines and sizes.
    pub limits: Limits,
    /// How long the end may take.
    pub drain: Drain,
    /// Peers whose PROXY preamble and `X-Forwarded-*` headers we believe.
    pub trusted_proxies: Vec<IpNet>,
    /// Where clients arrive. Never empty.
    pub listeners: Vec<Arc<Listener>>,
    /// Host and path to target, in the file's order. Never empty.
    pub routes: Vec<Route>,
    /// Brokers by upstream name. Every `MqttTarget::upstream` is a key of it.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
}
