//! Requests, bodies and upgrades to application servers of all kinds, on real sockets.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::mpsc;

use super::*;
use crate::config::{BackendAddress, ForwardedOptions};
use crate::drain::Drain;
use crate::net::full;

const LONG: Duration = Duration::from_secs(20);
/// Long enough for a busy machine to move bytes in, short enough to wait for.
const SHORT: Duration = Duration::from_millis(250);
const SOCKET: SocketOptions = SocketOptions { keepalive: None, user_timeout: None };

/// A gateway of one backend: what it cannot forward it answers 502, and why.
struct Gateway {
    address: SocketAddr,
    drain: Drain,
}

impl Gateway {
    async fn start(backend: BackendAddress) -> Self {
        Self::with_timeouts(backend, LONG, LONG).await
    }

    async fn with_timeouts(
        address: BackendAddress,
        dial_timeout: Duration,
        response_timeout: Duration,
    ) -> Self {
        let forwarded = ForwardedOptions::default();
        let config =
            config::Backend { name: "app".into(), address, dial_timeout, response_timeout, forwarded };
        let backend = Backend::build(&config, SOCKET);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self { address: listener.local_addr().unwrap(), drain: Drain::new() };
        let drain = gateway.drain.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (backend, drain) = (backend.clone(), drain.clone());
                let service = service_fn(move |request| {
                    let (backend, watch) = (backend.clone(), drain.watch());
                    async move { Ok::<_, Infallible>(answer(&backend, request, watch).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                // A client that leaves is an error here, and the subject of a test.
                tokio::spawn(async { drop(connection.await) });
            }
        });
        gateway
    }

    async fn connect(&self) -> Peer<TcpStream> {
        Peer::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request of its own connection; the whole answer.
    async fn ask(&self, head: &str) -> String {
        let mut client = self.connect().await;
        client.send(&format!("{head}\r\nhost: app.example.org\r\nconnection: close\r\n\r\n")).await;
        client.rest().await
    }
}

async fn answer(backend: &Backend, request: Request<Incoming>, watch: Watch) -> Response<Body> {
    let mut headers = request.headers().clone();
    remove_hop_by_hop(&mut headers);
    backend.forward(request, headers, watch, ()).await.unwrap_or_else(|error| {
        let mut response = Response::new(full(error.to_string()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

/// One end of a connection, in the words of a test.
struct Peer<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// A head, in lower case, up to its empty line; empty when the connection is closed instead.
    async fn head(&mut self) -> String {
        let mut head = String::new();
        while self.0.read_line(&mut head).await.unwrap() > 0 && !head.ends_with("\r\n\r\n") {}
        head.to_ascii_lowercase()
    }

    async fn bytes(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await.unwrap();
        rest
    }

    /// Closed in whatever way.
    async fn is_gone(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 64]).await, Ok(0) | Err(_))
    }
}

/// A backend that the test plays itself, byte by byte.
struct Script(TcpListener);

impl Script {
    async fn listen() -> (Self, BackendAddress) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = BackendAddress::Ip(listener.local_addr().unwrap());
        (Self(listener), address)
    }

    async fn accept(&self) -> Peer<TcpStream> {
        Peer::new(self.0.accept().await.unwrap().0)
    }
}

#[tokio::test]
async fn a_request_goes_on_without_hop_by_hop_headers_and_so_does_its_answer() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let mut client = gateway.connect().await;
    client
        .send(
            "POST /a%20b?c=%2F HTTP/1.1\r\nhost: app.example.org:8443\r\nconnection: keep-alive, x-hop\r\n\
             x-hop: 1\r\ncontent-length: 5\r\nx-own: 1\r\n\r\nhello",
        )
        .await;
    let mut backend = script.accept().await;
    let head = backend.head().await;
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        ["post /a%20b?c=%2f http/1.1", "content-length: 5", "host: app.example.org:8443", "x-own: 1"]
    );
    assert_eq!(backend.bytes(5).await, "hello");
    backend
        .send(
            "HTTP/1.1 201 Made\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nset-cookie: a=1\r\n\
             set-cookie: b=2\r\ncontent-length: 2\r\n\r\nok",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 201"), "{head}");
    assert!(head.contains("set-cookie: a=1\r\nset-cookie: b=2\r\n"), "{head}");
    assert!(!head.contains("hop") && !head.contains("keep-alive"), "{head}");
    assert_eq!(client.bytes(2).await, "ok");
}

#[tokio::test]
async fn both_bodies_are_streamed() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
    let mut backend = script.accept().await;
    assert!(backend.head().await.contains("transfer-encoding: chunked"));
    assert_eq!(backend.bytes(6).await, "1\r\na\r\n");
    // The answer begins and arrives before the request has ended.
    backend.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nb\r\n").await;
    client.head().await;
    assert_eq!(client.bytes(6).await, "1\r\nb\r\n");
    client.send("1\r\nc\r\n0\r\n\r\n").await;
    assert_eq!(backend.bytes(11).await, "1\r\nc\r\n0\r\n\r\n");
    backend.send("1\r\nd\r\n0\r\n\r\n").await;
    assert_eq!(client.bytes(11).await, "1\r\nd\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_get_keeps_its_body_and_a_head_its_length() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n").await;
    let mut backend = script.accept().await;
    assert!(backend.head().await.contains("transfer-encoding: chunked"));
    assert_eq!(backend.bytes(11).await, "1\r\na\r\n0\r\n\r\n");
    backend.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 204"));
    client.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(backend.head().await.starts_with("head /"));
    backend.send("HTTP/1.1 200 OK\r\ncontent-length: 7000\r\n\r\n").await;
    assert!(client.head().await.contains("content-length: 7000"));
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_once_there_is_a_backend() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let mut client = gateway.connect().await;
    client.send("PUT / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
    let mut backend = script.accept().await;
    assert!(client.head().await.starts_with("http/1.1 100"));
    client.send("hi").await;
    assert!(!backend.head().await.contains("expect"));
    assert_eq!(backend.bytes(2).await, "hi");
    backend.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn trailers_reach_a_client_that_reads_them() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: te\r\n\r\n").await;
    let mut backend = script.accept().await;
    assert!(backend.head().await.contains("te: trailers\r\n"));
    backend
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n0\r\nx-sum: 7\r\n\r\n")
        .await;
    client.head().await;
    assert_eq!(client.bytes(15).await, "0\r\nx-sum: 7\r\n\r\n");
}

#[tokio::test]
async fn a_connection_is_used_again_and_a_stale_one_replaced() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let serve_twice = async {
        let mut first = script.accept().await;
        for path in ["get /1", "get /2"] {
            assert!(first.head().await.starts_with(path));
            first.send(ok).await;
        }
        // Closed without a word, as servers do whose own idle time is over.
        drop(first);
        let mut second = script.accept().await;
        assert!(second.head().await.starts_with("get /3"));
        second.send(ok).await;
        second
    };
    let ask_thrice = async {
        let mut client = gateway.connect().await;
        for path in ["/1", "/2", "/3"] {
            client.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            assert!(client.head().await.starts_with("http/1.1 200"), "{path}");
        }
    };
    tokio::join!(serve_twice, ask_thrice);
}

