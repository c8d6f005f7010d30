//! Arrival: TCP, PROXY preamble, TLS and the request's head, under one deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::harness::{
    Broker, CERTIFICATES, Certificates, Client, Gate, Message, connect_v3, dial_from, raw, secure, simple,
    until, within,
};

const GET: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn failed(gate: &Gate, reason: &str) -> f64 {
    gate.metric(&format!("brokergate_arrivals_failed_total{{reason=\"{reason}\"}}"))
}

/// Write a byte at a time, more and more, until the gateway has hung up; what it said.
async fn drip(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = stream.split();
    let writing = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        for byte in bytes.iter().cycle() {
            tick.tick().await;
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let mut said = Vec::new();
    let reading = async {
        let _ = read.read_to_end(&mut said).await;
    };
    within("the gateway's patience", async {
        tokio::select! {
            () = writing => {}
            () = reading => {}
        }
    })
    .await;
    said
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let answer = raw(gate.tls(), GET).await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.ends_with("Use https:// or wss://.\n"), "{answer}");
    until("counting", || failed(&gate, "http_on_tls") == 1.0).await;
    assert_eq!(gate.metric("brokergate_rejections_total{reason=\"http_on_tls\"}"), 1.0);
    gate.idle().await;
}

#[tokio::test]
async fn plain_http_on_the_tls_port_counts_as_such_even_from_a_client_that_stays() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "[limits]\narrival_timeout = \"300ms\"")).await;
    let mut stream = TcpStream::connect(gate.tls()).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"));
    until("counting", || failed(&gate, "http_on_tls") == 1.0).await;
    assert_eq!(failed(&gate, "timeout"), 0.0);
    gate.idle().await;
}

#[tokio::test]
async fn tls_on_the_plain_port_is_closed_and_counted() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let stream = TcpStream::connect(gate.plain()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(CERTIFICATES.client()).connect(name, stream);
    assert!(within("a no", connecting).await.is_err());
    until("counting", || failed(&gate, "tls_on_plain") == 1.0).await;
    gate.idle().await;
}

#[tokio::test]
async fn what_does_not_arrive_in_time_is_closed() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "[limits]\narrival_timeout = \"300ms\"")).await;
    for address in [gate.plain(), gate.tls()] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(within("the gateway's patience", silent.read(&mut [0])).await.unwrap_or(0), 0);
    }
    assert!(drip(TcpStream::connect(gate.plain()).await.unwrap(), b"GET /mqtt HTTP/1.1").await.is_empty());
    // A ClientHello that never ends: a record of 512 bytes.
    drip(TcpStream::connect(gate.tls()).await.unwrap(), &[22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]).await;
    // TLS is done, and nothing more comes.
    let mut secured = secure(TcpStream::connect(gate.tls()).await.unwrap(), CERTIFICATES.client()).await;
    assert_eq!(within("the gateway's patience", secured.read(&mut [0])).await.unwrap_or(0), 0);
    until("counting", || failed(&gate, "timeout") == 5.0).await;
    gate.idle().await;
}

#[tokio::test]
async fn who_has_arrived_may_stay() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "[limits]\narrival_timeout = \"200ms\"")).await;
    let mut stream = TcpStream::connect(gate.plain()).await.unwrap();
    ask(&mut stream, "426").await;
    // Another that does not arrive: when it is gone, the first one's deadline has passed.
    let mut silent = TcpStream::connect(gate.plain()).await.unwrap();
    assert_eq!(within("the gateway's patience", silent.read(&mut [0])).await.unwrap_or(0), 0);
    ask(&mut stream, "426").await;
    assert_eq!(failed(&gate, "timeout"), 1.0);
}

/// One request on a connection that stays.
async fn ask(stream: &mut TcpStream, status: &str) {
    stream.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b".\n") {
        let read = within("an answer", stream.read_buf(&mut answer)).await.unwrap();
        assert!(read > 0, "hung up after {:?}", String::from_utf8_lossy(&answer));
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
}

