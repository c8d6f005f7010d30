//! The odd corners of its parent: splits, bounds, and rubbish.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;
use crate::drain::Drain;
use crate::mqtt::{ConnectError, Level};
use crate::websocket::Mask;

const CONNECT: &[u8] = b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03one";

/// Bytes that a CONNECT may take here.
const MAX: usize = 1024;

fn entry() -> Arc<Entry> {
    let client = "192.0.2.1:50312".parse().unwrap();
    Arc::new(Entry::new(client, &"brokers".into(), &Drain::new().watch(), false))
}

fn open() -> (UnixStream, Opening) {
    let (client, stream) = UnixStream::pair().unwrap();
    (client, Opening::new(stream.into(), &[], entry()))
}

fn masked(opcode: Opcode, fin: bool, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut frame = websocket::frame(opcode, payload, Some(Mask::new(key)));
    if !fin {
        frame[0] &= 0x7F;
    }
    frame
}

/// What a client sends: a CONNECT and more behind it, in frames of any size with pings in between.
struct Sent {
    bytes: Vec<u8>,
    behind: Vec<u8>,
    pings: Vec<Vec<u8>>,
}

impl Sent {
    fn random(random: &mut fastrand::Rng) -> Self {
        let behind: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
        let payload = [CONNECT, &behind].concat();
        let mut cuts: Vec<_> = (0..random.usize(..6)).map(|_| random.usize(..=payload.len())).collect();
        cuts.push(payload.len());
        cuts.sort_unstable();
        let mut sent = Self { bytes: Vec::new(), behind, pings: Vec::new() };
        let (mut start, mut in_message) = (0, false);
        for (number, end) in cuts.into_iter().enumerate() {
            let key = random.u32(..).to_ne_bytes();
            if random.bool() {
                let ping = vec![number as u8; random.usize(..=125)];
                sent.bytes.extend(masked(Opcode::Ping, true, &ping, key));
                sent.pings.push(ping);
            }
            let opcode = if in_message { Opcode::Continuation } else { Opcode::Binary };
            let fin = random.bool();
            sent.bytes.extend(masked(opcode, fin, &payload[start..end], key));
            (start, in_message) = (end, !fin);
        }
        sent
    }
}

/// The MQTT in what the tunnel goes on with, which must be frames from the first byte on.
fn payload_of(mut opened: Opened) -> Vec<u8> {
    let mut frames = FrameSkim::new(Side::Client);
    let (mut payload, mut at) = (Vec::new(), 0);
    while at < opened.waiting.len() {
        if opened.begins_message && frames.at_boundary() && opened.waiting[at] & 0x0F == 0 {
            opened.waiting[at] |= 2;
            opened.begins_message = false;
        }
        let (used, segment) = frames.next(&opened.waiting[at..]).unwrap();
        if let Segment::Data { mask } = segment {
            let start = payload.len();
            payload.extend_from_slice(&opened.waiting[at..at + used]);
            mask.apply(&mut payload[start..]);
        }
        at += used;
    }
    assert!(frames.at_boundary());
    payload
}

/// Hold until the client has left: with something still waiting for a broker, holding goes on.
async fn hold_to_the_end(opening: &mut Opening, max_size: usize) {
    let held = timeout(Duration::from_secs(1), opening.hold(max_size)).await;
    assert_eq!(held.ok(), (opening.followed == 0).then_some(Ending::ClientVanished));
}

