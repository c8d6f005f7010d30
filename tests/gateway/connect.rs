//! The first packet: what is a CONNECT, what is not, and what waits behind it.

use std::time::Duration;

use brokergate::websocket::{FrameHeader, Mask, Opcode, frame};
use tokio_tungstenite::tungstenite;

use super::harness::{
    Broker, Client, Gate, KINDS, Kind, Message, Session, accepted, connect_v3, connect_v5, connect_v31,
    publish, simple,
};

const SUBSCRIBE: [u8; 8] = [0x82, 6, 0, 1, 0, 1, b't', 0];

/// One frame of a message, masked.
fn part(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mask = Mask::new([0x11, 0x22, 0x33, 0x44]);
    let header = FrameHeader { fin, opcode, mask: Some(mask), length: payload.len() as u64 }.encode();
    let mut bytes = header.to_vec();
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask.apply(&mut bytes[start..]);
    bytes
}

#[tokio::test]
async fn every_version_of_mqtt_passes_unchanged() {
    for kind in KINDS {
        for connect in [connect_v31("old", 60), connect_v3("middle", 60), connect_v5("new", 60)] {
            let mut session = Session::open(kind, &connect, "").await;
            session.client.say(&[0xE0, 0]).await;
            assert_eq!(session.visit.hear(2).await, [0xE0, 0]);
            session.ended("client_closed", "client").await;
        }
    }
}

#[tokio::test]
async fn a_connect_may_be_split_at_any_byte() {
    let connect = connect_v5("split", 60);
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        for at in 0..=connect.len() {
            let (one, two) = connect.split_at(at);
            let fragments =
                [part(Opcode::Binary, false, one), part(Opcode::Continuation, true, two)].concat();
            let messages = [part(Opcode::Binary, true, one), part(Opcode::Binary, true, two)].concat();
            let pinged = [
                part(Opcode::Binary, false, one),
                part(Opcode::Ping, true, b"?"),
                part(Opcode::Continuation, true, two),
            ]
            .concat();
            for (bytes, pings) in [(fragments, false), (messages, false), (pinged, true)] {
                let mut client = Client::plain(gate.plain()).await;
                client.say_raw(&bytes).await;
                if pings {
                    assert_eq!(client.hear().await, Message::Pong(b"?".to_vec()));
                }
                greet(&broker, kind, &mut client, &connect).await;
            }
        }
    }
}

/// The broker takes the CONNECT; then a packet each way.
async fn greet(broker: &Broker, kind: Kind, client: &mut Client, connect: &[u8]) {
    let mut visit = broker.visit(kind).await;
    visit.welcome(connect).await;
    client.hear_mqtt(accepted(connect).len()).await;
    client.say(&[0xC0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xC0, 0]);
    visit.say(&[0xD0, 0]).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0xD0, 0]));
}

#[tokio::test]
async fn a_connect_may_come_byte_by_byte() {
    let connect = connect_v3("drip", 60);
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let mut client = Client::tls(gate.tls()).await;
        for byte in part(Opcode::Binary, true, &connect) {
            // Each is a record of its own.
            client.say_raw(&[byte]).await;
        }
        greet(&broker, kind, &mut client, &connect).await;
    }
}