#[tokio::test]
async fn a_connection_serves_requests_and_then_a_session() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let mut stream = TcpStream::connect(gate.plain()).await.unwrap();
    for _ in 0..3 {
        ask(&mut stream, "426").await;
    }
    let (mut client, _) = Client::over(Box::new(stream), "ws://localhost/mqtt", &[]).await.unwrap();
    let connect = connect_v3("late", 60);
    client.say(&connect).await;
    broker.visit_ws().await.welcome(&connect).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
    assert_eq!(gate.metric("brokergate_connections_accepted_total"), 1.0);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "[limits]\nidle_request_timeout = \"200ms\"")).await;
    let mut stream = TcpStream::connect(gate.plain()).await.unwrap();
    ask(&mut stream, "426").await;
    within("the gateway's patience", stream.read_to_end(&mut Vec::new())).await.unwrap();
    gate.idle().await;
}

#[tokio::test]
async fn a_head_too_large_is_refused() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "[limits]\nmax_head_size = \"8 KiB\"")).await;
    let large = format!("GET /mqtt HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\r\n", "x".repeat(9000));
    let many = format!("GET /mqtt HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(150));
    for head in [large, many] {
        let answer = raw(gate.plain(), head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    until("counting", || failed(&gate, "head_too_large") == 2.0).await;
    gate.idle().await;
}

#[tokio::test]
async fn garbage_is_no_request() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    // Bare MQTT on the WebSocket port, among others.
    for garbage in [&connect_v3("bare", 60)[..], b"SSH-2.0-x\r\n\r\n", b"\0\0\0\0", b"\r\n\r\n\r\n\x7f"] {
        let answer = raw(gate.plain(), garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    until("counting", || failed(&gate, "http") == 4.0).await;
    gate.idle().await;
}

#[tokio::test]
async fn the_name_a_client_asks_for_picks_the_certificate() {
    let other = Certificates::of(&["other.example.org", "*.wild.example.org"]);
    let tls =
        format!("{{ certificates = [{}, {}] }}", CERTIFICATES.certificate_toml(), other.certificate_toml());
    let gate = Gate::start(&listening(&tls)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CERTIFICATES.ca()).unwrap();
    roots.add(other.ca()).unwrap();
    let client = client_config(roots, rustls::DEFAULT_VERSIONS);
    for (name, expected) in [
        ("localhost", &*CERTIFICATES),
        ("other.example.org", &other),
        ("OTHER.example.org", &other),
        ("a.wild.example.org", &other),
    ] {
        let stream = TcpStream::connect(gate.address(0)).await.unwrap();
        let connecting =
            TlsConnector::from(Arc::clone(&client)).connect(ServerName::try_from(name).unwrap(), stream);
        let secured = within("the TLS handshake", connecting).await.unwrap();
        let shown = &secured.get_ref().1.peer_certificates().unwrap()[0];
        assert_eq!(*shown, expected.certificate(), "{name}");
    }
    // A name that no certificate is for gets the first, which the client refuses.
    let stream = TcpStream::connect(gate.address(0)).await.unwrap();
    let connecting =
        TlsConnector::from(client).connect(ServerName::try_from("unknown.example.org").unwrap(), stream);
    assert!(within("a no", connecting).await.is_err());
    until("counting", || failed(&gate, "tls") == 1.0).await;
}

/// One TLS listener.
fn listening(tls: &str) -> String {
    format!(
        "[runtime]\nworkers = 1\n[[listeners]]\naddresses = [\"127.0.0.1:0\"]\ntls = {tls}\n\
         [[routes]]\npath = \"/mqtt\"\nupstream = \"brokers\"\n\
         [upstreams.brokers]\nendpoints = [\"ws://127.0.0.1:9/mqtt\"]\n"
    )
}

fn client_config(
    roots: rustls::RootCertStore,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(brokergate::tls::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn trusting() -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CERTIFICATES.ca()).unwrap();
    roots
}

#[tokio::test]
async fn tls_sessions_are_resumed_in_both_versions() {
    let gate = Gate::start(&listening(&CERTIFICATES.toml())).await;
    for (version, label) in [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")] {
        let client = client_config(trusting(), &[version]);
        for _ in 0..2 {
            let stream = TcpStream::connect(gate.address(0)).await.unwrap();
            let mut secured = secure(stream, Arc::clone(&client)).await;
            secured.write_all(GET).await.unwrap();
            // Tickets come before the answer.
            assert!(within("an answer", secured.read(&mut [0; 4096])).await.unwrap() > 0);
        }
        for resumed in ["no", "yes"] {
            let name =
                format!("brokergate_tls_handshakes_total{{version=\"{label}\",resumed=\"{resumed}\"}}");
            assert_eq!(gate.metric(&name), 1.0, "{name}");
        }
    }
}

#[tokio::test]
async fn a_version_below_the_least_is_refused() {
    let tls = CERTIFICATES.toml().replacen('{', "{ min_version = \"1.3\",", 1);
    let gate = Gate::start(&listening(&tls)).await;
    let connect = async |version| {
        let stream = TcpStream::connect(gate.address(0)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = client_config(trusting(), &[version]);
        within("a handshake", TlsConnector::from(client).connect(name, stream)).await
    };
    assert!(connect(&rustls::version::TLS12).await.is_err());
    assert!(connect(&rustls::version::TLS13).await.is_ok());
    until("counting", || failed(&gate, "tls") == 1.0).await;
}

/// A listener that takes PROXY preambles of 127.0.0.1 alone, before a broker that takes them as well.
async fn proxied(broker: &Broker, more: &str) -> Gate {
    let text = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n[runtime]\nworkers = 1\n\
         [[listeners]]\naddresses = [\"127.0.0.1:0\"]\nproxy_protocol = true\n\
         [[listeners]]\naddresses = [\"127.0.0.1:0\"]\nproxy_protocol = true\ntls = {}\n\
         [[routes]]\npath = \"/mqtt\"\nupstream = \"brokers\"\n\
         [upstreams.brokers]\nendpoints = [{}]\n{more}",
        CERTIFICATES.toml(),
        broker.ws()
    );
    Gate::start(&text).await
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56789 443\r\n";

/// 192.0.2.8, port 4660, with a TLV.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x08\xc6\x33\x64\x01\x12\x34\x01\xbb\x04\0\x01\0";

/// The same for 2001:db8::9.
const V2_IPV6: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\
    \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34\x01\xbb";

const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Whom the broker hears of behind what is written first.
async fn named(broker: &Broker, stream: TcpStream, tls: bool) -> (String, String) {
    let (mut client, _) = if tls {
        let wire = secure(stream, CERTIFICATES.client()).await;
        Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.unwrap()
    } else {
        Client::over(Box::new(stream), "ws://localhost/mqtt", &[]).await.unwrap()
    };
    let connect = connect_v3("proxied", 60);
    client.say(&connect).await;
    let mut visit = broker.visit_ws().await;
    visit.welcome(&connect).await;
    let header = |name: &str| visit.headers[name].to_str().unwrap().to_owned();
    (header("x-real-ip"), header("x-forwarded-port"))
}

#[tokio::test]
async fn a_trusted_proxys_preamble_names_the_client() {
    let broker = Broker::listen().await;
    let gate = proxied(&broker, "").await;
    for tls in [false, true] {
        let address = gate.address(usize::from(tls));
        for (preamble, client, port) in [
            (V1, "192.0.2.7", "56789"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 56789 443\r\n", "2001:db8::7", "56789"),
            (V2, "192.0.2.8", "4660"),
            (V2_IPV6, "2001:db8::9", "4660"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(preamble).await.unwrap();
            assert_eq!(named(&broker, stream, tls).await, (client.into(), port.into()));
        }
        // LOCAL and UNKNOWN name nobody: the peer is the client.
        for preamble in [V2_LOCAL, b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(preamble).await.unwrap();
            let peer = stream.local_addr().unwrap().port().to_string();
            assert_eq!(named(&broker, stream, tls).await, ("127.0.0.1".into(), peer));
        }
    }
}

#[tokio::test]
async fn a_preamble_may_drip_in() {
    let broker = Broker::listen().await;
    let gate = proxied(&broker, "").await;
    for preamble in [V1, V2] {
        let mut stream = TcpStream::connect(gate.address(1)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in preamble {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(named(&broker, stream, true).await.0.starts_with("192.0.2."));
    }
}

#[tokio::test]
async fn a_preamble_of_somebody_else_is_not_read() {
    let broker = Broker::listen().await;
    let gate = proxied(&broker, "").await;
    let mut spoofing = dial_from("127.0.0.2", gate.address(0)).await;
    spoofing.write_all(&[V1, GET].concat()).await.unwrap();
    let mut answer = String::new();
    within("an answer", spoofing.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // Who sends none is served.
    let honest = dial_from("127.0.0.2", gate.address(0)).await;
    assert_eq!(named(&broker, honest, false).await.0, "127.0.0.2");
}

#[tokio::test]
async fn what_is_no_preamble_is_closed_and_counted() {
    let broker = Broker::listen().await;
    let gate = proxied(&broker, "").await;
    let long = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff\xc0\0\x02\x08\xc6\x33\x64\x01\x12\x34\x01\xbb",
        &[0; 4000][..],
    ]
    .concat();
    let endless = [b"PROXY UNKNOWN ", &[b'x'; 4000][..]].concat();
    let cases: [&[u8]; 6] = [
        GET,
        &long,
        &endless,
        b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 443\r\n",
        b"PROXY TCP4 2001:db8::7 198.51.100.1 1 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x01\x12\x34\x01\xbb",
    ];
    for (index, bytes) in cases.iter().enumerate() {
        assert_eq!(raw(gate.address(0), bytes).await, "", "{index}");
        until("counting", || failed(&gate, "preamble") == index as f64 + 1.0).await;
    }
    let mut half = TcpStream::connect(gate.address(0)).await.unwrap();
    half.write_all(&V2[..20]).await.unwrap();
    half.shutdown().await.unwrap();
    until("counting", || failed(&gate, "preamble") == cases.len() as f64 + 1.0).await;
    gate.idle().await;
}

#[tokio::test]
async fn a_preamble_that_does_not_come_is_waited_for_until_the_deadline() {
    let broker = Broker::listen().await;
    let gate = proxied(&broker, "[limits]\narrival_timeout = \"200ms\"").await;
    let mut silent = TcpStream::connect(gate.address(0)).await.unwrap();
    assert_eq!(within("the gateway's patience", silent.read(&mut [0])).await.unwrap_or(0), 0);
    let mut half = TcpStream::connect(gate.address(0)).await.unwrap();
    half.write_all(&V1[..20]).await.unwrap();
    assert_eq!(within("the gateway's patience", half.read(&mut [0])).await.unwrap_or(0), 0);
    until("counting", || failed(&gate, "timeout") == 2.0).await;
    gate.idle().await;
}

#[tokio::test]
async fn every_address_of_a_listener_is_served() {
    let broker = Broker::listen().await;
    let text = format!(
        "[runtime]\nworkers = 2\n[[listeners]]\naddresses = [\"127.0.0.1:0\", \"[::1]:0\", \"127.0.0.1:0\"]\n\
         [[routes]]\npath = \"/mqtt\"\nupstream = \"brokers\"\n\
         [upstreams.brokers]\nendpoints = [{}]\n",
        broker.ws()
    );
    let gate = Gate::start(&text).await;
    let addresses: Vec<SocketAddr> = (0..3).map(|index| gate.address(index)).collect();
    for address in addresses {
        let (mut client, _) = Client::open(address, false, &[]).await.unwrap();
        let connect = connect_v3("any", 60);
        client.say(&connect).await;
        let mut visit = broker.visit_ws().await;
        visit.welcome(&connect).await;
        assert_eq!(visit.headers["x-real-ip"], *address.ip().to_string());
    }
}

#[tokio::test]
async fn a_head_in_single_bytes_is_a_request() {
    async fn spell(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
        for byte in bytes {
            stream.write_all(&[*byte]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let mut secured = secure(TcpStream::connect(gate.tls()).await.unwrap(), CERTIFICATES.client()).await;
    spell(&mut secured, GET).await;
    let mut answer = vec![0; 12];
    within("an answer", secured.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 426");
}

#[tokio::test]
async fn the_address_for_all_of_ipv6_is_served() {
    let broker = Broker::listen().await;
    let text = simple(&[broker.ws()], "").replacen("127.0.0.1:0", "[::]:0", 1);
    let gate = Gate::start(&text).await;
    let port = gate.address(0).port();
    let answer = raw(format!("[::1]:{port}").parse().unwrap(), b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 404"), "{answer}");
}
