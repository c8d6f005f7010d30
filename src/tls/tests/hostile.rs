//! Clients that break TLS: each is refused with the alert that the RFCs ask for, and nothing before is lost.

use std::future::poll_fn;

use rustls::SupportedCipherSuite;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{ALERT, Client, DATA, HANDSHAKE};
use super::*;

const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const NO_RENEGOTIATION: u8 = 100;

/// Good data, then what `break_it` makes: the data is read, the client hears `alert`, and that is all.
async fn refuses(
    what: &str,
    suite: SupportedCipherSuite,
    alert: Option<u8>,
    break_it: impl FnOnce(&mut Client) -> Vec<u8>,
) {
    let server = Server::new();
    let (mut client, mut ours) = server.pair_by_hand(suite).await;
    let mut bytes = client.seal(DATA, b"good");
    bytes.extend(break_it(&mut client));
    bytes.extend(client.seal(DATA, b"never read"));
    client.send(&bytes).await;

    assert_eq!(read_exactly(&mut ours, 4).await, b"good", "{what}");
    let error = within(what, ours.read(&mut [0; 64])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}: {error}");
    let again = within(what, ours.read(&mut [0; 64])).await.unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "{what}: it stays so");
    let written = within(what, ours.write(b"more")).await.unwrap_err();
    assert_eq!(written.kind(), io::ErrorKind::BrokenPipe, "{what}: nothing more is sent");
    within(what, ours.shutdown()).await.unwrap();
    if let Some(alert) = alert {
        assert_eq!(client.receive_behind_tickets().await, (ALERT, vec![2, alert]), "{what}: {error}");
        client.expect_end().await;
    }
}

type Break = fn(&mut Client) -> Vec<u8>;

#[tokio::test]
async fn tls13_is_kept_to_the_letter() {
    let cases: [(&str, u8, Break); 19] = [
        ("a bit of the body", BAD_RECORD_MAC, |client| flipped(client, 7)),
        ("a bit of the tag", BAD_RECORD_MAC, |client| flipped(client, -1)),
        ("a bit of the length", BAD_RECORD_MAC, |client| flipped(client, 4)),
        ("another protocol", DECODE_ERROR, |client| flipped(client, 1)),
        ("a type that there is not", UNEXPECTED_MESSAGE, |client| flipped(client, 0)),
        ("too long", RECORD_OVERFLOW, |_| vec![23, 3, 3, 0x48, 0x01]),
        ("too long inside", RECORD_OVERFLOW, |client| client.seal(DATA, &[0; 16_385])),
        ("too much padding", RECORD_OVERFLOW, |client| client.seal_padded(DATA, b"x", 16_400)),
        ("nothing but padding", UNEXPECTED_MESSAGE, |client| client.seal(0, &[])),
        ("no tag", BAD_RECORD_MAC, |_| vec![23, 3, 3, 0, 0]),
        ("ChangeCipherSpec", UNEXPECTED_MESSAGE, |_| vec![20, 3, 3, 0, 1, 1]),
        ("ChangeCipherSpec, sealed", UNEXPECTED_MESSAGE, |client| client.seal(20, &[1])),
        ("an alert in the clear", UNEXPECTED_MESSAGE, |_| vec![21, 3, 3, 0, 2, 1, 0]),
        ("a hello", UNEXPECTED_MESSAGE, |client| client.seal(HANDSHAKE, &[1, 0, 0, 1, 0])),
        ("a ticket", UNEXPECTED_MESSAGE, |client| client.seal(HANDSHAKE, &[4, 0, 0, 1, 0])),
        ("a KeyUpdate that asks for 2", ILLEGAL_PARAMETER, |client| {
            client.seal(HANDSHAKE, &[24, 0, 0, 1, 2])
        }),
        ("two KeyUpdates in a record", UNEXPECTED_MESSAGE, |client| {
            client.seal(HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0])
        }),
        ("half a KeyUpdate", UNEXPECTED_MESSAGE, |client| client.seal(HANDSHAKE, &[24, 0, 0])),
        ("an empty handshake message", UNEXPECTED_MESSAGE, |client| client.seal(HANDSHAKE, &[])),
    ];
    for (what, alert, break_it) in cases {
        refuses(what, tls13(), Some(alert), break_it).await;
    }
}

