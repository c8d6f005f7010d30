//! Frames in any pieces, and what breaks the order of frames.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use proptest::sample::Index;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::*;

/// A frame as a skim has seen it: its header, and as much of its payload as has come, unmasked.
type Seen = (FrameHeader, Vec<u8>);

/// Feeds `pieces`, and checks on the way what a skim says of itself.
fn follow<'a>(
    skim: &mut FrameSkim,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Seen>, Option<FrameError>) {
    let mut seen: Vec<Seen> = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let (taken, segment) = match skim.next(piece) {
                Ok(next) => next,
                Err(error) => return (seen, Some(error)),
            };
            assert!(taken > 0 && taken <= piece.len());
            let (segment_bytes, rest) = piece.split_at(taken);
            piece = rest;
            let frame = seen.last_mut();
            match segment {
                Segment::HeaderPart => assert!(!skim.at_boundary() && piece.is_empty()),
                Segment::Header(header) => {
                    assert_eq!(skim.remaining(), header.length);
                    assert_eq!(skim.at_boundary(), header.length == 0);
                    seen.push((header, Vec::new()));
                }
                Segment::Data { mask } => {
                    let (header, payload) = frame.unwrap();
                    assert!(!header.opcode.is_control());
                    add(payload, segment_bytes, mask);
                    assert_eq!(skim.remaining(), header.length - payload.len() as u64);
                    assert_eq!(skim.at_boundary(), skim.current().is_none());
                }
                Segment::Control { opcode, mask, offset, last } => {
                    let (header, payload) = frame.unwrap();
                    assert_eq!(opcode, header.opcode);
                    assert_eq!(usize::from(offset), payload.len());
                    add(payload, segment_bytes, mask);
                    assert_eq!(last, payload.len() as u64 == header.length);
                    assert_eq!(last, skim.at_boundary());
                }
            }
        }
    }
    (seen, None)
}

fn add(payload: &mut Vec<u8>, masked: &[u8], mask: Mask) {
    let start = payload.len();
    payload.extend_from_slice(masked);
    mask.apply(&mut payload[start..]);
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn write_frame(bytes: &mut Vec<u8>, header: FrameHeader, payload: &[u8]) {
    bytes.extend_from_slice(&header.encode());
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    header.mask.unwrap_or(Mask::NONE).apply(&mut bytes[start..]);
}

#[test]
fn a_skim_is_small() {
    assert!(size_of::<FrameSkim>() <= 48);
}

#[test]
fn each_side_masks_as_it_must_and_sends_no_text() {
    let next = |from, bytes: &[u8]| FrameSkim::new(from).next(bytes).map(|(taken, _)| taken);
    assert_eq!(next(Side::Client, &[0x82, 0x05]), Err(FrameError::Unmasked));
    assert_eq!(next(Side::Broker, &[0x82, 0x85]), Err(FrameError::Masked));
    assert_eq!(next(Side::Client, &[0x82, 0x85]), Ok(2));
    assert_eq!(next(Side::Broker, &[0x82, 0x05]), Ok(2));
    for from in [Side::Client, Side::Broker] {
        assert_eq!(next(from, &[0x81]), Err(FrameError::Text));
        assert_eq!(next(from, &[0x01]), Err(FrameError::Text));
        assert_eq!(next(from, &[0x00]), Err(FrameError::UnexpectedContinuation));
    }
}

#[test]
fn a_message_goes_on_until_fin_and_control_frames_may_stand_inside() {
    let mut skim = FrameSkim::new(Side::Broker);
    let stream = [0x02, 1, b'a', 0x89, 0, 0x00, 0, 0x8A, 1, b'p', 0x80, 1, b'b'];
    let (seen, error) = follow(&mut skim, [&stream[..10]]);
    assert_eq!((seen.len(), error), (4, None));
    assert!(skim.in_message() && skim.at_boundary());
    assert_eq!(skim.clone().next(&[0x82]), Err(FrameError::ExpectedContinuation));
    assert_eq!(follow(&mut skim, [&stream[10..]]).1, None);
    assert!(!skim.in_message() && !skim.closed());
}

#[test]
fn a_close_frame_is_noticed_and_what_follows_is_still_followed() {
    let mut skim = FrameSkim::new(Side::Broker);
    let (seen, error) = follow(&mut skim, [&[0x88, 2, 3, 0xE8, 0x82, 1, b'x'][..]]);
    assert_eq!((seen.len(), error), (2, None));
    assert!(skim.closed());
}

#[test]
fn the_mask_for_the_next_byte_is_known_inside_a_frame() {
    let mut skim = FrameSkim::new(Side::Client);
    assert_eq!(skim.mask(), Mask::NONE);
    skim.next(&[0x82, 0x83, 1, 2, 3, 4]).unwrap();
    assert_eq!(skim.mask(), Mask::new([1, 2, 3, 4]));
    skim.next(&[9, 9]).unwrap();
    assert_eq!(skim.mask(), Mask::new([3, 4, 1, 2]));
    skim.next(&[9]).unwrap();
    assert_eq!(skim.mask(), Mask::NONE);
}

#[test]
fn the_longest_frame_is_counted() {
    let mut skim = FrameSkim::new(Side::Broker);
    let header = FrameHeader { fin: true, opcode: Opcode::Binary, mask: None, length: u64::MAX >> 1 };
    skim.next(&header.encode()).unwrap();
    skim.next(&[0; 1000]).unwrap();
    assert_eq!(skim.remaining(), (u64::MAX >> 1) - 1000);
}

/// Messages cut into frames at will, with control frames between.
fn frames(from: Side) -> impl Strategy<Value = Vec<Seen>> {
    let part =
        (prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 4]>(), any::<bool>(), any::<Option<u8>>());
    prop::collection::vec(part, 0..8).prop_map(move |parts| {
        let mut frames = Vec::new();
        let mut open = false;
        for (payload, key, fin, control) in parts {
            let mask = (from == Side::Client).then_some(Mask::new(key));
            if let Some(control) = control {
                let opcode = [Opcode::Ping, Opcode::Pong, Opcode::Close][usize::from(control % 3)];
                let payload = payload[..payload.len().min(usize::from(control % 126))].to_vec();
                frames.push((FrameHeader { fin: true, opcode, mask, length: payload.len() as u64 }, payload));
            }
            let opcode = if open { Opcode::Continuation } else { Opcode::Binary };
            open = !fin;
            frames.push((FrameHeader { fin, opcode, mask, length: payload.len() as u64 }, payload));
        }
        frames
    })
}

