//! A packet that went by, told.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::form::{Filter, Packet};
use crate::mqtt::{Level, PacketType, VariableHeader};
use crate::tunnel::Seen;

/// Bytes of a payload that are shown.
const MOST_OF_A_PAYLOAD: usize = 4 * 1024;

/// What is told of a packet.
pub(super) fn tell(seen: &Seen, level: Level, with_payload: bool) -> Packet {
    let start = seen.start;
    let header = VariableHeader::read(start, seen.body_length, &seen.body, level);
    let is_publish = start.packet_type == PacketType::Publish;
    let flag = |bit: u8| is_publish.then_some(start.flags >> bit & 1 == 1);
    let (payload, payload_base64) = match header.payload.filter(|_| with_payload) {
        Some(bytes) => shown(bytes),
        None => (None, None),
    };
    let filter = |(filter, options): (std::borrow::Cow<'_, str>, Option<u8>)| Filter {
        filter: filter.into_owned(),
        qos: options.map(|options| options & 0b11),
    };
    Packet {
        time: date(seen.at),
        direction: seen.direction.label().to_owned(),
        packet_type: start.packet_type.label().to_owned(),
        size: start.size,
        dup: flag(3),
        qos: is_publish.then_some(start.flags >> 1 & 0b11),
        retain: flag(0),
        packet_id: header.packet_id,
        topic: header.topic.map(Into::into),
        topic_alias: header.topic_alias,
        filters: header.filters.into_iter().map(filter).collect(),
        codes: header.codes,
        reason: header.reason.map(Into::into),
        session_present: header.session_present,
        payload_size: header.payload_length,
        payload,
        payload_base64,
        cut: header.is_cut,
    }
}

/// A payload's beginning as text, or else in base64.
fn shown(payload: &[u8]) -> (Option<String>, Option<String>) {
    let beginning = &payload[..payload.len().min(MOST_OF_A_PAYLOAD)];
    match std::str::from_utf8(beginning) {
        Ok(text) => (Some(text.to_owned()), None),
        // The last sign was cut.
        Err(error) if error.error_len().is_none() && beginning.len() >= MOST_OF_A_PAYLOAD => {
            (Some(String::from_utf8_lossy(&beginning[..error.valid_up_to()]).into_owned()), None)
        }
        Err(_) => (None, Some(STANDARD.encode(beginning))),
    }
}

/// RFC 3339, in UTC.
pub(super) fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::PacketStart;
    use crate::tunnel::Direction;

    fn publish(flags: u8, body: &[u8]) -> Seen {
        let length = body.len() as u32;
        let start = PacketStart { packet_type: PacketType::Publish, flags, size: length + 2 };
        let (direction, at) = (Direction::Up, SystemTime::UNIX_EPOCH);
        Seen { direction, at, start, body_length: length, body: body.to_vec(), missed: 0 }
    }

    #[test]
    fn payload_is_told_when_asked_for() {
        let seen = publish(0b1011, b"\0\x01t\0\x07hey");
        let told = tell(&seen, Level::V311, false);
        assert_eq!((told.payload.as_deref(), told.payload_size), (None, Some(3)));
        assert_eq!((told.dup, told.qos, told.retain), (Some(true), Some(1), Some(true)));
        assert_eq!((told.topic.as_deref(), told.packet_id), (Some("t"), Some(7)));
        assert_eq!(tell(&seen, Level::V311, true).payload.as_deref(), Some("hey"));
        let told = tell(&publish(0, b"\0\x01t\xff\0"), Level::V311, true);
        assert_eq!((told.payload, told.payload_base64.as_deref()), (None, Some("/wA=")));
    }

    #[test]
    fn of_a_long_payload_the_beginning_is_told_to_a_whole_sign() {
        let mut body = b"\0\x01t".to_vec();
        body.extend("aü".repeat(MOST_OF_A_PAYLOAD).bytes());
        let told = tell(&publish(0, &body), Level::V311, true);
        assert_eq!(told.payload_size, Some(3 * MOST_OF_A_PAYLOAD as u32));
        let payload = told.payload.unwrap();
        assert!((MOST_OF_A_PAYLOAD - 1..=MOST_OF_A_PAYLOAD).contains(&payload.len()), "{}", payload.len());
    }

    #[test]
    fn others_have_no_flags_of_a_publish() {
        let start = PacketStart { packet_type: PacketType::Subscribe, flags: 2, size: 10 };
        let body = b"\0\x02\0\x03a/#\x01".to_vec();
        let at = SystemTime::UNIX_EPOCH;
        let seen = Seen { direction: Direction::Up, at, start, body_length: 8, body, missed: 0 };
        let json = serde_json::to_string(&tell(&seen, Level::V311, true)).unwrap();
        assert_eq!(
            json,
            r#"{"time":"1970-01-01T00:00:00.000Z","direction":"up","type":"subscribe","size":10,"packet_id":2,"filters":[{"filter":"a/#","qos":1}]}"#
        );
    }
}
