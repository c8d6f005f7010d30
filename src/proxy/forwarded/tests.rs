//! Whom a request is from, and that nobody can claim to be another.

use http::Request;
use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::config::ForwardedFor;
use crate::net::{Arrival, TlsFacts};

/// What each request is for.
const HOST: &str = "mqtt.example.org:8084";

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
    let request = Request::builder().uri("/mqtt").header("host", HOST);
    let request = lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap()
}

pub(super) fn who(client: &str, lines: &[(&str, &str)]) -> Identity {
    identify(&arrival(client), request(lines).headers(), Some(HOST), &trusted())
}

fn connect(client_id: &str) -> ConnectFacts<'_> {
    ConnectFacts { client_id, username: None }
}

/// What a broker is told.
fn to_broker(identity: &Identity, options: &ForwardedOptions, connect: ConnectFacts<'_>) -> HeaderMap {
    broker_headers(identity, options, connect).into_iter().collect()
}

/// The same as `name: value` lines in the order of their names.
fn told(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
    };
    let mut lines: Vec<_> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

fn told_to_broker(identity: &Identity, options: &ForwardedOptions) -> Vec<String> {
    told(&to_broker(identity, options, connect("")))
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
        let headers = to_broker(&who(peer, &[("x-forwarded-for", claim)]), &with_port, connect(""));
        let port = headers.get(X_FORWARDED_PORT).map(|port| port.to_str().unwrap().to_owned());
        (headers[X_FORWARDED_FOR].to_str().unwrap().to_owned(), port)
    };
    let known = |list: &str, port: &str| (list.to_owned(), Some(port.to_owned()));
    assert_eq!(sent("[2001:db8::1]:5", ""), known("[2001:db8::1]:5", "5"));
    assert_eq!(sent("10.0.0.1:5", "192.0.2.1:7"), known("192.0.2.1:7", "7"));
    assert_eq!(sent("10.0.0.1:5", "192.0.2.1"), ("192.0.2.1".to_owned(), None));
    assert_eq!(sent("10.0.0.1:5", "192.0.2.1:0"), ("192.0.2.1".to_owned(), None));
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
    let headers = backend_headers(&who("192.0.2.1:5", &lines), &without_cookie, request(&lines).headers());
    assert!(!headers.contains_key(COOKIE));
}

#[test]
fn templates_come_last_and_cannot_be_broken_out_of() {
    use TemplatePart::*;
    let render = |parts: &[TemplatePart], connect: ConnectFacts<'_>| {
        let name = HeaderName::from_static("x-real-ip");
        let set_headers = vec![(name.clone(), Template(parts.into()))];
        let options = ForwardedOptions { set_headers, ..Default::default() };
        let headers = to_broker(&who("192.0.2.1:5", &[]), &options, connect);
        headers.get(name).map(|value| String::from_utf8(value.as_bytes().into()).unwrap())
    };
    let text = |words: &str| Text(words.into());
    let all =
        [Scheme, text("|"), Host, text("|"), ClientAddress, text("|"), ClientPort, text("|"), ListenerPort];
    let expected = "https|mqtt.example.org:8084|192.0.2.1|5|8084";
    assert_eq!(render(&all, connect("")).unwrap(), expected);
    assert_eq!(render(&[TlsVersion, text(" "), ServerName], connect("")).unwrap(), "TLSv1.3 sni.example.org");
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
    let identity = identify(&plain, request.headers(), None, &[]);
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
        let honest = identify(&arrival("192.0.2.1:5"), request.headers(), Some(HOST), &trusted());
        request.headers_mut().insert(name, claim);
        let lying = identify(&arrival("192.0.2.1:5"), request.headers(), Some(HOST), &trusted());
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
        let value = |id: &str| to_broker(&identity, &options, connect(id))[&name].clone();
        prop_assert!(value(&a).as_bytes().iter().all(|byte| byte.is_ascii_graphic()));
        prop_assert_eq!(value(&a) == value(&b), a == b);
    }
}
