//! Names: to the addresses that a dial tries, and to the brokers that a pool discovers.
//!
//! Addresses come from the system (getaddrinfo: /etc/hosts and nsswitch hold), unless `[resolver]` names
//! servers. SRV records the system does not know, so DNS is asked by the servers of /etc/resolv.conf.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::time::timeout;

use crate::config;

/// How long "there is no such name" is believed, whatever its zone says: a broker may just be starting.
const BELIEF_IN_ABSENCE: Duration = Duration::from_secs(5);

/// Who knows the addresses behind names. Clones share what was learnt.
#[derive(Clone, Default)]
pub struct Resolver {
    config: Arc<config::Resolver>,
    /// Made at the first need: most configurations never have one.
    dns: Arc<OnceLock<TokioResolver>>,
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Without the dot at the end.
    pub(super) target: String,
}

impl Resolver {
    /// The resolver of a configuration.
    #[must_use]
    pub fn new(config: &config::Resolver) -> Self {
        Self { config: Arc::new(config.clone()), dns: Arc::default() }
    }

    /// The addresses of `host`, in the resolver's order.
    ///
    /// # Errors
    /// The resolver's, or `NotFound` when the name has no address.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = if self.config.nameservers.is_empty() {
            tokio::net::lookup_host((host, port)).await?.collect()
        } else {
            let found = self.dns()?.lookup_ip(host).await.map_err(io::Error::other)?;
            found.iter().map(|address| SocketAddr::new(address, port)).collect()
        };
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }

    /// The SRV records of `name`.
    ///
    /// # Errors
    /// The resolver's, or `NotFound` when there is none.
    pub(super) async fn services(&self, name: &str) -> io::Result<Vec<Service>> {
        let found = self.dns()?.srv_lookup(name).await.map_err(io::Error::other)?;
        let services: Vec<_> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(srv),
                _ => None,
            })
            // A dot alone says that there is no such service (RFC 2782).
            .filter(|srv| !srv.target.is_root())
            .map(|srv| Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii().trim_end_matches('.').to_owned(),
            })
            .collect();
        if services.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no SRV records"));
        }
        Ok(services)
    }

    /// `look_up`, cut off after the configured time.
    pub(super) async fn in_time<T>(&self, look_up: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        timeout(self.config.timeout, look_up).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within resolver.timeout"))
        })
    }

    fn dns(&self) -> io::Result<&TokioResolver> {
        if let Some(dns) = self.dns.get() {
            return Ok(dns);
        }
        let dns = self.build_dns().map_err(io::Error::other)?;
        Ok(self.dns.get_or_init(|| dns))
    }

    fn build_dns(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.config.nameservers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.config.nameservers.iter().map(|server| nameserver(*server)).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.negative_max_ttl = Some(BELIEF_IN_ABSENCE);
        // One lost datagram must not cost all of the time.
        options.attempts = 2;
        options.timeout = self.config.timeout / 3;
        builder.build()
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("config", &self.config).finish_non_exhaustive()
    }
}

fn nameserver(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}
