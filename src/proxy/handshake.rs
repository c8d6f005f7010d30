//! The WebSocket handshake of an MQTT client: what it must bring (RFC 6455 section 4.2.1, MQTT section 6).
//!
//! Extensions are not negotiated: permessage-deflate would hide MQTT from us, and cost memory.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use super::rejection::{Rejection, shown};
use crate::config::{MqttTarget, Origin, Origins};
use crate::route::host_matches;

/// MQTT's subprotocols, as clients really offer them. `mqtt` is the registered one; `mqttv3.1` comes from
/// MQTT.js and Paho for protocol level 3, `mqttv3.1.1` from older clients, the `mqtt-v` ones from
/// clients that follow EMQX's default list.
pub const SUBPROTOCOLS: [&str; 6] = ["mqtt", "mqttv3.1", "mqttv3.1.1", "mqtt-v3", "mqtt-v3.1.1", "mqtt-v5"];

/// A subprotocol of MQTT, as the client offered it: echo it in the 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subprotocol(&'static str);

impl Subprotocol {
    /// Its name, such as `mqtt`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Its name as `Sec-WebSocket-Protocol`.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.0)
    }
}

/// A handshake that may be answered with 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// What both sides speak; `None` for a client that offered nothing.
    pub subprotocol: Option<Subprotocol>,
}

/// Check a request on an MQTT route.
///
/// # Errors
/// The first thing that is wrong, in the order in which a person would fix it.
pub fn check<B>(request: &Request<B>, target: &MqttTarget) -> Result<Handshake, Rejection> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Rejection::Method { allow: "GET" });
    }
    check_upgrade(request)?;
    if headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
    {
        return Err(Rejection::HandshakeBody);
    }
    if single(headers, SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes().trim_ascii() != b"13") {
        return Err(Rejection::WebSocketVersion);
    }
    if !single(headers, SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Err(Rejection::Key);
    }
    check_origin(headers, &target.origins)?;
    let subprotocol = choose_subprotocol(headers)?;
    if subprotocol.is_none() && target.require_subprotocol {
        return Err(Rejection::NoSubprotocol);
    }
    Ok(Handshake { subprotocol })
}

/// Whether a request asks for a WebSocket, whatever else is wrong with it.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket")
}

fn check_upgrade<B>(request: &Request<B>) -> Result<(), Rejection> {
    let headers = request.headers();
    let names_websocket = has_token(headers, UPGRADE, "websocket");
    // What a proxy that was not told of WebSocket lets through.
    let is_meant = names_websocket
        || headers.contains_key(SEC_WEBSOCKET_KEY)
        || headers.contains_key(SEC_WEBSOCKET_VERSION);
    if !is_meant {
        Err(Rejection::NotWebSocket)
    } else if request.version() != Version::HTTP_11 {
        Err(Rejection::HttpVersion)
    } else if !names_websocket || !has_token(headers, CONNECTION, "upgrade") {
        Err(Rejection::UpgradeHeaders)
    } else {
        Ok(())
    }
}

/// The one line of a header; `None` when there is none, or more than one.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

/// The elements of a comma-separated header over all its lines (RFC 9110 section 5.6.1).
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// 16 bytes in base64: 22 digits and two signs of padding. The last digit's spare bits are not looked at,
/// for there are clients that make up the digits themselves.
fn is_key(value: &HeaderValue) -> bool {
    let key = value.as_bytes().trim_ascii();
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
}

/// The first offered subprotocol that is one of MQTT's, so the client's order counts. Names are compared
/// with case, as RFC 6455 has it.
fn choose_subprotocol(headers: &HeaderMap) -> Result<Option<Subprotocol>, Rejection> {
    let mut offered = elements(headers, SEC_WEBSOCKET_PROTOCOL).peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    offered
        .find_map(|name| SUBPROTOCOLS.into_iter().find(|known| known.as_bytes() == name))
        .map(|name| Some(Subprotocol(name)))
        .ok_or_else(|| {
            let offer: Vec<_> = elements(headers, SEC_WEBSOCKET_PROTOCOL).collect();
            Rejection::Subprotocol { offered: shown(&offer.join(&b", "[..])) }
        })
}

/// A request without `Origin` does not come from a browser, and passes.
fn check_origin(headers: &HeaderMap, allowed: &Origins) -> Result<(), Rejection> {
    let Origins::Listed(list) = allowed else { return Ok(()) };
    let mut lines = headers.get_all(ORIGIN).iter();
    let Some(line) = lines.next() else { return Ok(()) };
    let found = line.to_str().ok().and_then(Found::parse).filter(|_| lines.next().is_none());
    if found.is_some_and(|found| list.iter().any(|origin| found.is(origin))) {
        return Ok(());
    }
    Err(Rejection::Origin { origin: shown(line.as_bytes()) })
}

/// The origin of a request.
#[derive(Clone, Copy)]
enum Found<'a> {
    Null,
    Page {
        scheme: &'a str,
        /// Without the brackets of an IPv6 address.
        host: &'a str,
        port: Option<u16>,
    },
}