#[tokio::test]
async fn a_backend_may_listen_on_ipv6_a_name_or_a_unix_socket() {
    let hello = || service_fn(async |_| Ok::<_, Infallible>(Response::new(full("hello"))));
    let serve = hyper::server::conn::http1::Builder::new;
    let v6 = TcpListener::bind("[::1]:0").await.unwrap();
    let named = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let port = named.local_addr().unwrap().port();
    let addresses = [
        BackendAddress::Ip(v6.local_addr().unwrap()),
        BackendAddress::Name { host: "localhost".into(), port },
        BackendAddress::Unix(path),
    ];
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Ok((stream, _)) = v6.accept() =>
                    drop(tokio::spawn(serve().serve_connection(TokioIo::new(stream), hello()))),
                Ok((stream, _)) = named.accept() =>
                    drop(tokio::spawn(serve().serve_connection(TokioIo::new(stream), hello()))),
                Ok((stream, _)) = unix.accept() =>
                    drop(tokio::spawn(serve().serve_connection(TokioIo::new(stream), hello()))),
            }
        }
    });
    for address in addresses {
        let answer = Gateway::start(address.clone()).await.ask("GET / HTTP/1.1").await;
        assert!(answer.ends_with("hello"), "{address:?}: {answer}");
    }
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_named_as_such() {
    let (script, address) = Script::listen().await;
    drop(script);
    let answer = Gateway::start(address).await.ask("GET / HTTP/1.1").await;
    assert!(answer.contains("cannot be reached"), "{answer}");
    let answer =
        Gateway::start(BackendAddress::Unix("/nowhere.sock".into())).await.ask("GET / HTTP/1.1").await;
    assert!(answer.contains("cannot be reached"), "{answer}");
}

/// Linux drops SYNs once the queue of a listener that nobody accepts from is full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_backend_that_does_not_take_the_connection_is_given_up() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 10);
    }
    let gateway = Gateway::with_timeouts(BackendAddress::Ip(address), SHORT, LONG).await;
    let answer = gateway.ask("GET / HTTP/1.1").await;
    assert!(answer.contains("did not take the connection within 250ms"), "{answer}");
}

#[tokio::test]
async fn a_backend_that_does_not_answer_is_given_up() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::with_timeouts(address, LONG, SHORT).await;
    let (answer, mut backend) = tokio::join!(gateway.ask("GET / HTTP/1.1"), script.accept());
    assert!(answer.contains("did not begin its answer within 250ms"), "{answer}");
    backend.head().await;
    assert!(backend.is_gone().await);
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_is_given_up() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::with_timeouts(address, LONG, SHORT).await;
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    let mut backend = script.accept().await;
    backend.head().await;
    let answer = client.rest().await;
    assert!(answer.contains("the client sent nothing"), "{answer}");
    assert_eq!(backend.bytes(3).await, "abc");
    assert!(backend.is_gone().await);
}

