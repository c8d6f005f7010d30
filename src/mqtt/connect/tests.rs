//! CONNECTs as clients send them and as they must not, checked against another decoder.

use bytes::{Bytes, BytesMut};
use mqttbytes::{QoS, v4, v5};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 64 * 1024;

fn parse(body: &[u8]) -> Result<Connect, ConnectError> {
    assert!(body.len() < 128);
    let packet = [&[0x10, body.len() as u8], body].concat();
    Connect::parse(&packet, LIMIT).map(|connect| connect.expect("the packet is whole"))
}

#[test]
fn one_of_each_version() {
    let old = parse(b"\0\x06MQIsdp\x03\xC2\0\x3C\0\x1Aa ClientID over 23 letters\0\x01u\0\x01p").unwrap();
    let expected = Connect {
        level: Level::V31,
        client_id: "a ClientID over 23 letters".into(),
        username: Some("u".into()),
        keepalive: 60,
        clean_start: true,
        will: false,
        session_expiry: None,
        receive_maximum: None,
        maximum_packet_size: None,
        size: 2 + 12 + 28 + 3 + 3,
    };
    assert_eq!(old, expected);

    let middle = parse(b"\0\x04MQTT\x04\x2E\0\0\0\0\0\x01t\0\x02\0\xFF").unwrap();
    assert_eq!((middle.level, middle.will, middle.clean_start), (Level::V311, true, true));
    assert_eq!((&*middle.client_id, middle.username, middle.keepalive), ("", None, 0));

    let new =
        parse(b"\0\x04MQTT\x05\x40\0\x0A\x0D\x11\0\0\0\x07\x21\0\x08\x27\0\0\x10\0\0\0\0\x01p").unwrap();
    assert_eq!((new.level, new.clean_start, new.keepalive), (Level::V5, false, 10));
    assert_eq!((new.session_expiry, new.receive_maximum), (Some(7), Some(8)));
    assert_eq!(new.maximum_packet_size, Some(4096));
}

#[test]
fn in_3_1_what_is_announced_may_be_missing() {
    let connect = parse(b"\0\x06MQIsdp\x03\xC2\0\x3C\0\x01c").unwrap();
    assert_eq!(connect.username, None);
    let connect = parse(b"\0\x06MQIsdp\x03\xC3\0\x3C\0\x01c\0\x01u").unwrap();
    assert_eq!(connect.username.as_deref(), Some("u"));
}

#[test]
fn refused_by_the_first_bytes() {
    let header = |error| Err(ConnectError::Header(error));
    type Judgement = Result<Option<Connect>, ConnectError>;
    let table: &[(&[u8], Judgement)] = &[
        (b"", Ok(None)),
        (b"\x10", Ok(None)),
        (b"G", Err(ConnectError::NotConnect { first: b'G' })),
        (b"\x11", Err(ConnectError::NotConnect { first: 0x11 })),
        (b"\xC0", Err(ConnectError::NotConnect { first: 0xC0 })),
        (b"\x10\xFF\xFF\xFF\xFF", header(PacketError::LengthTooLong)),
        (b"\x10\xFF\xFF\x03", Err(ConnectError::TooLarge { size: 65_539, limit: LIMIT, level: None })),
        (b"\x10\xFC\xFF\x03", Ok(None)),
        (b"\x10\x20\0", Ok(None)),
        (b"\x10\x20\x01", Err(ConnectError::ProtocolName)),
        (b"\x10\x20\0\x05", Err(ConnectError::ProtocolName)),
        (b"\x10\x20\0\x04MQ", Ok(None)),
        (b"\x10\x20\0\x04mq", Err(ConnectError::ProtocolName)),
        (b"\x10\x20\0\x04MQTT\x03", Err(ConnectError::ProtocolLevel { level: 3 })),
        (b"\x10\x20\0\x04MQTT\x04", Ok(None)),
        (
            b"\x10\x20\0\x04MQTT\x04\x01",
            Err(ConnectError::Malformed { level: Level::V311, fault: Fault::ReservedFlag }),
        ),
        (b"\x10\0", Err(ConnectError::ProtocolName)),
        (b"\x10\x06\0\x04MQTT", Err(ConnectError::ProtocolName)),
        (b"\x10\x07\0\x04MQTT\x04", Err(ConnectError::ProtocolName)),
    ];
    for (bytes, expected) in table {
        assert_eq!(&Connect::parse(bytes, LIMIT), expected, "{bytes:02x?}");
    }
}

