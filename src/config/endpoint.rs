//! `endpoints` of an upstream: where a broker listens, and what it speaks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use serde::Deserialize;
use toml::Spanned;

use super::Weight;
use super::endpoint_url::{EndpointUrl, HandshakePath, Place};
use super::review::{Review, Span};
use super::value::{Either, Label, Leaf, OrOff, Parsed, Written};

/// One broker address, or a name that stands for many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name in logs and metrics: the configured one, or its URL.
    pub name: Arc<str>,
    /// What we speak to it.
    pub transport: Transport,
    /// Where it listens.
    pub address: EndpointAddress,
    /// Whether the transport is wrapped in TLS (`wss`, `mqtts`).
    pub tls: bool,
    /// The name verified in its certificate and sent as SNI; by default the URL's host.
    pub server_name: Option<Box<str>>,
    /// Its share.
    pub weight: Weight,
    /// Its cap of sessions; `None` is no cap.
    pub max_sessions: Option<usize>,
    /// Used only when no other endpoint is up.
    pub backup: bool,
    /// PROXY preamble sent first.
    pub proxy_protocol: Option<ProxyVersion>,
    /// What its name is looked up for. `None`: it is one broker, and a name is resolved at each dial.
    pub discover: Option<Discover>,
}

/// What a name that stands for many brokers is looked up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discover {
    /// Each address is a broker.
    Addresses,
    /// Each SRV record is one: target, port, weight, priority (RFC 2782).
    Srv,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// MQTT packets right on the stream.
    Mqtt,
    /// MQTT inside WebSocket.
    WebSocket {
        /// Path and query of the handshake.
        path: Box<str>,
        /// The URL's authority: the `Host` unless the client's own is passed on.
        authority: Box<str>,
        /// The subprotocol offered, whatever the client chose: EMQX answers 400 to all but `mqtt`, and
        /// the CONNECT says which version of MQTT is meant.
        subprotocol: Box<str>,
    },
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointAddress {
    /// An IP address.
    Ip(SocketAddr),
    /// A name.
    Name {
        /// DNS name.
        host: Box<str>,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary, with TLVs about TLS.
    V2,
}

/// One of `endpoints` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EndpointTable {
    url: Written<EndpointUrl>,
    name: Written<Label>,
    weight: Option<Spanned<i64>>,
    max_sessions: Written<OrOff<i64>>,
    backup: Option<bool>,
    proxy_protocol: Option<ProxyVersion>,
    server_name: Written<String>,
    subprotocol: Written<Subprotocol>,
    transport: Option<Spanned<UnixTransport>>,
    path: Written<HandshakePath>,
    discover: Option<Spanned<Discover>>,
}

/// An endpoint that is written as a bare URL, or as a table.
pub(super) type WrittenEndpoint = Spanned<Either<EndpointUrl, EndpointTable>>;

impl EndpointTable {
    /// The endpoint, if there is enough of it.
    pub(super) fn check(written: WrittenEndpoint, review: &mut Review<'_>) -> Option<Endpoint> {
        let span = written.span();
        let mut table = match written.into_inner() {
            Either::Word(url) => {
                Self { url: Some(Spanned::new(span.clone(), Parsed(url))), ..Self::default() }
            }
            Either::Table(table) => table,
        };
        let weight_span = table.weight.as_ref().map(Spanned::span);
        let weight = check_weight(table.weight.take(), review);
        let max_sessions = review.count_or_off(table.max_sessions.take(), 1..=10_000_000);
        let Some(url) = table.url.take() else {
            review.missing(span, "url", "write for instance { url = \"ws://192.0.2.1:8083/mqtt\" }");
            return None;
        };
        let url_span = url.span();
        let url = url.into_inner().0;
        table.refuse_keys_that_do_not_fit(&url, review);
        let discover = table.discover.map(|discover| {
            check_discover(discover.span(), *discover.get_ref(), &url, url_span.clone(), weight_span, review);
            discover.into_inner()
        });
        for oddity in url.oddities() {
            review.warning(url_span.clone(), oddity);
        }
        let subprotocol =
            table.subprotocol.map_or_else(|| "mqtt".into(), |subprotocol| subprotocol.into_inner().0.0);
        let websocket = |path, authority| Transport::WebSocket { path, authority, subprotocol };
        let (address, transport) = match url.place {
            Place::Mqtt(address) => (address, Transport::Mqtt),
            Place::WebSocket { address, authority, path } => {
                (address, websocket(path.unwrap_or_else(|| "/".into()), authority))
            }
            Place::Unix(socket) => {
                let transport = match table.transport.map(Spanned::into_inner).unwrap_or_default() {
                    UnixTransport::Mqtt => Transport::Mqtt,
                    UnixTransport::Ws => {
                        let path = table.path.map_or("/mqtt".into(), |path| path.into_inner().0.0);
                        websocket(path, "localhost".into())
                    }
                };
                (EndpointAddress::Unix(review.path(socket)), transport)
            }
        };
        Some(Endpoint {
            name: table.name.map_or(url.written, |name| name.into_inner().0.0),
            transport,
            address,
            tls: url.tls,
            server_name: table.server_name.map(|name| name.into_inner().0.into()),
            weight,
            max_sessions,
            backup: table.backup.unwrap_or(false),
            proxy_protocol: table.proxy_protocol,
            discover,
        })
    }

