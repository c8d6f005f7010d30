//! What stands behind a packet's fixed header (MQTT 2.2), for people who look on: read as far as it is there, and
//! believed by nobody.

use std::borrow::Cow;

use super::fields::Fields;
use super::fields::property::{self, Shape};
use super::{Level, PacketStart, PacketType};

/// The variable header, and where the payload begins. What is not there, or was not copied, is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct VariableHeader<'a> {
    /// The packet identifier.
    pub packet_id: Option<u16>,
    /// A PUBLISH's topic.
    pub topic: Option<Cow<'a, str>>,
    /// The number that stands for the topic (MQTT 5, 3.3.2.3.4).
    pub topic_alias: Option<u16>,
    /// Topic filters; of a SUBSCRIBE with their options, whose lowest two bits are the QoS.
    pub filters: Vec<(Cow<'a, str>, Option<u8>)>,
    /// Return codes or reason codes.
    pub codes: Vec<u8>,
    /// Whether the broker still had the session, of a CONNACK.
    pub session_present: Option<bool>,
    /// Words for the codes (MQTT 5).
    pub reason: Option<Cow<'a, str>>,
    /// A PUBLISH's payload, as far as it is there.
    pub payload: Option<&'a [u8]>,
    /// How long the payload is, in bytes.
    pub payload_length: Option<u32>,
    /// Whether there should be more of it than could be read.
    pub is_cut: bool,
}

impl<'a> VariableHeader<'a> {
    /// What a packet says that begins with `start`; `body` is the beginning of the `body_length` bytes behind its
    /// fixed header.
    #[must_use]
    pub fn read(start: PacketStart, body_length: u32, body: &'a [u8], level: Level) -> Self {
        let mut header = Self::default();
        let mut fields = Fields::new(body);
        let is_whole = header.read_fields(start, &mut fields, level).is_some();
        if start.packet_type != PacketType::Publish {
            header.is_cut = !is_whole || body.len() < body_length as usize;
        } else if is_whole {
            let payload = fields.rest();
            header.payload_length = Some(body_length - (body.len() - payload.len()) as u32);
            header.payload = Some(payload);
        } else {
            header.is_cut = true;
        }
        header
    }

    /// `None` where the fields end too early.
    fn read_fields(&mut self, start: PacketStart, fields: &mut Fields<'a>, level: Level) -> Option<()> {
        let is_v5 = level == Level::V5;
        match start.packet_type {
            PacketType::Connack => {
                self.session_present = Some(fields.byte("").ok()? & 1 == 1);
                self.codes.push(fields.byte("").ok()?);
            }
            PacketType::Publish => {
                self.topic = Some(text(fields)?);
                if start.flags & 0b0110 != 0 {
                    self.packet_id = Some(fields.two("").ok()?);
                }
            }
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
                self.packet_id = Some(fields.two("").ok()?);
                self.read_code(fields);
            }
            PacketType::Subscribe | PacketType::Suback | PacketType::Unsubscribe | PacketType::Unsuback => {
                self.packet_id = Some(fields.two("").ok()?);
            }
            PacketType::Disconnect | PacketType::Auth => self.read_code(fields),
            PacketType::Connect | PacketType::Pingreq | PacketType::Pingresp => return Some(()),
        }
        // Where all is well, codes and properties may be left out (MQTT 5, 3.4.2.1).
        if is_v5 && (start.packet_type == PacketType::Publish || !fields.is_empty()) {
            self.read_properties(fields)?;
        }
        match start.packet_type {
            PacketType::Subscribe | PacketType::Unsubscribe => {
                while !fields.is_empty() {
                    let filter = text(fields)?;
                    let options = start.packet_type == PacketType::Subscribe;
                    let options = if options { Some(fields.byte("").ok()?) } else { None };
                    self.filters.push((filter, options));
                }
            }
            PacketType::Suback | PacketType::Unsuback => self.codes.extend_from_slice(fields.rest()),
            _ => {}
        }
        Some(())
    }

    fn read_code(&mut self, fields: &mut Fields<'_>) {
        self.codes.extend(fields.byte("").ok());
    }

    /// Two of them are told; to find them the length of all must be known (MQTT 5, 2.2.2.2).
    fn read_properties(&mut self, fields: &mut Fields<'a>) -> Option<()> {
        let mut properties = Fields::new(fields.take_counted()?);
        while !properties.is_empty() {
            let id = properties.byte("").ok()?;
            // How long an unknown one is nobody knows; what follows the properties is known all the same.
            let Some(shape) = property::shape(id) else { return Some(()) };
            match id {
                property::TOPIC_ALIAS => self.topic_alias = Some(properties.two("").ok()?),
                property::REASON => self.reason = Some(text(&mut properties)?),
                _ => skip(&mut properties, shape)?,
            }
        }
        Some(())
    }
}

/// Past a property's value, whatever it is; `None` where it ends too early.
fn skip(fields: &mut Fields<'_>, shape: Shape) -> Option<()> {
    match shape {
        Shape::Byte => fields.byte("").ok().map(drop),
        Shape::Two => fields.two("").ok().map(drop),
        Shape::Four => fields.four("").ok().map(drop),
        Shape::Variable => fields.variable().ok()?.map(drop),
        Shape::Binary | Shape::Text => fields.binary("").ok().map(drop),
        Shape::TwoTexts => fields.binary("").and_then(|_| fields.binary("")).ok().map(drop),
    }
}

