//! An endpoint's URL: which broker, and what it speaks.

use std::path::PathBuf;
use std::sync::Arc;

use http::uri::PathAndQuery;

use super::endpoint::EndpointAddress;
use super::nearest::did_you_mean;
use super::url::Url;
use super::value::{Label, Leaf};

/// An endpoint's URL.
#[derive(Debug, Clone)]
pub(super) struct EndpointUrl {
    /// As written: the endpoint's name, unless it has another.
    pub(super) written: Arc<str>,
    /// `wss` or `mqtts`.
    pub(super) tls: bool,
    /// Where it is.
    pub(super) place: Place,
    /// Whether a port is written.
    pub(super) has_port: bool,
    odd_port: Option<&'static str>,
}

/// Where a URL leads, and what is spoken there.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// `mqtt`, `mqtts`
    Mqtt(EndpointAddress),
    /// `ws`, `wss`
    WebSocket {
        /// Where it listens.
        address: EndpointAddress,
        /// Host and port as written.
        authority: Box<str>,
        /// Path and query, where the URL has them.
        path: Option<Box<str>>,
    },
    /// `unix:`, which leaves open what is spoken.
    Unix(PathBuf),
}

impl EndpointUrl {
    /// Its host, where that is a name.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Mqtt(EndpointAddress::Name { host, .. })
            | Place::WebSocket { address: EndpointAddress::Name { host, .. }, .. } => Some(host),
            Place::Mqtt(_) | Place::WebSocket { .. } | Place::Unix(_) => None,
        }
    }

    /// What works, but is probably a slip.
    pub(super) fn oddities(&self) -> impl Iterator<Item = &'static str> {
        let no_path = matches!(self.place, Place::WebSocket { path: None, .. }).then_some(
            "the URL has no path, so `/` is asked for; most brokers listen at `/mqtt` (RabbitMQ at `/ws`)",
        );
        self.odd_port.into_iter().chain(no_path)
    }
}

impl Leaf for EndpointUrl {
    const FORM: &'static str = "a URL such as \"ws://192.0.2.1:8083/mqtt\" or \"mqtt://192.0.2.1:1883\"";

    fn text(text: &str) -> Result<Self, String> {
        let written = Label::text(text);
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.starts_with("//") {
                return Err("a Unix socket is written with its path alone, such as \"unix:/run/mqtt.sock\""
                    .to_owned());
            }
            return Ok(Self {
                written: written?.0,
                tls: false,
                place: Place::Unix(path.into()),
                has_port: false,
                odd_port: None,
            });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(without_scheme(text));
        };
        let scheme = Scheme::parse(scheme)?;
        let url = Url::parse(text)?;
        let address = match url.socket(scheme.port()) {
            Ok(address) => EndpointAddress::Ip(address),
            Err((host, port)) => EndpointAddress::Name { host: host.into(), port },
        };
        let place = match (scheme, url.port, url.path) {
            (Scheme::Ws, Some(443), _) => return Err("port 443 speaks TLS; write wss://".to_owned()),
            (Scheme::Mqtt, Some(443), _) => {
                return Err("port 443 speaks TLS; write wss:// and the path, or mqtts://".to_owned());
            }
            (Scheme::Ws | Scheme::Wss, _, path) => {
                let path = path.map(HandshakePath::text).transpose()?.map(|path| path.0);
                Place::WebSocket { address, authority: url.authority.into(), path }
            }
            (Scheme::Mqtt | Scheme::Mqtts, _, None | Some("/")) => Place::Mqtt(address),
            (Scheme::Mqtt | Scheme::Mqtts, _, Some(_)) => {
                let wrapped = if scheme.tls() { "wss" } else { "ws" };
                return Err(format!(
                    "plain MQTT has no path; write {wrapped}://{rest} if the broker speaks WebSocket there, \
                     or leave the path out"
                ));
            }
        };
        Ok(Self {
            written: written?.0,
            tls: scheme.tls(),
            place,
            has_port: url.port.is_some(),
            odd_port: scheme.odd_port(url.port),
        })
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
                Some("ports 8083 and 8084 usually speak WebSocket: ws:// or wss://")
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
pub(super) struct HandshakePath(pub(super) Box<str>);

impl Leaf for HandshakePath {
    const FORM: &'static str = "a path such as \"/mqtt\"";

    fn text(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') || !text.is_ascii() || PathAndQuery::try_from(text).is_err() {
            return Err(format!("{text:?} is not a path; write {}", Self::FORM));
        }
        Ok(Self(text.into()))
    }
}