#[test]
fn what_breaks_the_rules_is_named() {
    let table: &[(&[u8], Fault)] = &[
        (b"\0\x04MQTT\x04\x1A\0\0\0\x01c", Fault::WillQos),
        (b"\0\x04MQTT\x04\x1E\0\0\0\x01c", Fault::WillQos),
        (b"\0\x04MQTT\x04\x0A\0\0\0\x01c", Fault::WillFlags),
        (b"\0\x04MQTT\x04\x22\0\0\0\x01c", Fault::WillFlags),
        (b"\0\x04MQTT\x04\x42\0\0\0\x01c\0\0", Fault::PasswordWithoutUsername),
        (b"\0\x06MQIsdp\x03\x42\0\0\0\x01c\0\0", Fault::PasswordWithoutUsername),
        (b"\0\x04MQTT\x05\x03\0\0\0\0\x01c", Fault::ReservedFlag),
        (b"\0\x04MQTT\x04\x02", Fault::Truncated("keepalive")),
        (b"\0\x04MQTT\x04\x02\0\0", Fault::Truncated("ClientID")),
        (b"\0\x04MQTT\x04\x02\0\0\0\x02c", Fault::Truncated("ClientID")),
        (b"\0\x04MQTT\x04\x02\0\0\0\x01\xFF", Fault::NotUtf8("ClientID")),
        (b"\0\x04MQTT\x04\x02\0\0\0\x03\xED\xA0\x80", Fault::NotUtf8("ClientID")),
        (b"\0\x04MQTT\x04\x02\0\0\0\x01\0", Fault::Nul("ClientID")),
        (b"\0\x04MQTT\x04\x06\0\0\0\x01c\0\x02t", Fault::Truncated("Will topic")),
        (b"\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01t", Fault::Truncated("Will message")),
        (b"\0\x04MQTT\x04\x82\0\0\0\x01c", Fault::Truncated("user name")),
        (b"\0\x04MQTT\x04\xC2\0\0\0\x01c\0\x01u", Fault::Truncated("password")),
        (b"\0\x04MQTT\x04\x02\0\0\0\x01c!!", Fault::Trailing(2)),
        (b"\0\x06MQIsdp\x03\x02\0\0\0\x01c!", Fault::Trailing(1)),
        (b"\0\x04MQTT\x05\x02\0\0", Fault::Truncated("property length")),
        (b"\0\x04MQTT\x05\x02\0\0\xFF\xFF\xFF\xFF", Fault::PropertyLength),
        (b"\0\x04MQTT\x05\x02\0\0\x09\0\x01c", Fault::Truncated("properties")),
        (b"\0\x04MQTT\x05\x02\0\0\x03\x11\0\0\0\x01c", Fault::Truncated("properties")),
        (b"\0\x04MQTT\x05\x02\0\0\x02\x7F\0\0\x01c", Fault::Property(0x7F)),
        (b"\0\x04MQTT\x05\x02\0\0\x02\xFF\0\0\x01c", Fault::Property(0xFF)),
        (b"\0\x04MQTT\x05\x02\0\0\x05\x18\0\0\0\0\0\x01c", Fault::Property(0x18)),
        (b"\0\x04MQTT\x05\x02\0\0\x06\x21\0\x01\x21\0\x01\0\x01c", Fault::DuplicateProperty(0x21)),
        (b"\0\x04MQTT\x05\x02\0\0\x03\x21\0\0\0\x01c", Fault::PropertyValue(0x21)),
        (b"\0\x04MQTT\x05\x02\0\0\x05\x27\0\0\0\0\0\x01c", Fault::PropertyValue(0x27)),
        (b"\0\x04MQTT\x05\x02\0\0\x02\x17\x02\0\x01c", Fault::PropertyValue(0x17)),
        (b"\0\x04MQTT\x05\x02\0\0\x04\x16\0\x01d\0\x01c", Fault::AuthenticationData),
        (b"\0\x04MQTT\x05\x02\0\0\x06\x26\0\x01k\0\x01v\0\x01c", Fault::Truncated("user property")),
        (b"\0\x04MQTT\x05\x06\0\0\0\0\x01c\x05\x11\0\0\0\0\0\0\0\0", Fault::Property(0x11)),
        (b"\0\x04MQTT\x05\x06\0\0\0\0\x01c\x04\x01\0\x01\0\0\0\0\0", Fault::DuplicateProperty(0x01)),
    ];
    for (body, expected) in table {
        match parse(body) {
            Err(ConnectError::Malformed { fault, .. }) => assert_eq!(fault, *expected, "{body:02x?}"),
            other => panic!("{body:02x?}: {other:?}"),
        }
    }
}

