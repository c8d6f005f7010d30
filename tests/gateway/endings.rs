//! How sessions end: by whose doing, what the client is told, what the broker sees.

use std::time::Duration;

use brokergate::websocket::{Mask, Opcode, close_frame, frame};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};

use super::harness::{
    Broker, CERTIFICATES, Client, Gate, KINDS, Kind, Message, Session, accepted, connect_v3, connect_v5, log,
    publish, secure, simple, until, within,
};

const DISCONNECT: [u8; 2] = [0xE0, 0];

/// A client's close frame with this code.
fn closing(code: u16) -> tokio_tungstenite::tungstenite::Message {
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: code.into(), reason: "".into() };
    tokio_tungstenite::tungstenite::Message::Close(Some(frame))
}

#[tokio::test]
async fn a_client_that_says_disconnect_has_closed() {
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v3("one", 60), "").await;
        session.client.say(&DISCONNECT).await;
        assert_eq!(session.visit.hear(2).await, DISCONNECT);
        // The broker closes after DISCONNECT, as MQTT has it: that is still the client's doing.
        session.visit.finish().await;
        assert_eq!(session.client.hear().await, Message::Close(1000, String::new()), "{kind:?}");
        session.ended("client_closed", "client").await;
    }
}

#[tokio::test]
async fn a_clients_close_frame_is_echoed_and_no_disconnect_made_up() {
    let mut session = Session::open(Kind::Mqtt, &connect_v5("one", 60), "").await;
    session.client.send(closing(4321)).await;
    assert!(session.visit.hear_all().await.is_empty());
    assert_eq!(session.client.hear_close().await, Some(4321));
    session.ended("client_closed", "client").await;
}

#[tokio::test]
async fn a_clients_close_frame_reaches_a_websocket_broker_and_its_answer_the_client() {
    let mut session = Session::open(Kind::Ws, &connect_v5("one", 60), "").await;
    session.client.send(closing(1001)).await;
    assert!(session.visit.hear_all().await.is_empty());
    assert_eq!(session.visit.close(), Some(&1001_u16.to_be_bytes()[..]));
    session.visit.say_raw(&close_frame(1001.into(), "bye")).await;
    assert_eq!(session.client.hear().await, Message::Close(1001, "bye".into()));
    session.ended("client_closed", "client").await;
}

#[tokio::test]
async fn a_websocket_broker_that_does_not_answer_a_close_frame_holds_nobody() {
    let mut session =
        Session::open(Kind::Ws, &connect_v3("one", 60), "[limits]\nhalf_close_timeout = \"200ms\"").await;
    session.client.send(closing(1000)).await;
    assert!(session.visit.hear_all().await.is_empty());
    session.gate.ended("client_closed", "client").await;
    session.gate.idle().await;
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_no_disconnect() {
    for kind in KINDS {
        for tls in [false, true] {
            let connect = connect_v5("one", 60);
            let mut session = Session::open_by(kind, tls, &connect, &[0x20, 3, 0, 0, 0], "").await;
            session.client.say(&publish(5, 5)).await;
            session.client.wire().shutdown().await.unwrap();
            assert_eq!(session.visit.hear_all().await, publish(5, 5), "{kind:?}");
            assert_eq!(session.visit.close(), None);
            session.ended("client_vanished", "client").await;
        }
    }
}

#[tokio::test]
async fn a_client_that_resets_has_vanished() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let stream = TcpStream::connect(gate.plain()).await.unwrap();
        let linger = stream.into_std().unwrap();
        let keep = linger.try_clone().unwrap();
        let stream = TcpStream::from_std(linger).unwrap();
        let (mut client, _) = Client::over(Box::new(stream), "ws://localhost/mqtt", &[]).await.unwrap();
        let connect = connect_v3("one", 60);
        client.say(&connect).await;
        let mut visit = broker.visit(kind).await;
        visit.welcome(&connect).await;
        client.hear_mqtt(4).await;
        let keep = TcpStream::from_std(keep).unwrap();
        keep.set_zero_linger().unwrap();
        drop((client, keep));
        assert!(visit.hear_all().await.is_empty());
        gate.ended("client_vanished", "client").await;
        drop(visit);
        gate.idle().await;
    }
}

