//! The odd corners of its parent: splits, bounds, and rubbish.

use super::*;

const PING: &[u8] = &[0xC0, 0];
const PUBLISH: &[u8] = b"\x30\x06\0\x01ahey";
const LIMIT: usize = 1000;

/// A client's frame.
fn masked(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = websocket::frame(opcode, payload, Some(Mask::new([1, 2, 3, 4])));
    if !fin {
        frame[0] &= 0x7F;
    }
    frame
}

/// A broker's frame.
fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = websocket::frame(opcode, payload, None);
    if !fin {
        frame[0] &= 0x7F;
    }
    frame
}

/// Follow `bytes`, cut at `cuts`: what is to be written, and the packets.
fn follow(
    course: &mut Course,
    bytes: &[u8],
    cuts: &[usize],
) -> Result<(Vec<u8>, Vec<PacketType>), Violation> {
    let (mut written, mut packets, mut start) = (Vec::new(), Vec::new(), 0);
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let mut buffer = vec![0; 2000];
        let room = course.room(buffer.len());
        let read = room.start..room.start + end - start;
        buffer[read.clone()].copy_from_slice(&bytes[start..end]);
        let ready =
            course.follow(&mut buffer, read, |packet: PacketStart| packets.push(packet.packet_type))?;
        written.extend_from_slice(&buffer[ready]);
        start = end;
    }
    Ok((written, packets))
}

#[test]
fn two_cuts_anywhere_change_nothing() {
    let up = [
        masked(Opcode::Continuation, false, &PUBLISH[..3]),
        masked(Opcode::Ping, true, b"?"),
        masked(Opcode::Continuation, true, &[&PUBLISH[3..], PING].concat()),
        masked(Opcode::Binary, true, b""),
        masked(Opcode::Binary, true, &[0xE0, 0]),
    ]
    .concat();
    let mut passed = up.clone();
    passed[0] |= 2;
    let packets = vec![PacketType::Publish, PacketType::Pingreq, PacketType::Disconnect];
    let mqtt = [PUBLISH, PING, &[0xE0, 0]].concat();
    for first in 0..=up.len() {
        for second in first..=up.len() {
            let cuts = [first, second];
            let mut course = Course::pass(Side::Client, LIMIT).begin_message(true);
            assert_eq!(follow(&mut course, &up, &cuts), Ok((passed.clone(), packets.clone())), "{cuts:?}");
            assert!(course.said_disconnect && !course.said_close());
            assert!(course.take_answer().is_empty(), "the broker answers it");

            let mut course = Course::unwrap(LIMIT).begin_message(true);
            assert_eq!(follow(&mut course, &up, &cuts), Ok((mqtt.clone(), packets.clone())), "{cuts:?}");
            assert_eq!(course.take_answer(), websocket::pong_frame(b"?"));
            assert!(course.take_answer().is_empty(), "answered twice");
        }
    }
    for cut in 0..=mqtt.len() {
        let mut course = Course::wrap(LIMIT);
        let (written, seen) = follow(&mut course, &mqtt, &[cut]).unwrap();
        let halves = [&mqtt[..cut], &mqtt[cut..]].into_iter().filter(|half| !half.is_empty());
        let expected: Vec<_> = halves.flat_map(|half| frame(Opcode::Binary, true, half)).collect();
        assert_eq!((written, seen), (expected, packets.clone()));
    }
}

#[test]
fn nothing_counts_after_a_close_frame() {
    let close = masked(Opcode::Close, true, b"\x03\xe8bye");
    let sent = [masked(Opcode::Binary, true, PING), close.clone()].concat();
    let behind = [&sent[..], b"\xFF\xFFrubbish"].concat();
    for cut in 0..=behind.len() {
        let mut course = Course::pass(Side::Client, LIMIT);
        assert_eq!(follow(&mut course, &behind, &[cut]).unwrap().0, sent);
        assert!(course.said_close() && course.said_goodbye());
        let mut course = Course::unwrap(LIMIT);
        assert_eq!(follow(&mut course, &behind, &[cut]).unwrap().0, PING);
        assert_eq!(course.take_answer(), websocket::close_frame(CloseCode::Normal, ""));
    }
    // Half a close frame is none yet.
    let mut course = Course::pass(Side::Client, LIMIT);
    follow(&mut course, &close[..7], &[]).unwrap();
    assert!(!course.said_close() && !course.may_insert());
}

