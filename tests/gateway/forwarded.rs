//! What brokers learn about the client.

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::harness::{
    Broker, CERTIFICATES, Client, Gate, Visit, connect_v3, dial_from, secure, simple, within,
};

/// A session of a client with these headers, from this address: what the broker was sent.
async fn visit_from(
    gate: &Gate,
    broker: &Broker,
    source: &str,
    headers: &[(&'static str, &str)],
) -> (Visit, u16) {
    let wire = dial_from(source, gate.plain()).await;
    let port = wire.local_addr().unwrap().port();
    let url = "ws://mqtt.example.org:8084/mqtt";
    let (mut client, _) = Client::over(Box::new(wire), url, headers).await.unwrap();
    let connect = connect_v3("one", 60);
    client.say(&connect).await;
    let mut visit = broker.visit_ws().await;
    visit.welcome(&connect).await;
    (visit, port)
}

fn header(visit: &Visit, name: &str) -> Option<String> {
    let mut lines = visit.headers.get_all(name).iter();
    let line = lines.next()?.to_str().unwrap().to_owned();
    assert!(lines.next().is_none(), "one {name}");
    Some(line)
}

#[tokio::test]
async fn an_honest_client_is_named() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let headers =
        [("user-agent", "test/1"), ("cookie", "a=b"), ("authorization", "Bearer x"), ("x-other", "y")];
    let (visit, port) = visit_from(&gate, &broker, "127.0.0.5", &headers).await;
    for (name, expected) in [
        ("x-real-ip", Some("127.0.0.5")),
        ("x-forwarded-for", Some("127.0.0.5")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("mqtt.example.org:8084")),
        ("x-forwarded-port", Some(&*port.to_string())),
        ("host", Some("mqtt.example.org:8084")),
        ("user-agent", Some("test/1")),
        ("authorization", Some("Bearer x")),
        ("cookie", None),
        ("x-other", None),
        ("forwarded", None),
    ] {
        assert_eq!(header(&visit, name).as_deref(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_spoofing_client_is_overwritten() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let headers = [
        ("x-real-ip", "192.0.2.66"),
        ("x-forwarded-for", "192.0.2.66"),
        ("x-forwarded-for", "192.0.2.67"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example.org"),
        ("x-forwarded-port", "1"),
        ("forwarded", "for=192.0.2.66"),
        ("x-client-ip", "192.0.2.66"),
    ];
    let (visit, port) = visit_from(&gate, &broker, "127.0.0.5", &headers).await;
    for (name, expected) in [
        ("x-real-ip", Some("127.0.0.5")),
        ("x-forwarded-for", Some("127.0.0.5")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("mqtt.example.org:8084")),
        ("x-forwarded-port", Some(&*port.to_string())),
        ("forwarded", None),
        ("x-client-ip", None),
    ] {
        assert_eq!(header(&visit, name).as_deref(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_the_rightmost_untrusted_is_the_client() {
    let broker = Broker::listen().await;
    let text = format!(
        "trusted_proxies = [\"127.0.0.9\", \"10.0.0.0/8\"]\n{}",
        simple(&[broker.ws()], "forwarded = { forwarded_for = \"address-port\" }")
    );
    let gate = Gate::start(&text).await;
    for (claimed, client, port) in [
        ("192.0.2.7", "192.0.2.7", None),
        // The client's own claim stands to the left.
        ("198.51.100.66, 192.0.2.7:1234", "192.0.2.7", Some("1234")),
        ("198.51.100.66, 192.0.2.7, 10.1.2.3", "192.0.2.7", None),
        ("[2001:db8::7]:1234", "2001:db8::7", Some("1234")),
        ("2001:db8::7", "2001:db8::7", None),
        ("::ffff:192.0.2.7", "192.0.2.7", None),
    ] {
        let headers = [
            ("x-forwarded-for", claimed),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example.org"),
        ];
        let (visit, _) = visit_from(&gate, &broker, "127.0.0.9", &headers).await;
        assert_eq!(header(&visit, "x-real-ip").as_deref(), Some(client), "{claimed}");
        assert_eq!(header(&visit, "x-forwarded-port").as_deref(), port, "{claimed}");
        assert_eq!(header(&visit, "x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(header(&visit, "x-forwarded-host").as_deref(), Some("a.example.org"));
        let for_whom = header(&visit, "x-forwarded-for").unwrap();
        let expected = match port {
            Some(port) if client.contains(':') => format!("[{client}]:{port}"),
            Some(port) => format!("{client}:{port}"),
            None => client.to_owned(),
        };
        assert_eq!(for_whom.split(", ").next(), Some(&*expected), "the leftmost is whom EMQX takes");
    }
    // The same words from somebody else.
    let (visit, _) = visit_from(&gate, &broker, "127.0.0.8", &[("x-forwarded-for", "192.0.2.7")]).await;
    assert_eq!(header(&visit, "x-real-ip").as_deref(), Some("127.0.0.8"));
}

#[tokio::test]
async fn a_tls_client_over_ipv6_is_named() {
    let broker = Broker::listen().await;
    let more = "forwarded = { port = \"listener\", host = \"endpoint\", cookie = true, set_headers = \
                { X-Tls = \"{tls_version} {server_name}\", X-Client = \"{client_id}\" } }";
    let gate = Gate::start(&simple(&[broker.ws()], more)).await;
    let stream = TcpStream::connect(gate.tls()).await.unwrap();
    let wire = secure(stream, CERTIFICATES.client()).await;
    let headers = [("cookie", "a=b")];
    let (mut client, _) = Client::over(Box::new(wire), "ws://localhost/mqtt", &headers).await.unwrap();
    let connect = connect_v3("with\r\nX-Evil: 1 %é", 60);
    client.say(&connect).await;
    let visit = broker.visit_ws().await;
    for (name, expected) in [
        ("x-real-ip", Some("::1")),
        ("x-forwarded-for", Some("::1")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-port", Some(&*gate.tls().port().to_string())),
        ("host", Some(&*broker.address().to_string())),
        ("cookie", Some("a=b")),
        ("x-tls", Some("TLSv1.3 localhost")),
        ("x-client", Some("with%0D%0AX-Evil:%201%20%25%C3%A9")),
        ("x-evil", None),
    ] {
        assert_eq!(header(&visit, name).as_deref(), expected, "{name}");
    }
}

/// The preamble that a TCP broker is sent, and the CONNECT right behind it.
async fn preamble(broker: &Broker, connect: &[u8]) -> ProxyHeader<'static> {
    let mut stream = broker.accept().await;
    let mut bytes = Vec::new();
    while !bytes.ends_with(connect) {
        assert!(within("a preamble", stream.read_buf(&mut bytes)).await.unwrap() > 0);
    }
    let config = ParseConfig { include_tlvs: true, allow_v1: true, allow_v2: true };
    let (header, length) = ProxyHeader::parse(&bytes, config).unwrap();
    assert_eq!(bytes[length..], *connect);
    header.into_owned()
}

#[tokio::test]
async fn a_tcp_broker_gets_a_proxy_preamble() {
    for version in ["v1", "v2"] {
        let broker = Broker::listen().await;
        let endpoint = broker.mqtt().replace(" }", &format!(", proxy_protocol = \"{version}\" }}"));
        let gate = Gate::start(&simple(&[endpoint], "")).await;
        let connect = connect_v3("one", 60);

        let wire = dial_from("127.0.0.5", gate.plain()).await;
        let from = wire.local_addr().unwrap();
        let (mut client, _) = Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.unwrap();
        client.say(&connect).await;
        let header = preamble(&broker, &connect).await;
        let address = header.proxied_address().unwrap();
        assert_eq!((address.source, address.destination), (from, gate.plain()));

        let stream = TcpStream::connect(gate.tls()).await.unwrap();
        let from = stream.local_addr().unwrap();
        let wire = secure(stream, CERTIFICATES.client()).await;
        let (mut client, _) = Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.unwrap();
        client.say(&connect).await;
        let header = preamble(&broker, &connect).await;
        let address = header.proxied_address().unwrap();
        assert_eq!((address.source, address.destination), (from, gate.tls()));
        if version == "v2" {
            assert_eq!(header.authority(), Some("localhost"));
            let ssl = header.ssl().unwrap();
            assert_eq!(ssl.version(), Some("TLSv1.3"));
            assert!(ssl.cipher().unwrap().starts_with("TLS"));
            assert_eq!(ssl.cn(), None);
        } else {
            assert!(header.ssl().is_none());
        }
    }
}

#[tokio::test]
async fn a_tcp_broker_is_told_of_the_client_behind_a_trusted_proxy() {
    let broker = Broker::listen().await;
    let endpoint = broker.mqtt().replace(" }", ", proxy_protocol = \"v2\" }");
    let text = format!("trusted_proxies = [\"127.0.0.9\"]\n{}", simple(&[endpoint], ""));
    let gate = Gate::start(&text).await;
    let connect = connect_v3("one", 60);
    for (claimed, source) in [("192.0.2.7:1234", "192.0.2.7:1234"), ("2001:db8::7", "[2001:db8::7]:0")] {
        let wire = dial_from("127.0.0.9", gate.plain()).await;
        let headers = [("x-forwarded-for", claimed)];
        let (mut client, _) = Client::over(Box::new(wire), "ws://localhost/mqtt", &headers).await.unwrap();
        client.say(&connect).await;
        let header = preamble(&broker, &connect).await;
        assert_eq!(header.proxied_address().unwrap().source, source.parse().unwrap(), "{claimed}");
    }
}
