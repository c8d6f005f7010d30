//! `endpoints` of an upstream: where a broker listens, and what it speaks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use toml::Spanned;

use super::Weight;
use super::nearest::did_you_mean;
use super::review::Review;
use super::url::Url;
use super::value::{Either, Label, Leaf, OrOff, Parsed, Written};

/// One broker address.
#[derive(Debug, Clone)]
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
        /// The subprotocol offered; `None` passes on the client's choice (or `mqtt` if it had none).
        subprotocol: Option<Box<str>>,
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
}

/// An endpoint that is written as a bare URL, or as a table.
pub(super) type WrittenEndpoint = Spanned<Either<EndpointUrl, EndpointTable>>;

impl EndpointTable {
    /// The endpoint, if there is enough of it.
    pub(super) fn check(written: WrittenEndpoint, review: &mut Review<'_>) -> Option<Endpoint> {
        let span = written.span();
        let table = match written.into_inner() {
            Either::Word(url) => {
                Self { url: Some(Spanned::new(span.clone(), Parsed(url))), ..Self::default() }
            }
            Either::Table(table) => table,
        };
        let weight = check_weight(table.weight, review);
        let max_sessions = review.count_or_off(table.max_sessions, 1..=10_000_000);
        let Some(url) = table.url else {
            review.missing(span, "url", "write for instance { url = \"ws://192.0.2.1:8083/mqtt\" }");
            return None;
        };
        let url_span = url.span();
        let EndpointUrl { written, tls, place, odd_port } = url.into_inner().0;
        let is_websocket = match (&place, &table.transport) {
            (Place::Unix(_), transport) => {
                transport.as_ref().is_some_and(|transport| *transport.get_ref() == UnixTransport::Ws)
            }
            (Place::Network { path, .. }, transport) => {
                if let Some(transport) = transport {
                    review.mistake(
                        transport.span(),
                        "the URL's scheme says this already; `transport` is for unix: endpoints",
                    );
                }
                path.is_some()
            }
        };
        if let Some(server_name) = table.server_name.as_ref().filter(|_| !tls) {
            review.mistake(
                server_name.span(),
                "this endpoint has no TLS, so no name is sent or verified; write wss:// or mqtts://, or leave `server_name` out",
            );
        }
        if let Some(name) = &table.server_name
            && ServerName::try_from(name.get_ref().0.as_str()).is_err()
        {
            review.mistake(
                name.span(),
                "this is neither a DNS name nor an IP address; write the name in the broker's certificate",
            );
        }
        if let Some(subprotocol) = table.subprotocol.as_ref().filter(|_| !is_websocket) {
            review.mistake(subprotocol.span(), "only WebSocket endpoints have a `subprotocol`; leave it out");
        }
        if let Some(path) = &table.path {
            match place {
                Place::Network { .. } => {
                    review.mistake(path.span(), "write the path into the URL; `path` is for unix: endpoints")
                }
                Place::Unix(_) if !is_websocket => {
                    review.mistake(
                        path.span(),
                        "plain MQTT has no path; add transport = \"ws\", or leave `path` out",
                    );
                }
                Place::Unix(_) => {}
            }
        }
        if let Some(odd_port) = odd_port {
            review.warning(url_span.clone(), odd_port);
        }
        if let Place::Network { path: Some(None), .. } = &place {
            review.warning(url_span, "the URL has no path, so `/` is asked for; most brokers listen at `/mqtt` (RabbitMQ at `/ws`)");
        }
        let subprotocol = table.subprotocol.map(|subprotocol| subprotocol.into_inner().0.0);
        let websocket = |path, authority| Transport::WebSocket { path, authority, subprotocol };
        let (address, transport) = match place {
            Place::Unix(path) if is_websocket => {
                let handshake = table.path.map_or("/mqtt".into(), |path| path.into_inner().0.0);
                (EndpointAddress::Unix(review.path(path)), websocket(handshake, "localhost".into()))
            }
            Place::Unix(path) => (EndpointAddress::Unix(review.path(path)), Transport::Mqtt),
            Place::Network { address, authority, path } => match path {
                Some(path) => (address, websocket(path.unwrap_or_else(|| "/".into()), authority)),
                None => (address, Transport::Mqtt),
            },
        };
        Some(Endpoint {
            name: table.name.map_or_else(|| written, |name| name.into_inner().0.0),
            transport,
            address,
            tls,
            server_name: table.server_name.map(|name| name.into_inner().0.into()),
            weight,
            max_sessions,
            backup: table.backup.unwrap_or(false),
            proxy_protocol: table.proxy_protocol,
        })
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnixTransport {
    Mqtt,
    Ws,
}

/// An endpoint's URL.
#[derive(Debug, Clone)]
pub(super) struct EndpointUrl {
    written: Arc<str>,
    tls: bool,
    place: Place,
    odd_port: Option<&'static str>,
}

#[derive(Debug, Clone)]
enum Place {
    Unix(PathBuf),
    /// `path` is there for WebSocket alone, and empty where the URL has none.
    Network {
        address: EndpointAddress,
        authority: Box<str>,
        path: Option<Option<Box<str>>>,
    },
}

impl Leaf for EndpointUrl {
    const FORM: &'static str = "a URL such as \"ws://192.0.2.1:8083/mqtt\" or \"mqtt://192.0.2.1:1883\"";

    fn text(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.starts_with("//") {
                return Err("a Unix socket is written with its path alone, such as \"unix:/run/mqtt.sock\""
                    .to_owned());
            }
            return Ok(Self {
                written: Self::label(text)?,
                tls: false,
                place: Place::Unix(path.into()),
                odd_port: None,
            });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(without_scheme(text));
        };
        let scheme = Scheme::parse(scheme)?;
        let url = Url::parse(text)?;
        match (scheme, url.port) {
            (Scheme::Ws, Some(443)) => return Err("port 443 speaks TLS; write wss://".to_owned()),
            (Scheme::Mqtt, Some(443)) => {
                return Err("port 443 speaks TLS; write wss:// and the path, or mqtts://".to_owned());
            }
            _ => {}
        }
        let path = match (scheme.is_websocket(), url.path) {
            (true, path) => Some(path.map(HandshakePath::text).transpose()?.map(|path| path.0)),
            (false, None | Some("/")) => None,
            (false, Some(_)) => {
                let wrapped = if scheme.tls() { "wss" } else { "ws" };
                return Err(format!(
                    "plain MQTT has no path; write {wrapped}://{rest} if the broker speaks WebSocket there, or leave the path out"
                ));
            }
        };
        let address = match url.socket(scheme.port()) {
            Ok(address) => EndpointAddress::Ip(address),
            Err((host, port)) => EndpointAddress::Name { host: host.into(), port },
        };
        let place = Place::Network { address, authority: url.authority.into(), path };
        Ok(Self {
            written: Self::label(text)?,
            tls: scheme.tls(),
            place,
            odd_port: scheme.odd_port(url.port),
        })
    }
}

impl EndpointUrl {
    /// The URL as the endpoint's name.
    fn label(text: &str) -> Result<Arc<str>, String> {
        Label::text(text)
            .map(|label| label.0)
            .map_err(|_| "this URL is too long to be a name; write up to 200 characters".to_owned())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Ws,
    Wss,
    Mqtt,
    Mqtts,
}

impl Scheme {
    fn parse(text: &str) -> Result<Self, String> {
        let meant = match text {
            "ws" => return Ok(Self::Ws),
            "wss" => return Ok(Self::Wss),
            "mqtt" => return Ok(Self::Mqtt),
            "mqtts" => return Ok(Self::Mqtts),
            "http" => "; WebSocket brokers have ws://, and MQTT over TCP has mqtt://",
            "https" => "; WebSocket brokers with TLS have wss://, and MQTT over TLS has mqtts://",
            "tcp" => "; did you mean `mqtt`?",
            "ssl" | "tls" | "mqtt+ssl" | "mqtt+tls" => "; did you mean `mqtts`?",
            other => match did_you_mean(other, ["ws", "wss", "mqtt", "mqtts"]) {
                none if none.is_empty() => "; write ws://, wss://, mqtt:// or mqtts://",
                near => return Err(format!("{text}:// is no scheme of a broker{near}")),
            },
        };
        Err(format!("{text}:// is no scheme of a broker{meant}"))
    }