    /// Keys that mean nothing beside this URL.
    fn refuse_keys_that_do_not_fit(&self, url: &EndpointUrl, review: &mut Review<'_>) {
        let is_unix = matches!(url.place, Place::Unix(_));
        let is_websocket = match &self.transport {
            Some(transport) if is_unix => *transport.get_ref() == UnixTransport::Ws,
            _ => matches!(url.place, Place::WebSocket { .. }),
        };
        if let Some(transport) = self.transport.as_ref().filter(|_| !is_unix) {
            review.mistake(
                transport.span(),
                "the URL's scheme says this already; `transport` is for unix: endpoints",
            );
        }
        if let Some(path) = &self.path {
            if !is_unix {
                review.mistake(path.span(), "write the path into the URL; `path` is for unix: endpoints");
            } else if !is_websocket {
                review.mistake(
                    path.span(),
                    "plain MQTT has no path; add transport = \"ws\", or leave `path` out",
                );
            }
        }
        if let Some(subprotocol) = self.subprotocol.as_ref().filter(|_| !is_websocket) {
            review.mistake(subprotocol.span(), "only WebSocket endpoints have a `subprotocol`; leave it out");
        }
        if let Some(name) = &self.server_name {
            if !url.tls {
                review.mistake(
                    name.span(),
                    "this endpoint has no TLS, so no name is sent or verified; \
                     write wss:// or mqtts://, or leave `server_name` out",
                );
            } else if ServerName::try_from(name.get_ref().0.as_str()).is_err() {
                review.mistake(
                    name.span(),
                    "this is neither a DNS name nor an IP address; write the name in the broker's certificate",
                );
            }
        }
    }
}

/// What can be found by a name must have one, and say nothing that the answer says.
fn check_discover(
    span: Span,
    discover: Discover,
    url: &EndpointUrl,
    url_span: Span,
    weight: Option<Span>,
    review: &mut Review<'_>,
) {
    let Some(host) = url.host() else {
        review.mistake(span, "this endpoint has no name to look up; leave `discover` out");
        return;
    };
    if discover == Discover::Addresses {
        return;
    }
    if !host.starts_with('_') {
        let advice = "a name with SRV records looks like _mqtt._tcp.example.org";
        review.mistake(url_span.clone(), format!("{advice}; write that, or discover = \"addresses\""));
    }
    if url.has_port {
        review.mistake(url_span, "SRV records have the ports; leave this one out");
    }
    if let Some(weight) = weight {
        review.mistake(weight, "SRV records have the weights; leave this one out");
    }
}

fn check_weight(weight: Option<Spanned<i64>>, review: &mut Review<'_>) -> Weight {
    let Some(written) = weight else { return Weight::ONE };
    u16::try_from(*written.get_ref()).ok().and_then(Weight::new).unwrap_or_else(|| {
        let advice = match *written.get_ref() {
            0 => "; an endpoint for emergencies has `backup = true`",
            _ => "",
        };
        review.mistake(
            written.span(),
            format!(
                "{} is not a weight; write a whole number from 1 to {}{advice}",
                written.get_ref(),
                Weight::MAX
            ),
        );
        Weight::ONE
    })
}

/// What a Unix socket speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnixTransport {
    #[default]
    Mqtt,
    Ws,
}

/// A WebSocket subprotocol: a token (RFC 6455 section 4.1).
#[derive(Debug, Clone)]
struct Subprotocol(Box<str>);

impl Leaf for Subprotocol {
    const FORM: &'static str = "a subprotocol such as \"mqtt\"";

    fn text(text: &str) -> Result<Self, String> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(format!(
                "{text:?} is not a subprotocol; write one, such as \"mqtt\" or \"mqttv3.1\""
            ));
        }
        Ok(Self(text.into()))
    }
}