#[tokio::test]
async fn an_answer_that_falls_silent_is_cut_short() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::with_timeouts(address, LONG, SHORT).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut backend = script.accept().await;
    backend.head().await;
    backend.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
    client.head().await;
    assert_eq!(client.rest().await, "1\r\na\r\n");
    assert!(backend.is_gone().await);
}

#[tokio::test]
async fn what_is_not_http_is_a_failed_exchange() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    for words in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ] {
        let serve = async {
            let mut backend = script.accept().await;
            backend.head().await;
            backend.send(words).await;
        };
        let (answer, ()) = tokio::join!(gateway.ask("GET / HTTP/1.1"), serve);
        assert!(answer.starts_with("HTTP/1.1 502"), "{words}: {answer}");
    }
}

#[tokio::test]
async fn connect_is_not_forwarded() {
    let (_script, address) = Script::listen().await;
    let answer = Gateway::start(address).await.ask("CONNECT 192.0.2.1:443 HTTP/1.1").await;
    assert!(answer.contains("CONNECT is not forwarded"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let mut waiting = gateway.connect().await;
    waiting.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut backend = script.accept().await;
    backend.head().await;
    drop(waiting);
    assert!(backend.is_gone().await);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_the_answer_ends_it() {
    let (sender, mut receiver) = mpsc::channel::<()>(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = BackendAddress::Ip(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let endless = service_fn(move |_| {
            let held = sender.clone();
            let piece = move || {
                let _ = &held;
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; 4096])))
            };
            let body = StreamBody::new(tokio_stream_of(piece));
            async { Ok::<_, Infallible>(Response::new(body.boxed_unsync())) }
        });
        drop(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), endless).await,
        );
    });
    let gateway = Gateway::start(address).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.head().await;
    drop(client);
    // The last sender is gone with the backend's connection.
    assert_eq!(receiver.recv().await, None);
}

/// A stream that never ends.
fn tokio_stream_of<T>(make: impl FnMut() -> T + Unpin) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::iter(std::iter::repeat_with(make))
}

const UPGRADE_REQUEST: &str =
    "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\nearly";
const UPGRADE_ANSWER: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nx-app: 1\r\n\r\nfirst";

async fn upgraded(gateway: &Gateway, script: &Script) -> (Peer<TcpStream>, Peer<TcpStream>) {
    let mut client = gateway.connect().await;
    client.send(UPGRADE_REQUEST).await;
    let mut backend = script.accept().await;
    let head = backend.head().await;
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    backend.send(UPGRADE_ANSWER).await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 101") && head.contains("x-app: 1\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    // What was sent right behind the heads is not lost.
    assert_eq!(client.bytes(5).await, "first");
    assert_eq!(backend.bytes(5).await, "early");
    (client, backend)
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel_that_passes_half_close_on() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let (mut client, mut backend) = upgraded(&gateway, &script).await;
    client.send("ping").await;
    assert_eq!(backend.bytes(4).await, "ping");
    assert_eq!(gateway.drain.work(), 1);
    client.0.shutdown().await.unwrap();
    assert_eq!(backend.rest().await, "");
    backend.send("pong").await;
    backend.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "pong");
    gateway.drain.ended().await;
}

#[tokio::test]
async fn a_tunnel_of_one_side_only_ends_in_time() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::with_timeouts(address, LONG, SHORT).await;
    let (mut client, mut backend) = upgraded(&gateway, &script).await;
    client.0.shutdown().await.unwrap();
    assert!(backend.is_gone().await);
    gateway.drain.ended().await;
    assert!(client.is_gone().await);
}

#[tokio::test]
async fn a_tunnel_outlives_the_question_and_not_the_cut() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let (mut client, mut backend) = upgraded(&gateway, &script).await;
    gateway.drain.ask();
    client.send("ping").await;
    assert_eq!(backend.bytes(4).await, "ping");
    gateway.drain.cut();
    assert!(client.is_gone().await && backend.is_gone().await);
    gateway.drain.ended().await;
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let mut client = gateway.connect().await;
    client.send("GET /ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let mut backend = script.accept().await;
    backend.head().await;
    backend.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    assert!(client.head().await.starts_with("http/1.1 403"));
    assert_eq!(client.bytes(2).await, "no");
}

#[tokio::test]
async fn an_upgrade_to_another_http_is_not_passed_on() {
    let (script, address) = Script::listen().await;
    let gateway = Gateway::start(address).await;
    let mut client = gateway.connect().await;
    client
        .send(
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\
             http2-settings: AAMAAABk\r\n\r\n",
        )
        .await;
    let mut backend = script.accept().await;
    let head = backend.head().await;
    assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
    backend.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 200"));
}
