//! A request and its answer: what of them goes on, and over which connections.

use tokio::net::UnixListener;

use super::*;

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
async fn connect_is_not_forwarded() {
    let (_script, address) = Script::listen().await;
    let answer = Gateway::start(address).await.ask("CONNECT 192.0.2.1:443 HTTP/1.1").await;
    assert!(answer.contains("CONNECT is not forwarded"), "{answer}");
}
