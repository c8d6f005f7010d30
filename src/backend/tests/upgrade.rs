//! Upgrades: the tunnel behind a yes, and what becomes of a no.

use super::*;

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
    gateway.drain.ask().await;
    client.send("ping").await;
    assert_eq!(backend.bytes(4).await, "ping");
    gateway.drain.cut().await;
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
