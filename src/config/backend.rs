//! `backend` of a route: an application server, and its URL.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::forwarded::{ForwardedOptions, ForwardedTable};
use super::review::Review;
use super::upstream::DIAL;
use super::url::Url;
use super::value::{Either, Label, Leaf, Parsed, Written};

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

/// `backend` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BackendTable {
    url: Written<BackendUrl>,
    dial_timeout: Written<Duration>,
    response_timeout: Written<Duration>,
    forwarded: Option<ForwardedTable>,
}

impl BackendTable {
    pub(super) fn check(
        written: Spanned<Either<BackendUrl, Self>>,
        review: &mut Review<'_>,
    ) -> Option<Backend> {
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
pub(super) struct BackendUrl {
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
            return Ok(Self { name: Label::text(text)?.0, address: BackendAddress::Unix(path.into()) });
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
                return Err("a broker is no backend; \
                 list it in [upstreams.NAME], and write `upstream = \"NAME\"` here"
                    .to_owned());
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