#[tokio::test]
async fn what_the_broker_says_after_a_clients_half_close_still_reaches_it() {
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v3("one", 60), "").await;
        session.client.say(&publish(4, 5)).await;
        session.client.wire().shutdown().await.unwrap();
        assert_eq!(session.visit.hear_all().await, publish(4, 5));
        session.visit.say(&publish(4, 6)).await;
        assert_eq!(session.client.hear().await, Message::Mqtt(publish(4, 6)), "{kind:?}");
        session.visit.finish().await;
        session.ended("client_vanished", "client").await;
    }
}

#[tokio::test]
async fn a_silent_client_is_idle_after_one_and_a_half_keepalives() {
    let margin = "keepalive_margin = \"0s\"";
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v5("one", 1), margin).await;
        assert_eq!(session.client.hear_all().await, (vec![0xE0, 2, 0x8D, 0], Some(1001)), "{kind:?}");
        assert!(session.visit.hear_all().await.is_empty(), "no DISCONNECT: the Will fires");
        session.ended("client_idle", "client").await;

        let mut session = Session::open(kind, &connect_v3("one", 1), margin).await;
        assert_eq!(session.client.hear_all().await, (vec![], Some(1001)), "{kind:?}");
        session.ended("client_idle", "client").await;
    }
}

#[tokio::test]
async fn the_brokers_server_keepalive_wins() {
    let shorter = [0x20, 6, 0, 0, 3, 0x13, 0, 1];
    let margin = "keepalive_margin = \"0s\"";
    let mut session = Session::open_by(Kind::Mqtt, false, &connect_v5("one", 600), &shorter, margin).await;
    assert_eq!(session.client.hear_all().await, (vec![0xE0, 2, 0x8D, 0], Some(1001)));
    session.ended("client_idle", "client").await;
}

#[tokio::test]
async fn without_keepalive_nobody_is_idle() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "keepalive_margin = \"0s\"")).await;
    let (mut forever, mut visit_forever) = join(&gate, &broker, &connect_v3("forever", 0)).await;
    // None, by the broker's word.
    let mut long = Client::plain(gate.plain()).await;
    long.say(&connect_v5("long", 1)).await;
    let mut visit_long = broker.visit_mqtt().await;
    visit_long.welcome_by(&connect_v5("long", 1), &[0x20, 6, 0, 0, 3, 0x13, 0, 0]).await;
    long.hear_mqtt(8).await;
    let (mut short, _visit_short) = join(&gate, &broker, &connect_v3("short", 1)).await;
    assert_eq!(short.hear_close().await, Some(1001));
    for (client, visit) in [(&mut forever, &mut visit_forever), (&mut long, &mut visit_long)] {
        client.say(&[0xC0, 0]).await;
        assert_eq!(visit.hear(2).await, [0xC0, 0]);
    }
}

async fn join(gate: &Gate, broker: &Broker, connect: &[u8]) -> (Client, super::harness::Visit) {
    let mut client = Client::plain(gate.plain()).await;
    client.say(connect).await;
    let mut visit = broker.visit_mqtt().await;
    visit.welcome(connect).await;
    client.hear().await;
    (client, visit)
}

#[tokio::test]
async fn a_client_that_speaks_is_not_idle() {
    let mut session = Session::open(Kind::Mqtt, &connect_v3("one", 1), "keepalive_margin = \"0s\"").await;
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    let mut tick = tokio::time::interval(Duration::from_millis(700));
    while tokio::time::Instant::now() < until {
        tick.tick().await;
        session.client.say(&[0xC0, 0]).await;
        assert_eq!(session.visit.hear(2).await, [0xC0, 0]);
    }
    assert_eq!(session.client.hear_close().await, Some(1001));
    session.ended("client_idle", "client").await;
}

#[tokio::test]
async fn a_goodbye_waits_until_the_brokers_packet_is_whole() {
    let more = "keepalive_margin = \"0s\"";
    let packet = publish(5, 100);
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v5("one", 1), more).await;
        session.visit.say(&packet[..50]).await;
        assert_eq!(session.client.hear_mqtt(50).await, packet[..50]);
        // The gateway has parted when it hangs up on the broker.
        assert!(session.visit.hear_all().await.is_empty());
        session.visit.say(&[&packet[50..], &publish(5, 9)].concat()).await;
        let (heard, code) = session.client.hear_all().await;
        let goodbye = [0xE0, 2, 0x8D, 0];
        let in_one = [&packet[50..], &publish(5, 9), &goodbye[..]].concat();
        let at_once = [&packet[50..], &goodbye[..]].concat();
        assert!(heard == in_one || heard == at_once, "{kind:?}: {heard:?}");
        assert_eq!(code, Some(1001));
        session.ended("client_idle", "client").await;
    }
}

