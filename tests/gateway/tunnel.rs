//! The tunnel alone, between sockets of the test's own: what goes in comes out, framed as it must be.

mod endurance;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use brokergate::mqtt::{Level, PacketType};
use brokergate::tunnel::{
    COPIED, Direction, Ending, Ends, Flow, Framing, Meter, Moved, Onlooker, Patience, Seen, Traffic, Tunnel,
    tap,
};
use proptest::prelude::*;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::yield_now;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, OpCode};

use self::wire::{Fragment, Framed, Heard, Packets, packet_of, place};
use super::harness::within;

/// Never out of patience.
const PATIENT: Patience = Patience {
    idle: None,
    stall: Duration::from_secs(60),
    farewell: Duration::from_secs(60),
    max_packet_size: 1 << 20,
};

/// Everything about one session.
#[derive(Debug, Clone)]
struct Case {
    framing: Framing,
    up: Packets,
    down: Packets,
    up_frames: Vec<Fragment>,
    down_frames: Vec<Fragment>,
    /// The CONNECT was the beginning of the client's first message.
    begins_message: bool,
    /// What the client sends behind a close frame.
    behind_close: Option<Vec<u8>>,
    /// How much of each side's bytes came before the tunnel.
    early: (usize, usize),
    up_pace: Pace,
    down_pace: Pace,
    small_buffers: bool,
}

/// How one direction's bytes are cut.
#[derive(Debug, Clone)]
struct Pace {
    writes: Vec<usize>,
    /// Bytes of one read.
    read: usize,
}

/// The packet types with flags that may be theirs.
fn packet() -> impl Strategy<Value = (PacketType, Vec<u8>)> {
    let size = prop_oneof![6 => 0..40usize, 2 => 120..140usize, 1 => 16_300..16_500usize];
    (prop::sample::select(PacketType::ALL.to_vec()), 0..6u8, size, any::<u64>()).prop_map(
        |(packet_type, flags, size, seed)| {
            let flags = match packet_type {
                PacketType::Publish => [0, 1, 2, 4, 5, 13][usize::from(flags)],
                PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 2,
                _ => 0,
            };
            (packet_type, packet_of(packet_type, flags, size, seed))
        },
    )
}

fn packets() -> impl Strategy<Value = Packets> {
    prop::collection::vec(packet(), 0..8).prop_map(Packets::new)
}

fn fragments() -> impl Strategy<Value = Vec<Fragment>> {
    let control = (prop::sample::select(vec![Control::Ping, Control::Pong]), 2..=125usize);
    let fragment = (any::<usize>(), any::<bool>(), any::<[u8; 4]>(), prop::collection::vec(control, 0..3));
    let fragment = fragment.prop_map(|(at, fin, key, controls)| Fragment { at, fin, key, controls });
    prop::collection::vec(fragment, 1..8)
}

fn pace() -> impl Strategy<Value = Pace> {
    (prop::collection::vec(any::<usize>(), 0..12), prop_oneof![1..200usize, Just(64 * 1024)])
        .prop_map(|(writes, read)| Pace { writes, read })
}

