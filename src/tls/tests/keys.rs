//! New keys: the client's, ours, and the end of a key that can't be followed by another.

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::client::{ALERT, DATA, HANDSHAKE};
use super::*;

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

#[tokio::test]
async fn a_client_may_change_its_key_at_any_time() {
    let server = Server::new();
    let (mut client, mut ours) = server.pair_by_hand(tls13()).await;
    let mut bytes = client.update_key(false);
    bytes.extend(client.update_key(false));
    bytes.extend(client.seal(DATA, b"one"));
    bytes.extend(client.update_key(false));
    bytes.extend(client.seal(DATA, b"two"));
    client.send(&bytes).await;
    assert_eq!(read_exactly(&mut ours, 6).await, b"onetwo");
    // It asked for none of ours.
    ours.write_all(b"answer").await.unwrap();
    ours.flush().await.unwrap();
    assert_eq!(client.receive_behind_tickets().await, (DATA, b"answer".to_vec()));
}

#[tokio::test]
async fn however_often_a_client_asks_one_new_key_answers() {
    let server = Server::new();
    let (mut client, mut ours) = server.pair_by_hand(tls13()).await;
    for _ in 0..2 {
        let mut bytes = client.update_key(true);
        bytes.extend(client.update_key(true));
        bytes.extend(client.update_key(false));
        bytes.extend(client.seal(DATA, b"asked"));
        client.send(&bytes).await;
        assert_eq!(read_exactly(&mut ours, 5).await, b"asked");
        ours.write_all(b"answer").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(client.receive_behind_tickets().await, (HANDSHAKE, KEY_UPDATE.to_vec()));
        assert_eq!(client.receive().await, (DATA, b"answer".to_vec()));
    }
}

#[tokio::test]
async fn rustls_refreshes_and_is_refreshed() {
    let server = Server::new();
    let suites: Vec<_> = suites().into_iter().filter(|suite| suite.tls13().is_some()).collect();
    assert_eq!(suites.len(), 3);
    for suite in suites {
        let (mut client, mut ours) = server.pair(&server.client(&[suite])).await;
        for turn in 0..5_u8 {
            client.get_mut().1.refresh_traffic_keys().unwrap();
            client.write_all(&[turn; 20_000]).await.unwrap();
            client.flush().await.unwrap();
            assert_eq!(read_exactly(&mut ours, 20_000).await, [turn; 20_000]);
            ours.wear_key(1);
            ours.write_all(&[turn; 100]).await.unwrap();
            ours.flush().await.unwrap();
            let mut back = [0; 100];
            within("the answer", client.read_exact(&mut back)).await.unwrap();
            assert_eq!(back, [turn; 100]);
        }
    }
}

#[tokio::test]
async fn a_client_may_ask_while_our_write_is_blocked() {
    let server = Server::new();
    let (mut client, mut ours) = server.pair(&server.client(&[tls13()])).await;
    let sent = text(16 << 20);
    let mut written = 0;
    // Until the socket takes no more.
    while let Some(count) = write_ready(&mut ours, &sent[written..]).await {
        written += count.unwrap();
    }
    assert!(written < sent.len(), "the sockets are larger than this test expects");
    client.get_mut().1.refresh_traffic_keys().unwrap();
    client.write_all(b"asked").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(read_exactly(&mut ours, 5).await, b"asked");
    let rest = async {
        ours.write_all(&sent[written..]).await.unwrap();
        ours.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let reading = client.read_to_end(&mut received);
    within("the rest", async { tokio::join!(rest, reading) }).await.1.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn a_worn_key_of_tls13_is_followed_by_another() {
    let server = Server::new();
    let (mut client, mut ours) = server.pair_by_hand(tls13()).await;
    ours.flush().await.unwrap();
    ours.wear_key(3);
    // Five records: one write takes four at most, and the key is changed in the midst of it.
    let sent = text(5 * 16_384);
    ours.write_all(&sent).await.unwrap();
    ours.flush().await.unwrap();
    let mut kinds = Vec::new();
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let (kind, text) = client.receive_behind_tickets().await;
        kinds.push(kind);
        if kind == DATA {
            received.extend(text);
        }
    }
    assert!(received == sent);
    assert_eq!(kinds, [DATA, DATA, HANDSHAKE, DATA, DATA, DATA], "the last of the old key says so");
}

#[tokio::test]
async fn a_worn_key_of_tls12_says_goodbye_and_nothing_more() {
    let server = Server::new();
    for suite in [tls12(), tls12_chacha()] {
        let (mut client, mut ours) = server.pair_by_hand(suite).await;
        ours.wear_key(4);
        // More records than are left: what was taken arrives.
        let sent = text(4 * 16_384);
        let taken = ours.write(&sent).await.unwrap();
        assert_eq!(taken, 3 * 16_384);
        for _ in 0..2 {
            let error = within("the refusal", ours.write(&sent[taken..])).await.unwrap_err();
            assert!(error.to_string().contains("TLS"), "{error}");
        }
        ours.shutdown().await.unwrap();
        let mut received = Vec::new();
        for _ in 0..3 {
            received.extend(client.receive().await.1);
        }
        assert!(received == sent[..taken]);
        assert_eq!(client.receive().await, (ALERT, vec![1, 0]), "the last number is for the goodbye");
        client.expect_end().await;
    }
}

/// Write once if anything can be written now.
pub(super) async fn write_ready(stream: &mut TlsStream, bytes: &[u8]) -> Option<io::Result<usize>> {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *stream).poll_write(cx, bytes) {
            Poll::Ready(written) => Some(written),
            Poll::Pending => None,
        })
    })
    .await
}