#[tokio::test]
async fn a_goodbye_waits_until_the_brokers_frame_is_whole() {
    let packet = publish(4, 100);
    let frame = frame(Opcode::Binary, &packet, None);
    let mut session = Session::open(Kind::Ws, &connect_v3("one", 1), "keepalive_margin = \"0s\"").await;
    session.visit.say_raw(&frame[..50]).await;
    assert!(session.visit.hear_all().await.is_empty());
    session.visit.say_raw(&frame[50..]).await;
    assert_eq!(session.client.hear_all().await, (packet, Some(1001)));
    session.ended("client_idle", "client").await;
}

#[tokio::test]
async fn a_goodbye_waits_until_the_brokers_message_is_whole() {
    let packet = publish(5, 10);
    let mut first = frame(Opcode::Binary, &packet, None);
    first[0] &= 0x7F;
    let mut session = Session::open(Kind::Ws, &connect_v5("one", 1), "keepalive_margin = \"0s\"").await;
    session.visit.say_raw(&first).await;
    assert!(session.visit.hear_all().await.is_empty());
    session.visit.say_raw(&frame(Opcode::Continuation, &[], None)).await;
    let (heard, code) = session.client.hear_all().await;
    assert_eq!(heard, [&packet[..], &[0xE0, 2, 0x8D, 0]].concat());
    assert_eq!(code, Some(1001));
    session.ended("client_idle", "client").await;
}

#[tokio::test]
async fn a_goodbye_does_not_wait_for_ever() {
    let more = "keepalive_margin = \"0s\"\n[limits]\nhalf_close_timeout = \"200ms\"";
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v5("one", 1), more).await;
        session.visit.say(&publish(5, 100)[..50]).await;
        let (heard, _) = session.client.hear_all().await;
        assert_eq!(heard, publish(5, 100)[..50], "no packet of ours inside the broker's");
        session.ended("client_idle", "client").await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let more = "[limits]\nwrite_stall_timeout = \"300ms\"";
    for kind in KINDS {
        for tls in [false, true] {
            let connect = connect_v3("one", 0);
            let mut session = Session::open_by(kind, tls, &connect, &[0x20, 2, 0, 0], more).await;
            let flood = publish(4, 15_000_000);
            let flooding = tokio::spawn(async move {
                let bytes = match kind {
                    Kind::Ws => frame(Opcode::Binary, &flood, None),
                    Kind::Mqtt => flood,
                };
                let _ = session.visit.stream().write_all(&bytes).await;
                session.visit
            });
            session.gate.ended("client_stalled", "client").await;
            drop(within("the flood's end", flooding).await.unwrap());
            session.gate.idle().await;
        }
    }
}

#[tokio::test]
async fn a_broker_that_does_not_read_is_given_up_and_the_client_told() {
    let more = "[limits]\nwrite_stall_timeout = \"300ms\"";
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v5("one", 0), more).await;
        session.client.say(&publish(5, 15_000_000)).await;
        assert_eq!(session.client.hear_all().await, (vec![], Some(1011)), "{kind:?}");
        session.ended("broker_stalled", "broker").await;
    }
}

#[tokio::test]
async fn a_broken_frame_ends_the_session_with_its_code() {
    let text = frame(Opcode::Text, b"hello", Some(Mask::new([1, 2, 3, 4])));
    let cases: [(&[u8], u16); 5] = [
        (&text, 1003),
        // Unmasked; a reserved bit; a reserved opcode; a fragmented ping.
        (&[0x82, 2, 0xC0, 0], 1002),
        (&[0xC2, 0x82, 0, 0, 0, 0, 0xC0, 0], 1002),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
        (&[0x09, 0x80, 0, 0, 0, 0], 1002),
    ];
    for kind in KINDS {
        for (bytes, code) in cases {
            let mut session = Session::open(kind, &connect_v5("one", 60), "").await;
            session.client.say_raw(bytes).await;
            let (heard, closed) = session.client.hear_all().await;
            assert_eq!((heard, closed), (vec![0xE0, 2, 0x82, 0], Some(code)), "{kind:?} {bytes:?}");
            assert!(session.visit.hear_all().await.is_empty());
            session.ended("client_frame", "client").await;
        }
    }
}