    const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    const fn tls(self) -> bool {
        matches!(self, Self::Wss | Self::Mqtts)
    }

    /// The port of a URL that names none (RFC 6455 section 3; IANA for MQTT).
    const fn port(self) -> u16 {
        match self {
            Self::Ws => 80,
            Self::Wss => 443,
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
        }
    }

    /// What is odd about a port behind this scheme: most likely a slip, but nothing forbids it.
    const fn odd_port(self, port: Option<u16>) -> Option<&'static str> {
        match (self, port) {
            (Self::Ws | Self::Wss, Some(1883)) => {
                Some("port 1883 usually speaks MQTT without WebSocket: mqtt://")
            }
            (Self::Ws | Self::Wss | Self::Mqtt, Some(8883)) => {
                Some("port 8883 usually speaks MQTT over TLS: mqtts://")
            }
            (Self::Wss, Some(80)) => Some("port 80 usually speaks no TLS: ws://"),
            (Self::Mqtts, Some(1883)) => Some("port 1883 usually speaks no TLS: mqtt://"),
            (Self::Mqtt | Self::Mqtts, Some(8083 | 8084)) => {
                Some("port 8083 and 8084 usually speak WebSocket: ws:// or wss://")
            }
            _ => None,
        }
    }
}

fn without_scheme(text: &str) -> String {
    let scheme = if text.contains('/') { "ws" } else { "mqtt" };
    let guess = format!("{scheme}://{text}");
    match EndpointUrl::text(&guess) {
        Ok(_) => format!("{text:?} has no scheme; write {guess:?}"),
        // Not repeated: it may be anything, and hold a password.
        Err(_) => format!("this is not a URL; write {}", EndpointUrl::FORM),
    }
}

/// Path and query of a WebSocket handshake.
#[derive(Debug, Clone)]
struct HandshakePath(Box<str>);

impl Leaf for HandshakePath {
    const FORM: &'static str = "a path such as \"/mqtt\"";

    fn text(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') || !text.is_ascii() || PathAndQuery::try_from(text).is_err() {
            return Err(format!("{text:?} is not a path; write {}", Self::FORM));
        }
        Ok(Self(text.into()))
    }
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