impl<'a> Found<'a> {
    /// `null`, or `scheme://host[:port]` and nothing else.
    fn parse(text: &'a str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let (scheme, authority) = text.split_once("://")?;
        // The colons of an IPv6 host stand before its bracket.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ', '\\']);
        let host = host.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(host);
        is_host.then_some(Self::Page { scheme, host, port })
    }

    /// Scheme, host and port must be the same (RFC 6454 section 5); the default port may be named.
    fn is(self, origin: &Origin) -> bool {
        match (self, origin) {
            (Self::Null, Origin::Null) => true,
            (
                Self::Page { scheme, host, port },
                Origin::Page { scheme: expected, host: pattern, port: other },
            ) => {
                scheme.eq_ignore_ascii_case(expected)
                    && port.filter(|&port| Origin::default_port(expected) != Some(port)) == *other
                    && host_matches(pattern, Some(host))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn target(origins: &[&str], require_subprotocol: bool) -> MqttTarget {
        let origins = match origins {
            [] => Origins::Any,
            list => Origins::Listed(list.iter().map(|origin| origin.parse().unwrap()).collect()),
        };
        MqttTarget { upstream: "emqx".into(), origins, require_subprotocol }
    }

    /// A handshake, with some headers in place of the usual ones: an empty list takes one away.
    fn handshake(changes: &[(&str, &[&str])]) -> Request<()> {
        let mut request = Request::builder().uri("/mqtt").body(()).unwrap();
        let usual: [(&str, &[&str]); 4] = [
            ("connection", &["Upgrade"]),
            ("upgrade", &["websocket"]),
            ("sec-websocket-version", &["13"]),
            ("sec-websocket-key", &[KEY]),
        ];
        for (name, values) in usual.iter().chain(changes) {
            let name = HeaderName::try_from(*name).unwrap();
            request.headers_mut().remove(&name);
            for value in *values {
                request.headers_mut().append(&name, HeaderValue::from_str(value).unwrap());
            }
        }
        request
    }

    fn answer(changes: &[(&str, &[&str])]) -> Result<Option<&'static str>, &'static str> {
        check(&handshake(changes), &target(&[], false))
            .map(|handshake| handshake.subprotocol.map(Subprotocol::name))
            .map_err(|rejection| rejection.label())
    }

    #[test]
    fn a_handshake_is_judged_header_by_header() {
        type Case<'a> = (&'a [(&'a str, &'a [&'a str])], Result<(), &'static str>);
        let table: &[Case<'_>] = &[
            (&[], Ok(())),
            (&[("connection", &["keep-alive, Upgrade"])], Ok(())),
            (&[("connection", &["keep-alive", "upgrade"])], Ok(())),
            (&[("connection", &[" ,UPGRADE,"])], Ok(())),
            (&[("connection", &["keep-alive"])], Err("upgrade_headers")),
            (&[("connection", &["upgraded"])], Err("upgrade_headers")),
            (&[("connection", &[])], Err("upgrade_headers")),
            (&[("upgrade", &["WebSocket"])], Ok(())),
            (&[("upgrade", &["h2c, websocket"])], Ok(())),
            (&[("upgrade", &["h2c"])], Err("upgrade_headers")),
            (&[("upgrade", &[])], Err("upgrade_headers")),
            (&[("upgrade", &[]), ("connection", &[])], Err("upgrade_headers")),
            (
                &[("upgrade", &[]), ("sec-websocket-key", &[]), ("sec-websocket-version", &[])],
                Err("not_websocket"),
            ),
            (&[("sec-websocket-version", &[])], Err("websocket_version")),
            (&[("sec-websocket-version", &["8"])], Err("websocket_version")),
            (&[("sec-websocket-version", &["13", "13"])], Err("websocket_version")),
            (&[("sec-websocket-version", &["13, 8"])], Err("websocket_version")),
            (&[("sec-websocket-key", &[])], Err("key")),
            (&[("sec-websocket-key", &[KEY, KEY])], Err("key")),
            (&[("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"])], Err("key")),
            (&[("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZ==="])], Err("key")),
            (&[("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZSE="])], Err("key")),
            (&[("sec-websocket-key", &["dGhlIHNhbXBsZSBub25j_Q=="])], Err("key")),
            (&[("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZR=="])], Ok(())),
            (&[("content-length", &["0"])], Ok(())),
            (&[("content-length", &["5"])], Err("handshake_body")),
            (&[("transfer-encoding", &["chunked"])], Err("handshake_body")),
            (&[("sec-websocket-extensions", &["permessage-deflate"])], Ok(())),
        ];
        for (changes, expected) in table {
            assert_eq!(answer(changes).map(|_| ()), *expected, "{changes:?}");
        }
    }

    #[test]
    fn the_request_line_is_judged_too() {
        let mut post = handshake(&[]);
        *post.method_mut() = Method::POST;
        assert_eq!(check(&post, &target(&[], false)), Err(Rejection::Method { allow: "GET" }));
        let mut old = handshake(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(check(&old, &target(&[], false)), Err(Rejection::HttpVersion));
    }

    #[test]
    fn the_clients_first_subprotocol_of_mqtt_is_taken() {
        let offer = |lines: &[&str]| answer(&[("sec-websocket-protocol", lines)]);
        assert_eq!(offer(&[]), Ok(None));
        assert_eq!(offer(&[""]), Ok(None));
        assert_eq!(offer(&["mqtt"]), Ok(Some("mqtt")));
        assert_eq!(offer(&["mqttv3.1, mqtt"]), Ok(Some("mqttv3.1")));
        assert_eq!(offer(&["mqtt, mqttv3.1"]), Ok(Some("mqtt")));
        assert_eq!(offer(&["chat, mqttv3.1.1"]), Ok(Some("mqttv3.1.1")));
        assert_eq!(offer(&["chat", "mqtt"]), Ok(Some("mqtt")));
        assert_eq!(offer(&["MQTT"]), Err("subprotocol"));
        assert_eq!(offer(&["mqttx"]), Err("subprotocol"));
        for name in SUBPROTOCOLS {
            assert_eq!(offer(&[name]), Ok(Some(name)));
        }
    }

    #[test]
    fn a_foreign_offer_is_shown_and_a_missing_one_may_be_refused() {
        let foreign = handshake(&[("sec-websocket-protocol", &["graphql-ws, \"x\"", "soap"])]);
        let offered = r#"graphql-ws, \"x\", soap"#.to_owned();
        assert_eq!(check(&foreign, &target(&[], false)), Err(Rejection::Subprotocol { offered }));
        assert_eq!(check(&handshake(&[]), &target(&[], true)), Err(Rejection::NoSubprotocol));
    }

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let list = [
            "https://app.example.org",
            "https://*.eu.example.org",
            "http://localhost:5173",
            "https://default.example.org:443",
            "http://[::1]:8080",
        ];
        let table = [
            ("https://app.example.org", true),
            ("HTTPS://App.Example.org", true),
            ("https://app.example.org:443", true),
            ("https://default.example.org", true),
            ("https://a.eu.example.org", true),
            ("https://a.b.eu.example.org", true),
            ("http://localhost:5173", true),
            ("http://[::1]:8080", true),
            ("http://app.example.org", false),
            ("https://app.example.org:8443", false),
            ("https://app.example.org.evil.example", false),
            ("https://evilapp.example.org", false),
            ("https://eu.example.org", false),
            ("https://.eu.example.org", false),
            ("https://evil.example/.eu.example.org", false),
            ("https://evil.example#.eu.example.org", false),
            ("https://evil@a.eu.example.org", false),
            ("http://localhost", false),
            ("http://[::1]", false),
            ("https://app.example.org:", false),
            ("null", false),
            ("", false),
        ];
        for (origin, expected) in table {
            let request = handshake(&[("origin", &[origin])]);
            assert_eq!(check(&request, &target(&list, false)).is_ok(), expected, "{origin}");
            assert!(check(&request, &target(&[], false)).is_ok());
        }
        let target = target(&["null"], false);
        assert!(check(&handshake(&[]), &target).is_ok());
        assert!(check(&handshake(&[("origin", &["null"])]), &target).is_ok());
        assert!(check(&handshake(&[("origin", &["null", "null"])]), &target).is_err());
        assert!(check(&handshake(&[("origin", &["https://null"])]), &target).is_err());
    }

    proptest! {
        #[test]
        fn a_key_is_16_bytes_in_base64(key in prop_oneof!["[a-zA-Z0-9+/]{21,23}={0,3}", "[a-z+/=_]{20,26}"]) {
            use base64::Engine;
            let config = base64::engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
            let engine = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, config);
            let expected = engine.decode(&key).is_ok_and(|bytes| bytes.len() == 16);
            prop_assert_eq!(is_key(&HeaderValue::from_str(&key).unwrap()), expected);
        }

        #[test]
        fn no_bytes_in_a_header_panic_or_are_shown_raw(
            origin in proptest::collection::vec(32u8..=255, 0..40),
            offer in proptest::collection::vec(32u8..=255, 1..200),
        ) {
            let Ok(origin) = HeaderValue::from_bytes(&origin) else { return Ok(()) };
            let Ok(offer) = HeaderValue::from_bytes(&offer) else { return Ok(()) };
            for (name, value, origins) in
                [(ORIGIN, origin, &["https://*.example.org"][..]), (SEC_WEBSOCKET_PROTOCOL, offer, &[])]
            {
                let mut request = handshake(&[]);
                request.headers_mut().insert(name, value);
                match check(&request, &target(origins, false)) {
                    Err(Rejection::Origin { origin: shown } | Rejection::Subprotocol { offered: shown }) => {
                        prop_assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown}");
                    }
                    answer => prop_assert!(answer.is_ok()),
                }
            }
        }
    }
}