#[tokio::test]
async fn an_answered_ping_right_before_a_broken_frame_does_not_swallow_the_goodbye() {
    let mask = Some(Mask::new([1, 2, 3, 4]));
    let bytes = [frame(Opcode::Ping, b"hi", mask), frame(Opcode::Text, b"x", mask)].concat();
    let mut session = Session::open(Kind::Mqtt, &connect_v3("one", 60), "").await;
    session.client.say_raw(&bytes).await;
    assert_eq!(session.client.hear_close().await, Some(1003));
    session.ended("client_frame", "client").await;
}

#[tokio::test]
async fn a_broken_packet_ends_the_session_and_reaches_no_broker() {
    let large = publish(5, 2000);
    let cases: [(&[u8], u8, u16, &str); 4] = [
        (&[0x00, 0], 0x81, 1002, "client_packet"),
        // QoS 3, and a length of five bytes.
        (&[0x36, 5, 0, 1, b't', 0, 1], 0x81, 1002, "client_packet"),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], 0x81, 1002, "client_packet"),
        (&large, 0x95, 1009, "packet_too_large"),
    ];
    for kind in KINDS {
        for (bytes, reason, code, label) in cases {
            let more = "[limits]\nmax_packet_size = \"1 KiB\"";
            let mut session = Session::open(kind, &connect_v5("one", 60), more).await;
            session.client.say(bytes).await;
            let told = session.client.hear_all().await;
            assert_eq!(told, (vec![0xE0, 2, reason, 0], Some(code)), "{kind:?} {label}");
            assert!(session.visit.hear_all().await.is_empty());
            session.ended(label, "client").await;

            let mut session = Session::open(kind, &connect_v3("one", 60), more).await;
            session.client.say(bytes).await;
            assert_eq!(
                session.client.hear_all().await,
                (vec![], Some(code)),
                "a server's DISCONNECT is MQTT 5's"
            );
            session.ended(label, "client").await;
        }
    }
}

#[tokio::test]
async fn a_broker_that_refuses_the_client_is_named() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let mut client = Client::plain(gate.plain()).await;
        let connect = connect_v3("one", 60);
        client.say(&connect).await;
        let mut visit = broker.visit(kind).await;
        visit.welcome_by(&connect, &[0x20, 2, 0, 5]).await;
        drop(visit);
        assert_eq!(client.hear_all().await, (vec![0x20, 2, 0, 5], Some(1000)), "{kind:?}");
        drop(client);
        gate.ended("broker_refused", "broker").await;
        gate.idle().await;
        assert_eq!(gate.metric("brokergate_connacks_total{code=\"not_authorized\"}"), 1.0);
    }
}

#[tokio::test]
async fn a_broker_that_closes_is_passed_on() {
    for kind in KINDS {
        let mut session = Session::open(kind, &connect_v5("one", 60), "").await;
        session.visit.say(&[0xE0, 1, 0x8E]).await;
        session.visit.finish().await;
        assert_eq!(session.client.hear_all().await, (vec![0xE0, 1, 0x8E], Some(1001)), "{kind:?}");
        assert!(session.visit.hear_all().await.is_empty());
        session.ended("broker_closed", "broker").await;
    }
}

#[tokio::test]
async fn a_brokers_close_frame_passes_unchanged() {
    let mut session = Session::open(Kind::Ws, &connect_v5("one", 60), "").await;
    session.visit.say_raw(&close_frame(4001.into(), "moved")).await;
    session.visit.finish().await;
    assert_eq!(session.client.hear().await, Message::Close(4001, "moved".into()));
    session.ended("broker_closed", "broker").await;
}

#[tokio::test]
async fn a_broker_that_resets_is_an_error_of_ours() {
    for kind in KINDS {
        let Session { gate, broker: _, mut client, visit } =
            Session::open(kind, &connect_v5("one", 60), "").await;
        visit.reset();
        assert_eq!(client.hear_all().await, (vec![], Some(1011)), "{kind:?}");
        drop(client);
        gate.ended("broker_vanished", "broker").await;
        gate.idle().await;
    }
}

