//! The whole file as written, and the checks that look at more than one section.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::admin::{AdminTable, DrainTable, ReloadTable, RuntimeTable};
use super::limits::LimitsTable;
use super::listener::ListenerTable;
use super::log::LogTable;
use super::resolver::ResolverTable;
use super::review::{Review, Span};
use super::route::RouteTable;
use super::upstream::UpstreamTable;
use super::value::WrittenList;
use super::{Config, HostPattern, Listener, PathPattern, Route, Upstream};

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfigTable {
    trusted_proxies: WrittenList<IpNet>,
    runtime: RuntimeTable,
    log: LogTable,
    admin: AdminTable,
    drain: DrainTable,
    reload: ReloadTable,
    limits: LimitsTable,
    resolver: ResolverTable,
    listeners: Option<Spanned<Vec<Spanned<ListenerTable>>>>,
    routes: Option<Spanned<Vec<Spanned<RouteTable>>>>,
    upstreams: BTreeMap<Spanned<String>, Spanned<UpstreamTable>>,
}

/// The whole file: where a missing section is told.
const FILE: Span = 0..usize::MAX;

impl ConfigTable {
    /// The configuration as far as it can be read; what is wrong is told to `review`.
    pub(super) fn check(self, review: &mut Review<'_>) -> Config {
        self.check_addresses(review);
        self.check_upstreams_are_used(review);
        let upstream_names: Vec<&str> = self.upstreams.keys().map(|name| name.get_ref().as_str()).collect();
        let routes = check_routes(self.routes, &upstream_names, review);
        let trusted_proxies = check_trusted(self.trusted_proxies, review);
        let listeners = check_listeners(self.listeners, !trusted_proxies.is_empty(), review);
        let upstreams = check_upstreams(self.upstreams, review);
        Config {
            source: PathBuf::new(),
            runtime: self.runtime.check(review),
            log: self.log.check(),
            admin: self.admin.check(review),
            limits: self.limits.check(review),
            resolver: self.resolver.check(review),
            drain: self.drain.check(review),
            reload: self.reload.check(),
            trusted_proxies,
            listeners,
            routes,
            upstreams,
            warnings: Vec::new(),
        }
    }
}

impl ConfigTable {
    /// Each address can be bound once; only port 0 is a new one each time.
    fn check_addresses(&self, review: &mut Review<'_>) {
        let mut bound: HashSet<SocketAddr> = HashSet::new();
        let listeners = self.listeners.iter().flat_map(|listeners| listeners.get_ref());
        for (address, span) in listeners.flat_map(|listener| listener.get_ref().addresses()) {
            if address.port() == 0 {
                continue;
            }
            if self.admin.tcp_address() == Some(address) {
                review.mistake(
                    span.clone(),
                    format!("[admin] listens on {address}; give one of the two another port"),
                );
            }
            if !bound.insert(address) {
                review.mistake(span, format!("{address} is bound by a listener above already; list it once"));
            }
        }
    }

    fn check_upstreams_are_used(&self, review: &mut Review<'_>) {
        let routes = self.routes.iter().flat_map(|routes| routes.get_ref());
        let used: HashSet<&str> = routes.filter_map(|route| route.get_ref().upstream()).collect();
        for name in self.upstreams.keys().filter(|name| !used.contains(name.get_ref().as_str())) {
            review.warning(name.span(), "no route leads to this upstream");
        }
    }
}

fn check_trusted(networks: WrittenList<IpNet>, review: &mut Review<'_>) -> Vec<IpNet> {
    let networks = networks.map(Spanned::into_inner).unwrap_or_default();
    for network in &networks {
        if network.get_ref().0.prefix_len() == 0 {
            review.warning(
                network.span(),
                "this trusts everybody, so any client can invent its address; list your proxies' networks",
            );
        }
    }
    networks.into_iter().map(|network| network.into_inner().0).collect()
}

fn check_listeners(
    written: Option<Spanned<Vec<Spanned<ListenerTable>>>>,
    trusted: bool,
    review: &mut Review<'_>,
) -> Vec<Arc<Listener>> {
    let tables = match written {
        Some(tables) if !tables.get_ref().is_empty() => tables.into_inner(),
        _ => {
            review.missing(
                FILE,
                "listeners",
                "write [[listeners]] and its `addresses`: where clients arrive",
            );
            return Vec::new();
        }
    };
    let mut listeners: Vec<Arc<Listener>> = Vec::new();
    for table in tables {
        let name_at = table.get_ref().name_span();
        let Some(listener) = ListenerTable::check(table, trusted, review) else { continue };
        if let Some(span) = name_at.filter(|_| listeners.iter().any(|earlier| earlier.name == listener.name))
        {
            review.mistake(span, "a listener above has this name already; give this one another");
        }
        listeners.push(Arc::new(listener));
    }
    if !listeners.is_empty() && listeners.iter().all(|listener| listener.redirect.is_some()) {
        review.warning(
            FILE,
            "every listener redirects, so no route is ever reached; add a listener with `tls`",
        );
    }
    listeners
}

fn check_routes(
    written: Option<Spanned<Vec<Spanned<RouteTable>>>>,
    upstreams: &[&str],
    review: &mut Review<'_>,
) -> Vec<Route> {
    let tables = match written {
        Some(tables) if !tables.get_ref().is_empty() => tables.into_inner(),
        _ => {
            review.missing(
                FILE,
                "routes",
                "write [[routes]], its `path`, and what it leads to: \
             `upstream`, `site`, `backend` or `redirect`",
            );
            return Vec::new();
        }
    };
    let mut first_at: HashMap<(HostPattern, PathPattern), usize> = HashMap::new();
    let mut routes = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let span = table.span();
        let Some(route) = RouteTable::check(table, upstreams, review) else { continue };
        let earlier = *first_at.entry((route.host.clone(), route.path.clone())).or_insert(index);
        if earlier != index {
            review.mistake(
                span,
                format!(
                    "routes[{earlier}] has the same host and path, so this one \
             is never reached; keep one of the two"
                ),
            );
        }
        routes.push(route);
    }
    routes
}

fn check_upstreams(
    tables: BTreeMap<Spanned<String>, Spanned<UpstreamTable>>,
    review: &mut Review<'_>,
) -> BTreeMap<Arc<str>, Arc<Upstream>> {
    let upstreams = tables.into_iter().filter_map(|(name, table)| UpstreamTable::check(&name, table, review));
    upstreams.map(|upstream| (Arc::clone(&upstream.name), Arc::new(upstream))).collect()
}