#[tokio::test]
async fn what_is_pipelined_waits_for_the_connack_and_then_passes_whole() {
    let connect = connect_v3("eager", 60);
    let more = [&SUBSCRIBE[..], &publish(4, 200), &SUBSCRIBE].concat();
    let all = [&connect[..], &more].concat();
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let ends = [connect.len(), connect.len() + 1, connect.len() + 5, all.len() - 1, all.len()];
        let mut ways: Vec<Vec<u8>> = Vec::new();
        for end in ends {
            let (one, two) = all.split_at(end);
            // Two messages, and two fragments of one; a ping in between is not the broker's.
            ways.push([part(Opcode::Binary, true, one), part(Opcode::Binary, true, two)].concat());
            let ping = part(Opcode::Ping, true, b"");
            let (first, last) = (part(Opcode::Binary, false, one), part(Opcode::Continuation, true, two));
            ways.push([&first[..], &ping, &last].concat());
            let (half, rest) = two.split_at(two.len() / 2);
            let middle = part(Opcode::Continuation, false, half);
            ways.push([first, middle, part(Opcode::Continuation, true, rest)].concat());
        }
        for (index, way) in ways.iter().enumerate() {
            // The cut between two writes, which are two segments or one.
            for cut in [way.len(), connect.len() + 8, connect.len() + 11, way.len() - 3] {
                let mut client = Client::plain(gate.plain()).await;
                client.say_raw(&way[..cut]).await;
                let mut visit = broker.visit(kind).await;
                visit.welcome(&connect).await;
                client.say_raw(&way[cut..]).await;
                assert_eq!(visit.hear(more.len()).await, more, "{kind:?} way {index} cut {cut}");
                assert!(visit.unheard().is_empty());
                // The stream of frames is whole behind it.
                client.say(&[0xC0, 0]).await;
                assert_eq!(visit.hear(2).await, [0xC0, 0]);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_pipelines_too_much_waits_and_loses_nothing() {
    let connect = connect_v3("flood", 60);
    let flood = publish(4, 3_000_000);
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate =
            Gate::start(&simple(&[broker.endpoint(kind)], "[limits]\nmax_pending_size = \"1 KiB\"")).await;
        let mut client = Client::tls(gate.tls()).await;
        client.say(&connect).await;
        let mut visit = broker.visit(kind).await;
        let said = flood.clone();
        let saying = tokio::spawn(async move {
            client.say(&said).await;
            client
        });
        visit.welcome(&connect).await;
        assert!(visit.hear(flood.len()).await == flood);
        drop(saying.await.unwrap());
        drop(visit);
        gate.idle().await;
    }
}

#[tokio::test]
async fn pings_are_answered_before_there_is_a_broker() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "")).await;
    let mut client = Client::plain(gate.plain()).await;
    client.send(tungstenite::Message::Ping("before".into())).await;
    assert_eq!(client.hear().await, Message::Pong(b"before".to_vec()));
    let connect = connect_v3("one", 60);
    client.say(&connect).await;
    let mut visit = broker.visit_mqtt().await;
    client.send(tungstenite::Message::Ping("while".into())).await;
    assert_eq!(client.hear().await, Message::Pong(b"while".to_vec()));
    visit.welcome(&connect).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
}

/// What a client says first, what it is told, and the ending's label. No broker is dialled.
async fn first_words(bytes: &[u8], told: &[u8], code: Option<u16>, label: &str) {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "[limits]\nmax_connect_size = \"1 KiB\"")).await;
    for tls in [false, true] {
        let mut client = Client::of(&gate, tls).await;
        client.say_raw(bytes).await;
        assert_eq!(client.hear_all().await, (told.to_vec(), code), "{label}: {bytes:?}");
    }
    gate.ended(label, "client").await;
    gate.idle().await;
    // The first that the broker sees is this.
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3("good", 60)).await;
    broker.visit_mqtt().await.welcome(&connect_v3("good", 60)).await;
}

fn message(payload: &[u8]) -> Vec<u8> {
    part(Opcode::Binary, true, payload)
}

