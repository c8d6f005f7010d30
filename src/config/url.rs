//! URLs of endpoints and backends: a scheme, a host, perhaps a port and a path, and nothing else.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A URL's parts, borrowed from its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url<'t> {
    /// In front of `://`, as written.
    pub(super) scheme: &'t str,
    /// The host.
    pub(super) host: Host<'t>,
    /// The port, where one is written.
    pub(super) port: Option<u16>,
    /// Host and port as written.
    pub(super) authority: &'t str,
    /// Path and query, where there is one.
    pub(super) path: Option<&'t str>,
}

/// A URL's host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host<'t> {
    /// An address.
    Ip(IpAddr),
    /// A DNS name.
    Name(&'t str),
}

impl<'t> Url<'t> {
    /// The parts of `text`, which begins with a scheme.
    ///
    /// # Errors
    /// A sentence that says what is wrong; it does not repeat `text`, which may hold a password.
    pub(super) fn parse(text: &'t str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("the URL has no scheme")?;
        if text.contains('#') {
            return Err("a fragment (`#…`) never leaves a browser; leave it out".to_owned());
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(
                "credentials in the URL reach no broker; MQTT carries them in CONNECT, so leave them out"
                    .to_owned(),
            );
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "a URL has no spaces and only ASCII characters; write others as %xx, and names in punycode"
                    .to_owned(),
            );
        }
        let (host, port) = split_port(authority)?;
        let path = match path {
            "" => None,
            path if path.starts_with('/') => Some(path),
            _ => return Err("the path is missing in front of `?`; write `/?`".to_owned()),
        };
        Ok(Self { scheme, host: parse_host(host)?, port, authority, path })
    }

    /// Where this is, when no port means `default`.
    pub(super) fn socket(&self, default: u16) -> Result<SocketAddr, (&'t str, u16)> {
        let port = self.port.unwrap_or(default);
        match self.host {
            Host::Ip(address) => Ok(SocketAddr::new(address, port)),
            Host::Name(name) => Err((name, port)),
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        _ => (authority, None),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!(
            "an IPv6 address stands in brackets; write [{authority}], with the port behind it"
        ));
    }
    match port.map(str::parse::<u16>) {
        None => Ok((host, None)),
        Some(Ok(port)) if port > 0 => Ok((host, Some(port))),
        Some(_) => Err("the port is not a number from 1 to 65535".to_owned()),
    }
}

fn parse_host(host: &str) -> Result<Host<'_>, String> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address
            .map(|address| Host::Ip(address.into()))
            .ok_or_else(|| format!("{host} is not an IPv6 address"));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Host::Ip(address));
    }
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    // Only digits and dots: an address with a mistake in it, which DNS need not be asked about.
    let looks_like_ipv4 = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if looks_like_ipv4 || !is_name(host) {
        return Err(format!("{host:?} is neither a DNS name nor an IP address"));
    }
    Ok(Host::Name(host))
}

/// Whether `host` can be a DNS name. Underscores are none of DNS's, but container names have them.
pub(super) fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url = Url::parse("wss://[2001:db8::1]:8084/mqtt?a=b").unwrap();
        assert_eq!(url.scheme, "wss");
        assert_eq!(url.authority, "[2001:db8::1]:8084");
        assert_eq!(url.path, Some("/mqtt?a=b"));
        assert_eq!(url.socket(443), Ok("[2001:db8::1]:8084".parse().unwrap()));
        let url = Url::parse("mqtt://broker.example.org").unwrap();
        assert_eq!(url.path, None);
        assert_eq!(url.socket(1883), Err(("broker.example.org", 1883)));
    }

    #[test]
    fn what_is_refused() {
        for (url, why) in [
            ("mqtt://user:secret@192.0.2.1", "credentials"),
            ("ws://192.0.2.1/mqtt#x", "fragment"),
            ("ws://2001:db8::1/mqtt", "brackets"),
            ("ws://[2001:db8::x]/mqtt", "not an IPv6 address"),
            ("ws://192.0.2.1:0/", "the port"),
            ("ws://192.0.2.1:65536/", "the port"),
            ("ws:///mqtt", "the host is missing"),
            ("ws://192.0.2/mqtt", "neither"),
            ("ws://-a/mqtt", "neither"),
            ("ws://a b/mqtt", "no spaces"),
            ("ws://a?b", "in front of `?`"),
        ] {
            let error = Url::parse(url).unwrap_err();
            assert!(error.contains(why), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
