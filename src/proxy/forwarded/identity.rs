//! Who asks: the peer, or the client that trusted proxies name.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, COOKIE, HeaderName, ORIGIN, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use super::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::config::ForwardedFor;
use crate::net::Arrival;

/// Of a client's own headers, those that go on to a broker; `Cookie` only where asked for. A list of what
/// passes, for each other header is one more reason for a broker to refuse the handshake.
const PASSED_TO_BROKERS: [HeaderName; 4] = [AUTHORIZATION, ORIGIN, USER_AGENT, COOKIE];

/// Who asks.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The client's address: the peer's, or what trusted proxies say. Never an IPv4-mapped IPv6 one.
    pub address: IpAddr,
    /// The client's source port, where it is known.
    pub port: Option<u16>,
    /// `https` or `http`, as the client sees it.
    pub scheme: &'static str,
    /// The host as the client sees it, with its port if it sent one.
    pub host: Option<Box<str>>,
    pub(super) is_proxied: bool,
    pub(super) host_header: Option<HeaderValue>,
    pub(super) listener_port: u16,
    pub(super) tls_version: Option<&'static str>,
    pub(super) server_name: Option<Box<str>>,
    /// The client's own lines that go on to a broker.
    pub(super) passed: Vec<(HeaderName, HeaderValue)>,
}

/// Find out who asks; `requested` is the host that the request is for.
///
/// A peer that is no trusted proxy is the client itself, and its `X-Forwarded-*` headers are not read. Of
/// a trusted one, `X-Forwarded-For` is walked from the right (that end was written by the proxy next to
/// us) as long as each address is a trusted proxy's; the first that is not is the client. An entry that
/// is no address ends the walk at the one before. Scheme and host are the last ones in
/// `X-Forwarded-Proto` and `X-Forwarded-Host`, again what the proxy next to us wrote.
#[must_use]
pub fn identify(
    arrival: &Arrival,
    headers: &HeaderMap,
    requested: Option<&str>,
    trusted: &[IpNet],
) -> Identity {
    let is_proxied = is_trusted(arrival.client.ip().to_canonical(), trusted);
    let client = walk(arrival.client, headers, trusted);
    let (scheme, host) =
        if is_proxied { (claimed_scheme(headers), claimed_host(headers)) } else { (None, None) };
    Identity {
        address: client.address,
        port: client.port,
        scheme: scheme.unwrap_or(arrival.scheme()),
        host: host.or(requested).map(Box::from),
        is_proxied,
        host_header: requested.and_then(|host| HeaderValue::from_str(host).ok()),
        listener_port: arrival.local.port(),
        tls_version: arrival.tls.as_ref().map(|tls| tls.version),
        server_name: arrival.tls.as_ref().and_then(|tls| tls.server_name.clone()),
        passed: passed_to_brokers(headers),
    }
}

impl Identity {
    /// `X-Forwarded-For`: the client alone. Whoever reads it need not know our proxies.
    pub(super) fn forwarded_for(&self, form: ForwardedFor) -> String {
        Hop { address: self.address, port: self.port }.written(form)
    }
}

/// One address on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hop {
    address: IpAddr,
    port: Option<u16>,
}

impl Hop {
    /// `192.0.2.1`, `192.0.2.1:50000`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:50000`.
    fn parse(entry: &[u8]) -> Option<Self> {
        let entry = str::from_utf8(entry).ok()?;
        if let Ok(address) = entry.parse::<SocketAddr>() {
            return Some(Self::from(address));
        }
        let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
        let address: IpAddr = bare.parse().ok()?;
        Some(Self { address: address.to_canonical(), port: None })
    }

    fn written(&self, form: ForwardedFor) -> String {
        match (form, self.port) {
            (ForwardedFor::AddressPort, Some(port)) => SocketAddr::new(self.address, port).to_string(),
            _ => self.address.to_string(),
        }
    }
}

impl From<SocketAddr> for Hop {
    fn from(address: SocketAddr) -> Self {
        // Port 0 is what proxies write who do not know it.
        let port = Some(address.port()).filter(|&port| port != 0);
        Self { address: address.ip().to_canonical(), port }
    }
}

