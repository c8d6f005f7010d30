//! Dialling real sockets on loopback: brokers that are good, bad, silent and gone.

use std::future::Future;
use std::io;

use futures_util::{SinkExt, StreamExt};
use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;
use crate::config::ProxyVersion;
use crate::tunnel::Framing;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Run the broker beside the dial, to the end of both.
async fn beside<D, B>(dial: impl Future<Output = D>, broker: impl Future<Output = B>) -> (D, B) {
    tokio::join!(dial, broker)
}

/// An independent WebSocket server: takes the handshake, sends `hello`, and returns the request.
async fn serve_websocket(stream: impl AsyncRead + AsyncWrite + Unpin) -> Request {
    let mut seen = None;
    #[expect(clippy::result_large_err, reason = "the callback's type is the crate's")]
    let answer = |request: &Request, mut response: Response| {
        let chosen = request.headers().get("sec-websocket-protocol").cloned();
        response.headers_mut().extend(chosen.map(|chosen| (http::header::SEC_WEBSOCKET_PROTOCOL, chosen)));
        seen = Some(request.clone());
        Ok(response)
    };
    let mut socket = Box::pin(tokio_tungstenite::accept_hdr_async(stream, answer)).await.unwrap();
    socket.send(Message::binary(&b"hello"[..])).await.unwrap();
    // Until the gateway is gone.
    while let Some(Ok(_)) = socket.next().await {}
    seen.unwrap()
}

/// Read the frame with `hello` (RFC 6455 section 5.2) behind the handshake, and hang up.
async fn expect_hello(dialled: Result<Dialled, DialError>) {
    let Dialled { mut stream, mut read, framing, .. } = dialled.unwrap();
    assert_eq!(framing, Framing::WebSocket);
    while read.len() < 7 {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
    assert_eq!(read, b"\x82\x05hello");
}

/// What the broker says to a handshake, whatever it is asked.
async fn answer_with(listener: TcpListener, answer: &[u8]) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut asked).await.unwrap();
    }
    stream.write_all(answer).await.unwrap();
    stream
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers().get(name).unwrap().to_str().unwrap()
}

#[tokio::test]
async fn a_websocket_broker_learns_of_the_client() {
    let (listener, address) = listen().await;
    let pool = pool(upstream([ws(at(address))]));
    let (_, request) = beside(async { expect_hello(super::dial(&pool).await).await }, async {
        serve_websocket(listener.accept().await.unwrap().0).await
    })
    .await;
    assert_eq!(request.uri(), "/mqtt");
    assert_eq!(header(&request, "host"), "mqtt.example.org");
    assert_eq!(header(&request, "x-real-ip"), "198.51.100.1");
    assert_eq!(header(&request, "sec-websocket-protocol"), "mqtt");
}

#[tokio::test]
async fn host_and_subprotocol_can_be_the_endpoints_own() {
    let (listener, address) = listen().await;
    let transport = Transport::WebSocket {
        path: "/ws".into(),
        authority: "broker.example.org:15675".into(),
        subprotocol: "mqttv3.1".into(),
    };
    let pool = pool(upstream([config::Endpoint { transport, ..ws(at(address)) }]));
    let client = Client { headers: Vec::new(), ..Client::new() };
    let dialling = async {
        let picked = pick(&pool, &Tried::new(), Instant::now()).unwrap();
        expect_hello(picked.dial(&pool, &client.hello()).await).await;
    };
    let (_, request) =
        beside(dialling, async { serve_websocket(listener.accept().await.unwrap().0).await }).await;
    assert_eq!(header(&request, "host"), "broker.example.org:15675");
    assert_eq!(header(&request, "sec-websocket-protocol"), "mqttv3.1");
}

#[tokio::test]
async fn a_unix_socket_is_dialled_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let pool = pool(upstream([ws(EndpointAddress::Unix(path))]));
    beside(async { expect_hello(super::dial(&pool).await).await }, async {
        serve_websocket(listener.accept().await.unwrap().0).await
    })
    .await;
}

