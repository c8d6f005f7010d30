//! Host and path lead to a target: the most specific route wins, whatever the file's order.
//!
//! An exact host beats `*.example.org`, a longer wildcard a shorter one, and any wildcard beats no host.
//! Within one host an exact path beats a prefix, and a longer prefix a shorter one. A host that has no
//! route for a path falls back on the routes that are for every host.

use std::borrow::Cow;
use std::cmp::Reverse;

use http::header::HOST;
use http::uri::Authority;
use http::{Request, Version};

use crate::config::{HostPattern, PathPattern};

/// All routes, and what each leads to.
#[derive(Debug)]
pub struct Routes<T> {
    /// The most specific first, so that the first match wins.
    rules: Vec<Rule<T>>,
}

#[derive(Debug)]
struct Rule<T> {
    host: HostPattern,
    path: PathPattern,
    target: T,
}

impl<T> Routes<T> {
    /// Routes in any order. Of two equal patterns the first wins.
    pub fn build(routes: impl IntoIterator<Item = (HostPattern, PathPattern, T)>) -> Self {
        let mut rules: Vec<_> =
            routes.into_iter().map(|(host, path, target)| Rule { host, path, target }).collect();
        rules.sort_by_key(|rule| Reverse((host_rank(&rule.host), path_rank(&rule.path))));
        Self { rules }
    }

    /// The target of a request. `host` is the request's, as it was sent: case, port and a trailing dot
    /// do not count. `path` is the request's, as it was sent: it is compared in its normal form, so that
    /// neither `/%6dqtt` nor `/app/../mqtt` slips past a route (RFC 3986 section 6.2.2). An encoded slash
    /// stays a part of its segment.
    #[must_use]
    pub fn find(&self, host: Option<&str>, path: &str) -> Option<&T> {
        let path = normal_form(path)?;
        self.of_host(host).find(|rule| path_matches(&rule.path, &path)).map(|rule| &rule.target)
    }

    /// The paths that `host` can reach whose targets are `wanted`, as a person writes them: for a
    /// rejection that says where MQTT is.
    pub fn paths_to(&self, host: Option<&str>, wanted: impl Fn(&T) -> bool) -> Vec<String> {
        self.of_host(host).filter(|rule| wanted(&rule.target)).map(|rule| written(&rule.path)).collect()
    }

    /// Whether any route is for this host, whatever the path.
    #[must_use]
    pub fn knows(&self, host: Option<&str>) -> bool {
        self.of_host(host).next().is_some()
    }

    /// Every target, once a route.
    pub fn targets(&self) -> impl Iterator<Item = &T> {
        self.rules.iter().map(|rule| &rule.target)
    }

    fn of_host(&self, host: Option<&str>) -> impl Iterator<Item = &Rule<T>> {
        let name = host.map(host_name);
        self.rules.iter().filter(move |rule| host_matches(&rule.host, name))
    }
}

/// The host a request is for: the authority of an absolute target, else its one `Host`
/// (RFC 9112 section 3.2). `None` is an HTTP/1.0 request without one.
///
/// # Errors
/// [`BadHost`], which must be answered 400.
pub fn requested_host<B>(request: &Request<B>) -> Result<Option<&str>, BadHost> {
    let mut lines = request.headers().get_all(HOST).iter();
    let line = match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => return Err(BadHost::Several),
        (None, _) => None,
        (Some(line), None) => Some(line.to_str().map_err(|_| BadHost::Malformed)?),
    };
    let host = match (request.uri().authority(), line) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(line)) => line,
        (None, None) if request.version() == Version::HTTP_10 => return Ok(None),
        (None, None) => return Err(BadHost::Missing),
    };
    // A comma is a letter to RFC 3986, but would be two hosts in `X-Forwarded-Host`.
    match host.parse::<Authority>() {
        Ok(authority) if !host.contains(['@', ',']) && !authority.host().is_empty() => Ok(Some(host)),
        _ => Err(BadHost::Malformed),
    }
}

/// Why a request names no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// HTTP/1.1 asks for one.
    #[error("the request has no Host header; HTTP/1.1 asks for one")]
    Missing,
    /// Which one counts would be a guess.
    #[error("the request has several Host headers; send one")]
    Several,
    /// No host, or a host with something else in it.
    #[error("the Host header is not a host and port; send it as example.org or example.org:8443")]
    Malformed,
}