#[test]
fn a_close_frame_is_answered_by_its_code_where_that_may_be_sent() {
    let answer = |payload: &[u8]| {
        let mut course = Course::unwrap(LIMIT);
        follow(&mut course, &masked(Opcode::Close, true, payload), &[]).unwrap();
        course.take_answer()
    };
    assert_eq!(answer(&[0x0F, 0xA0]), [0x88, 2, 0x0F, 0xA0]);
    assert_eq!(answer(&[]), [0x88, 2, 0x03, 0xE8]);
    for malformed in [&[3][..], &[3, 0xED], &[3, 0xE8, 0xFF]] {
        assert_eq!(answer(malformed), [0x88, 2, 0x03, 0xEA], "{malformed:02x?}");
    }
}

#[test]
fn a_packet_of_ours_waits_for_the_end_of_packet_and_message() {
    // A packet ends inside a message, a message inside a packet; then both end.
    let pieces = [
        frame(Opcode::Binary, false, PING),
        frame(Opcode::Continuation, true, &PUBLISH[..4]),
        frame(Opcode::Ping, true, b""),
        frame(Opcode::Binary, false, &PUBLISH[4..]),
        frame(Opcode::Continuation, true, b""),
    ];
    let whole = pieces.concat();
    let sent = [&whole[..], &frame(Opcode::Binary, true, PING)].concat();
    for cut in 1..=whole.len() {
        let mut course = Course::pass(Side::Broker, LIMIT);
        let before = follow(&mut course, &sent[..cut], &[]).unwrap().0;
        course.stop_at(Boundary::Packet);
        assert_eq!(course.may_insert(), cut == whole.len(), "at {cut}");
        let after = follow(&mut course, &sent[cut..], &[]).unwrap().0;
        assert_eq!([before, after].concat(), whole, "at {cut}");
        assert!(course.may_insert());
    }
    for cut in 1..PUBLISH.len() {
        let mut course = Course::wrap(LIMIT);
        follow(&mut course, &PUBLISH[..cut], &[]).unwrap();
        assert!(course.may_insert(), "a control frame may");
        course.stop_at(Boundary::Packet);
        assert!(!course.may_insert());
        let rest = [&PUBLISH[cut..], PING].concat();
        assert_eq!(follow(&mut course, &rest, &[]).unwrap().0, frame(Opcode::Binary, true, &PUBLISH[cut..]));
        assert!(course.may_insert());
    }
}

#[test]
fn a_control_frame_of_ours_waits_for_the_end_of_a_frame_alone() {
    let sent =
        [frame(Opcode::Binary, false, &PUBLISH[..4]), frame(Opcode::Continuation, true, PING)].concat();
    let first = 2 + 4;
    for cut in 1..=first {
        let mut course = Course::pass(Side::Broker, LIMIT);
        follow(&mut course, &sent[..cut], &[]).unwrap();
        course.stop_at(Boundary::Frame);
        assert_eq!(course.may_insert(), cut == first);
        assert_eq!(follow(&mut course, &sent[cut..], &[]).unwrap().0, sent[cut..first]);
        assert!(course.may_insert());
    }
}

#[test]
fn what_breaks_the_protocol_is_not_written_and_leaves_the_boundary_where_it_was() {
    let good = frame(Opcode::Binary, true, PING);
    let bad = [&good[..], b"\x81"].concat();
    let mut course = Course::pass(Side::Broker, LIMIT);
    assert_eq!(follow(&mut course, &bad, &[]), Err(Violation::Frame(FrameError::Text)));
    assert!(course.may_insert(), "nothing was written");
    let mut course = Course::pass(Side::Broker, LIMIT);
    follow(&mut course, &frame(Opcode::Binary, true, PUBLISH)[..5], &[]).unwrap();
    assert!(follow(&mut course, &[b"x00", &bad[..]].concat(), &[]).is_err());
    assert!(!course.may_insert(), "half a frame was written");
    let mut course = Course::wrap(10);
    let large = PacketError::TooLarge { size: 11, limit: 10 };
    assert_eq!(follow(&mut course, &[0x30, 9, 0], &[]), Err(Violation::Packet(large)));
    assert!(course.may_insert());
}
