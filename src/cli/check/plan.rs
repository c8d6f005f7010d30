//! What a configuration would do, for a person to read.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::SystemTime;

use super::{date, days};
use crate::config::{
    Balance, Config, Discover, Endpoint, HostPattern, Listener, Origins, PathPattern, ProxyVersion, Redirect,
    Route, Target, TlsVersion, Upstream,
};
use crate::tls::LoadedCertificate;

/// Write the plan; `certificates` are those of each listener.
pub(super) fn write(
    config: &Config,
    certificates: &[Vec<LoadedCertificate>],
    now: SystemTime,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{} is in order.", config.source.display())?;
    writeln!(out, "\nListeners")?;
    for (listener, certificates) in config.listeners.iter().zip(certificates) {
        write_listener(listener, certificates, now, out)?;
    }
    writeln!(out, "\nRoutes, in the order in which they are tried")?;
    for route in in_matching_order(&config.routes) {
        writeln!(out, "  {:24} {:16} {}", host(&route.host), path(&route.path), target(&route.target))?;
    }
    if !config.upstreams.is_empty() {
        writeln!(out, "\nUpstreams")?;
    }
    for upstream in config.upstreams.values() {
        write_upstream(upstream, out)?;
    }
    Ok(())
}

fn write_listener(
    listener: &Listener,
    certificates: &[LoadedCertificate],
    now: SystemTime,
    out: &mut impl Write,
) -> io::Result<()> {
    let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    // A listener without a name of its own is called after its first address.
    let named = !addresses.starts_with(&*listener.name);
    let name = if named { format!("{}: ", listener.name) } else { String::new() };
    let tls = match &listener.tls {
        None => "plain",
        Some(tls) => match tls.min_version {
            TlsVersion::Tls12 => "TLS 1.2 and 1.3",
            TlsVersion::Tls13 => "TLS 1.3",
        },
    };
    let preamble = if listener.proxy_protocol { ", behind a PROXY preamble" } else { "" };
    let redirect =
        listener.redirect.map(|redirect| format!(", {}", redirect_text(redirect))).unwrap_or_default();
    writeln!(out, "  {name}{addresses}  {tls}{preamble}{redirect}")?;
    for certificate in certificates {
        let left = certificate.not_after.duration_since(now).map(days).unwrap_or_default();
        let names = certificate.names.join(", ");
        writeln!(out, "    {names}  until {} ({left} days)", date(certificate.not_after))?;
    }
    Ok(())
}

fn write_upstream(upstream: &Upstream, out: &mut impl Write) -> io::Result<()> {
    let balance = match upstream.balance {
        Balance::Weighted => "by weight, in turn",
        Balance::LeastSessions => "to the fewest sessions for its weight",
        Balance::ClientId => "by the ClientID, one broker for each",
        Balance::SourceAddress => "by the client's address, one broker for each",
    };
    let probed = upstream.probe.as_ref().map_or_else(String::new, |probe| {
        let interval = humantime::format_duration(probe.interval);
        format!("; probed by {} every {interval}", probe.kind.label())
    });
    writeln!(
        out,
        "  {}  {balance}; up to {} endpoints tried for one session{probed}",
        upstream.name, upstream.attempts
    )?;
    let in_use = upstream.endpoints.iter().filter(|endpoint| !endpoint.backup);
    let total: u32 = in_use.map(|endpoint| u32::from(endpoint.weight.value())).sum();
    for endpoint in &upstream.endpoints {
        writeln!(out, "    {}", endpoint_text(endpoint, total))?;
    }
    Ok(())
}

fn endpoint_text(endpoint: &Endpoint, total: u32) -> String {
    let weight = endpoint.weight.value();
    let share = match endpoint.backup {
        true => " backup".to_owned(),
        false => format!("{:5.1} %", f64::from(weight) * 100.0 / f64::from(total.max(1))),
    };
    let mut text = format!("{share}  weight {weight:<4}  {}", endpoint.name);
    if let Some(most) = endpoint.max_sessions {
        text.push_str(&format!(", up to {most} sessions"));
    }
    match endpoint.discover {
        Some(Discover::Addresses) => text.push_str(", each of its addresses"),
        Some(Discover::Srv) => text.push_str(", each of its SRV records"),
        None => {}
    }
    match endpoint.proxy_protocol {
        Some(ProxyVersion::V1) => text.push_str(", PROXY v1"),
        Some(ProxyVersion::V2) => text.push_str(", PROXY v2"),
        None => {}
    }
    text
}

/// The most specific route first: exact hosts, then the longest wildcard, then every host; for each
/// host exact paths, then the longest prefix.
fn in_matching_order(routes: &[Route]) -> Vec<&Route> {
    let mut routes: Vec<&Route> = routes.iter().collect();
    routes.sort_by_key(|route| {
        let host = match &route.host {
            HostPattern::Exact(host) => (0, Reverse(0), host.as_ref()),
            HostPattern::Below(suffix) => (1, Reverse(suffix.len()), suffix.as_ref()),
            HostPattern::Any => (2, Reverse(0), ""),
        };
        let path = match &route.path {
            PathPattern::Exact(path) => (0, Reverse(0), path.as_ref()),
            PathPattern::Prefix(prefix) => (1, Reverse(prefix.len()), prefix.as_ref()),
        };
        (host, path)
    });
    routes
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Any => "any host".to_owned(),
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Below(suffix) => format!("*{suffix}"),
    }
}

fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.to_string(),
        PathPattern::Prefix(prefix) => format!("{prefix}/*"),
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Mqtt(mqtt) => {
            let origins = match &mqtt.origins {
                Origins::Any => String::new(),
                Origins::Listed(origins) => {
                    let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
                    format!(", for pages of {}", origins.join(", "))
                }
            };
            format!("MQTT to {}{origins}", mqtt.upstream)
        }
        Target::Site(site) => format!("files of {}", site.root.display()),
        Target::Backend(backend) => format!("backend {}", backend.name),
        Target::Redirect(redirect) => redirect_text(*redirect),
    }
}

fn redirect_text(redirect: Redirect) -> String {
    match redirect.port {
        443 => "redirects to https".to_owned(),
        port => format!("redirects to https on port {port}"),
    }
}