#[tokio::test]
async fn what_is_no_connect_never_reaches_a_broker() {
    first_words(&message(b"GET / HTTP/1.1\r\n\r\n"), &[], Some(1002), "connect_refused").await;
    first_words(&message(&[0xC0, 0]), &[], Some(1002), "connect_refused").await;
    first_words(&message(&[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), &[], Some(1002), "connect_refused").await;
    first_words(&message(b"\x10\x0c\0\x04HTTP\x04\x02\0\x3c\0\0"), &[], Some(1002), "connect_refused").await;
}

#[tokio::test]
async fn a_connect_that_must_be_refused_gets_its_connack() {
    let level = |level: u8| [b"\x10\x0c\0\x04MQTT", &[level][..], b"\x02\0\x3c\0\0"].concat();
    first_words(&message(&level(6)), &[0x20, 3, 0, 0x84, 0], Some(1002), "connect_refused").await;
    first_words(&message(&level(2)), &[0x20, 2, 0, 1], Some(1002), "connect_refused").await;
    // 3.1.1 without a ClientID and without clean session.
    let nameless = b"\x10\x0c\0\x04MQTT\x04\0\0\x3c\0\0";
    first_words(&message(nameless), &[0x20, 2, 0, 2], Some(1002), "connect_refused").await;
    // A reserved flag: 3.1.1 has no code for it, 5 has.
    first_words(&message(b"\x10\x0c\0\x04MQTT\x04\x03\0\x3c\0\0"), &[], Some(1002), "connect_refused").await;
    let flagged = b"\x10\x0d\0\x04MQTT\x05\x03\0\x3c\0\0\0";
    first_words(&message(flagged), &[0x20, 3, 0, 0x81, 0], Some(1002), "connect_refused").await;
}

#[tokio::test]
async fn a_connect_over_the_limit_is_too_big() {
    let head = b"\x10\xff\x7f\0\x04MQTT\x05\x02\0\x3c";
    first_words(&message(head), &[0x20, 3, 0, 0x95, 0], Some(1009), "connect_refused").await;
    let head = b"\x10\xff\x7f\0\x04MQTT\x04\x02\0\x3c";
    first_words(&message(head), &[], Some(1009), "connect_refused").await;
}

#[tokio::test]
async fn a_broken_frame_before_the_connect_has_its_code() {
    first_words(&part(Opcode::Text, true, b"hi"), &[], Some(1003), "client_frame").await;
    first_words(&frame(Opcode::Binary, &connect_v3("bare", 60), None), &[], Some(1002), "client_frame").await;
    first_words(&part(Opcode::Continuation, true, b"hi"), &[], Some(1002), "client_frame").await;
    first_words(&[0xF2, 0x80], &[], Some(1002), "client_frame").await;
}

#[tokio::test]
async fn a_client_that_closes_before_its_connect_is_answered() {
    first_words(&part(Opcode::Close, true, &1001_u16.to_be_bytes()), &[], Some(1000), "client_closed").await;
}

#[tokio::test]
async fn a_client_without_a_connect_is_asked_to_leave() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "[limits]\nconnect_timeout = \"200ms\"")).await;
    let mut silent = Client::plain(gate.plain()).await;
    assert_eq!(silent.hear().await, Message::Close(1008, "no MQTT CONNECT came in time".into()));
    // Bytes and pings do not buy time.
    let mut slow = Client::tls(gate.tls()).await;
    let bytes = part(Opcode::Binary, true, &connect_v3("slow", 60));
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for byte in &bytes[..bytes.len() - 1] {
        tick.tick().await;
        slow.say_raw(&[*byte]).await;
    }
    assert_eq!(slow.hear_close().await, Some(1008));
    drop((silent, slow));
    gate.ended("connect_timeout", "client").await;
    gate.idle().await;
}

#[tokio::test]
async fn a_client_that_vanishes_before_its_connect_holds_nothing() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "")).await;
    for tls in [false, true] {
        let mut client = Client::of(&gate, tls).await;
        client.say_raw(&part(Opcode::Binary, true, &connect_v3("half", 60))[..9]).await;
        drop(client);
    }
    gate.ended("client_vanished", "client").await;
    gate.idle().await;
}

#[tokio::test]
async fn empty_frames_around_the_connect_are_harmless() {
    let connect = connect_v3("one", 60);
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let mut client = Client::plain(gate.plain()).await;
        let bytes = [
            part(Opcode::Binary, true, b""),
            part(Opcode::Binary, false, b""),
            part(Opcode::Continuation, false, &connect),
            part(Opcode::Continuation, false, b""),
            part(Opcode::Continuation, true, b""),
        ];
        client.say_raw(&bytes.concat()).await;
        greet(&broker, kind, &mut client, &connect).await;
    }
}

#[tokio::test]
async fn a_goodbye_that_comes_before_the_connack_reaches_the_broker() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let connect = connect_v3("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        client.say(&[0xE0, 0]).await;
        client.say_frame(Opcode::Close, &1000_u16.to_be_bytes()).await;
        let mut visit = broker.visit(kind).await;
        visit.welcome(&connect).await;
        assert_eq!(visit.hear_all().await, [0xE0, 0], "{kind:?}");
        drop((client, visit));
        gate.ended("client_closed", "client").await;
        gate.idle().await;
    }
}
