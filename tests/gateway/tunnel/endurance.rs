//! Sides that do not read, that flood, or that leave at a bad moment.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use brokergate::config::{CertificateFiles, ListenerTls, TlsVersion};
use brokergate::mqtt::{Level, PacketType};
use brokergate::net::Stream;
use brokergate::tls::{accept, server_tls};
use brokergate::tunnel::{Ending, Ends, Framing, Meter, Patience, Traffic, Tunnel};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, coop, yield_now};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::PATIENT;
use super::wire::{Framed, Heard, packet_of};
use crate::harness::{CERTIFICATES, within};

/// Bytes of a socket's buffer; the kernel makes it twice that. Smaller ones wait for timers.
const SMALL: usize = 8 * 1024;

/// What a session's four socket buffers and the gateway itself may hold.
const BOUND: usize = 256 * 1024;

#[tokio::test]
async fn what_one_side_does_not_read_the_other_cannot_send() {
    const PACKET: usize = 100_000;
    let packet = packet_of(PacketType::Publish, 0, PACKET, 1);
    for framing in [Framing::WebSocket, Framing::Raw] {
        for up in [true, false] {
            let (mut client, client_end) = pair(SMALL).await;
            let (mut broker, broker_end) = pair(SMALL).await;
            let tunnel = join(client_end, broker_end, framing, PATIENT);
            let (sender, reader) = if up { (&mut client, &mut broker) } else { (&mut broker, &mut client) };
            let mut piece = Framed::default();
            let key = up.then_some([1, 2, 3, 4]);
            match (framing, up) {
                (Framing::Raw, false) => piece.wire.clone_from(&packet),
                _ => piece.push(OpCode::Data(Data::Binary), true, key, &packet),
            }
            let whole = piece.wire.repeat((64 << 20) / piece.wire.len());
            let accepted = send_what_goes(sender, &whole).await;
            assert!(accepted < BOUND, "{framing:?}, up: {up}: {accepted} bytes are held somewhere");
            // Nothing of it is lost: it all goes on once the other reads.
            let rest = whole.get(accepted..4 * piece.wire.len()).unwrap_or_default();
            let expected = match (framing, up) {
                (Framing::WebSocket, _) => whole[..4 * piece.wire.len()].to_vec(),
                (Framing::Raw, true) => packet.repeat(4),
                // Frames of any size: counted below.
                (Framing::Raw, false) => Vec::new(),
            };
            let said = async {
                sender.write_all(rest).await.unwrap();
                sender.shutdown().await.unwrap();
            };
            let ((), heard) = within("the rest", async { tokio::join!(said, hear(reader)) }).await;
            if (framing, up) == (Framing::Raw, false) {
                assert!(Heard::decode(&heard).mqtt == packet.repeat(4));
            } else {
                assert!(heard.starts_with(&expected), "{framing:?}, up: {up}");
            }
            drop((client, broker));
            within("the end", tunnel).await.unwrap();
        }
    }
}

#[tokio::test]
async fn pings_of_a_client_that_reads_nothing_leave_whole_pongs() {
    // Of each length, for the room that is left in the client's TLS fits some of them in part only.
    for length in (2..=125).step_by(17) {
        let (client_socket, server_socket) = pair(1).await;
        let (mut client, server) = secure(client_socket, server_socket).await;
        let (_broker, broker_end) = UnixStream::pair().unwrap();
        let tunnel = join(server, broker_end, Framing::Raw, PATIENT);
        let mut pings = Framed::default();
        for number in 0..10_000_u16 {
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(length, 0x30);
            pings.push(OpCode::Control(Control::Ping), true, Some([5, 6, 7, 8]), &payload);
        }
        let mut close = Framed::default();
        close.push(OpCode::Control(Control::Close), true, Some([5, 6, 7, 8]), &[3, 232]);
        // Every ping goes before the first pong is read.
        client.write_all(&[pings.wire, close.wire].concat()).await.unwrap();
        client.flush().await.unwrap();
        let heard = Heard::decode(&within("the pongs", hear(&mut client)).await);
        assert_eq!(heard.close, Some(1000));
        assert!(heard.pongs.is_sorted(), "pongs out of order");
        drop(client);
        assert_eq!(within("the end", tunnel).await.unwrap(), Ending::ClientClosed);
    }
}

