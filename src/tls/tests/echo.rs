//! Every cipher suite, every size, through rooms of every size.

use rstest::rstest;
use rustls::SupportedCipherSuite;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use super::*;

const SIZES: [usize; 9] = [0, 1, 100, 16_383, 16_384, 16_385, 65_536, 100_000, 1 << 20];

/// What a client sends comes back, through a buffer of `room` bytes of ours.
async fn echoes(server: &Server, suite: SupportedCipherSuite, room: usize, sizes: &[usize]) {
    let (mut client, mut ours) = server.pair(&server.client(&[suite])).await;
    let echo = async {
        let mut buffer = vec![0; room];
        loop {
            match ours.read(&mut buffer).await.unwrap() {
                0 => break,
                count => ours.write_all(&buffer[..count]).await.unwrap(),
            }
            ours.flush().await.unwrap();
        }
        ours.shutdown().await.unwrap();
        assert_eq!(ours.kept(), 0, "an idle stream holds no buffer");
    };
    let conversation = async {
        let (mut from, mut to) = split(&mut client);
        for &size in sizes {
            let sent = text(size);
            let mut back = vec![0; size];
            let writing = async {
                to.write_all(&sent).await.unwrap();
                to.flush().await.unwrap();
            };
            tokio::join!(writing, async { from.read_exact(&mut back).await.unwrap() });
            assert!(back == sent, "{:?}, {room} bytes of room: {size} bytes came back changed", suite);
        }
        to.shutdown().await.unwrap();
        assert_eq!(from.read(&mut [0]).await.unwrap(), 0, "our close_notify");
    };
    within("the echo", async { tokio::join!(echo, conversation) }).await;
}

#[rstest]
#[tokio::test]
async fn every_suite_carries_every_size(#[values(512, 8 * 1024, 64 * 1024)] room: usize) {
    let ecdsa = Server::new();
    let rsa = Server::signing_with(&rcgen::PKCS_RSA_SHA256);
    let mut tried = 0;
    for suite in suites() {
        let server = if format!("{suite:?}").contains("RSA_WITH") { &rsa } else { &ecdsa };
        echoes(server, suite, room, &SIZES).await;
        tried += 1;
    }
    assert_eq!(tried, 9, "TLS 1.3 has three suites, TLS 1.2 six");
}

#[tokio::test]
async fn a_room_of_one_byte_is_enough() {
    let server = Server::new();
    for suite in [tls13(), tls12(), tls12_chacha()] {
        echoes(&server, suite, 1, &[0, 1, 100, 16_385]).await;
    }
}

#[tokio::test]
async fn one_large_write_arrives_whole() {
    let server = Server::new();
    for suite in [tls13(), tls12(), tls12_chacha()] {
        let (mut client, mut ours) = server.pair(&server.client(&[suite])).await;
        let (sent, mut received) = (text(1 << 20), Vec::new());
        let writing = async {
            ours.write_all(&sent).await.unwrap();
            ours.shutdown().await.unwrap();
        };
        let reading = client.read_to_end(&mut received);
        let (_, read) = within("a large write", async { tokio::join!(writing, reading) }).await;
        read.unwrap();
        assert!(received == sent);
    }
}