#[test]
fn a_refusal_is_said_in_the_clients_version() {
    let table: &[(&[u8], Option<&[u8]>)] = &[
        // A level that is not: old ones and a bridge's in the old form, new ones in the new form.
        (b"\0\x04MQTT\x03", Some(&[0x20, 2, 0, 1])),
        (b"\0\x04MQTT\x84", Some(&[0x20, 2, 0, 1])),
        (b"\0\x06MQIsdp\x04", Some(&[0x20, 2, 0, 1])),
        (b"\0\x04MQTT\x06", Some(&[0x20, 3, 0, 0x84, 0])),
        // An empty ClientID.
        (b"\0\x06MQIsdp\x03\x02\0\0\0\0", Some(&[0x20, 2, 0, 2])),
        (b"\0\x04MQTT\x04\0\0\0\0\0", Some(&[0x20, 2, 0, 2])),
        // Malformed, and a protocol error.
        (b"\0\x04MQTT\x05\x03", Some(&[0x20, 3, 0, 0x81, 0])),
        (b"\0\x04MQTT\x05\x02\0\0\x03\x21\0\0\0\x01c", Some(&[0x20, 3, 0, 0x82, 0])),
        // Where there is no code, the connection is just closed.
        (b"\0\x04MQTT\x04\x03", None),
        (b"\0\x04HTTP", None),
    ];
    for (body, expected) in table {
        let error = parse(body).unwrap_err();
        assert_eq!(error.reply().as_deref(), *expected, "{error}");
    }
    for (level, expected) in [(4, None), (5, Some(&[0x20, 3, 0, 0x95, 0][..]))] {
        let bytes = [b"\x10\xFF\xFF\x03\0\x04MQTT", &[level][..], &[0]].concat();
        let error = Connect::parse(&bytes, LIMIT).unwrap_err();
        assert_eq!(error.label(), "too_large");
        assert_eq!(error.reply().as_deref(), expected);
    }
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', "0"))
}

prop_compose! {
    fn connect_v4()(
        client_id in text(),
        keep_alive: u16,
        clean_session: bool,
        will in prop::option::of((text(), any::<Vec<u8>>(), any::<bool>())),
        // mqttbytes leaves out an empty user name.
        login in prop::option::of((text().prop_map(|name| name + "u"), text())),
    ) -> v4::Connect {
        let mut connect = v4::Connect::new(client_id);
        connect.keep_alive = keep_alive;
        connect.clean_session = clean_session;
        connect.last_will =
            will.map(|(topic, message, retain)| v4::LastWill::new(topic, message, QoS::ExactlyOnce, retain));
        connect.login = login.map(|(username, password)| v4::Login::new(username, password));
        connect
    }
}

prop_compose! {
    fn will_properties()(
        delay_interval: Option<u32>,
        payload_format_indicator in prop::option::of(0..=1_u8),
        message_expiry_interval: Option<u32>,
        content_type in prop::option::of(text()),
        response_topic in prop::option::of(text()),
        correlation_data: Option<Vec<u8>>,
        user_properties in prop::collection::vec((text(), text()), 0..3),
    ) -> v5::WillProperties {
        v5::WillProperties {
            delay_interval,
            payload_format_indicator,
            message_expiry_interval,
            content_type,
            response_topic,
            correlation_data: correlation_data.map(Bytes::from),
            user_properties,
        }
    }
}

prop_compose! {
    fn connect_properties()(
        session_expiry_interval: Option<u32>,
        receive_maximum in prop::option::of(1_u16..),
        max_packet_size in prop::option::of(1_u32..),
        topic_alias_max: Option<u16>,
        request in prop::option::of(0..=1_u8),
        user_properties in prop::collection::vec((text(), text()), 0..3),
        authentication in prop::option::of((text(), any::<Vec<u8>>())),
    ) -> v5::ConnectProperties {
        let (method, data) = authentication.unzip();
        v5::ConnectProperties {
            session_expiry_interval,
            receive_maximum,
            max_packet_size,
            topic_alias_max,
            request_response_info: request,
            request_problem_info: request,
            user_properties,
            authentication_method: method,
            authentication_data: data.map(Bytes::from),
        }
    }
}