/// Whether it is UTF-8 is between client and broker.
fn text<'a>(fields: &mut Fields<'a>) -> Option<Cow<'a, str>> {
    fields.binary("").ok().map(String::from_utf8_lossy)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use mqttbytes::{QoS, v4, v5};

    use super::*;
    use crate::mqtt::PacketSkim;

    fn start(bytes: &[u8]) -> (PacketStart, &[u8]) {
        let mut skim = PacketSkim::new(usize::MAX);
        let (used, start) = skim.next(bytes, [0; 4]).unwrap();
        (start.unwrap(), &bytes[used..])
    }

    fn read(bytes: &[u8], level: Level) -> VariableHeader<'_> {
        let (start, body) = start(bytes);
        VariableHeader::read(start, body.len() as u32, body, level)
    }

    fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        bytes.to_vec()
    }

    #[test]
    fn a_publish_has_topic_identifier_and_payload() {
        let publish = v4::Publish { pkid: 7, ..v4::Publish::new("a/ü", QoS::AtLeastOnce, "hey") };
        let bytes = written(|bytes| assert!(publish.write(bytes).is_ok()));
        let header = read(&bytes, Level::V311);
        assert_eq!((header.topic.as_deref(), header.packet_id), (Some("a/ü"), Some(7)));
        assert_eq!((header.payload, header.payload_length), (Some(&b"hey"[..]), Some(3)));

        let mut publish = v5::Publish::new("", QoS::AtMostOnce, "hey");
        publish.properties = Some(v5::PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(9),
            topic_alias: Some(5),
            response_topic: Some("to".into()),
            correlation_data: Some("data".into()),
            user_properties: vec![("k".into(), "v".into())],
            subscription_identifiers: vec![300],
            content_type: Some("text".into()),
        });
        let bytes = written(|bytes| assert!(publish.write(bytes).is_ok()));
        let header = read(&bytes, Level::V5);
        assert_eq!((header.topic.as_deref(), header.topic_alias), (Some(""), Some(5)));
        assert_eq!((header.packet_id, header.payload), (None, Some(&b"hey"[..])));
        assert!(!header.is_cut);
    }

    #[test]
    fn others_have_filters_and_codes() {
        let bytes = b"\x82\x0d\0\x02\0\x03a/#\x01\0\x01b\x02";
        let header = read(bytes, Level::V311);
        assert_eq!(header.packet_id, Some(2));
        assert_eq!(header.filters, [("a/#".into(), Some(1)), ("b".into(), Some(2))]);
        let header = read(b"\xA2\x08\0\x09\0\0\x03a/#", Level::V5);
        assert_eq!((header.packet_id, header.filters), (Some(9), vec![("a/#".into(), None)]));
        assert_eq!(read(b"\x90\x04\0\x02\x01\x80", Level::V311).codes, [1, 0x80]);
        assert_eq!(read(b"\x90\x04\0\x02\0\x87", Level::V5).codes, [0x87]);
        assert_eq!(read(b"\xB0\x02\0\x02", Level::V311).packet_id, Some(2));
        let header = read(b"\x20\x02\x01\x00", Level::V311);
        assert_eq!((header.session_present, header.codes), (Some(true), vec![0]));
        assert!(read(b"\x40\x02\0\x07", Level::V5).codes.is_empty());
        assert_eq!(read(b"\x40\x03\0\x07\x10", Level::V5).codes, [0x10]);
        let header = read(b"\xE0\x07\x8B\x05\x1F\0\x02hm", Level::V5);
        assert_eq!((header.codes, header.reason.as_deref()), (vec![0x8B], Some("hm")));
        assert_eq!(read(b"\xE0\0", Level::V5), VariableHeader::default());
        assert_eq!(read(b"\xC0\0", Level::V311), VariableHeader::default());
    }

    #[test]
    fn what_was_not_copied_is_left_out() {
        let bytes = written(|bytes| {
            let publish = v5::Publish::new("topic", QoS::AtMostOnce, vec![b'x'; 100]);
            publish.write(bytes).unwrap();
        });
        let (start, body) = start(&bytes);
        for end in 0..body.len() {
            let header = VariableHeader::read(start, body.len() as u32, &body[..end], Level::V5);
            assert_eq!(header.topic.is_some(), end >= 7, "{end}");
            assert_eq!(header.is_cut, end < 8, "{end}");
            assert_eq!(header.payload_length, (end >= 8).then_some(100), "{end}");
        }
    }

    #[test]
    fn rubbish_is_no_harm() {
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let packet_type = PacketType::ALL[random.usize(..15)];
            let body: Vec<u8> = (0..random.usize(..40))
                .map(|_| if random.bool() { random.u8(..4) } else { random.u8(..) })
                .collect();
            let start = PacketStart { packet_type, flags: random.u8(..16), size: body.len() as u32 + 2 };
            let level = [Level::V311, Level::V5][random.usize(..2)];
            let header = VariableHeader::read(start, body.len() as u32, &body, level);
            assert!(header.payload_length.unwrap_or_default() as usize <= body.len());
        }
    }
}