#[tokio::test]
async fn a_broker_that_breaks_its_protocol_is_cut_off() {
    let mask = Some(Mask::new([1, 2, 3, 4]));
    let cases: [(Kind, Vec<u8>, &str); 5] = [
        (Kind::Ws, frame(Opcode::Binary, &[0xD0, 0], mask), "broker_frame"),
        (Kind::Ws, frame(Opcode::Text, &[0xD0, 0], None), "broker_frame"),
        (Kind::Ws, frame(Opcode::Binary, &[0, 0], None), "broker_packet"),
        (Kind::Mqtt, vec![0, 0], "broker_packet"),
        (Kind::Mqtt, publish(4, 5000), "broker_packet"),
    ];
    for (kind, bytes, label) in cases {
        let more = "[limits]\nmax_packet_size = \"1 KiB\"";
        let mut session = Session::open(kind, &connect_v5("one", 60), more).await;
        session.visit.say_raw(&bytes).await;
        assert_eq!(session.client.hear_all().await, (vec![], Some(1011)), "{kind:?} {bytes:?}");
        assert!(session.visit.hear_all().await.is_empty());
        session.ended(label, "broker").await;
    }
}

#[tokio::test]
async fn pings_are_answered_by_the_broker_or_by_us() {
    let ping = tokio_tungstenite::tungstenite::Message::Ping("hi".into());
    let mut session = Session::open(Kind::Mqtt, &connect_v3("one", 60), "").await;
    session.client.send(ping.clone()).await;
    assert_eq!(session.client.hear().await, Message::Pong(b"hi".to_vec()));
    // Inside a packet in two frames as well.
    session.client.say(&[0xC0]).await;
    session.client.send(ping).await;
    session.client.say(&[0]).await;
    assert_eq!(session.client.hear().await, Message::Pong(b"hi".to_vec()));
    assert_eq!(session.visit.hear(2).await, [0xC0, 0]);
}

#[tokio::test]
async fn who_leaves_right_behind_its_last_words_loses_none() {
    const MESSAGES: usize = 60;
    for kind in KINDS {
        let connect = connect_v3("one", 60);
        let Session { gate, mut client, mut visit, .. } =
            Session::open_by(kind, true, &connect, accepted(&connect), "").await;

        // Its kernel takes little at once, so most of it waits in the gateway's.
        SockRef::from(&*visit.stream()).set_recv_buffer_size(64 * 1024).unwrap();
        let packet = publish(4, 60_000);
        let mask = Some(Mask::new([1, 2, 3, 4]));
        let message = frame(Opcode::Binary, &packet, mask);
        let words = [message.repeat(MESSAGES), frame(Opcode::Binary, &DISCONNECT, mask)].concat();
        let leaves = async {
            client.say_raw(&words).await;
            within("its leave", client.wire().shutdown()).await.unwrap();
        };
        let ((), heard) = tokio::join!(leaves, visit.hear_all());
        assert!(
            heard == [packet.repeat(MESSAGES), DISCONNECT.to_vec()].concat(),
            "{kind:?}: {}",
            heard.len()
        );
        visit.finish().await;
        gate.ended("client_closed", "client").await;
    }
}

