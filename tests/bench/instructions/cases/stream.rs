//! What is done to the bytes of a session: skim, unmask, wrap.

use std::hint::black_box;

use brokergate::mqtt::PacketSkim;
use brokergate::websocket::{FrameHeader, FrameSkim, Mask, Opcode, Segment, Side, frame};

use super::Operation;

const LIMIT: usize = 1024 * 1024;

/// Follow a stream that comes in reads of `size` bytes, frames and packets, as the tunnel does.
pub(super) fn skim(stream: &[u8], size: usize) -> Operation {
    let reads: Vec<Vec<u8>> = stream.chunks(size).map(<[u8]>::to_vec).collect();
    let from = if stream[1] & 0x80 == 0 { Side::Broker } else { Side::Client };
    let (mut frames, mut packets) = (FrameSkim::new(from), PacketSkim::new(LIMIT));
    Box::new(move |_| {
        for read in black_box(&reads) {
            let mut at = 0;
            while at < read.len() {
                let (used, segment) = frames.next(&read[at..]).unwrap();
                if let Segment::Data { mask } = segment {
                    follow_packets(&mut packets, &read[at..at + used], mask);
                }
                at += used;
            }
        }
    })
}

fn follow_packets(packets: &mut PacketSkim, payload: &[u8], mask: Mask) {
    let mut at = 0;
    while at < payload.len() {
        let (used, start) = packets.next(&payload[at..], mask.advance(at).key()).unwrap();
        black_box(start);
        at += used;
    }
}

/// 64 PUBLISH packets, each in a frame of its own, with a mask of its own.
pub(super) fn small_frames(masked: bool) -> Vec<u8> {
    let mask = |number: u8| masked.then(|| Mask::new([number, 0x5A, 0xC3, 0x17]));
    (0..64).flat_map(|number| frame(Opcode::Binary, &publish(32), mask(number))).collect()
}

pub(super) fn large_frame() -> Vec<u8> {
    frame(Opcode::Binary, &publish(256 * 1024), Some(Mask::new([0x37, 0xFA, 0x21, 0x3D])))
}

/// Unmask `size` bytes that begin anywhere in a buffer and anywhere in the key.
pub(super) fn unmask(size: usize) -> Operation {
    let mut buffer = vec![0; size + 16];
    let masks = [0, 1, 2, 3].map(|turned| Mask::new([0x37, 0xFA, 0x21, 0x3D]).advance(turned));
    Box::new(move |turn| {
        let start = turn % 16;
        masks[turn % 4].apply(black_box(&mut buffer[start..start + size]));
    })
}

pub(super) fn wrap_small() -> Operation {
    wrap(std::iter::repeat_with(|| publish(32)).take(16).flatten().collect(), PacketSkim::new(LIMIT))
}

pub(super) fn wrap_large() -> Operation {
    let mut packets = PacketSkim::new(usize::MAX);
    // It never ends here.
    packets.next(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], [0; 4]).unwrap();
    wrap(publish(16 * 1024), packets)
}

/// Put a broker's bytes into a frame, as the tunnel does: the header goes into the room before them.
fn wrap(bytes: Vec<u8>, mut packets: PacketSkim) -> Operation {
    const ROOM: usize = 4;
    let mut buffer = [vec![0; ROOM], bytes].concat();
    Box::new(move |_| {
        let buffer = black_box(&mut buffer);
        let length = buffer.len() - ROOM;
        follow_packets(&mut packets, &buffer[ROOM..], Mask::NONE);
        let header =
            FrameHeader { fin: true, opcode: Opcode::Binary, mask: None, length: length as u64 }.encode();
        buffer[ROOM - header.len()..ROOM].copy_from_slice(&header);
    })
}

/// A PUBLISH of QoS 0 as 3.1.1 has it.
fn publish(payload: usize) -> Vec<u8> {
    let topic = b"\0\x15sensors/7/temperature";
    let mut left = topic.len() + payload;
    let mut packet = vec![0x30];
    while left >= 128 {
        packet.push(left as u8 | 128);
        left /= 128;
    }
    packet.push(left as u8);
    packet.extend(topic);
    packet.resize(packet.len() + payload, b'7');
    packet
}
