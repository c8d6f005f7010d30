//! Wires with an outbox and without, and peers that read late or never.

use std::future::poll_fn;
use std::io::Read;
use std::net::TcpStream as Peer;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use super::*;
use crate::net::send_each_turn;

/// A wire, and a peer that never blocks.
async fn pair() -> (Wire, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    socket.writable().await.unwrap();
    peer.set_nonblocking(true).unwrap();
    (socket.into(), peer)
}

/// This thread has an outbox from now on.
async fn open_outbox() -> JoinHandle<std::convert::Infallible> {
    let sender = tokio::spawn(send_each_turn());
    yield_now().await;
    sender
}

/// What the peer has got: on loopback all that was sent is there.
fn received(peer: &mut Peer) -> Vec<u8> {
    let (mut all, mut room) = (Vec::new(), [0; 4096]);
    loop {
        match peer.read(&mut room) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Let a wire fall behind for good: its peer reads nothing. Returns all that was written.
async fn fall_behind(wire: &mut Wire) -> Vec<u8> {
    SockRef::from(wire.socket()).set_send_buffer_size(64 * 1024).unwrap();
    let mut written = Vec::new();
    loop {
        assert!(written.len() < 64 << 20, "its socket takes everything");
        let piece: Vec<u8> = (0..1000).map(|_| fastrand::u8(..)).collect();
        wire.write_all(&piece).await.unwrap();
        written.extend(piece);
        yield_now().await;
        // A peer's kernel may acknowledge late, and only then it takes more.
        if wire.is_behind() && timeout(Duration::from_millis(500), wire.flush()).await.is_err() {
            return written;
        }
    }
}

/// Read at the peer until there is as much.
async fn receive(peer: &mut Peer, count: usize) -> Vec<u8> {
    let receiving = async {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(received(peer));
            yield_now().await;
        }
        all
    };
    timeout(Duration::from_secs(10), receiving).await.expect("something was lost")
}

async fn is_flushed(wire: &mut Wire) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *wire).poll_flush(cx).is_ready())).await
}

#[tokio::test]
async fn small_writes_of_one_turn_are_sent_at_its_end() {
    let ((mut first, mut first_peer), (mut second, mut second_peer)) = (pair().await, pair().await);
    let _sender = open_outbox().await;
    first.write_all(b"one").await.unwrap();
    second.write_all(b"two").await.unwrap();
    first.write_all(b", three").await.unwrap();
    assert_eq!((received(&mut first_peer), received(&mut second_peer)), (vec![], vec![]));
    yield_now().await;
    assert_eq!(received(&mut first_peer), b"one, three");
    assert_eq!(received(&mut second_peer), b"two");
    first.write_all(b"four").await.unwrap();
    yield_now().await;
    assert_eq!(received(&mut first_peer), b"four", "each turn has its end");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_waits_for_an_end_travels_with_it() {
    let ((mut leaving, mut its_peer), (mut staying, mut other_peer)) = (pair().await, pair().await);
    let _sender = open_outbox().await;
    staying.write_all(b"and ").await.unwrap();
    leaving.write_all(b"goodbye").await.unwrap();
    staying.write_all(b"so on").await.unwrap();
    outbox::send_before_end(&leaving);
    assert_eq!((received(&mut its_peer), received(&mut other_peer)), (vec![], b"and so on".to_vec()));
    leaving.shutdown().await.unwrap();
    let mut all = Vec::new();
    its_peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"goodbye");
}

#[tokio::test]
async fn without_an_outbox_they_are_sent_at_once() {
    let (mut wire, mut peer) = pair().await;
    wire.write_all(b"one").await.unwrap();
    assert_eq!(received(&mut peer), b"one");
    let sender = open_outbox().await;
    wire.write_all(b"two").await.unwrap();
    sender.abort();
    sender.await.unwrap_err();
    assert_eq!(received(&mut peer), b"two", "what waits is sent by who closes it");
    wire.write_all(b"three").await.unwrap();
    assert_eq!(received(&mut peer), b"three");
}

#[tokio::test]
async fn no_turn_gathers_more_than_fits() {
    let (mut wire, mut peer) = pair().await;
    let _sender = open_outbox().await;
    for _ in 0..1000 {
        wire.write_all(&[7; 100]).await.unwrap();
    }
    assert!(received(&mut peer).len() >= 90_000);
}

#[tokio::test]
async fn what_is_large_goes_behind_what_waits() {
    let (mut wire, mut peer) = pair().await;
    let _sender = open_outbox().await;
    wire.write_all(b"small").await.unwrap();
    let large = vec![9; 10_000];
    wire.write_all(&large).await.unwrap();
    assert!(received(&mut peer) == [&b"small"[..], &large].concat());
}