#[tokio::test(start_paused = true)]
async fn a_connect_is_found_in_any_frames_and_nothing_behind_it_is_lost() {
    for seed in 0..2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let sent = Sent::random(&mut random);
        let (mut client, stream) = UnixStream::pair().unwrap();
        let (early, late) = sent.bytes.split_at(random.usize(..=sent.bytes.len()));
        let mut opening = Opening::new(stream.into(), early, entry());
        client.write_all(late).await.unwrap();
        client.shutdown().await.unwrap();
        let (connect, packet) = opening.read_connect(MAX).await.unwrap();
        assert_eq!(
            (&*connect.client_id, connect.level, &packet[..]),
            ("one", Level::V311, CONNECT),
            "seed {seed}"
        );
        hold_to_the_end(&mut opening, usize::MAX).await;
        let opened = opening.open().await.unwrap();
        let mut heard = Vec::new();
        let pongs: Vec<_> = sent.pings.iter().flat_map(|ping| websocket::pong_frame(ping)).collect();
        assert_eq!(payload_of(opened), sent.behind, "seed {seed}");
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, pongs, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_come_one_by_one() {
    let (mut client, mut opening) = open();
    let sent = Sent::random(&mut fastrand::Rng::with_seed(7));
    let said = async {
        for byte in &sent.bytes {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
    };
    let heard = async {
        opening.read_connect(MAX).await.unwrap();
        hold_to_the_end(&mut opening, MAX).await;
    };
    tokio::join!(said, heard);
    assert_eq!(payload_of(opening.open().await.unwrap()), sent.behind);
}

#[tokio::test]
async fn beginnings_that_are_no_connect() {
    let key = [1, 2, 3, 4];
    let mut large = [&[0x10, 0x80, 0x10][..], &CONNECT[2..]].concat();
    large[9] = 5;
    let cases: [(Vec<u8>, Ending); 9] = [
        (vec![], Ending::ClientVanished),
        (masked(Opcode::Binary, true, &CONNECT[..9], key), Ending::ClientVanished),
        (masked(Opcode::Close, true, &[3, 232], key), Ending::ClientClosed),
        // The first byte is enough.
        (vec![0x81], Ending::ClientFrame(FrameError::Text)),
        (vec![0x80], Ending::ClientFrame(FrameError::UnexpectedContinuation)),
        (websocket::frame(Opcode::Binary, CONNECT, None), Ending::ClientFrame(FrameError::Unmasked)),
        (websocket::frame(Opcode::Ping, b"", None), Ending::ClientFrame(FrameError::Unmasked)),
        (
            masked(Opcode::Binary, true, &[0xC0, 0], key),
            Ending::ConnectRefused(ConnectError::NotConnect { first: 0xC0 }),
        ),
        (
            masked(Opcode::Binary, true, &large, key),
            Ending::ConnectRefused(ConnectError::TooLarge { size: 2051, limit: MAX, level: Some(Level::V5) }),
        ),
    ];
    for (bytes, expected) in cases {
        let (mut client, mut opening) = open();
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(opening.read_connect(MAX).await.unwrap_err(), expected, "{bytes:02x?}");
    }
}

#[tokio::test]
async fn what_waits_for_a_broker_is_bounded() {
    let (client, mut opening) = open();
    let flood = masked(Opcode::Binary, true, &vec![0x30; 8 << 20], [0; 4]);
    let (mut unread, mut client) = client.into_split();
    let said = tokio::spawn(async move {
        client.write_all(&masked(Opcode::Binary, true, CONNECT, [0; 4])).await.unwrap();
        client.write_all(&flood).await
    });
    opening.read_connect(MAX).await.unwrap();
    // It holds for as long as the broker needs.
    timeout(Duration::from_millis(200), opening.hold(10 * READ)).await.unwrap_err();
    assert!((10 * READ..=11 * READ).contains(&opening.raw.len()), "{} bytes", opening.raw.len());
    assert!(!said.is_finished());
    drop(opening);
    assert!(said.await.unwrap().is_err());
    assert_eq!(unread.read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn pings_in_between_do_not_lift_the_bound() {
    let (client, mut opening) = open();
    let piece = [masked(Opcode::Binary, true, &[0x30; 500], [0; 4]), masked(Opcode::Ping, true, &[], [0; 4])];
    let flood = piece.concat().repeat(2000);
    let (mut pongs, mut client) = client.into_split();
    let said = tokio::spawn(async move {
        client.write_all(&masked(Opcode::Binary, true, CONNECT, [0; 4])).await.unwrap();
        client.write_all(&flood).await
    });
    let heard = tokio::spawn(async move { tokio::io::copy(&mut pongs, &mut tokio::io::sink()).await });
    opening.read_connect(MAX).await.unwrap();
    timeout(Duration::from_millis(200), opening.hold(10 * READ)).await.unwrap_err();
    assert!(opening.raw.len() <= 12 * READ, "{} bytes", opening.raw.len());
    drop(opening);
    assert!(said.await.unwrap().is_err());
    drop(heard.await);
}

#[tokio::test]
async fn pings_of_a_client_that_does_not_read_are_bounded_too() {
    let (mut client, mut opening) = open();
    let pings = masked(Opcode::Ping, true, &[0x30; 125], [0; 4]).repeat(50_000);
    let patience = Duration::from_millis(300);
    let said = timeout(patience, client.write_all(&pings));
    let read = timeout(patience, opening.read_connect(MAX));
    let (said, read) = tokio::join!(said, read);
    assert!(said.is_err() && read.is_err(), "nobody waited for the client to read");
    assert!(opening.unsent.len() + opening.raw.len() < 8 * READ);
}

#[tokio::test]
async fn a_refusal_waits_for_the_client_to_leave_but_not_for_ever() {
    let (mut client, mut opening) = open();
    client.write_all(&masked(Opcode::Ping, true, b"there?", [9; 4])).await.unwrap();
    client.write_all(&masked(Opcode::Binary, true, CONNECT, [9; 4])).await.unwrap();
    opening.read_connect(MAX).await.unwrap();
    let began = Instant::now();
    let patience = Duration::from_millis(100);
    opening.refuse(Some(&[0x20, 2, 0, 3]), &Ending::NoBroker, began + patience).await;
    assert!(began.elapsed() >= patience, "the client had not left");
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    let expected = [
        websocket::pong_frame(b"there?"),
        b"\x82\x04\x20\x02\0\x03".to_vec(),
        websocket::close_frame(Ending::NoBroker.close_code(), &Ending::NoBroker.close_reason()),
    ];
    assert_eq!(heard, expected.concat());
}
