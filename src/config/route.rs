//! `[[routes]]`: which host and path lead where.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use serde::Deserialize;
use toml::Spanned;

use super::ForwardedOptions;
use super::forwarded::ForwardedTable;
use super::nearest::did_you_mean;
use super::review::{Review, Span};
use super::upstream::DIAL;
use super::url::{Url, is_name};
use super::value::{Either, Leaf, Parsed, Written, WrittenList};

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

/// One `[[routes]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as [[routes]]")]
pub(super) struct RouteTable {
    host: Written<HostPattern>,
    path: Written<RoutePath>,
    upstream: Option<Spanned<String>>,
    origins: WrittenList<Origin>,
    require_subprotocol: Option<Spanned<bool>>,
    site: Option<Spanned<Either<String, SiteTable>>>,
    backend: Option<Spanned<Either<BackendUrl, BackendTable>>>,
    redirect: Option<Spanned<Either<RedirectWord, RedirectTable>>>,
}

impl RouteTable {
    /// The route, if there is enough of it. `upstreams` are the names that a route may lead to.
    pub(super) fn check(table: Spanned<Self>, upstreams: &[&str], review: &mut Review<'_>) -> Option<Route> {
        let span = table.span();
        let mut table = table.into_inner();
        let path = table.path.take();
        if path.is_none() {
            review.missing(span.clone(), "path", "write for instance path = \"/\"");
        }
        let host = table.host.take().map_or(HostPattern::Any, |host| host.into_inner().0);
        table.check_one_target(span, review);
        table.check_mqtt_keys(review);
        let is_mqtt = table.upstream.is_some();
        let target = table.target(upstreams, review)?;
        let path = path?.into_inner().0.pattern(is_mqtt);
        Some(Route { host, path, target })
    }

    fn check_one_target(&self, route: Span, review: &mut Review<'_>) {
        let mut written: Vec<(&str, Span)> = [
            ("upstream", self.upstream.as_ref().map(Spanned::span)),
            ("site", self.site.as_ref().map(Spanned::span)),
            ("backend", self.backend.as_ref().map(Spanned::span)),
            ("redirect", self.redirect.as_ref().map(Spanned::span)),
        ]
        .into_iter()
        .filter_map(|(key, span)| Some((key, span?)))
        .collect();
        written.sort_by_key(|(_, span)| span.start);
        match written.as_slice() {
            [] => review.missing_one_of(
                route,
                &["upstream", "site", "backend", "redirect"],
                "this route leads nowhere; add one of `upstream`, `site`, `backend` or `redirect`",
            ),
            [_] => {}
            [(first, _), others @ ..] => {
                for (key, span) in others {
                    review.mistake(
                        span.clone(),
                        format!("a route leads to one target, and this one has `{first}` already; give `{key}` a route of its own"),
                    );
                }
            }
        }
    }

    fn check_mqtt_keys(&self, review: &mut Review<'_>) {
        if self.upstream.is_some() {
            return;
        }
        let written = [
            ("origins", self.origins.as_ref().map(Spanned::span)),
            ("require_subprotocol", self.require_subprotocol.as_ref().map(Spanned::span)),
        ];
        for (key, span) in written.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            review.mistake(
                span,
                format!("`{key}` belongs to MQTT routes, those with `upstream`; leave it out here"),
            );
        }
    }

    fn target(self, upstreams: &[&str], review: &mut Review<'_>) -> Option<Target> {
        if let Some(upstream) = self.upstream {
            if !upstreams.contains(&upstream.get_ref().as_str()) {
                if !review.is_unread(&format!("upstreams.{}", upstream.get_ref())) {
                    let near = did_you_mean(upstream.get_ref(), upstreams.iter().copied());
                    review.mistake(
                        upstream.span(),
                        format!("there is no [upstreams.{}]{near}", upstream.get_ref()),
                    );
                }
                return None;
            }
            return Some(Target::Mqtt(Arc::new(MqttTarget {
                upstream: upstream.into_inner().into(),
                origins: check_origins(self.origins, review),
                require_subprotocol: self.require_subprotocol.is_some_and(Spanned::into_inner),
            })));
        }
        if let Some(site) = self.site {
            return SiteTable::check(site, review).map(|site| Target::Site(Arc::new(site)));
        }
        if let Some(backend) = self.backend {
            return BackendTable::check(backend, review).map(|backend| Target::Backend(Arc::new(backend)));
        }
        self.redirect.map(|redirect| Target::Redirect(RedirectTable::check(redirect, review)))
    }

    /// The upstream it leads to, as written.
    pub(super) fn upstream(&self) -> Option<&str> {
        self.upstream.as_ref().map(|upstream| upstream.get_ref().as_str())
    }
}

