//! What a broker or backend learns about the client.
//!
//! In two steps: [`identify`] finds out who asks, when the request is here; [`broker_headers`] or
//! [`backend_headers`] write it down, when we dial. What a client says of itself in these headers is
//! overwritten, and believed only of a peer in `trusted_proxies`.

mod identity;

use http::header::{COOKIE, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::backend::remove_hop_by_hop;
use crate::config::{ForwardedOptions, ForwardedPort, HostHeader, Template, TemplatePart};

pub use identity::{Identity, identify};

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// The five that we write.
const OURS: [HeaderName; 5] =
    [X_REAL_IP, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT];

/// A value of `set_headers` that grows past this is left out: brokers refuse large heads.
const MAX_RENDERED: usize = 4096;

/// What is escaped of a client's words in a header: what ends or trims a value, and the escape itself, so
/// that two different ClientIDs never become one. Bytes outside ASCII are escaped too.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// What only the CONNECT says.
#[derive(Debug, Clone, Copy)]
pub struct ConnectFacts<'a> {
    /// The ClientID; empty where the broker is to assign one.
    pub client_id: &'a str,
    /// The username.
    pub username: Option<&'a str>,
}

/// The headers of our own handshake with a WebSocket broker, besides those of RFC 6455.
///
/// `Host` is among them unless the endpoint's own is to be sent. Of the client's headers only
/// `Authorization`, `Origin`, `User-Agent` and, where asked for, `Cookie` go on.
///
/// `X-Forwarded-For` is the client alone, also behind trusted proxies: EMQX takes the leftmost entry,
/// others the rightmost. `X-Forwarded-Port` is left out when it should be the client's and nobody told us.
#[must_use]
pub fn broker_headers(
    identity: &Identity,
    options: &ForwardedOptions,
    connect: ConnectFacts<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let goes_on = |name: &HeaderName| options.cookie || name != COOKIE;
    let mut lines: Vec<_> = identity.passed.iter().filter(|(name, _)| goes_on(name)).cloned().collect();
    for (name, value) in facts(identity, options, Some(connect)) {
        lines.retain(|(other, _)| *other != name);
        lines.extend(value.map(|value| (name, value)));
    }
    lines
}

/// The whole head of a request that goes on to a backend: the client's headers without hop-by-hop ones
/// and without words about itself that it is not trusted with, then ours as in [`broker_headers`].
///
/// `Forwarded` (RFC 7239) never goes on: it would contradict what we write. `X_Forwarded_For` is
/// `X-Forwarded-For` to a CGI-like application, so underscores count as dashes. `Proxy` is dropped
/// because such applications take it for their `HTTP_PROXY`.
#[must_use]
pub fn backend_headers(identity: &Identity, options: &ForwardedOptions, request: &HeaderMap) -> HeaderMap {
    let mut headers = request.clone();
    remove_hop_by_hop(&mut headers);
    let is_spoof = |name: &HeaderName| {
        let name = name.as_str().replace('_', "-");
        OURS.iter().chain(options.set_headers.iter().map(|(name, _)| name)).any(|ours| name == ours.as_str())
            || name == "forwarded"
            || name == "proxy"
            || (!identity.is_proxied && name.starts_with("x-forwarded-"))
    };
    let spoofs: Vec<_> = headers.keys().filter(|name| is_spoof(name)).cloned().collect();
    for name in spoofs {
        headers.remove(name);
    }
    if !options.cookie {
        headers.remove(COOKIE);
    }
    for (name, value) in facts(identity, options, None) {
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
    headers
}

/// What we say in place of anybody else: a later value goes before an earlier one, and `None` takes the header away.
fn facts<'a>(
    identity: &'a Identity,
    options: &'a ForwardedOptions,
    connect: Option<ConnectFacts<'a>>,
) -> impl Iterator<Item = (HeaderName, Option<HeaderValue>)> {
    let host = match options.host {
        HostHeader::Client => identity.host_header.clone(),
        HostHeader::Endpoint => None,
    };
    let port = match options.port {
        ForwardedPort::Client => identity.port,
        ForwardedPort::Listener => Some(identity.listener_port),
    };
    let facts = [
        (X_REAL_IP, value(identity.address.to_string())),
        (X_FORWARDED_FOR, value(identity.forwarded_for(options.forwarded_for))),
        (X_FORWARDED_PROTO, Some(HeaderValue::from_static(identity.scheme))),
        (X_FORWARDED_HOST, identity.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok())),
        (X_FORWARDED_PORT, port.map(HeaderValue::from)),
        (HOST, host),
    ];
    let templates = options.set_headers.iter();
    let templates =
        templates.map(move |(name, template)| (name.clone(), render(template, identity, connect)));
    facts.into_iter().chain(templates)
}

/// A template with the facts in it; `None` when the result is no header's value.
fn render(
    template: &Template,
    identity: &Identity,
    connect: Option<ConnectFacts<'_>>,
) -> Option<HeaderValue> {
    let mut text = String::new();
    for part in &template.0 {
        match part {
            TemplatePart::Text(words) => text.push_str(words),
            TemplatePart::ClientAddress => text.push_str(&identity.address.to_string()),
            TemplatePart::ClientPort => text.extend(identity.port.map(|port| port.to_string())),
            TemplatePart::ListenerPort => text.push_str(&identity.listener_port.to_string()),
            TemplatePart::Scheme => text.push_str(identity.scheme),
            TemplatePart::TlsVersion => text.extend(identity.tls_version),
            TemplatePart::Host => text.extend(escaped(identity.host.as_deref())),
            TemplatePart::ServerName => text.extend(escaped(identity.server_name.as_deref())),
            TemplatePart::ClientId => text.extend(escaped(connect.map(|connect| connect.client_id))),
            TemplatePart::Username => text.extend(escaped(connect.and_then(|connect| connect.username))),
        }
        if text.len() > MAX_RENDERED {
            return None;
        }
    }
    value(text)
}

fn escaped(words: Option<&str>) -> impl Iterator<Item = &str> {
    words.into_iter().flat_map(|words| utf8_percent_encode(words, ESCAPED))
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::try_from(text.into_bytes()).ok()
}

#[cfg(test)]
mod tests;