#[tokio::test]
async fn tls12_is_kept_to_the_letter() {
    let cases: [(&str, u8, Break); 9] = [
        ("a bit of the body", BAD_RECORD_MAC, |client| flipped(client, 14)),
        ("a bit of the tag", BAD_RECORD_MAC, |client| flipped(client, -1)),
        ("a bit of the version", BAD_RECORD_MAC, |client| flipped(client, 2)),
        ("too long", RECORD_OVERFLOW, |_| vec![23, 3, 3, 0x48, 0x01]),
        ("too long inside", RECORD_OVERFLOW, |client| client.seal(DATA, &[0; 16_385])),
        ("too short for a tag", BAD_RECORD_MAC, |_| vec![23, 3, 3, 0, 3, 1, 2, 3]),
        ("ChangeCipherSpec", UNEXPECTED_MESSAGE, |client| client.seal(20, &[1])),
        ("KeyUpdate", UNEXPECTED_MESSAGE, |client| client.seal(HANDSHAKE, &[24, 0, 0, 1, 0])),
        ("renegotiation", NO_RENEGOTIATION, |client| client.seal(HANDSHAKE, &[1, 0, 0, 1, 0])),
    ];
    for suite in [tls12(), tls12_chacha()] {
        for (what, alert, break_it) in cases {
            refuses(what, suite, Some(alert), break_it).await;
        }
    }
}

/// A record of which the `at`th byte has another bit; negative counts from the end.
fn flipped(client: &mut Client, at: isize) -> Vec<u8> {
    let mut record = client.seal(DATA, &[7; 100]);
    let at = at.rem_euclid(record.len() as isize) as usize;
    record[at] ^= 0x10;
    record
}

#[tokio::test]
async fn a_fatal_alert_ends_both_directions_without_an_answer() {
    for suite in [tls13(), tls12()] {
        refuses("a fatal alert", suite, None, |client| client.seal(ALERT, &[2, 40])).await;
    }
    refuses("a warning, of which TLS 1.3 has none", tls13(), None, |client| client.seal(ALERT, &[1, 100]))
        .await;
}

#[tokio::test]
async fn what_brings_nothing_is_borne_a_while() {
    let nothing: [(&str, SupportedCipherSuite, Break); 5] = [
        ("empty records", tls13(), |client| client.seal(DATA, &[])),
        ("empty records", tls12(), |client| client.seal(DATA, &[])),
        ("KeyUpdates", tls13(), |client| client.update_key(true)),
        ("user_canceled", tls13(), |client| client.seal(ALERT, &[1, 90])),
        ("warnings", tls12(), |client| client.seal(ALERT, &[1, 100])),
    ];
    for (what, suite, brings_nothing) in nothing {
        refuses(what, suite, Some(UNEXPECTED_MESSAGE), |client| {
            (0..33).flat_map(|_| brings_nothing(client)).collect()
        })
        .await;
        let server = Server::new();
        let (mut client, mut ours) = server.pair_by_hand(suite).await;
        for _ in 0..3 {
            let mut bytes: Vec<u8> = (0..32).flat_map(|_| brings_nothing(&mut client)).collect();
            bytes.extend(client.seal(DATA, b"something"));
            client.send(&bytes).await;
            assert_eq!(read_exactly(&mut ours, 9).await, b"something", "{what}");
        }
    }
}

#[tokio::test]
async fn an_oversized_header_behind_a_full_room_is_refused_too() {
    let server = Server::new();
    let (mut client, mut ours) = server.pair_by_hand(tls13()).await;
    let mut bytes = client.seal(DATA, b"good");
    bytes.extend([23, 3, 3, 0xff, 0xff]);
    client.send(&bytes).await;
    let mut room = [0; 4];
    within("the data", ours.read_exact(&mut room)).await.unwrap();
    within("the refusal", ours.read(&mut room)).await.unwrap_err();
    ours.shutdown().await.unwrap();
    assert_eq!(client.receive_behind_tickets().await, (ALERT, vec![2, RECORD_OVERFLOW]));
}