#[tokio::test]
async fn the_last_words_of_a_client_reach_a_slow_broker() {
    // A Unix socket's buffer has one size, so that the same bytes fill it each time.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker");
    let broker = UnixListener::bind(&path).unwrap();
    let endpoint = format!("{{ url = \"unix:{}\", transport = \"mqtt\" }}", path.display());
    let gate = Gate::start(&simple(&[endpoint], "")).await;
    let packet = publish(4, 8000);
    let mask = Some(Mask::new([1, 2, 3, 4]));
    let last = [
        frame(Opcode::Binary, &packet, mask),
        frame(Opcode::Binary, &DISCONNECT, mask),
        frame(Opcode::Close, &1000_u16.to_be_bytes(), mask),
    ]
    .concat();
    let mut was_full = false;
    for messages in 0.. {
        let mut client = Client::plain(gate.plain()).await;
        let connect = connect_v3("one", 0);
        client.say(&connect).await;
        let (mut visit, _) = within("a dial", broker.accept()).await.unwrap();
        let mut heard = vec![0; connect.len()];
        within("the CONNECT", visit.read_exact(&mut heard)).await.unwrap();
        visit.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        client.hear_mqtt(4).await;
        let came = || gate.shared.traffic.sum(|traffic| traffic.up.bytes());
        for _ in 0..messages {
            let before = came();
            client.say(&packet).await;
            until("the message's arrival", || came() - before >= packet.len() as u64).await;
        }
        let before = came();
        client.say_raw(&last).await;
        // Until it is in the gateway, or the one before it still waits.
        let coming = until("the last words' arrival", || came() - before >= last.len() as u64);
        was_full = tokio::time::timeout(Duration::from_millis(300), coming).await.is_err();
        if was_full {
            break;
        }
        assert_eq!(client.hear_close().await, Some(1000));
        heard.clear();
        within("the rest", visit.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard.len(), (messages + 1) * packet.len() + 2, "behind {messages} messages");
        assert!(heard.ends_with(&DISCONNECT));
    }
    assert!(was_full, "the broker's buffer was filled");
    gate.ended("client_closed", "client").await;
}

#[tokio::test]
async fn pongs_to_a_client_that_does_not_read_are_never_torn() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "")).await;
    let socket = tokio::net::TcpSocket::new_v6().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let stream = socket.connect(gate.tls()).await.unwrap();
    let wire = secure(stream, CERTIFICATES.client()).await;
    let (mut client, _) = Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.unwrap();
    let connect = connect_v3("one", 0);
    client.say(&connect).await;
    let mut visit = broker.visit_mqtt().await;
    visit.welcome(&connect).await;
    client.hear_mqtt(4).await;
    for round in 0..30_000_u32 {
        let mut payload = round.to_be_bytes().to_vec();
        payload.resize(125, 0xAA);
        // Each is read by itself, and so has a pong of its own.
        let before = gate.shared.traffic.sum(|traffic| traffic.up.bytes());
        client.say_frame(Opcode::Ping, &payload).await;
        within("a ping's arrival", async {
            while gate.shared.traffic.sum(|traffic| traffic.up.bytes()) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    client.say(&[0xC0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xC0, 0]);
    visit.say(&[0xD0, 0]).await;
    loop {
        match client.hear().await {
            Message::Pong(payload) => assert_eq!(payload.len(), 125),
            other => break assert_eq!(other, Message::Mqtt(vec![0xD0, 0])),
        }
    }
    until("one session", || gate.metric("brokergate_sessions") == 1.0).await;
}

#[tokio::test]
async fn the_access_log_says_who_and_why_on_one_line() {
    log::keep();
    let evil = "logged\n\u{1b}[31m{\"by\":\"x\"}";
    let mut session = Session::open(Kind::Mqtt, &connect_v5(evil, 77), "").await;
    session.client.say(&publish(5, 100)).await;
    session.visit.hear(publish(5, 100).len()).await;
    session.client.say(&[0x00]).await;
    session.client.hear_close().await;
    let endpoint = session.broker.mqtt();
    session.ended("client_packet", "client").await;
    let line = log::line(&["\"ending\":\"client_packet\"", "\"keepalive\":77"]).await;
    let endpoint = format!("\"endpoint\":{}", endpoint.split(' ').nth(3).unwrap());
    for words in [
        "\"protocol\":\"5\"",
        "\"upstream\":\"brokers\"",
        &endpoint,
        "\"attempts\":1",
        "\"packets_up\":1",
        "\"packets_down\":1",
        "\"bytes_down\":5",
        "\"by\":\"client\"",
        "\"detail\":\"packet type 0",
        "\"client\":\"127.0.0.1:",
    ] {
        assert!(line.contains(words), "{words} in {line}");
    }
    assert!(line.contains("logged") && !line.contains('\u{1b}'), "{line}");
    // A request that became no session has a line as well, without its query.
    let gate = Gate::start(&simple(&["\"mqtt://127.0.0.1:9\"".into()], "")).await;
    super::harness::raw(
        gate.plain(),
        b"GET /logged%0a?secret HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    let line = log::line(&["/logged%0a"]).await;
    assert!(line.contains("\"status\":404") && !line.contains("secret"), "{line}");
}
