//! Headers and small frames: what is refused, and that another implementation agrees.

use std::io::Cursor;

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame as oracle;

use super::*;

#[test]
fn headers_that_must_be_refused() {
    let table: &[(&[u8], FrameError)] = &[
        (&[0xC2], FrameError::ReservedBits),
        (&[0xA2], FrameError::ReservedBits),
        (&[0x92], FrameError::ReservedBits),
        (&[0x83], FrameError::ReservedOpcode),
        (&[0x8F], FrameError::ReservedOpcode),
        (&[0x09], FrameError::ControlFragmented),
        (&[0x89, 0x7E], FrameError::ControlTooLong),
        (&[0x88, 0xFF], FrameError::ControlTooLong),
        (&[0x82, 0x7E, 0, 125], FrameError::LengthNotMinimal),
        (&[0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], FrameError::LengthNotMinimal),
        (&[0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 0], FrameError::LengthTooLong),
    ];
    for (bytes, error) in table {
        assert_eq!(FrameHeader::decode(bytes), Err(*error), "{bytes:02x?}");
        assert_eq!(FrameHeader::decode(&bytes[..bytes.len() - 1]), Ok(None), "{bytes:02x?} less one");
    }
}

#[test]
fn lengths_around_each_form() {
    for (length, size) in [(0, 2), (125, 2), (126, 4), (0xFFFF, 4), (0x1_0000, 10), (u64::MAX >> 1, 10)] {
        let header = FrameHeader { fin: true, opcode: Opcode::Binary, mask: None, length };
        let bytes = header.encode();
        assert_eq!(bytes.len(), size);
        assert_eq!(FrameHeader::decode(&bytes), Ok(Some((header, size))));
    }
}

#[test]
fn a_control_payload_is_cut_and_a_message_is_not() {
    assert_eq!(pong_frame(&[1; 200]).len(), 2 + 125);
    assert_eq!(frame(Opcode::Binary, &[1; 200], None).len(), 4 + 200);
}

fn opcode() -> impl Strategy<Value = Opcode> {
    prop::sample::select(vec![
        Opcode::Continuation,
        Opcode::Text,
        Opcode::Binary,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ])
}

prop_compose! {
    fn header()(
        opcode in opcode(),
        fin: bool,
        key: Option<[u8; 4]>,
        length in prop_oneof![0..126u64, 126..0x1_0000u64, 0x1_0000..1u64 << 63],
    ) -> FrameHeader {
        let control = opcode.is_control();
        FrameHeader {
            fin: fin || control,
            opcode,
            mask: key.map(Mask::new),
            length: if control { length % 126 } else { length },
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(header in header(), trailing: Vec<u8>) {
        let encoded = header.encode();
        for end in 0..encoded.len() {
            prop_assert_eq!(FrameHeader::decode(&encoded[..end]), Ok(None));
        }
        let bytes = [&encoded[..], &trailing].concat();
        prop_assert_eq!(FrameHeader::decode(&bytes), Ok(Some((header, encoded.len()))));
    }

    #[test]
    fn tungstenite_reads_the_same_header(header in header()) {
        let encoded = header.encode();
        let (theirs, length) =
            oracle::FrameHeader::parse(&mut Cursor::new(&encoded[..])).unwrap().unwrap();
        prop_assert_eq!(theirs.is_final, header.fin);
        prop_assert_eq!(u8::from(theirs.opcode), header.opcode.bits());
        prop_assert_eq!(theirs.mask, header.mask.map(Mask::key));
        prop_assert_eq!(length, header.length);
    }

    #[test]
    fn tungstenite_writes_the_same_frame(
        opcode in opcode(),
        (length, fill) in (prop_oneof![0..200usize, 65_500..65_600usize], any::<u8>()),
        key: Option<[u8; 4]>,
    ) {
        let payload = vec![fill; length];
        let ours = frame(opcode, &payload, key.map(Mask::new));
        let payload = if opcode.is_control() { &payload[..payload.len().min(125)] } else { &payload };
        let header = oracle::FrameHeader {
            opcode: oracle::coding::OpCode::from(opcode.bits()),
            mask: key,
            ..Default::default()
        };
        let theirs = oracle::Frame::from_payload(header, payload.to_vec().into());
        let mut bytes = Vec::new();
        theirs.format(&mut bytes).unwrap();
        prop_assert_eq!(ours, bytes);
    }
}
