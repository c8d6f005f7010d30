//! Any bytes as frames: no panic, and any split shows the same. The first two bytes choose the side and the split.
#![no_main]

use brokergate::websocket::{FrameError, FrameHeader, FrameSkim, Mask, Segment, Side, parse_close};
use libfuzzer_sys::fuzz_target;

type Seen = (Vec<(FrameHeader, Vec<u8>)>, Option<FrameError>);

fn follow(from: Side, bytes: &[u8], size: usize) -> Seen {
    let mut skim = FrameSkim::new(from);
    let mut seen: Vec<(FrameHeader, Vec<u8>)> = Vec::new();
    for mut piece in bytes.chunks(size) {
        while !piece.is_empty() {
            let (taken, segment) = match skim.next(piece) {
                Ok(next) => next,
                Err(error) => return (seen, Some(error)),
            };
            assert!(taken > 0);
            let mut payload = |mask: Mask| {
                if let Some((_, payload)) = seen.last_mut() {
                    let start = payload.len();
                    payload.extend_from_slice(&piece[..taken]);
                    mask.apply(&mut payload[start..]);
                }
            };
            match segment {
                Segment::HeaderPart => {}
                Segment::Header(header) => seen.push((header, Vec::new())),
                Segment::Data { mask } | Segment::Control { mask, .. } => payload(mask),
            }
            piece = &piece[taken..];
        }
    }
    (seen, None)
}

fuzz_target!(|input: &[u8]| {
    let [side, size, bytes @ ..] = input else { return };
    let from = if side % 2 == 0 { Side::Client } else { Side::Broker };
    let whole = follow(from, bytes, bytes.len().max(1));
    assert_eq!(whole, follow(from, bytes, usize::from(*size).max(1)));
    for (_, payload) in &whole.0 {
        _ = parse_close(payload);
    }
});