prop_compose! {
    fn connect_v5()(
        simple in connect_v4(),
        properties in prop::option::of(connect_properties()),
        will_properties in prop::option::of(will_properties()),
    ) -> v5::Connect {
        let mut connect = v5::Connect::new(simple.client_id);
        connect.keep_alive = simple.keep_alive;
        connect.clean_session = simple.clean_session;
        connect.properties = properties;
        connect.last_will = simple.last_will.map(|will| v5::LastWill {
            topic: will.topic,
            message: will.message,
            qos: will.qos,
            retain: will.retain,
            properties: will_properties,
        });
        connect.login = simple.login.map(|login| v5::Login::new(login.username, login.password));
        connect
    }
}

fn written_v4(connect: &v4::Connect) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    connect.write(&mut bytes).unwrap();
    bytes.to_vec()
}

fn written_v5(connect: &v5::Connect) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    connect.write(&mut bytes).unwrap();
    bytes.to_vec()
}

proptest! {
    #[test]
    fn mqttbytes_writes_3_1_1_and_we_read_it(theirs in connect_v4(), trailing: Vec<u8>) {
        let mut bytes = written_v4(&theirs);
        let size = bytes.len();
        bytes.extend_from_slice(&trailing);
        let ours = Connect::parse(&bytes, LIMIT);
        if theirs.client_id.is_empty() && !theirs.clean_session {
            prop_assert_eq!(ours, Err(ConnectError::Identifier { level: Level::V311 }));
            return Ok(());
        }
        let expected = Connect {
            level: Level::V311,
            client_id: theirs.client_id.into(),
            username: theirs.login.map(|login| login.username.into()),
            keepalive: theirs.keep_alive,
            clean_start: theirs.clean_session,
            will: theirs.last_will.is_some(),
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            size,
        };
        prop_assert_eq!(ours, Ok(Some(expected)));
    }

    #[test]
    fn mqttbytes_writes_5_and_we_read_it(theirs in connect_v5(), trailing: Vec<u8>) {
        let mut bytes = written_v5(&theirs);
        let size = bytes.len();
        bytes.extend_from_slice(&trailing);
        let properties = theirs.properties.as_ref();
        let expected = Connect {
            level: Level::V5,
            client_id: theirs.client_id.into(),
            username: theirs.login.map(|login| login.username.into()),
            keepalive: theirs.keep_alive,
            clean_start: theirs.clean_session,
            will: theirs.last_will.is_some(),
            session_expiry: properties.and_then(|properties| properties.session_expiry_interval),
            receive_maximum: properties.and_then(|properties| properties.receive_maximum),
            maximum_packet_size: properties.and_then(|properties| properties.max_packet_size),
            size,
        };
        prop_assert_eq!(Connect::parse(&bytes, LIMIT), Ok(Some(expected)));
        for end in 0..size {
            prop_assert_eq!(Connect::parse(&bytes[..end], LIMIT), Ok(None));
        }
    }
}

#[test]
fn a_broken_connect_is_judged_once() {
    let valid: [&[u8]; 3] = [
        b"\x10\x19\0\x06MQIsdp\x03\xC2\0\x3C\0\x03abc\0\x02us\0\x02pw",
        b"\x10\x1F\0\x04MQTT\x04\xEE\0\x3C\0\x03abc\0\x02wt\0\x02wm\0\x02us\0\x02pw",
        b"\x10\x34\0\x04MQTT\x05\xCE\0\x3C\x0F\x11\0\0\0\x07\x21\0\x08\x26\0\x01k\0\x01v\
          \0\x03abc\x04\x03\0\x01t\0\x02wt\0\x02wm\0\x02us\0\x02pw",
    ];
    for packet in valid {
        let connect = Connect::parse(packet, LIMIT).unwrap().unwrap();
        assert_eq!(connect.size, packet.len());
        assert_eq!(connect.username.as_deref(), Some("us"));
    }
    for seed in 0..10_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = valid[random.usize(..valid.len())].to_vec();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        let whole = Connect::parse(&bytes, LIMIT);
        if let Ok(Some(connect)) = &whole {
            let names = connect.client_id.len() + connect.username.as_deref().map_or(0, str::len);
            assert!(names < connect.size && connect.size <= bytes.len(), "seed {seed}");
        }
        // With fewer bytes the answer is the same, or not known yet.
        for end in 0..bytes.len() {
            let part = Connect::parse(&bytes[..end], LIMIT);
            let same = match (&part, &whole) {
                (Err(ConnectError::TooLarge { .. }), Err(ConnectError::TooLarge { .. })) => true,
                _ => part == Ok(None) || part == whole,
            };
            assert!(same, "seed {seed}: {part:?} became {whole:?}");
        }
    }
}
