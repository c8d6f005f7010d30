//! Somebody looks on: what is told, and that it ends.

use brokergate::admin::tap::form::{Line, Packet};
use brokergate::websocket::{Mask, Opcode, frame};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::super::harness::{Gate, KINDS, Kind, Session, connect_v3, connect_v5, publish, until, within};
use super::{ask, join_all, list, one, start};

/// An answer that goes on.
struct Told {
    stream: BufReader<TcpStream>,
}

impl Told {
    async fn begin(gate: &Gate, query: &str) -> Self {
        Self::over(TcpStream::connect(gate.admin()).await.unwrap(), query).await
    }

    /// Ask over a connection of the test's own. HTTP/1.0 has no chunks between the lines.
    async fn over(mut stream: TcpStream, query: &str) -> Self {
        let request = format!("POST /tap?{query} HTTP/1.0\r\nHost: localhost\r\nX-Brokergate: 1\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut told = Self { stream: BufReader::new(stream) };
        let status = told.text().await;
        assert!(status.contains(" 200 "), "{status}");
        while !told.text().await.trim().is_empty() {}
        told
    }

    async fn text(&mut self) -> String {
        let mut line = String::new();
        within("a line", self.stream.read_line(&mut line)).await.unwrap();
        line
    }

    async fn line(&mut self) -> Line {
        let line = self.text().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    async fn packet(&mut self) -> Packet {
        match self.line().await {
            Line::Packet(packet) => *packet,
            other => panic!("{other:?}"),
        }
    }

    /// The last line's reason, with nothing behind it.
    async fn end(&mut self) -> String {
        loop {
            if let Line::End { reason, .. } = self.line().await {
                assert_eq!(self.text().await, "");
                return reason;
            }
        }
    }
}

#[tokio::test]
async fn packets_are_told_both_ways_until_the_session_ends() {
    for kind in KINDS {
        for (level, connect) in [(5, connect_v5("one", 60)), (4, connect_v3("one", 60))] {
            let Session { gate, broker: _broker, mut client, mut visit } =
                Session::open(kind, &connect, "").await;
            let mut told = Told::begin(&gate, "client_id=one&payload=true").await;
            let Line::Begin { session, .. } = told.line().await else { panic!("no beginning") };
            assert_eq!(session.client_id.as_deref(), Some("one"));
            assert!(list(&gate, "client_id=one").await[0].tapped);

            // Two packets in one frame, which comes in three pieces.
            let mut first = b"\x3B\x08\0\x03a/b\0\x07!".to_vec();
            if level == 5 {
                first = b"\x3B\x0C\0\x03a/b\0\x07\x03\x23\0\x05!".to_vec();
            }
            let both = [&first[..], &[0xC0, 0]].concat();
            let bytes = frame(Opcode::Binary, &both, Some(Mask::new([1, 2, 3, 4])));
            for piece in [&bytes[..7], &bytes[7..9], &bytes[9..]] {
                client.say_raw(piece).await;
            }
            assert_eq!(visit.hear(both.len()).await, both);
            let packet = told.packet().await;
            assert_eq!((packet.direction.as_str(), packet.packet_type.as_str()), ("up", "publish"));
            assert_eq!((packet.dup, packet.qos, packet.retain), (Some(true), Some(1), Some(true)));
            assert_eq!((packet.topic.as_deref(), packet.packet_id), (Some("a/b"), Some(7)));
            assert_eq!(packet.topic_alias, (level == 5).then_some(5));
            assert_eq!((packet.payload.as_deref(), packet.payload_size), (Some("!"), Some(1)));
            assert_eq!(packet.size as usize, first.len());
            assert_eq!(told.packet().await.packet_type, "pingreq");

            // One that no buffer holds.
            let large = publish(level, 300_000);
            visit.say(&large).await;
            assert!(client.hear_mqtt(large.len()).await == large);
            let packet = told.packet().await;
            assert_eq!((packet.direction.as_str(), packet.topic.as_deref()), ("down", Some("t")));
            assert_eq!((packet.size as usize, packet.payload_size), (large.len(), Some(300_000)));
            assert!(packet.payload_base64.is_some() && !packet.cut);
            visit.say(b"\x40\x02\0\x07").await;
            client.hear_mqtt(4).await;
            let packet = told.packet().await;
            assert_eq!((packet.packet_type.as_str(), packet.packet_id), ("puback", Some(7)));

            client.say(&[0xE0, 0]).await;
            assert_eq!(told.packet().await.packet_type, "disconnect");
            drop((client, visit));
            assert_eq!(told.end().await, "client_closed");
        }
    }
}

#[tokio::test]
async fn payload_is_told_to_whoever_asks_for_it() {
    let mut session = Session::open(Kind::Ws, &connect_v3("one", 60), "").await;
    let mut told = Told::begin(&session.gate, "client_id=one").await;
    session.client.say(b"\x30\x09\0\x01tsecret").await;
    session.visit.hear(11).await;
    told.line().await;
    let line = told.text().await;
    assert!(line.contains("\"topic\":\"t\"") && !line.contains("secret"), "{line}");
}

#[tokio::test]
async fn it_ends_with_who_asked_and_when_its_time_is_over() {
    let mut session = Session::open(Kind::Mqtt, &connect_v3("one", 60), "").await;
    let id = list(&session.gate, "").await.remove(0).id;
    let tapped = async |is: bool| one(&session.gate, "", |it| it.tapped == is).await;
    let told = Told::begin(&session.gate, &format!("session={id}")).await;
    tapped(true).await;
    assert_eq!(ask(&session.gate, "POST", "/tap?client_id=one").await.0, 409);
    drop(told);
    tapped(false).await;
    let mut told = Told::begin(&session.gate, "client_id=one&time=50ms").await;
    assert_eq!(told.end().await, "time_is_over");
    tapped(false).await;
    // Nothing of it was noticed.
    session.client.say(&[0xC0, 0]).await;
    assert_eq!(session.visit.hear(2).await, [0xC0, 0]);
}

#[tokio::test]
async fn a_kick_ends_it_too() {
    let mut session = Session::open(Kind::Mqtt, &connect_v5("one", 60), "").await;
    let mut told = Told::begin(&session.gate, "client_id=one").await;
    assert_eq!(ask(&session.gate, "POST", "/kick?client_id=one").await.0, 200);
    // A client that leaves before it is told has left by itself.
    assert_eq!(session.client.hear_close().await, Some(1008));
    drop((session.client, session.visit));
    assert_eq!(told.end().await, "kicked");
}

#[tokio::test]
async fn one_of_many_is_named_and_taps_are_few() {
    let (gate, broker) = start(Kind::Mqtt, "").await;
    let mut connects = vec![connect_v3("same", 60); 2];
    connects.extend((0..9).map(|number| connect_v3(&format!("client-{number}"), 60)));
    let _joined = join_all(&gate, &broker, Kind::Mqtt, &connects).await;
    let (status, words) = ask(&gate, "POST", "/tap?client_id=same").await;
    assert_eq!(
        (status, words.as_str()),
        (409, "2 sessions have this ClientID; name one of them: session=ID\n")
    );
    let mut taps = Vec::new();
    for number in 0..8 {
        taps.push(Told::begin(&gate, &format!("client_id=client-{number}")).await);
    }
    assert_eq!(ask(&gate, "POST", "/tap?client_id=client-8").await.0, 409);
    taps.pop();
    within("a place", async {
        while ask(&gate, "POST", "/tap?client_id=client-8&time=0s").await.0 != 200 {}
    })
    .await;
}

#[tokio::test]
async fn who_reads_slowly_misses_packets_and_holds_up_nobody() {
    let Session { gate, broker: _broker, mut client, mut visit } =
        Session::open(Kind::Mqtt, &connect_v3("one", 60), "").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(gate.admin()).await.unwrap();
    let mut told = Told::over(stream, "client_id=one&payload=true").await;
    told.line().await;
    // More than sockets and queues hold, and it all goes through.
    let message = publish(4, 4000);
    const COUNT: u64 = 4000;
    for _ in 0..COUNT / 10 {
        client.say(&message.repeat(10)).await;
        visit.hear(10 * message.len()).await;
    }
    client.say(&[0xE0, 0]).await;
    drop((client, visit));
    let (mut seen, mut missed) = (0, 0);
    let reason = loop {
        match told.line().await {
            Line::Packet(_) => seen += 1,
            Line::Missed { packets, .. } => missed += packets,
            Line::End { reason, .. } => break reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(missed > 0, "{seen} were seen");
    assert_eq!((seen + missed, reason.as_str()), (COUNT + 1, "client_closed"));
    until("the end of it", || gate.metric("brokergate_sessions") == 0.0).await;
}