fn check_origins(origins: WrittenList<Origin>, review: &mut Review<'_>) -> Origins {
    let Some(origins) = origins else { return Origins::Any };
    if origins.get_ref().is_empty() {
        review.empty(
            origins.span(),
            "no page could open this route; list origins, or leave the key out for any",
        );
    }
    Origins::Listed(origins.into_inner().into_iter().map(|origin| origin.into_inner().0.0).collect())
}

impl Leaf for HostPattern {
    const FORM: &'static str = "a host such as \"app.example.org\" or \"*.example.org\"";

    fn text(text: &str) -> Result<Self, String> {
        let host = text.to_ascii_lowercase();
        if host == "*" {
            return Err("leave `host` out where every host is meant".to_owned());
        }
        if host.contains("://") || host.contains('/') {
            return Err(format!("{text:?} is more than a host; write the host here, and the path in `path`"));
        }
        if host.starts_with('[') && host.ends_with(']') {
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
                "{text:?} has its `*` in the wrong place; it may stand for the first label alone: \"*.example.org\""
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
struct RoutePath(Box<str>);

impl RoutePath {
    fn pattern(&self, is_mqtt: bool) -> PathPattern {
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
        if !text.starts_with('/') {
            return Err(format!(
                "{text:?} is not a path: it begins with `/`; write \"/{}\"",
                text.trim_start_matches('.')
            ));
        }
        if let Some(mark) = text.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(format!("routes are found by the path alone; leave out what follows `{mark}`"));
        }
        if text.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(format!(
                "{text:?} has a `.` or `..` in it, which no request's path keeps; write the path that is meant"
            ));
        }
        if text.strip_suffix("/*").unwrap_or(text).contains(['*', '~', '^', '$']) {
            return Err(format!(
                "{text:?} looks like a pattern; paths are literal, and only a `/*` at the end stands for all below"
            ));
        }
        if PathAndQuery::try_from(text).is_err() || !text.is_ascii() {
            return Err(format!("{text:?} cannot be in a request; write spaces and other letters as %xx"));
        }
        Ok(Self(text.into()))
    }
}

/// An origin in lower case, without a default port.
#[derive(Debug, Clone)]
struct Origin(Box<str>);

impl Leaf for Origin {
    const FORM: &'static str = "an origin such as \"https://app.example.org\"";

    fn text(text: &str) -> Result<Self, String> {
        let origin = text.to_ascii_lowercase();
        if origin == "*" {
            return Err("leave `origins` out where any page may open this route".to_owned());
        }
        let Some((scheme, authority)) = origin.split_once("://") else {
            return Err(format!("{text:?} has no scheme; write \"https://{origin}\""));
        };
        if let Some((host, _)) = authority.split_once('/') {
            return Err(format!("an origin has no path, not even `/`; write \"{scheme}://{host}\""));
        }
        let default_port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => "",
        };
        let authority = authority.strip_suffix(default_port).unwrap_or(authority);
        let host = authority.strip_prefix("*.").unwrap_or(authority);
        if scheme.is_empty() || Url::parse(&format!("{scheme}://{host}")).is_err() {
            return Err(format!(
                "{text:?} is not an origin; write one such as \"https://app.example.org\" or \"https://*.example.org\""
            ));
        }
        Ok(Self(format!("{scheme}://{authority}").into()))
    }
}

/// The word for the usual redirect.
#[derive(Debug, Clone, Copy)]
pub(super) struct RedirectWord;

impl Leaf for RedirectWord {
    const FORM: &'static str = "\"https\"";

    fn text(text: &str) -> Result<Self, String> {
        if text == "https" {
            return Ok(Self);
        }
        Err(format!("{text:?} is no redirect; write \"https\", or {{ port = 8443 }}"))
    }
}

/// A redirect to https on another port, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RedirectTable {
    port: Option<Spanned<i64>>,
}

impl RedirectTable {
    pub(super) fn check(written: Spanned<Either<RedirectWord, Self>>, review: &mut Review<'_>) -> Redirect {
        let port = match written.into_inner() {
            Either::Word(RedirectWord) => None,
            Either::Table(table) => table.port,
        };
        let port = review.count(port, 1..=usize::from(u16::MAX), 443);
        Redirect { port: u16::try_from(port).unwrap_or(443) }
    }
}

/// `site` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SiteTable {
    root: Written<String>,
    index: Written<String>,
    fallback: Written<String>,
    cache_control: Written<String>,
    precompressed: Option<bool>,
}

impl SiteTable {
    /// Names without a fingerprint are the rule, and a stale script beside a new page is worse than
    /// an empty 304.
    const CACHE_CONTROL: &'static str = "no-cache";

