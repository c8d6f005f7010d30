//! A tap: copies of a session's packets, or of how they begin, for somebody who looks on.
//!
//! The session hands them over and never waits: what does not fit into the queue is missed, and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::mqtt::PacketStart;
use crate::websocket::Mask;

/// Packets that wait for who looks on.
const WAITING: usize = 128;

/// Bytes behind a packet's fixed header that are copied: topics are shorter, or nearly all of them.
pub const COPIED: usize = 8 * 1024;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From client to broker.
    Up,
    /// From broker to client.
    Down,
}

impl Direction {
    /// The word for it, as in the metrics' labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A packet that went by.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which way.
    pub direction: Direction,
    /// When its fixed header was whole.
    pub at: SystemTime,
    /// What that says.
    pub start: PacketStart,
    /// Bytes behind it, all of which [`Seen::body`] are the first; at most [`COPIED`].
    pub body_length: u32,
    /// Unmasked.
    pub body: Vec<u8>,
    /// How many before it, in either direction, did not fit into the queue.
    pub missed: u64,
}

/// The session's side.
#[derive(Debug)]
pub struct Tap {
    up: Gathering,
    down: Gathering,
    out: Out,
}

/// The side of who looks on. It has nothing of the session, which may end meanwhile.
#[derive(Debug)]
pub struct Onlooker {
    seen: mpsc::Receiver<Seen>,
    told: Arc<Told>,
}

/// What is told beside the queue.
#[derive(Debug, Default)]
struct Told {
    /// Packets since the last one that fitted.
    missed: AtomicU64,
    ending: OnceLock<&'static str>,
}

#[derive(Debug)]
struct Out {
    seen: mpsc::Sender<Seen>,
    told: Arc<Told>,
}

/// The packet whose beginning is being copied, in one direction.
#[derive(Debug, Default)]
struct Gathering(Option<Seen>);

/// A tap, and who looks on by it.
#[must_use]
pub fn tap() -> (Tap, Onlooker) {
    let (sender, seen) = mpsc::channel(WAITING);
    let told = Arc::<Told>::default();
    let out = Out { seen: sender, told: Arc::clone(&told) };
    (Tap { up: Gathering::default(), down: Gathering::default(), out }, Onlooker { seen, told })
}

impl Onlooker {
    /// The next packet; `None` when the session has ended. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Seen> {
        self.seen.recv().await
    }

    /// How many packets did not fit into the queue behind the last one that was taken from it. While it holds
    /// others they stand before the gap, whose size is told with the next that fits.
    #[must_use]
    pub fn missed(&self) -> u64 {
        if self.seen.is_empty() { self.told.missed.swap(0, Ordering::Relaxed) } else { 0 }
    }

    /// Why the session ended.
    #[must_use]
    pub fn ending(&self) -> Option<&'static str> {
        self.told.ending.get().copied()
    }
}

impl Tap {
    /// A packet begins, with so many bytes behind its fixed header.
    pub(super) fn begin(&mut self, direction: Direction, start: PacketStart, body_length: u32) {
        let (gathering, out) = self.side(direction);
        let room = COPIED.min(body_length as usize);
        let body = Vec::with_capacity(room);
        let seen = Seen { direction, at: SystemTime::now(), start, body_length, body, missed: 0 };
        if room == 0 {
            out.send(seen);
        } else {
            gathering.0 = Some(seen);
        }
    }

    /// Bytes of the packet that began last. Of one that began before there was a tap nothing is told.
    pub(super) fn follow(&mut self, direction: Direction, bytes: &[u8], mask: Mask) {
        let (gathering, out) = self.side(direction);
        let Some(mut seen) = gathering.0.take() else { return };
        let whole = COPIED.min(seen.body_length as usize);
        let before = seen.body.len();
        seen.body.extend_from_slice(&bytes[..bytes.len().min(whole - before)]);
        mask.apply(&mut seen.body[before..]);
        if seen.body.len() == whole {
            out.send(seen);
        } else {
            gathering.0 = Some(seen);
        }
    }

    /// The session has ended.
    pub(super) fn end(&self, ending: &'static str) {
        let _ = self.out.told.ending.set(ending);
    }

    const fn side(&mut self, direction: Direction) -> (&mut Gathering, &mut Out) {
        match direction {
            Direction::Up => (&mut self.up, &mut self.out),
            Direction::Down => (&mut self.down, &mut self.out),
        }
    }
}