#[tokio::test]
async fn a_name_is_resolved() {
    let (listener, address) = listen().await;
    let name = EndpointAddress::Name { host: "localhost".into(), port: address.port() };
    let (dialled, accepted) = beside(super::dial(&pool(upstream([mqtt(name)]))), listener.accept()).await;
    assert_eq!(dialled.unwrap().framing, Framing::Raw);
    assert!(accepted.is_ok());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_says_so() {
    // Refused by the resolver itself, without a query.
    let name = EndpointAddress::Name { host: "broker\0".into(), port: 1883 };
    let error = super::dial(&pool(upstream([mqtt(name)]))).await.unwrap_err();
    assert_eq!(error.label(), "resolve");
    assert!(error.counts_against_health());
}

#[tokio::test]
async fn a_raw_broker_gets_the_preamble_and_then_the_session() {
    for (version, unix) in [
        (ProxyVersion::V1, false),
        (ProxyVersion::V2, false),
        (ProxyVersion::V1, true),
        (ProxyVersion::V2, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.sock");
        let (tcp, address) = listen().await;
        let unix_listener = UnixListener::bind(&path).unwrap();
        let address = if unix { EndpointAddress::Unix(path) } else { at(address) };
        let endpoint = config::Endpoint { proxy_protocol: Some(version), ..mqtt(address) };
        let pool = pool(upstream([endpoint]));
        let dialling = async {
            let mut dialled = super::dial(&pool).await.unwrap();
            assert_eq!((dialled.framing, dialled.read.len()), (Framing::Raw, 0));
            dialled.stream.write_all(b"CONNECT").await.unwrap();
        };
        let (_, mut stream) = beside(dialling, async {
            if unix {
                Stream::from(unix_listener.accept().await.unwrap().0)
            } else {
                Stream::from(tcp.accept().await.unwrap().0)
            }
        })
        .await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let (header, length) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
        assert_eq!(header.proxied_address().unwrap().source, "198.51.100.1:50000".parse().unwrap());
        assert_eq!(header.proxied_address().unwrap().destination, "192.0.2.9:443".parse().unwrap());
        assert_eq!(&bytes[length..], b"CONNECT");
    }
}

#[tokio::test]
async fn preamble_and_handshake_come_in_one_write() {
    let (listener, address) = listen().await;
    let endpoint = config::Endpoint { proxy_protocol: Some(ProxyVersion::V2), ..ws(at(address)) };
    let pool = pool(upstream([endpoint]));
    let broker = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let mut bytes = vec![0; 4096];
        let read = stream.read(&mut bytes).await.unwrap();
        bytes.truncate(read);
        bytes
    };
    let (error, bytes) = beside(super::dial(&pool), broker).await;
    let (_, length) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
    assert!(bytes[length..].starts_with(b"GET /mqtt HTTP/1.1\r\n") && bytes.ends_with(b"\r\n\r\n"));
    assert!(!error.unwrap_err().counts_against_health(), "it hung up, as some do on a bad client");
}

#[tokio::test]
async fn source_addresses_take_turns() {
    let (listener, address) = listen().await;
    let sources = ["::1", "127.0.0.2", "127.0.0.3"].map(|source| source.parse().unwrap());
    let pool = pool(Upstream { source_addresses: sources.into(), ..upstream([mqtt(at(address))]) });
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (dialled, accepted) = beside(super::dial(&pool), listener.accept()).await;
        dialled.unwrap();
        seen.push(accepted.unwrap().1.ip().to_string());
    }
    assert_eq!(seen, ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"], "::1 is of the other family");
}

#[tokio::test]
async fn a_source_address_that_cannot_be_used_is_passed_over_then_told() {
    let (listener, address) = listen().await;
    let foreign: IpAddr = [192, 0, 2, 1].into();
    let both = vec![foreign, [127, 0, 0, 2].into()];
    let two = pool(Upstream { source_addresses: both, ..upstream([mqtt(at(address))]) });
    for _ in 0..2 {
        let (dialled, accepted) = beside(super::dial(&two), listener.accept()).await;
        dialled.unwrap();
        assert_eq!(accepted.unwrap().1.ip(), IpAddr::from([127, 0, 0, 2]));
    }
    for source in [foreign, "::1".parse().unwrap()] {
        let one = pool(Upstream { source_addresses: vec![source], ..upstream([mqtt(at(address))]) });
        let error = super::dial(&one).await.unwrap_err();
        assert!(error.to_string().contains("source_addresses"), "{error}");
        assert_eq!((error.label(), error.counts_against_health()), ("source_address", false));
        assert!(one.is_available(Instant::now()), "the broker is not to blame");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_port_serves_once_a_broker() {
    // With IP_BIND_ADDRESS_NO_PORT the port is unknown until connect.
    let socket = TcpSocket::new_v4().unwrap();
    source_address::bind(&socket, [127, 0, 0, 2].into()).unwrap();
    assert_eq!(socket.local_addr().unwrap(), "127.0.0.2:0".parse().unwrap());
}

#[tokio::test]
async fn a_broker_that_is_gone_is_avoided_and_welcomed_back() {
    // An address of its own: nobody else takes the port in between.
    let listener = TcpListener::bind("127.0.0.7:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let pool = pool(Upstream { avoid: Duration::ZERO, ..upstream([mqtt(at(address))]) });
    let error = super::dial(&pool).await.unwrap_err();
    assert_eq!((error.label(), error.counts_against_health()), ("connect", true));
    assert!(error.to_string().contains(&**pool.endpoints()[0].name()));
    assert!(matches!(pool.endpoints()[0].health(), Health::Avoided { failures: 1, .. }));
    let error = super::dial(&pool).await.unwrap_err();
    assert_eq!(error.label(), "connect");
    assert!(matches!(pool.endpoints()[0].health(), Health::Avoided { failures: 2, .. }), "the trial failed");

    let listener = TcpListener::bind(address).await.unwrap();
    let (dialled, _) = beside(super::dial(&pool), listener.accept()).await;
    assert!(dialled.unwrap().returned);
    assert!(matches!(pool.endpoints()[0].health(), Health::Returned { .. }));
    let (dialled, _) = beside(super::dial(&pool), listener.accept()).await;
    assert!(!dialled.unwrap().returned);
}

#[tokio::test]
async fn an_answer_tells_client_from_broker() {
    for (answer, label, counts, hint) in [
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", "refused_client", false, "refused this client"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "refused_client", false, "refused this client"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "upgrade", false, "subprotocol"),
        ("HTTP/1.1 404 Not Found\r\n\r\n", "upgrade", false, "path"),
        ("HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "upgrade", false, r#"it points to "/x""#),
        ("HTTP/1.1 200 OK\r\n\r\n", "upgrade", false, "web server"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "upgrade", false, "503"),
        ("HTTP/1.1 101 OK\r\n\r\n", "upgrade", true, "Upgrade"),
        ("SSH-2.0\r\n", "upgrade", true, "no HTTP"),
        ("", "upgrade", false, "hung up"),
    ] {
        let (listener, address) = listen().await;
        let pool = pool(upstream([ws(at(address))]));
        let (outcome, _) = beside(super::dial(&pool), async {
            drop(answer_with(listener, answer.as_bytes()).await);
        })
        .await;
        let error = outcome.unwrap_err();
        assert_eq!((error.label(), error.counts_against_health()), (label, counts), "{answer}");
        assert_eq!(error.refused_client(), label == "refused_client");
        assert_eq!(pool.is_available(Instant::now()), !counts, "{answer}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(hint), "{cause}");
    }
}

#[tokio::test]
async fn a_silent_broker_costs_no_more_than_dial_timeout() {
    let (listener, address) = listen().await;
    let pool = pool(Upstream { dial_timeout: Duration::from_millis(200), ..upstream([ws(at(address))]) });
    let (outcome, _silent) = beside(super::dial(&pool), listener.accept()).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, DialError::Timeout { step: Step::Upgrade, .. }), "{error:?}");
    assert!(error.to_string().ends_with("dial_timeout passed while shaking hands for WebSocket"), "{error}");
    assert!(!pool.is_available(Instant::now()));
}

#[tokio::test]
async fn a_drip_feeding_broker_costs_no_more_either() {
    let (listener, address) = listen().await;
    let pool = pool(Upstream { dial_timeout: Duration::from_millis(200), ..upstream([ws(at(address))]) });
    let drip = async {
        let mut stream = answer_with(listener, b"HTTP/1.1 101 ").await;
        let mut every = tokio::time::interval(Duration::from_millis(10));
        loop {
            every.tick().await;
            if stream.write_all(b"x").await.is_err() {
                return io::ErrorKind::BrokenPipe;
            }
        }
    };
    let (outcome, _) = beside(super::dial(&pool), drip).await;
    assert!(matches!(outcome, Err(DialError::Timeout { step: Step::Upgrade, .. })));
}

#[tokio::test]
async fn a_dropped_dial_leaves_nothing_behind() {
    let (listener, address) = listen().await;
    let pool = pool(Upstream { avoid: Duration::ZERO, ..upstream([ws(at(address))]) });
    let endpoint = Arc::clone(&pool.endpoints()[0]);
    let now = Instant::now();
    endpoint.tell(health::Event::Failed { began: now }, Duration::ZERO, now);
    let accepting = async {
        let accepted = listener.accept().await.unwrap().0;
        assert!(matches!(endpoint.health(), Health::Trial { .. }));
        assert_eq!(endpoint.sessions(), 1);
        accepted
    };
    let mut accepted = tokio::select! {
        outcome = super::dial(&pool) => panic!("{outcome:?}"),
        accepted = accepting => accepted,
    };
    assert_eq!(endpoint.sessions(), 0);
    assert!(matches!(endpoint.health(), Health::Avoided { failures: 1, .. }), "nothing was learnt");
    assert!(pool.is_available(Instant::now()), "the trial is free again");
    let mut rest = Vec::new();
    accepted.read_to_end(&mut rest).await.unwrap();
}

#[test]
fn a_dial_is_small_enough_to_be_held_in_a_session() {
    let pool = pool(upstream([broker(1, 1)]));
    let client = Client::new();
    let hello = client.hello();
    let picked = pick(&pool, &Tried::new(), Instant::now()).unwrap();
    let size = size_of_val(&picked.dial(&pool, &hello));
    assert!(size <= 2048, "{size} bytes");
}