/// `Example.ORG.:8443` is `Example.ORG`; case is left to the comparison.
fn host_name(host: &str) -> &str {
    let name = match host.strip_prefix('[') {
        Some(ipv6) => ipv6.split(']').next().unwrap_or(ipv6),
        None => host.split(':').next().unwrap_or(host),
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn host_rank(pattern: &HostPattern) -> (u8, usize) {
    match pattern {
        HostPattern::Exact(_) => (2, 0),
        HostPattern::Below(suffix) => (1, suffix.len()),
        HostPattern::Any => (0, 0),
    }
}

fn path_rank(pattern: &PathPattern) -> (u8, usize) {
    match pattern {
        PathPattern::Exact(_) => (1, 0),
        PathPattern::Prefix(prefix) => (0, prefix.len()),
    }
}

/// Whether a host is one of the pattern's; an IPv6 host comes without its brackets. Case does not count.
#[must_use]
pub fn host_matches(pattern: &HostPattern, name: Option<&str>) -> bool {
    match (pattern, name) {
        (HostPattern::Any, _) => true,
        (_, None) => false,
        (HostPattern::Exact(exact), Some(name)) => {
            // A person writes an IPv6 host in brackets.
            let exact = exact.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(exact);
            name.eq_ignore_ascii_case(exact)
        }
        (HostPattern::Below(suffix), Some(name)) => name
            .len()
            .checked_sub(suffix.len())
            .filter(|&below| below > 0)
            .and_then(|below| name.get(below..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
    }
}

fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => path == &**exact,
        PathPattern::Prefix(prefix) => {
            path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

fn written(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.to_string(),
        PathPattern::Prefix(path) => format!("{path}/*"),
    }
}

/// The normal form of an absolute path: unreserved characters decoded, dot segments gone. `None` is no
/// absolute path (`OPTIONS *`).
fn normal_form(path: &str) -> Option<Cow<'_, str>> {
    if !path.starts_with('/') {
        return None;
    }
    if !path.contains('%') && !path.contains("/.") {
        return Some(Cow::Borrowed(path));
    }
    Some(Cow::Owned(without_dot_segments(&decode_unreserved(path))))
}

/// Decode `%6d` to `m`, but leave `%2F` alone: decoding a reserved character changes the meaning.
fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|&byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            Some(byte) => {
                decoded.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            None => {
                decoded.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

/// RFC 3986 section 5.2.4.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            name => kept.push(name),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    normal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(pattern: &str) -> HostPattern {
        match pattern.strip_prefix('*') {
            _ if pattern == "any" => HostPattern::Any,
            Some(suffix) => HostPattern::Below(suffix.into()),
            None => HostPattern::Exact(pattern.into()),
        }
    }

    fn path(pattern: &str) -> PathPattern {
        match pattern.strip_suffix("/*") {
            Some(prefix) => PathPattern::Prefix(prefix.into()),
            None => PathPattern::Exact(pattern.into()),
        }
    }

    /// Each route leads to itself as written.
    fn routes(rules: &[(&'static str, &'static str)]) -> Routes<(&'static str, &'static str)> {
        Routes::build(rules.iter().map(|rule| (host(rule.0), path(rule.1), *rule)))
    }

    #[test]
    fn the_most_specific_route_wins_in_any_order() {
        let mut rules = vec![
            ("any", "/*"),
            ("any", "/mqtt"),
            ("*.example.org", "/*"),
            ("*.eu.example.org", "/*"),
            ("app.example.org", "/*"),
            ("app.example.org", "/files/*"),
            ("app.example.org", "/files/big/*"),
            ("app.example.org", "/files/big"),
            ("[2001:db8::1]", "/*"),
        ];
        let table = [
            ("example.org", "/", ("any", "/*")),
            ("example.org", "/mqtt", ("any", "/mqtt")),
            ("example.org", "/mqtt/", ("any", "/*")),
            ("example.org", "/mqtts", ("any", "/*")),
            ("a.example.org", "/", ("*.example.org", "/*")),
            ("a.b.example.org", "/", ("*.example.org", "/*")),
            ("a.eu.example.org", "/", ("*.eu.example.org", "/*")),
            ("eu.example.org", "/", ("*.example.org", "/*")),
            ("notexample.org", "/", ("any", "/*")),
            (".example.org", "/", ("any", "/*")),
            ("APP.Example.org.:8443", "/x", ("app.example.org", "/*")),
            ("app.example.org", "/files", ("app.example.org", "/files/*")),
            ("app.example.org", "/files/", ("app.example.org", "/files/*")),
            ("app.example.org", "/filesystem", ("app.example.org", "/*")),
            ("app.example.org", "/files/big", ("app.example.org", "/files/big")),
            ("app.example.org", "/files/big/1", ("app.example.org", "/files/big/*")),
            ("[2001:DB8::1]:443", "/", ("[2001:db8::1]", "/*")),
            ("é.example.org", "/", ("*.example.org", "/*")),
        ];
        for _ in 0..rules.len() {
            rules.rotate_left(1);
            let routes = routes(&rules);
            for (host, path, expected) in table {
                assert_eq!(routes.find(Some(host), path), Some(&expected), "{host} {path}");
            }
        }
    }

    #[test]
    fn a_host_without_a_route_for_the_path_falls_back_on_every_host() {
        let routes = routes(&[("app.example.org", "/admin/*"), ("any", "/mqtt")]);
        assert_eq!(routes.find(Some("app.example.org"), "/mqtt"), Some(&("any", "/mqtt")));
        assert_eq!(routes.find(Some("app.example.org"), "/"), None);
        assert_eq!(routes.find(None, "/mqtt"), Some(&("any", "/mqtt")));
        assert_eq!(routes.find(None, "/admin"), None);
    }

    #[test]
    fn paths_are_compared_in_their_normal_form() {
        let routes = routes(&[("any", "/mqtt"), ("any", "/app/*"), ("any", "/*")]);
        for (path, expected) in [
            ("/%6dqtt", "/mqtt"),
            ("/%6Dqtt", "/mqtt"),
            ("/app/../mqtt", "/mqtt"),
            ("/app/%2e%2E/mqtt", "/mqtt"),
            ("/./mqtt", "/mqtt"),
            ("/../../mqtt", "/mqtt"),
            ("/mqtt/.", "/*"),
            ("/mqtt/x/..", "/*"),
            ("/app/%2e", "/app/*"),
            ("/app%2Fx", "/*"),
            ("/app/..%2Fmqtt", "/app/*"),
            ("//mqtt", "/*"),
            ("/%", "/*"),
            ("/%6", "/*"),
            ("/%+6/app", "/*"),
            ("/%e9", "/*"),
            ("/%25%36d", "/*"),
        ] {
            assert_eq!(routes.find(None, path).map(|found| found.1), Some(expected), "{path}");
        }
        assert_eq!(routes.find(None, "*"), None);
        assert_eq!(routes.find(None, ""), None);
    }

    #[test]
    fn a_lost_client_is_told_where_to_go() {
        let routes =
            routes(&[("any", "/*"), ("any", "/mqtt"), ("a.example.org", "/ws/*"), ("b.example.org", "/b")]);
        let is_mqtt = |target: &(&str, &str)| target.1 != "/*";
        assert_eq!(routes.paths_to(Some("a.example.org"), is_mqtt), ["/ws/*", "/mqtt"]);
        assert_eq!(routes.paths_to(None, is_mqtt), ["/mqtt"]);
    }

    #[test]
    fn an_unknown_host_is_known_as_such() {
        let routes = routes(&[("*.example.org", "/mqtt")]);
        assert!(routes.knows(Some("a.example.org")));
        assert!(!routes.knows(Some("example.org")));
        assert!(!routes.knows(None));
    }

    #[test]
    fn a_request_names_one_host() {
        let request = |uri: &str, version, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri).version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let request = request.body(()).unwrap();
            requested_host(&request).map(|host| host.map(str::to_owned))
        };
        let ok = |host: &str| Ok(Some(host.to_owned()));
        let v11 = Version::HTTP_11;
        assert_eq!(request("/", v11, &["example.org:8443"]), ok("example.org:8443"));
        assert_eq!(request("/", v11, &["[2001:db8::1]:8443"]), ok("[2001:db8::1]:8443"));
        assert_eq!(request("http://a.example.org/", v11, &["b.example.org"]), ok("a.example.org"));
        assert_eq!(request("/", Version::HTTP_10, &[]), Ok(None));
        assert_eq!(request("/", v11, &[]), Err(BadHost::Missing));
        assert_eq!(request("/", v11, &["example.org", "example.org"]), Err(BadHost::Several));
        for host in ["", " ", "a b", "user@example.org", "example.org/x", "a,b", ":80", "é.example.org"] {
            assert_eq!(request("/", v11, &[host]), Err(BadHost::Malformed), "{host}");
        }
    }

    proptest! {
        #[test]
        fn no_path_or_host_panics(host in ".{0,20}", path in "/?[%2eE./a-f\\PC]{0,30}") {
            let routes = routes(&[("*.e", "/*"), ("any", "/a"), ("any", "/a/*")]);
            let _ = routes.find(Some(&host), &path);
        }

        #[test]
        fn a_normal_form_is_normal(path in "/([%2eE./a-c]{0,5}){0,6}") {
            let once = decode_unreserved(&path);
            let normal = without_dot_segments(&once);
            prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
            prop_assert_eq!(without_dot_segments(&normal), normal);
        }
    }
}