impl Out {
    fn send(&self, seen: Seen) {
        match self.seen.try_reserve() {
            Ok(place) => place.send(Seen { missed: self.told.missed.swap(0, Ordering::Relaxed), ..seen }),
            Err(TrySendError::Full(())) => {
                self.told.missed.fetch_add(1, Ordering::Relaxed);
            }
            // Who has left is about to take the tap away.
            Err(TrySendError::Closed(())) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{PacketSkim, PacketType};

    /// What is seen of `bytes`, masked and cut at each of `cuts`.
    fn seen(bytes: &[u8], key: [u8; 4], cuts: &[usize]) -> (Tap, Onlooker) {
        let (mut tap, onlooker) = tap();
        let mut masked = bytes.to_vec();
        Mask::new(key).apply(&mut masked);
        let (mut skim, mut at) = (PacketSkim::new(usize::MAX), 0);
        for &end in cuts.iter().chain([&bytes.len()]) {
            while at < end {
                let mask = Mask::new(key).advance(at);
                let is_body = skim.remaining() > 0;
                let (used, start) = skim.next(&masked[at..end], mask.key()).unwrap();
                if let Some(start) = start {
                    tap.begin(Direction::Up, start, skim.remaining());
                }
                if is_body {
                    tap.follow(Direction::Up, &masked[at..at + used], mask);
                }
                at += used;
            }
        }
        (tap, onlooker)
    }

    #[tokio::test]
    async fn packets_are_seen_however_they_are_split() {
        let bytes = b"\x30\x06\0\x01ahey\xC0\0\x32\x05\0\x01b\0\x07";
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (tap, mut onlooker) = seen(bytes, [1, 2, 3, 4], &[first, second]);
                drop(tap);
                let mut told = Vec::new();
                while let Some(seen) = onlooker.next().await {
                    assert_eq!(seen.body_length as usize, seen.body.len());
                    told.push((seen.start.packet_type, seen.start.flags, seen.body));
                }
                let expected = [
                    (PacketType::Publish, 0, b"\0\x01ahey".to_vec()),
                    (PacketType::Pingreq, 0, vec![]),
                    (PacketType::Publish, 2, b"\0\x01b\0\x07".to_vec()),
                ];
                assert_eq!(told, expected, "{first} {second}");
            }
        }
    }

    #[tokio::test]
    async fn of_a_large_packet_the_beginning_is_seen_before_its_end_has_come() {
        let mut bytes = b"\x30\x80\x80\x02\0\x01a".to_vec();
        bytes.extend((0..COPIED).map(|at| at as u8));
        let (_tap, mut onlooker) = seen(&bytes, [9, 8, 7, 6], &[100, 5000]);
        let seen = onlooker.next().await.unwrap();
        assert_eq!((seen.body_length, seen.body.len()), (0x8000, COPIED));
        assert_eq!(seen.body, bytes[4..4 + COPIED]);
    }

    #[tokio::test]
    async fn what_nobody_takes_is_missed_and_counted() {
        let (tap, mut onlooker) = seen(&[0xC0, 0].repeat(WAITING + 12), [0; 4], &[]);
        tap.end("client_closed");
        drop(tap);
        let mut count = 0;
        while onlooker.next().await.is_some() {
            count += 1;
        }
        assert_eq!((count, onlooker.missed(), onlooker.missed()), (WAITING, 12, 0));
        assert_eq!(onlooker.ending(), Some("client_closed"));
    }

    #[tokio::test]
    async fn what_was_missed_is_told_where_it_was() {
        let (mut tap, mut onlooker) = tap();
        let ping = |tap: &mut Tap| {
            let start = PacketStart { packet_type: PacketType::Pingreq, flags: 0, size: 2 };
            tap.begin(Direction::Up, start, 0);
        };
        (0..WAITING + 12).for_each(|_| ping(&mut tap));
        let first = onlooker.next().await.unwrap();
        assert_eq!((first.missed, onlooker.missed()), (0, 0), "those that wait came before the gap");
        ping(&mut tap);
        for _ in 1..WAITING {
            assert_eq!((onlooker.next().await.unwrap().missed, onlooker.missed()), (0, 0));
        }
        assert_eq!(onlooker.next().await.unwrap().missed, 12);
        assert_eq!(onlooker.missed(), 0);
        // Behind the last one nothing has to come before it is told.
        (0..WAITING + 5).for_each(|_| ping(&mut tap));
        for _ in 0..WAITING {
            assert_eq!((onlooker.missed(), onlooker.next().await.unwrap().missed), (0, 0));
        }
        assert_eq!(onlooker.missed(), 5);
    }

    #[tokio::test]
    async fn a_packet_that_began_before_is_not_told() {
        let (mut tap, mut onlooker) = tap();
        tap.follow(Direction::Down, b"the rest of it", Mask::NONE);
        let start = PacketStart { packet_type: PacketType::Pingresp, flags: 0, size: 2 };
        tap.begin(Direction::Down, start, 0);
        assert_eq!(onlooker.next().await.unwrap().start, start);
    }
}