prop_compose! {
    fn case()(
        raw: bool,
        (up, down) in (packets(), packets()),
        (up_frames, down_frames) in (fragments(), fragments()),
        begins_message: bool,
        behind_close in prop::option::weighted(0.3, prop::collection::vec(any::<u8>(), 0..300)),
        early: (usize, usize),
        (up_pace, down_pace) in (pace(), pace()),
        small_buffers: bool,
    ) -> Case {
        let framing = if raw { Framing::Raw } else { Framing::WebSocket };
        // Toward a TCP broker a close frame ends both directions at once: tests of its own.
        let behind_close = behind_close.filter(|_| !raw);
        Case {
            framing, up, down, up_frames, down_frames, begins_message, behind_close, early, up_pace,
            down_pace, small_buffers,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(within("a session", case.play()));
    }
}

#[test]
fn a_stream_may_be_cut_at_every_byte() {
    let publish = |size| (PacketType::Publish, packet_of(PacketType::Publish, 0, size, 7));
    let ping = (PacketType::Pingreq, packet_of(PacketType::Pingreq, 0, 0, 0));
    let packets = Packets::new(vec![publish(20), ping.clone(), publish(130), ping, publish(3)]);
    // Inside a fixed header, inside a body, between two packets; one frame with a long header.
    let positions = [0, 1, 1, 22, 24, 25, 160, 161];
    let fragments: Vec<_> = (0_u8..)
        .zip(positions)
        .map(|(number, at)| Fragment {
            at,
            fin: number % 3 == 2,
            key: [number, 77, number, 255 - number],
            controls: if number % 2 == 1 { vec![(Control::Ping, 9), (Control::Pong, 2)] } else { vec![] },
        })
        .collect();
    let pace = Pace { writes: Vec::new(), read: 64 * 1024 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for framing in [Framing::WebSocket, Framing::Raw] {
        let mut case = Case {
            framing,
            up: packets.clone(),
            down: packets.clone(),
            up_frames: fragments.clone(),
            down_frames: fragments.clone(),
            begins_message: true,
            behind_close: None,
            early: (0, 0),
            up_pace: pace.clone(),
            down_pace: pace.clone(),
            small_buffers: false,
        };
        let (up, down) = (case.up_framed().wire.len(), case.down_wire().len());
        for at in 0..=up {
            case.early = (at, at.min(down));
            runtime.block_on(within("a session", case.play()));
        }
    }
}

impl Case {
    fn up_framed(&self) -> Framed {
        Framed::new(&self.up.bytes, &self.up_frames, true, self.begins_message)
    }

    fn down_wire(&self) -> Vec<u8> {
        match self.framing {
            Framing::WebSocket => Framed::new(&self.down.bytes, &self.down_frames, false, false).wire,
            Framing::Raw => self.down.bytes.clone(),
        }
    }

    async fn play(&self) {
        let up = self.up_framed();
        let mut sent_up = up.wire.clone();
        if let Some(behind) = &self.behind_close {
            let mut close = Framed::default();
            close.push(OpCode::Control(Control::Close), true, Some([9, 8, 7, 6]), &[3, 232]);
            sent_up.extend(close.wire);
            sent_up.extend(behind);
        }
        let sent_down = self.down_wire();
        let (from_client, rest_up) = sent_up.split_at(place(self.early.0, sent_up.len()));
        let (from_broker, rest_down) = sent_down.split_at(place(self.early.1, sent_down.len()));

        let (mut client, client_end) = UnixStream::pair().unwrap();
        let (mut broker, broker_end) = UnixStream::pair().unwrap();
        if self.small_buffers {
            for stream in [&client, &client_end, &broker, &broker_end] {
                // The kernel makes it the least it has.
                SockRef::from(stream).set_send_buffer_size(1).unwrap();
            }
        }
        let ends = Ends {
            client: client_end.into(),
            broker: broker_end.into(),
            framing: self.framing,
            from_client: from_client.to_vec(),
            begins_message: self.begins_message,
            from_broker: from_broker.to_vec(),
            was_refused: false,
            level: Level::V5,
        };
        let traffic = Traffic::default();
        let mut tunnel = Tunnel::new(ends, PATIENT);
        let meter = Arc::<Meter>::default();
        let (copies, onlooker) = tap();
        // What is counted and moved is the same with and without.
        let is_tapped = sent_up.len().is_multiple_of(2);
        match is_tapped {
            true => meter.tap(copies).unwrap(),
            false => drop(copies),
        }
        let carried = async {
            let ending = tunnel.run(std::future::pending(), std::future::pending(), &traffic, &meter).await;
            meter.end(ending.label());
            // Its streams close with it.
            drop(tunnel);
            ending
        };

        let client = async {
            let (mut read, mut write) = client.split();
            let said = async {
                self.up_pace.write(&mut write, rest_up).await;
                write.shutdown().await.unwrap();
            };
            tokio::join!(self.down_pace.read(&mut read), said).0
        };
        let broker = async {
            let (mut read, mut write) = broker.split();
            let heard =
                tokio::join!(self.up_pace.read(&mut read), self.down_pace.write(&mut write, rest_down)).0;
            // A broker that hangs up first ends the other direction too.
            write.shutdown().await.unwrap();
            heard
        };
        let (ending, client_heard, broker_heard, looked_on) =
            tokio::join!(carried, client, broker, look_on(onlooker));

        match self.framing {
            Framing::WebSocket => self.check_passed(&up, &sent_up, &sent_down, &broker_heard, &client_heard),
            Framing::Raw => self.check_converted(&up, &broker_heard, &client_heard),
        }
        let by_client = if self.said_goodbye() { Ending::ClientClosed } else { Ending::ClientVanished };
        // Without a DISCONNECT of the client's, the broker's may have been the first goodbye.
        let said = |types: &[PacketType]| types.contains(&PacketType::Disconnect);
        let by_broker = ending == Ending::BrokerClosed && said(&self.down.types) && !said(&self.up.types);
        assert!(ending == by_client || by_broker, "{ending:?}");
        let moved =
            |bytes: &[u8], of: &Packets| Moved { bytes: bytes.len() as u64, packets: of.types.len() as u64 };
        assert_eq!(meter.up(), moved(&sent_up, &self.up));
        assert_eq!(meter.down(), moved(&sent_down, &self.down));
        if is_tapped {
            let (seen_up, seen_down) = looked_on;
            check_seen(&seen_up, &self.up);
            check_seen(&seen_down, &self.down);
        }
        check_flow(&traffic.up, sent_up.len(), &self.up);
        check_flow(&traffic.down, sent_down.len(), &self.down);
    }

    /// Byte for byte, but for the one opcode; our own close frame comes last.
    fn check_passed(
        &self,
        up: &Framed,
        sent_up: &[u8],
        sent_down: &[u8],
        broker_heard: &[u8],
        client_heard: &[u8],
    ) {
        let mut expected = sent_up.to_vec();
        if let Some(behind) = &self.behind_close {
            expected.truncate(expected.len() - behind.len());
        }
        if self.begins_message {
            expected[up.first] |= 2;
        }
        assert!(broker_heard == expected, "the broker heard {broker_heard:02x?}, not {expected:02x?}");
        let (passed, last) = client_heard.split_at(sent_down.len().min(client_heard.len()));
        assert!(passed == sent_down, "the client heard {client_heard:02x?}, not {sent_down:02x?}");
        assert_eq!(Heard::decode(last).close, Some(if self.said_goodbye() { 1000 } else { 1001 }));
    }

    fn check_converted(&self, up: &Framed, broker_heard: &[u8], client_heard: &[u8]) {
        assert!(
            broker_heard == self.up.bytes,
            "the broker heard {broker_heard:02x?}, not {:02x?}",
            self.up.bytes
        );
        let heard = Heard::decode(client_heard);
        assert!(
            heard.mqtt == self.down.bytes,
            "the client heard {:02x?}, not {:02x?}",
            heard.mqtt,
            self.down.bytes
        );
        // Of pings that come faster than their pongs go, the latest is answered (RFC 6455, 5.5.3).
        assert_eq!(heard.pongs.last(), up.pings.last());
        let mut pings = up.pings.iter();
        assert!(heard.pongs.iter().all(|pong| pings.any(|ping| ping == pong)), "pongs out of order");
        assert_eq!(heard.close, Some(if self.said_goodbye() { 1000 } else { 1001 }));
    }

    fn said_goodbye(&self) -> bool {
        self.behind_close.is_some() || self.up.types.contains(&PacketType::Disconnect)
    }
}

impl Pace {
    async fn write(&self, into: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
        let mut ends: Vec<_> = self.writes.iter().map(|at| place(*at, bytes.len())).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut start = 0;
        for end in ends {
            into.write_all(&bytes[start..end]).await.unwrap();
            start = end;
            // The tunnel shall see the piece alone.
            for _ in 0..3 {
                yield_now().await;
            }
        }
    }

    async fn read(&self, from: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut piece = vec![0; self.read];
        loop {
            match from.read(&mut piece).await.unwrap() {
                0 => return heard,
                count => heard.extend_from_slice(&piece[..count]),
            }
            yield_now().await;
        }
    }
}

/// All that goes by, up and down.
async fn look_on(mut onlooker: Onlooker) -> (Vec<Seen>, Vec<Seen>) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    while let Some(seen) = within("a packet", onlooker.next()).await {
        if seen.direction == Direction::Up { up.push(seen) } else { down.push(seen) }
    }
    assert_eq!(onlooker.missed(), 0);
    (up, down)
}

/// Each packet was seen, its beginning at least.
fn check_seen(seen: &[Seen], packets: &Packets) {
    let types: Vec<_> = seen.iter().map(|seen| seen.start.packet_type).collect();
    assert_eq!(types, packets.types);
    let mut end = 0;
    for seen in seen {
        end += seen.start.size as usize;
        let body = &packets.bytes[end - seen.body_length as usize..end];
        assert!(seen.body == body[..body.len().min(COPIED)], "{seen:?}");
    }
    assert_eq!(end, packets.bytes.len());
}

fn check_flow(flow: &Flow, bytes: usize, packets: &Packets) {
    assert_eq!(flow.bytes(), bytes as u64);
    for packet_type in PacketType::ALL {
        let expected = packets.types.iter().filter(|each| **each == packet_type).count();
        assert_eq!(flow.packets(packet_type), expected as u64, "{packet_type:?}");
    }
}