    fn check(written: Spanned<Either<String, Self>>, review: &mut Review<'_>) -> Option<Site> {
        let span = written.span();
        let table = match written.into_inner() {
            Either::Word(root) => {
                Self { root: Some(Spanned::new(span.clone(), Parsed(root))), ..Self::default() }
            }
            Either::Table(table) => table,
        };
        let index = match &table.index {
            Some(index) if index.get_ref().0.contains('/') => {
                review.mistake(
                    index.span(),
                    "this is the file's name in every folder; write it without `/`, such as \"index.html\"",
                );
                ""
            }
            Some(index) => &index.get_ref().0,
            None => "index.html",
        };
        let fallback = table.fallback.as_ref().and_then(|fallback| {
            let path = &fallback.get_ref().0;
            let inside =
                !path.starts_with('/') && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
            if !inside {
                review.mistake(
                    fallback.span(),
                    "this is a file below `root`; write it relative to it, such as \"index.html\"",
                );
            }
            inside.then(|| path.into())
        });
        let cache_control = match &table.cache_control {
            Some(value) if HeaderValue::from_str(&value.get_ref().0).is_err() => {
                review.mistake(
                    value.span(),
                    "this cannot be a header's value; write for instance \"public, max-age=3600\"",
                );
                ""
            }
            Some(value) => &value.get_ref().0,
            None => Self::CACHE_CONTROL,
        };
        let Some(root) = &table.root else {
            review.missing(span, "root", "name the folder with the site's files");
            return None;
        };
        Some(Site {
            root: review.path(&root.get_ref().0),
            index: index.into(),
            fallback,
            cache_control: cache_control.into(),
            precompressed: table.precompressed.unwrap_or(true),
        })
    }
}

/// `backend` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BackendTable {
    url: Written<BackendUrl>,
    dial_timeout: Written<Duration>,
    response_timeout: Written<Duration>,
    forwarded: Option<ForwardedTable>,
}

impl BackendTable {
    fn check(written: Spanned<Either<BackendUrl, Self>>, review: &mut Review<'_>) -> Option<Backend> {
        let span = written.span();
        let table = match written.into_inner() {
            Either::Word(url) => {
                Self { url: Some(Spanned::new(span.clone(), Parsed(url))), ..Self::default() }
            }
            Either::Table(table) => table,
        };
        let dial_timeout = review.time(table.dial_timeout, DIAL, Duration::from_secs(5));
        let response_timeout = review.time(
            table.response_timeout,
            Duration::from_millis(100)..=Duration::from_hours(24),
            Duration::from_secs(60),
        );
        // An application without its cookies is no application.
        let forwarded = table.forwarded.unwrap_or_default().check(true, review);
        let Some(url) = table.url else {
            review.missing(span, "url", "write for instance url = \"http://127.0.0.1:3000\"");
            return None;
        };
        let BackendUrl { name, address } = url.into_inner().0;
        let address = match address {
            BackendAddress::Unix(path) => BackendAddress::Unix(review.path(path)),
            tcp => tcp,
        };
        Some(Backend { name, address, dial_timeout, response_timeout, forwarded })
    }
}

/// A backend's URL.
#[derive(Debug, Clone)]
struct BackendUrl {
    name: Arc<str>,
    address: BackendAddress,
}

impl Leaf for BackendUrl {
    const FORM: &'static str = "a URL such as \"http://127.0.0.1:3000\"";

    fn text(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(
                    "the socket's path is missing; write for instance \"unix:/run/app.sock\"".to_owned()
                );
            }
            return Ok(Self { name: text.into(), address: BackendAddress::Unix(path.into()) });
        }
        if !text.contains("://") {
            return Err(format!("the URL has no scheme; write {}", Self::FORM));
        }
        let url = Url::parse(text)?;
        match url.scheme {
            "http" => {}
            "https" => {
                return Err(
                    "a backend is spoken to in plain http; write http:// and its plain port".to_owned()
                );
            }
            "ws" | "wss" | "mqtt" | "mqtts" => {
                return Err("a broker is no backend; list it in [upstreams.NAME], and write `upstream = \"NAME\"` here".to_owned());
            }
            other => return Err(format!("{other}:// is no scheme of a backend; write http://")),
        }
        if url.path.is_some_and(|path| path != "/") {
            return Err(format!("requests keep their own path; write \"http://{}\"", url.authority));
        }
        let address = match url.socket(80) {
            Ok(address) => BackendAddress::Ip(address),
            Err((host, port)) => BackendAddress::Name { host: host.into(), port },
        };
        Ok(Self { name: format!("http://{}", url.authority).into(), address })
    }
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
        for wrong in ["*", "a.*.org", "app.example.org:443", "https://app.example.org", "a b"] {
            assert!(HostPattern::text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_lose_their_default_port() {
        let origin = |text| Origin::text(text).map(|origin| origin.0);
        assert_eq!(origin("https://App.example.org:443").as_deref(), Ok("https://app.example.org"));
        assert_eq!(origin("https://*.example.org").as_deref(), Ok("https://*.example.org"));
        assert_eq!(origin("http://localhost:5173").as_deref(), Ok("http://localhost:5173"));
        for wrong in ["*", "app.example.org", "https://app.example.org/", "https://", "https://*"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
