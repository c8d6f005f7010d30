//! What a route is for: hosts, paths, and the origins of pages.

use std::net::Ipv6Addr;

use http::uri::PathAndQuery;

use super::review::Review;
use super::url::{Url, is_name};
use super::value::{Leaf, WrittenList};

/// Which `Host` a route is for. Compared without case and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path alone.
    Exact(Box<str>),
    /// This path, and everything below it; without a trailing slash, so `/` is the empty string.
    Prefix(Box<str>),
}

/// Which `Origin` an MQTT route accepts. A request without one does not come from a browser and passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// Those that match one of the list.
    Listed(Vec<Origin>),
}

/// Where a page may come from (RFC 6454 section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `null`: a sandboxed page, or a local file.
    Null,
    /// `https://app.example.org`, or `https://*.example.org`.
    Page {
        /// In lower case.
        scheme: Box<str>,
        /// [`HostPattern::Any`] is not among them.
        host: HostPattern,
        /// `None` is the one that goes without saying.
        port: Option<u16>,
    },
}

impl Leaf for HostPattern {
    const FORM: &'static str = "a host such as \"app.example.org\" or \"*.example.org\"";

    fn text(text: &str) -> Result<Self, String> {
        let host = text.trim_end_matches('.').to_ascii_lowercase();
        if host == "*" {
            return Err("leave `host` out where every host is meant".to_owned());
        }
        if host.contains("://") || host.contains('/') {
            return Err(format!("{text:?} is more than a host; write the host here, and the path in `path`"));
        }
        let bracketed = host.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
        if bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
            return Ok(Self::Exact(host.into()));
        }
        if let Some((name, port)) = host.rsplit_once(':')
            && port.parse::<u16>().is_ok()
        {
            return Err(format!("routes are found by the host without its port; write {name:?}"));
        }
        let (name, pattern) = match host.strip_prefix("*.") {
            Some(name) => (name, Self::Below(format!(".{name}").into())),
            None => (host.as_str(), Self::Exact(host.as_str().into())),
        };
        if name.contains('*') {
            return Err(format!(
                "{text:?} has its `*` in the wrong place; \
                 it may stand for the first label alone: \"*.example.org\""
            ));
        }
        if !is_name(name) {
            return Err(format!(
                "{text:?} is not a host; write {}, names with other letters in punycode",
                Self::FORM
            ));
        }
        Ok(pattern)
    }
}

/// A path as a route has it: `/mqtt`, `/app/`, `/mqtt/*`.
#[derive(Debug, Clone)]
pub(super) struct RoutePath(Box<str>);

impl RoutePath {
    pub(super) fn pattern(&self, is_mqtt: bool) -> PathPattern {
        match self.0.strip_suffix("/*") {
            Some(prefix) => PathPattern::Prefix(prefix.into()),
            None if is_mqtt => PathPattern::Exact(self.0.clone()),
            None => PathPattern::Prefix(self.0.strip_suffix('/').unwrap_or(&self.0).into()),
        }
    }
}

impl Leaf for RoutePath {
    const FORM: &'static str = "a path such as \"/mqtt\"";

    fn text(text: &str) -> Result<Self, String> {
        if text.strip_suffix("/*").unwrap_or(text).contains(['*', '~', '^', '$']) {
            return Err(format!(
                "{text:?} looks like a pattern; \
                 paths are literal, and only `/*` at the end stands for all below"
            ));
        }
        if !text.starts_with('/') {
            return Err(format!(
                "{text:?} does not begin with `/`; write \"/{}\"",
                text.trim_start_matches('.')
            ));
        }
        if let Some(mark) = text.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(format!("routes are found by the path alone; leave out what follows `{mark}`"));
        }
        if text.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(format!(
                "{text:?} has a `.` or `..` in it, which no request keeps; write the path that is meant"
            ));
        }
        if PathAndQuery::try_from(text).is_err() || !text.is_ascii() {
            return Err(format!("{text:?} cannot be in a request; write spaces and other letters as %xx"));
        }
        Ok(Self(text.into()))
    }
}

impl Origin {
    /// The port that goes without saying.
    #[must_use]
    pub const fn default_port(scheme: &str) -> Option<u16> {
        match scheme.as_bytes() {
            b"https" => Some(443),
            b"http" => Some(80),
            _ => None,
        }
    }
}

