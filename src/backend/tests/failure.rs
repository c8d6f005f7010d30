//! Whoever is not there, falls silent, leaves, or speaks something else than HTTP.

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use super::*;

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
