//! What is done once a client: route, handshake, forwarded headers, CONNECT, pick.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use brokergate::config::{self, Config};
use brokergate::mqtt::Connect;
use brokergate::net::{Arrival, SocketOptions, TlsFacts};
use brokergate::proxy::forwarded::{self, ConnectFacts};
use brokergate::proxy::handshake;
use brokergate::route::{Routes, requested_host};
use brokergate::upstream::{Key, Pool, Resolver, Tried};
use http::Request;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio::time::Instant;

use super::Operation;

const MQTT: &str = r#"
path = "/mqtt"
upstream = "emqx"
origins = ["https://admin.example.org", "https://*.example.org"]
"#;

const FORWARDED: &str = r#"forwarded.set_headers = { X-Client = "{client_id}" }"#;

/// A gateway of so many routes, each with a host of its own, and as many endpoints.
fn configuration(balance: &str, size: usize) -> Config {
    let endpoint = |n| format!("{{ url = \"ws://192.0.2.{n}:8083/mqtt\", weight = {} }}", n % 3 + 1);
    let endpoints: Vec<String> = (0..size).map(endpoint).collect();
    let route = |n| format!("[[routes]]\nhost = \"app-{n}.example.org\"\n{MQTT}");
    let routes: String = (0..size).map(route).collect();
    let endpoints = endpoints.join(", ");
    let upstream =
        format!("[upstreams.emqx]\nbalance = \"{balance}\"\nendpoints = [{endpoints}]\n{FORWARDED}");
    let text = format!("[[listeners]]\naddresses = [\"127.0.0.1:8083\"]\n{routes}{upstream}");
    config::parse(Path::new("instructions.toml"), &text, &|_| None).unwrap()
}

/// The route that is looked at last.
pub(super) fn route(size: usize) -> Operation {
    let config = configuration("weighted", size);
    let routes = Routes::build(config.routes.into_iter().map(|route| (route.host, route.path, ())));
    let host = format!("app-{}.example.org", size - 1);
    Box::new(move |_| {
        let found = routes.find(black_box(Some(&host)), black_box("/mqtt"));
        assert!(found.is_some());
    })
}

/// A browser's upgrade request, with twelve headers.
fn request() -> Request<()> {
    let headers = [
        ("host", "app-0.example.org"),
        ("connection", "Upgrade"),
        ("pragma", "no-cache"),
        ("cache-control", "no-cache"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
        ),
        ("upgrade", "websocket"),
        ("origin", "https://app-0.example.org"),
        ("sec-websocket-version", "13"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("sec-websocket-protocol", "mqtt"),
    ];
    let request = Request::builder().uri("/mqtt");
    headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)).body(()).unwrap()
}

pub(super) fn check() -> Operation {
    let config = configuration("weighted", 1);
    let config::Target::Mqtt(target) = config.routes[0].target.clone() else { unreachable!() };
    let request = request();
    Box::new(move |_| {
        let request = black_box(&request);
        assert!(requested_host(request).is_ok());
        assert!(handshake::check(request, &target).is_ok());
    })
}

pub(super) fn accept() -> Operation {
    let config = configuration("weighted", 1);
    let config::Target::Mqtt(target) = config.routes[0].target.clone() else { unreachable!() };
    let mut request = request();
    let subprotocol = handshake::check(&request, &target).unwrap().subprotocol.unwrap();
    Box::new(move |_| {
        let unused = WebSocketConfig::default().read_buffer_size(0);
        let (mut response, upgrade) =
            hyper_tungstenite::upgrade(black_box(&mut request), Some(unused)).unwrap();
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol.header());
        black_box((response, upgrade));
    })
}

pub(super) fn forwarded() -> Operation {
    let config = configuration("weighted", 1);
    let options = config.upstreams["emqx"].forwarded.clone();
    let tls = TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS13_AES_128_GCM_SHA256",
        server_name: Some("app-0.example.org".into()),
        client_common_name: None,
        resumed: false,
    };
    let arrival = Arrival {
        peer: "198.51.100.7:50000".parse().unwrap(),
        client: "198.51.100.7:50000".parse().unwrap(),
        local: "192.0.2.1:443".parse().unwrap(),
        tls: Some(tls),
    };
    let request = request();
    let connect = ConnectFacts { client_id: "sensor-42", username: None };
    Box::new(move |_| {
        let (arrival, headers) = (black_box(&arrival), request.headers());
        let identity =
            forwarded::identify(arrival, headers, Some("app-0.example.org"), &config.trusted_proxies);
        black_box(forwarded::broker_headers(&identity, &options, connect));
    })
}

pub(super) fn connect_v3() -> Operation {
    parse(b"\x10\x15\0\x04MQTT\x04\x02\0\x3c\0\x09sensor-42")
}

/// With five properties, a Will with two, and a password.
pub(super) fn connect_v5() -> Operation {
    let properties = b"\x11\0\0\x0e\x10\x21\0\x64\x27\0\x01\0\0\x22\0\x0a\x26\0\x04site\0\x05north";
    let will_properties = b"\x18\0\0\0\x1e\x03\0\x10application/json";
    let body = [
        b"\0\x04MQTT\x05\xc6\0\x3c".as_slice(),
        &[properties.len() as u8],
        properties,
        b"\0\x09sensor-42",
        &[will_properties.len() as u8],
        will_properties,
        b"\0\x12sensors/42/offline\0\x02{}",
        b"\0\x06tenant\0\x10correct horse ba",
    ]
    .concat();
    let header = [0x10, body.len() as u8 | 0x80, (body.len() / 128) as u8];
    parse(&[&header, body.as_slice()].concat())
}

fn parse(packet: &[u8]) -> Operation {
    let packet = packet.to_vec();
    Box::new(move |_| {
        let connect = Connect::parse(black_box(&packet), 64 * 1024).unwrap();
        assert!(black_box(connect).is_some());
    })
}

/// Pick where some sessions are at work, and give the place back.
pub(super) fn pick(balance: &str, size: usize) -> Operation {
    fastrand::seed(7);
    let config = configuration(balance, size);
    let options = SocketOptions { keepalive: None, user_timeout: None };
    let resolver = Resolver::new(&config.resolver);
    let pool = Pool::build(&config.upstreams["emqx"], options, &resolver, None).unwrap();
    let clients: Vec<String> = (0..16).map(|n| format!("sensor-{n}")).collect();
    let address = "198.51.100.7".parse().unwrap();
    let (tried, now) = (Tried::new(), Instant::now());
    let pick = move |pool: &Pool, turn: usize| {
        let key = Key { client_id: &clients[turn % clients.len()], address };
        pool.pick(&key, &tried, now).unwrap()
    };
    let held: Vec<_> = (0..size / 2).map(|turn| pick(&pool, turn)).collect();
    let pool = Arc::new(pool);
    Box::new(move |turn| {
        _ = &held;
        black_box(pick(black_box(&pool), turn));
    })
}