#[tokio::test]
async fn padding_is_taken_off() {
    let server = Server::new();
    let (mut client, mut ours) = server.pair_by_hand(tls13()).await;
    let mut bytes = client.seal_padded(DATA, b"a", 1);
    bytes.extend(client.seal_padded(DATA, b"b\0", 1000));
    bytes.extend(client.seal_padded(DATA, &[], 500));
    bytes.extend(client.seal_padded(DATA, &[9; 16_384], 0));
    client.send(&bytes).await;
    let read = read_exactly(&mut ours, 3 + 16_384).await;
    assert_eq!((&read[..3], &read[3..]), (&b"ab\0"[..], &[9; 16_384][..]));
}

#[tokio::test]
async fn a_cut_is_no_end() {
    let server = Server::new();
    for suite in [tls13(), tls12()] {
        for cut in [0, 3, 5, 20] {
            let (mut client, mut ours) = server.pair_by_hand(suite).await;
            let mut bytes = client.seal(DATA, b"good");
            bytes.extend(&client.seal(DATA, b"cut off")[..cut]);
            client.send(&bytes).await;
            client.socket.shutdown().await.unwrap();
            assert_eq!(read_exactly(&mut ours, 4).await, b"good");
            for _ in 0..2 {
                let error = within("the cut", ours.read(&mut [0; 64])).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            }
        }
    }
}

#[tokio::test]
async fn close_notify_is_an_end_and_nothing_counts_behind_it() {
    let server = Server::new();
    for suite in [tls13(), tls12()] {
        let (mut client, mut ours) = server.pair_by_hand(suite).await;
        let mut bytes = client.seal(DATA, b"good");
        bytes.extend(client.seal(ALERT, &[1, 0]));
        bytes.extend(client.seal(DATA, b"ignored"));
        bytes.extend([0xff; 40]);
        client.send(&bytes).await;
        assert_eq!(read_exactly(&mut ours, 4).await, b"good");
        for _ in 0..2 {
            assert_eq!(within("the end", ours.read(&mut [0; 64])).await.unwrap(), 0);
        }
        // The other half is open still (RFC 8446, 6.1).
        ours.write_all(b"goodbye").await.unwrap();
        ours.shutdown().await.unwrap();
        assert_eq!(ours.kept(), 0, "what is ignored is not kept");
        assert_eq!(client.receive_behind_tickets().await, (DATA, b"goodbye".to_vec()));
        assert_eq!(client.receive().await, (ALERT, vec![1, 0]));
        client.expect_end().await;
    }
}

#[tokio::test]
async fn close_notify_is_said_once() {
    let server = Server::new();
    for suite in [tls13(), tls12()] {
        let (mut client, mut ours) = server.pair_by_hand(suite).await;
        ours.shutdown().await.unwrap();
        ours.shutdown().await.unwrap();
        assert_eq!(ours.write(b"late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(client.receive_behind_tickets().await, (ALERT, vec![1, 0]));
        client.expect_end().await;
    }
}

#[tokio::test]
async fn the_goodbye_goes_with_the_last_bytes() {
    let server = Server::new();
    for suite in [tls13(), tls12()] {
        let (mut client, mut ours) = server.pair_by_hand(suite).await;
        assert_eq!(poll_fn(|cx| ours.poll_write_last(cx, b"last")).await.unwrap(), 4);
        assert_eq!(client.receive_behind_tickets().await, (DATA, b"last".to_vec()));
        assert_eq!(client.receive().await, (ALERT, vec![1, 0]));
        assert_eq!(ours.write(b"late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        ours.shutdown().await.unwrap();
        client.expect_end().await;
    }
}