impl std::str::FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::text(text)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Page { scheme, host, port } = self else { return f.write_str("null") };
        write!(f, "{scheme}://")?;
        match host {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Below(suffix) => write!(f, "*{suffix}"),
        }?;
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Leaf for Origin {
    const FORM: &'static str = "an origin such as \"https://app.example.org\"";

    fn text(text: &str) -> Result<Self, String> {
        let origin = text.to_ascii_lowercase();
        if origin == "*" {
            return Err("leave `origins` out where any page may open this route".to_owned());
        }
        if origin == "null" {
            return Ok(Self::Null);
        }
        let Some((scheme, authority)) = origin.split_once("://") else {
            return Err(format!("{text:?} has no scheme; write \"https://{origin}\""));
        };
        if let Some((host, _)) = authority.split_once('/') {
            return Err(format!("an origin has no path, not even `/`; write \"{scheme}://{host}\""));
        }
        // The colons of an IPv6 host stand before its bracket.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            _ => (authority, None),
        };
        let is_url = Url::parse(&format!("{scheme}://{}", authority.trim_start_matches("*."))).is_ok();
        match HostPattern::text(host) {
            Ok(host) if is_url && !scheme.is_empty() => {
                let port = port.filter(|&port| Self::default_port(scheme) != Some(port));
                Ok(Self::Page { scheme: scheme.into(), host, port })
            }
            _ => Err(format!(
                "{text:?} is not an origin; \
                 write one such as \"https://app.example.org\" or \"https://*.example.org\""
            )),
        }
    }
}

/// The origins of an MQTT route.
pub(super) fn check_origins(origins: WrittenList<Origin>, review: &mut Review<'_>) -> Origins {
    let Some(origins) = origins else { return Origins::Any };
    if origins.get_ref().is_empty() {
        review.empty(origins.span(), "list the pages that may open this route, or leave the key out for any");
    }
    Origins::Listed(origins.into_inner().into_iter().map(|origin| origin.into_inner().0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_paths_are_exact_and_others_are_prefixes() {
        let pattern = |path: &str, is_mqtt| RoutePath::text(path).unwrap().pattern(is_mqtt);
        assert_eq!(pattern("/mqtt", true), PathPattern::Exact("/mqtt".into()));
        assert_eq!(pattern("/mqtt/*", true), PathPattern::Prefix("/mqtt".into()));
        assert_eq!(pattern("/", true), PathPattern::Exact("/".into()));
        assert_eq!(pattern("/", false), PathPattern::Prefix("".into()));
        assert_eq!(pattern("/app/", false), PathPattern::Prefix("/app".into()));
        assert_eq!(pattern("/app/*", false), PathPattern::Prefix("/app".into()));
    }

    #[test]
    fn hosts() {
        assert_eq!(HostPattern::text("App.Example.org"), Ok(HostPattern::Exact("app.example.org".into())));
        assert_eq!(HostPattern::text("*.example.org"), Ok(HostPattern::Below(".example.org".into())));
        assert_eq!(HostPattern::text("example.org."), Ok(HostPattern::Exact("example.org".into())));
        assert_eq!(HostPattern::text("[2001:db8::1]"), Ok(HostPattern::Exact("[2001:db8::1]".into())));
        for wrong in
            ["*", "[2001:db8::x]", "a.*.org", "app.example.org:443", "https://app.example.org", "a b"]
        {
            assert!(HostPattern::text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_lose_their_default_port() {
        let origin = |text| Origin::text(text).map(|origin| origin.to_string());
        assert_eq!(origin("https://App.example.org:443").as_deref(), Ok("https://app.example.org"));
        assert_eq!(origin("https://*.example.org").as_deref(), Ok("https://*.example.org"));
        assert_eq!(origin("http://localhost:5173").as_deref(), Ok("http://localhost:5173"));
        assert_eq!(origin("http://[::1]:8080").as_deref(), Ok("http://[::1]:8080"));
        assert_eq!(origin("http://[::1]").as_deref(), Ok("http://[::1]"));
        assert_eq!(origin("null").as_deref(), Ok("null"));
        let wrong =
            ["*", "app.example.org", "https://app.example.org/", "https://", "https://*", "https://a:x"];
        for wrong in wrong {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