#[tokio::test]
async fn a_slow_tcp_broker_hears_all_that_came_before_the_close_frame() {
    for size in (1000..60_000).step_by(1901) {
        let (mut client, client_end) = UnixStream::pair().unwrap();
        let (mut broker, broker_end) = UnixStream::pair().unwrap();
        SockRef::from(&broker_end).set_send_buffer_size(1).unwrap();
        let tunnel = join(client_end, broker_end, Framing::Raw, PATIENT);
        let mqtt = [packet_of(PacketType::Publish, 0, size, 1), vec![0xE0, 0]].concat();
        let mut sent = Framed::default();
        sent.push(OpCode::Data(Data::Binary), true, Some([5, 6, 7, 8]), &mqtt);
        sent.push(OpCode::Control(Control::Close), true, Some([5, 6, 7, 8]), &[3, 232]);
        client.write_all(&sent.wire).await.unwrap();
        // A broker that takes its time.
        let mut heard = Vec::new();
        let mut piece = [0; 500];
        loop {
            match within("bytes", broker.read(&mut piece)).await.unwrap() {
                0 => break,
                count => heard.extend_from_slice(&piece[..count]),
            }
            tokio::task::yield_now().await;
        }
        assert!(heard == mqtt, "{} of {} bytes came", heard.len(), mqtt.len());
        drop(broker);
        assert_eq!(Heard::decode(&within("the close", hear(&mut client)).await).close, Some(1000));
        drop(client);
        assert_eq!(within("the end", tunnel).await.unwrap(), Ending::ClientClosed);
    }
}

#[tokio::test]
async fn a_session_whose_broker_left_in_a_stall_ends_when_the_client_has_left() {
    for framing in [Framing::WebSocket, Framing::Raw] {
        let (mut client, client_end) = pair(SMALL).await;
        let (mut broker, broker_end) = pair(SMALL).await;
        let tunnel = join(client_end, broker_end, framing, PATIENT);
        flood(&mut client).await;
        broker.shutdown().await.unwrap();
        let heard = Heard::decode(&within("the close", hear(&mut client)).await);
        assert_eq!(heard.close, Some(1001));
        drop(client);
        assert_eq!(within("the end", tunnel).await.unwrap(), Ending::BrokerClosed);
    }
}

#[tokio::test]
async fn a_farewell_longer_than_the_stall_timeout_costs_no_turns() {
    let patience =
        Patience { stall: Duration::from_millis(100), farewell: Duration::from_secs(1), ..PATIENT };
    let (mut client, client_end) = UnixStream::pair().unwrap();
    let (_broker, broker_end) = UnixStream::pair().unwrap();
    SockRef::from(&broker_end).set_send_buffer_size(1).unwrap();
    let mut sent = Framed::default();
    let packet = packet_of(PacketType::Publish, 0, 10_000, 1);
    sent.push(OpCode::Data(Data::Binary), true, Some([5, 6, 7, 8]), &packet);
    sent.push(OpCode::Control(Control::Close), true, Some([5, 6, 7, 8]), &[3, 232]);
    client.write_all(&sent.wire).await.unwrap();
    let mut tunnel = Tunnel::new(ends(client_end, broker_end, Framing::WebSocket), patience);
    let (traffic, meter) = (Traffic::default(), Arc::<Meter>::default());
    let mut turns = 0;
    {
        let mut run = pin!(tunnel.run(pending(), pending(), &traffic, &meter));
        let counted = poll_fn(|cx| {
            turns += 1;
            run.as_mut().poll(cx)
        });
        assert_eq!(within("the end", counted).await, Ending::ClientClosed);
    }
    assert!(turns < 20, "woken {turns} times");
}