/// The client: the last on the way to us that is no trusted proxy.
fn walk(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Hop {
    let mut client = Hop::from(peer);
    let mut entries = elements(headers, X_FORWARDED_FOR);
    while is_trusted(client.address, trusted) {
        let Some(hop) = entries.next().and_then(Hop::parse) else { break };
        client = hop;
    }
    client
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// `X-Forwarded-Proto`; Traefik writes `wss` for a WebSocket.
fn claimed_scheme(headers: &HeaderMap) -> Option<&'static str> {
    let claim = elements(headers, X_FORWARDED_PROTO).next()?.to_ascii_lowercase();
    match claim.as_slice() {
        b"https" | b"wss" => Some("https"),
        b"http" | b"ws" => Some("http"),
        _ => None,
    }
}

fn claimed_host(headers: &HeaderMap) -> Option<&str> {
    let claim = str::from_utf8(elements(headers, X_FORWARDED_HOST).next()?).ok()?;
    claim.parse::<Authority>().ok().filter(|_| !claim.contains('@'))?;
    Some(claim)
}

/// The elements of a comma-separated header over all its lines, the last one first.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

fn passed_to_brokers(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let lines =
        |name: HeaderName| headers.get_all(&name).iter().map(move |line| (name.clone(), line.clone()));
    PASSED_TO_BROKERS.into_iter().flat_map(lines).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{trusted, who};
    use super::*;

    #[test]
    fn the_client_is_the_rightmost_address_we_do_not_trust() {
        // (peer, X-Forwarded-For lines, client)
        let table: &[(&str, &[&str], &str)] = &[
            ("192.0.2.1:50000", &[], "192.0.2.1"),
            ("192.0.2.1:50000", &["203.0.113.9"], "192.0.2.1"),
            ("[2001:db8::1]:50000", &["203.0.113.9"], "2001:db8::1"),
            ("[::ffff:192.0.2.1]:50000", &[], "192.0.2.1"),
            ("10.0.0.1:50000", &[], "10.0.0.1"),
            ("10.0.0.1:50000", &["192.0.2.1"], "192.0.2.1"),
            ("[::ffff:10.0.0.1]:50000", &["192.0.2.1"], "192.0.2.1"),
            ("[2001:db8:ffff::1]:5", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1:5", &["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1:5", &["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1:5", &["192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            ("10.0.0.1:5", &["192.0.2.1", "10.0.0.2"], "192.0.2.1"),
            ("10.0.0.1:5", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1:5", &["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1:5", &["192.0.2.1, ,"], "192.0.2.1"),
            ("10.0.0.1:5", &["garbage"], "10.0.0.1"),
            ("10.0.0.1:5", &["192.0.2.1\u{e9}"], "10.0.0.1"),
            ("10.0.0.1:5", &["192.0.2.1:4711"], "192.0.2.1"),
            ("10.0.0.1:5", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1:5", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1:5", &["::ffff:192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1:5", &["192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1"),
        ];
        for (peer, lines, client) in table {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let identity = who(peer, &lines);
            assert_eq!(identity.address.to_string(), *client, "{peer} {lines:?}");
            assert_eq!(identity.forwarded_for(ForwardedFor::Address), *client, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed_about_scheme_and_host() {
        let claims = |scheme, host| {
            let lines = [("x-forwarded-proto", scheme), ("x-forwarded-host", host)];
            let identity = who("10.0.0.1:5", &lines);
            (identity.scheme, identity.host.map(String::from))
        };
        let (ours, theirs) = (Some("mqtt.example.org:8084".to_owned()), Some("app.example.org".to_owned()));
        assert_eq!(claims("http", "app.example.org"), ("http", theirs.clone()));
        assert_eq!(claims("ws", "evil.example, app.example.org"), ("http", theirs.clone()));
        assert_eq!(claims("http, WSS", "app.example.org"), ("https", theirs));
        assert_eq!(claims("gopher", "a b"), ("https", ours.clone()));
        assert_eq!(claims("", "user@evil.example"), ("https", ours.clone()));
        let spoof = [("x-forwarded-proto", "http"), ("x-forwarded-host", "evil.example")];
        let identity = who("192.0.2.1:5", &spoof);
        assert_eq!((identity.scheme, identity.host.map(String::from)), ("https", ours));
    }

    proptest! {
        #[test]
        fn a_trusted_proxys_last_entry_wins(left in "[0-9a-f:., \\[\\]]{0,40}", last in any::<[u8; 4]>()) {
            let last = IpAddr::from(last);
            prop_assume!(!is_trusted(last, &trusted()));
            let claim = format!("{left}, {last}");
            prop_assert_eq!(who("10.0.0.1:5", &[("x-forwarded-for", &claim)]).address, last);
        }
    }
}
