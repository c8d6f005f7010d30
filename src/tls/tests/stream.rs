//! Bytes that come and go in any pieces: nothing is lost, nothing is kept, nobody sleeps for ever.

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use super::client::DATA;
use super::*;

#[tokio::test]
async fn records_may_be_split_at_every_byte() {
    let server = Server::new();
    for suite in [tls13(), tls12()] {
        let (mut client, mut ours) = server.pair_by_hand(suite).await;
        let expected = [text(20), text(200)].concat();
        for at in 1.. {
            let mut bytes = client.seal(DATA, &expected[..20]);
            bytes.extend(client.seal(DATA, &[]));
            bytes.extend(client.seal(DATA, &expected[20..]));
            if at == bytes.len() {
                break;
            }
            client.send(&bytes[..at]).await;
            within("a piece", ours.wire().socket().readable()).await.unwrap();
            let mut buffer = vec![0; 256];
            let count = read_ready(&mut ours, &mut buffer).await.map_or(0, Result::unwrap);
            client.send(&bytes[at..]).await;
            within("the rest", ours.read_exact(&mut buffer[count..220])).await.unwrap();
            assert!(buffer[..220] == expected, "split at {at}");
            assert_eq!(ours.opened(), (0, 0), "split at {at}: nothing is kept");
        }
    }
}

#[tokio::test]
async fn a_record_larger_than_the_room_is_taken_piece_by_piece() {
    let server = Server::new();
    let (mut client, mut ours) = server.pair_by_hand(tls13()).await;
    let mut bytes = Vec::new();
    // One large record, and so many small ones that many wait sealed while a room is full.
    bytes.extend(client.seal(DATA, &text(16_384)));
    for byte in 0..=255 {
        bytes.extend(client.seal(DATA, &[byte]));
    }
    let expected = [text(16_384), (0..=255).collect()].concat();
    client.send(&bytes).await;
    let mut received = Vec::new();
    let mut room = [0; 100];
    while received.len() < expected.len() {
        let count = within("a piece", ours.read(&mut room)).await.unwrap();
        assert_ne!(count, 0);
        received.extend_from_slice(&room[..count]);
    }
    assert!(received == expected);
    assert_eq!(ours.opened(), (0, 0));
}

#[tokio::test]
async fn a_narrow_socket_loses_nothing() {
    let server = Server::new();
    for suite in [tls13(), tls12()] {
        let (mut client, mut ours) = server.pair(&server.client(&[suite])).await;
        SockRef::from(ours.wire().socket()).set_send_buffer_size(1).unwrap();
        let (sent, mut received) = (text(200_000), Vec::new());
        let writing = async {
            let mut written = 0;
            while written < sent.len() {
                let piece = &sent[written..sent.len().min(written + 70_000)];
                let count = ours.write(piece).await.unwrap();
                assert!((1..=piece.len()).contains(&count), "{count} of {}", piece.len());
                written += count;
            }
            ours.shutdown().await.unwrap();
            assert_eq!(ours.kept(), 0);
        };
        let reading = client.read_to_end(&mut received);
        within("a narrow socket", async { tokio::join!(writing, reading) }).await.1.unwrap();
        assert!(received == sent);
    }
}

/// A reader and a writer may be two tasks: neither takes the other's wake-up.
#[tokio::test]
async fn a_refusal_does_not_put_the_writer_to_sleep() {
    let server = Server::new();
    let (mut client, ours) = server.pair_by_hand(tls13()).await;
    let (mut from, mut to) = split(ours);
    let writer = tokio::spawn(async move {
        let sent = text(1 << 20);
        while to.write_all(&sent).await.is_ok() {}
    });
    // Until the socket is full: what comes first shows that the writer has begun.
    client.receive_behind_tickets().await;
    tokio::task::yield_now().await;
    client.send(&[23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
    within("the refusal", from.read(&mut [0; 64])).await.unwrap_err();
    // The reader's task is not polled again; the client reads what is there.
    let mut drained = vec![0; 1 << 16];
    let draining = async { while client.socket.read(&mut drained).await.is_ok_and(|count| count > 0) {} };
    tokio::select! {
        done = within("the writer", writer) => done.unwrap(),
        () = draining => panic!("the stream ended by itself"),
    }
}

#[tokio::test]
async fn writing_into_a_dead_socket_is_an_error_for_good() {
    let server = Server::new();
    let (client, mut ours) = server.pair_by_hand(tls13()).await;
    SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let sent = text(100_000);
    let failed = within("an error", async {
        loop {
            if let Err(error) = ours.write(&sent).await {
                break error;
            }
        }
    })
    .await;
    assert!(matches!(failed.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{failed}");
    within("another error", ours.write(&sent)).await.unwrap_err();
}

#[tokio::test]
async fn a_stream_shows_no_keys() {
    let server = Server::new();
    let (_client, ours) = server.pair_by_hand(tls13()).await;
    let shown = format!("{ours:?}");
    assert!(shown.starts_with("TlsStream { socket: ") && shown.ends_with(", .. }"), "{shown}");
}