#[tokio::test]
async fn who_had_used_up_its_turn_is_woken_all_the_same() {
    let (mut client, client_end) = UnixStream::pair().unwrap();
    let (mut broker, broker_end) = UnixStream::pair().unwrap();
    let mut tunnel = Tunnel::new(ends(client_end, broker_end, Framing::WebSocket), PATIENT);
    let (traffic, meter) = (Traffic::default(), Arc::<Meter>::default());
    let mut run = pin!(tunnel.run(pending(), pending(), &traffic, &meter));
    let turns = Cell::new(0);
    let ended = poll_fn(|cx| {
        // The first time it may not even look whether something has come.
        while turns.get() == 0 && pin!(coop::consume_budget()).poll(cx).is_ready() {}
        turns.set(turns.get() + 1);
        run.as_mut().poll(cx)
    });
    let said = async {
        let mut sent = Framed::default();
        sent.push(OpCode::Data(Data::Binary), true, None, &packet_of(PacketType::Publish, 0, 10, 1));
        let mut heard = vec![0; sent.wire.len()];
        // Behind its second turn it sleeps.
        while turns.get() < 2 {
            yield_now().await;
        }
        broker.write_all(&sent.wire).await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, sent.wire);
        drop((client, broker));
    };
    let (ended, ()) = within("the end", async { tokio::join!(ended, said) }).await;
    assert_eq!(ended, Ending::ClientVanished);
}

/// Two ends of a TCP connection with buffers of about `size` bytes, or the least that the kernel has.
async fn pair(size: usize) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    SockRef::from(&listener).set_recv_buffer_size(size).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    for socket in [&near, &far] {
        socket.set_nodelay(true).unwrap();
        SockRef::from(socket).set_send_buffer_size(size).unwrap();
        SockRef::from(socket).set_recv_buffer_size(size).unwrap();
    }
    (near, far)
}

/// TLS over a connection, as a listener has it.
async fn secure(
    client: TcpStream,
    server: TcpStream,
) -> (tokio_rustls::client::TlsStream<TcpStream>, Stream) {
    let files = CertificateFiles { chain: CERTIFICATES.path("chain.pem"), key: CERTIFICATES.path("key.pem") };
    let tls = ListenerTls { certificates: vec![files], min_version: TlsVersion::Tls13, session_tickets: 0 };
    let config = server_tls(&tls, None).unwrap().config;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(CERTIFICATES.client());
    let (client, server) = tokio::join!(connector.connect(name, client), accept(server, &config));
    (client.unwrap(), server.unwrap().0.into())
}

fn ends(client: impl Into<Stream>, broker: impl Into<Stream>, framing: Framing) -> Ends {
    Ends {
        client: client.into(),
        broker: broker.into(),
        framing,
        from_client: Vec::new(),
        begins_message: false,
        from_broker: Vec::new(),
        was_refused: false,
        level: Level::V5,
    }
}

/// A tunnel at work.
fn join(
    client: impl Into<Stream>,
    broker: impl Into<Stream>,
    framing: Framing,
    patience: Patience,
) -> JoinHandle<Ending> {
    let mut tunnel = Tunnel::new(ends(client, broker, framing), patience);
    tokio::spawn(async move { tunnel.run(pending(), pending(), &Traffic::default(), &Arc::default()).await })
}

/// Send until nothing more is taken for a while, and say how much was.
async fn send_what_goes(into: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> usize {
    let mut sent = 0;
    while let Ok(count) = timeout(Duration::from_millis(300), into.write(&bytes[sent..])).await {
        sent += count.unwrap();
    }
    sent
}

/// One packet without an end.
async fn flood(client: &mut (impl AsyncWrite + Unpin)) {
    let mut sent = Framed::default();
    let packet = packet_of(PacketType::Publish, 0, 1_000_000, 1);
    sent.push(OpCode::Data(Data::Binary), true, Some([5, 6, 7, 8]), &packet);
    assert!(send_what_goes(client, &sent.wire).await < BOUND);
}

/// Everything until the end, or until the connection breaks.
async fn hear(from: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = from.read_to_end(&mut heard).await;
    heard
}