#[tokio::test]
async fn the_end_goes_behind_what_waits() {
    let ((mut shut, mut shut_peer), (mut dropped, mut dropped_peer)) = (pair().await, pair().await);
    let _sender = open_outbox().await;
    shut.write_all(b"last").await.unwrap();
    shut.shutdown().await.unwrap();
    assert_eq!((received(&mut shut_peer), shut_peer.read(&mut [0]).unwrap()), (b"last".to_vec(), 0));
    dropped.write_all(b"last").await.unwrap();
    drop(dropped);
    yield_now().await;
    assert_eq!((received(&mut dropped_peer), dropped_peer.read(&mut [0]).unwrap()), (b"last".to_vec(), 0));
}

#[tokio::test]
async fn what_a_socket_does_not_take_is_kept_in_order() {
    let (mut wire, mut peer) = pair().await;
    let _sender = open_outbox().await;
    let mut written = fall_behind(&mut wire).await;
    assert!(!is_flushed(&mut wire).await);
    assert_eq!(wire.try_write(b"early").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let writing = async {
        wire.write_all(b"behind all").await.unwrap();
        wire.flush().await.unwrap();
        yield_now().await;
        assert!(!wire.is_behind());
    };
    written.extend(b"behind all");
    let (all, ()) = tokio::join!(receive(&mut peer, written.len()), writing);
    assert!(all == written);
}

/// A flush is one: whoever has flushed may give the wire away, and nothing is left to be woken for.
#[tokio::test]
async fn a_flush_waits_for_the_socket() {
    let (mut wire, mut peer) = pair().await;
    let _sender = open_outbox().await;
    wire.write_all(b"first").await.unwrap();
    assert!(is_flushed(&mut wire).await);
    assert_eq!(received(&mut peer), b"first");
    let written = fall_behind(&mut wire).await;
    let flushing = tokio::spawn(async move {
        wire.flush().await.unwrap();
        wire
    });
    yield_now().await;
    assert!(!flushing.is_finished());
    let (all, wire) = tokio::join!(receive(&mut peer, written.len()), flushing);
    assert!(all == written);
    wire.unwrap().write_all(b"last").await.unwrap();
    assert_eq!(receive(&mut peer, 4).await, b"last");
}

/// What a client said before it left is read, whatever became of what it was told.
#[tokio::test]
async fn a_read_says_nothing_of_writes() {
    let (mut wire, mut peer) = pair().await;
    let _sender = open_outbox().await;
    io::Write::write_all(&mut peer, b"last").unwrap();
    wire.socket().readable().await.unwrap();
    SockRef::from(wire.socket()).shutdown(Shutdown::Write).unwrap();
    wire.write_all(b"lost").await.unwrap();
    yield_now().await;
    assert!(wire.is_behind());
    let mut room = [0; 8];
    assert_eq!(wire.read(&mut room).await.unwrap(), 4);
    for _ in 0..2 {
        assert_eq!(wire.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe, "it stays broken");
    }
    wire.write_all(b"lost").await.unwrap_err();
}

#[tokio::test]
async fn a_connection_that_broke_is_told() {
    let (mut wire, peer) = pair().await;
    let _sender = open_outbox().await;
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let writing = async {
        loop {
            if let Err(error) = poll_fn(|cx| wire.poll_catch_up(cx)).await {
                return error;
            }
            wire.write_all(b"lost").await.unwrap();
            yield_now().await;
        }
    };
    let error = timeout(Duration::from_secs(10), writing).await.expect("it is never told");
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
}

#[tokio::test]
async fn a_read_takes_what_there_is_and_sleeps_until_more_comes() {
    let (mut wire, mut peer) = pair().await;
    let mut room = [0; 8];
    for expected in [&b"12345678"[..], b"9", b"0"] {
        io::Write::write_all(&mut peer, expected).unwrap();
        let reading = wire.read(&mut room);
        let count = timeout(Duration::from_secs(10), reading).await.expect("it sleeps").unwrap();
        assert_eq!(&room[..count], expected);
        let mut unfilled = [0; 8];
        let found = poll_fn(|cx| {
            Poll::Ready(Pin::new(&mut wire).poll_read(cx, &mut ReadBuf::new(&mut unfilled)).is_ready())
        });
        assert!(!found.await);
    }
    drop(peer);
    assert_eq!(timeout(Duration::from_secs(10), wire.read(&mut room)).await.expect("it sleeps").unwrap(), 0);
}
