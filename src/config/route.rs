//! `[[routes]]`: which host and path lead where.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::backend::{Backend, BackendTable, BackendUrl};
use super::nearest::did_you_mean;
use super::pattern::{HostPattern, Origin, Origins, PathPattern, RoutePath, check_origins};
use super::review::{Review, Span};
use super::site::{Site, SiteTable};
use super::value::{Either, Leaf, Written, WrittenList};

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

/// A redirect to https.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// The port in the `Location`; 443 is left out of it.
    pub port: u16,
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
                        format!(
                            "a route leads to one target, and this one has `{first}` already; \
                         give `{key}` a route of its own"
                        ),
                    );
                }
            }
        }
    }

    fn check_mqtt_keys(&self, review: &mut Review<'_>) {
        let has_other_target = self.site.is_some() || self.backend.is_some() || self.redirect.is_some();
        if self.upstream.is_some() || !has_other_target {
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
            let origins = check_origins(self.origins, review);
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
                origins,
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