fn stream_of(frames: &[Seen]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, payload) in frames {
        write_frame(&mut bytes, *header, payload);
    }
    bytes
}

proptest! {
    #[test]
    fn any_split_shows_the_frames_that_were_sent(
        (from, frames) in prop_oneof![
            frames(Side::Client).prop_map(|frames| (Side::Client, frames)),
            frames(Side::Broker).prop_map(|frames| (Side::Broker, frames)),
        ],
        cuts: Vec<Index>,
    ) {
        let bytes = stream_of(&frames);
        for pieces in [vec![&bytes[..]], bytes.chunks(1).collect(), pieces(&bytes, &cuts)] {
            let mut skim = FrameSkim::new(from);
            let (seen, error) = follow(&mut skim, pieces);
            prop_assert_eq!(error, None);
            prop_assert_eq!(&seen, &frames);
            prop_assert!(skim.at_boundary());
        }
    }

    #[test]
    fn what_tungstenite_sends_is_followed(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..6),
        ping in prop::collection::vec(any::<u8>(), 0..126),
        role in prop::sample::select(vec![(Side::Client, Role::Client), (Side::Broker, Role::Server)]),
        cuts: Vec<Index>,
    ) {
        let (from, role) = role;
        let mut theirs = WebSocket::from_raw_socket(Cursor::new(Vec::new()), role, None);
        for message in &messages {
            theirs.send(Message::Binary(Bytes::copy_from_slice(message))).unwrap();
            theirs.send(Message::Ping(Bytes::copy_from_slice(&ping))).unwrap();
        }
        theirs.get_mut().flush().unwrap();
        let bytes = theirs.get_ref().get_ref();
        let (seen, error) = follow(&mut FrameSkim::new(from), pieces(bytes, &cuts));
        prop_assert_eq!(error, None);
        let expected: Vec<_> = messages
            .iter()
            .flat_map(|message| [(Opcode::Binary, message.clone()), (Opcode::Ping, ping.clone())])
            .collect();
        let seen: Vec<_> = seen.into_iter().map(|(header, payload)| (header.opcode, payload)).collect();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn a_broken_stream_fails_alike_however_it_is_split() {
    let mask = Some(Mask::new([1, 2, 3, 4]));
    let header = |fin, opcode, length| FrameHeader { fin, opcode, mask, length };
    let stream = stream_of(&[
        (header(true, Opcode::Binary, 5), vec![7; 5]),
        (header(false, Opcode::Binary, 0), vec![]),
        (header(true, Opcode::Ping, 3), vec![8; 3]),
        (header(true, Opcode::Continuation, 130), vec![9; 130]),
        (header(true, Opcode::Pong, 0), vec![]),
        (header(true, Opcode::Close, 2), vec![3, 0xE8]),
    ]);
    for seed in 0..10_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = stream.clone();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(..=2 * bytes.len()));
        let size = random.usize(1..20);
        let whole = follow(&mut FrameSkim::new(Side::Client), [&bytes[..]]);
        let split = follow(&mut FrameSkim::new(Side::Client), bytes.chunks(size));
        assert_eq!(whole, split, "seed {seed}");
        let payload: usize = whole.0.iter().map(|(_, payload)| payload.len()).sum();
        assert!(payload + 6 * whole.0.len() <= bytes.len(), "seed {seed}");
    }
}
