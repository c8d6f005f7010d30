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
/// `X-Forwarded-For` is the client alone; behind trusted proxies it is the client and then those
/// proxies, so that the leftmost entry, which EMQX takes, is always the client. `X-Forwarded-Port` is
/// left out when it should be the client's and nobody told us.
#[must_use]
pub fn broker_headers(
    identity: &Identity,
    options: &ForwardedOptions,
    connect: ConnectFacts<'_>,
) -> HeaderMap {
    let mut headers = identity.passed.clone();
    write(&mut headers, identity, options, Some(connect));
    headers
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
    write(&mut headers, identity, options, None);
    headers
}

fn write(
    headers: &mut HeaderMap,
    identity: &Identity,
    options: &ForwardedOptions,
    connect: Option<ConnectFacts<'_>>,
) {
    if !options.cookie {
        headers.remove(COOKIE);
    }
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
    let templates = templates.map(|(name, template)| (name.clone(), render(template, identity, connect)));
    for (name, value) in facts.into_iter().chain(templates) {
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
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
mod tests {
    use http::Request;
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::config::ForwardedFor;
    use crate::net::{Arrival, TlsFacts};

    fn arrival(client: &str) -> Arrival {
        let client = client.parse().unwrap();
        let local = "192.0.2.254:8084".parse().unwrap();
        let tls = TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS13_AES_128_GCM_SHA256",
            server_name: Some("sni.example.org".into()),
            client_common_name: None,
            resumed: false,
        };
        Arrival { peer: client, client, local, tls: Some(tls) }
    }

    pub(super) fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|net| net.parse().unwrap()).into()
    }

    fn request(lines: &[(&str, &str)]) -> Request<()> {
        let request = Request::builder().uri("/mqtt").header("host", "mqtt.example.org:8084");
        let request = lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap()
    }

    pub(super) fn who(client: &str, lines: &[(&str, &str)]) -> Identity {
        identify(&arrival(client), &request(lines), &trusted())
    }

    fn connect(client_id: &str) -> ConnectFacts<'_> {
        ConnectFacts { client_id, username: None }
    }

    /// What a broker is told, as `name: value` lines in the order of their names.
    fn told(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    fn told_to_broker(identity: &Identity, options: &ForwardedOptions) -> Vec<String> {
        told(&broker_headers(identity, options, connect("")))
    }

    #[test]
    fn a_brokers_headers_are_ours_and_a_short_list_of_the_clients() {
        let identity = who(
            "192.0.2.1:50000",
            &[
                ("x-real-ip", "203.0.113.9"),
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "evil.example"),
                ("x-forwarded-port", "1"),
                ("forwarded", "for=203.0.113.9"),
                ("cookie", "session=1"),
                ("authorization", "Bearer x"),
                ("origin", "https://app.example.org"),
                ("user-agent", "test"),
                ("accept-language", "de"),
                ("sec-websocket-key", "x"),
            ],
        );
        let usual = [
            "authorization: Bearer x",
            "host: mqtt.example.org:8084",
            "origin: https://app.example.org",
            "user-agent: test",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: mqtt.example.org:8084",
            "x-forwarded-port: 50000",
            "x-forwarded-proto: https",
            "x-real-ip: 192.0.2.1",
        ];
        assert_eq!(told_to_broker(&identity, &ForwardedOptions::default()), usual);
        let options = ForwardedOptions {
            forwarded_for: ForwardedFor::AddressPort,
            port: ForwardedPort::Listener,
            host: HostHeader::Endpoint,
            cookie: true,
            set_headers: Vec::new(),
        };
        let other = [
            "authorization: Bearer x",
            "cookie: session=1",
            "origin: https://app.example.org",
            "user-agent: test",
            "x-forwarded-for: 192.0.2.1:50000",
            "x-forwarded-host: mqtt.example.org:8084",
            "x-forwarded-port: 8084",
            "x-forwarded-proto: https",
            "x-real-ip: 192.0.2.1",
        ];
        assert_eq!(told_to_broker(&identity, &options), other);
    }

    #[test]
    fn a_port_is_written_only_where_it_is_known() {
        let with_port = ForwardedOptions { forwarded_for: ForwardedFor::AddressPort, ..Default::default() };
        let sent = |peer, claim| {
            let headers = broker_headers(&who(peer, &[("x-forwarded-for", claim)]), &with_port, connect(""));
            let port = headers.get(X_FORWARDED_PORT).map(|port| port.to_str().unwrap().to_owned());
            (headers[X_FORWARDED_FOR].to_str().unwrap().to_owned(), port)
        };
        let known = |list: &str, port: &str| (list.to_owned(), Some(port.to_owned()));
        assert_eq!(sent("[2001:db8::1]:5", ""), known("[2001:db8::1]:5", "5"));
        assert_eq!(sent("10.0.0.1:5", "192.0.2.1:7"), known("192.0.2.1:7, 10.0.0.1:5", "7"));
        assert_eq!(sent("10.0.0.1:5", "192.0.2.1"), ("192.0.2.1, 10.0.0.1:5".to_owned(), None));
        assert_eq!(sent("10.0.0.1:5", "192.0.2.1:0"), ("192.0.2.1, 10.0.0.1:5".to_owned(), None));
    }

    #[test]
    fn a_backend_gets_all_but_hop_by_hop_headers_and_lies() {
        let lines = [
            ("accept", "text/html"),
            ("cookie", "session=1"),
            ("connection", "x-real-ip, x-forwarded-for, x-own"),
            ("x-own", "1"),
            ("x-real-ip", "203.0.113.9"),
            ("x_real_ip", "203.0.113.9"),
            ("x_forwarded-for", "203.0.113.9"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/admin"),
            ("x_device", "other"),
            ("forwarded", "for=203.0.113.9"),
            ("proxy", "http://evil.example"),
            ("upgrade", "websocket"),
            ("x-request-id", "7"),
        ];
        let device = Template(vec![TemplatePart::Text("d-".into()), TemplatePart::ClientId]);
        let set_headers = vec![(HeaderName::from_static("x-device"), device)];
        let options = ForwardedOptions { cookie: true, set_headers, ..Default::default() };
        let sent = |peer| told(&backend_headers(&who(peer, &lines), &options, request(&lines).headers()));
        let direct = [
            "accept: text/html",
            "cookie: session=1",
            "host: mqtt.example.org:8084",
            "x-device: d-",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: mqtt.example.org:8084",
            "x-forwarded-port: 50000",
            "x-forwarded-proto: https",
            "x-real-ip: 192.0.2.1",
            "x-request-id: 7",
        ];
        assert_eq!(sent("192.0.2.1:50000"), direct);
        assert!(sent("10.0.0.1:50000").contains(&"x-forwarded-prefix: /admin".to_owned()));
        let without_cookie = ForwardedOptions::default();
        let headers =
            backend_headers(&who("192.0.2.1:5", &lines), &without_cookie, request(&lines).headers());
        assert!(!headers.contains_key(COOKIE));
    }

    #[test]
    fn templates_come_last_and_cannot_be_broken_out_of() {
        use TemplatePart::*;
        let render = |parts: &[TemplatePart], connect: ConnectFacts<'_>| {
            let name = HeaderName::from_static("x-real-ip");
            let set_headers = vec![(name.clone(), Template(parts.into()))];
            let options = ForwardedOptions { set_headers, ..Default::default() };
            let headers = broker_headers(&who("192.0.2.1:5", &[]), &options, connect);
            headers.get(name).map(|value| String::from_utf8(value.as_bytes().into()).unwrap())
        };
        let text = |words: &str| Text(words.into());
        let all = [
            Scheme,
            text("|"),
            Host,
            text("|"),
            ClientAddress,
            text("|"),
            ClientPort,
            text("|"),
            ListenerPort,
        ];
        let expected = "https|mqtt.example.org:8084|192.0.2.1|5|8084";
        assert_eq!(render(&all, connect("")).unwrap(), expected);
        assert_eq!(
            render(&[TlsVersion, text(" "), ServerName], connect("")).unwrap(),
            "TLSv1.3 sni.example.org"
        );
        let facts = ConnectFacts { client_id: "c", username: Some("u:1") };
        assert_eq!(render(&[ClientId, text("/"), Username], facts).unwrap(), "c/u:1");
        assert_eq!(render(&[Username], connect("c")).unwrap(), "");
        assert_eq!(render(&[ClientId], connect("a\r\nX-Admin: 1")).unwrap(), "a%0D%0AX-Admin:%201");
        assert_eq!(render(&[ClientId], connect("\0 \u{e9}%")).unwrap(), "%00%20%C3%A9%25");
        let long = "x".repeat(MAX_RENDERED + 1);
        assert_eq!(render(&[ClientId], connect(&long)), None);
        assert_eq!(render(&[text("a\nb")], connect("")), None);
        assert_eq!(render(&[text("gr\u{fc}n")], connect("")).unwrap(), "gr\u{fc}n");
    }

    #[test]
    fn a_client_without_tls_or_host_is_described_as_such() {
        let plain = Arrival { tls: None, ..arrival("192.0.2.1:5") };
        let request = Request::builder().version(http::Version::HTTP_10).uri("/").body(()).unwrap();
        let identity = identify(&plain, &request, &[]);
        let expected = [
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-port: 5",
            "x-forwarded-proto: http",
            "x-real-ip: 192.0.2.1",
        ];
        assert_eq!(told_to_broker(&identity, &ForwardedOptions::default()), expected);
    }

    proptest! {
        #[test]
        fn whatever_a_client_claims_the_peer_is_the_client(
            claim in proptest::collection::vec(any::<u8>(), 0..60),
            name in prop_oneof![Just(X_FORWARDED_FOR), Just(X_REAL_IP), Just(X_FORWARDED_HOST)],
        ) {
            let Ok(claim) = HeaderValue::from_bytes(&claim) else { return Ok(()) };
            let mut request = request(&[]);
            let honest = identify(&arrival("192.0.2.1:5"), &request, &trusted());
            request.headers_mut().insert(name, claim);
            let lying = identify(&arrival("192.0.2.1:5"), &request, &trusted());
            let options = ForwardedOptions::default();
            prop_assert_eq!(told_to_broker(&lying, &options), told_to_broker(&honest, &options));
            prop_assert_eq!(
                told(&backend_headers(&lying, &options, request.headers())),
                told_to_broker(&honest, &options)
            );
        }

        #[test]
        fn no_client_id_breaks_a_header_and_no_two_become_one(a in "\\PC{0,20}|[%0-9a \\r\\n]{0,6}", b in "[%0-9a ]{0,6}") {
            let name = HeaderName::from_static("x-client");
            let set_headers = vec![(name.clone(), Template(vec![TemplatePart::ClientId]))];
            let options = ForwardedOptions { set_headers, ..Default::default() };
            let identity = who("192.0.2.1:5", &[]);
            let value = |id: &str| broker_headers(&identity, &options, connect(id))[&name].clone();
            prop_assert!(value(&a).as_bytes().iter().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(value(&a) == value(&b), a == b);
        }
    }
}
