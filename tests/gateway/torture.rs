//! Ten thousand clients that nearly speak the protocol, and brokers that do so at times.
//!
//! Every case is made from its seed. `TORTURE_SEED` runs one alone.

mod broker;
mod mutation;

use std::fmt::Display;
use std::net::SocketAddr;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brokergate::websocket::{Mask, Opcode, frame};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use self::broker::Framing;
use self::mutation::mutate;
use super::harness::{CERTIFICATES, Client, Gate, STEP, connect_v3, connect_v5, simple, until};

const CASES: u64 = 10_000;

/// The first case's seed.
const SEED: u64 = 20_261_122;

const AT_ONCE: usize = 48;

/// The cap on connections of one address: all cases come from one.
const CAP: usize = 64;

/// What merely stalls ends soon.
const LIMITS: &str = "
    attempts = 2
    dial_timeout = \"200ms\"
    connack_timeout = \"100ms\"
    avoid = \"100ms\"
    [limits]
    connections_per_address = 64
    arrival_timeout = \"200ms\"
    connect_timeout = \"200ms\"
    idle_request_timeout = \"200ms\"
    write_stall_timeout = \"200ms\"
    half_close_timeout = \"200ms\"
    max_packet_size = \"64 KiB\"
";

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_a_client_or_a_broker_sends_breaks_the_gateway() {
    count_worker_panics();
    let brokers = [
        broker::listen(Framing::WebSocket).await,
        broker::listen(Framing::WebSocket).await,
        broker::listen(Framing::Raw).await,
    ];
    let mut gate = Gate::start(&simple(&brokers, LIMITS)).await;
    // The workers have their own files from their first connection on.
    drop(Client::plain(gate.plain()).await);
    gate.idle().await;
    let files = open_files();

    let seeds: Vec<_> = match std::env::var("TORTURE_SEED") {
        Ok(seed) => vec![seed.parse().expect("TORTURE_SEED is a number")],
        Err(_) => (SEED..SEED + CASES).collect(),
    };
    let mut running = JoinSet::new();
    let mut reached = [0; 4];
    for seed in seeds {
        if running.len() == AT_ONCE {
            reached[running.join_next().await.unwrap().unwrap() as usize] += 1;
        }
        running.spawn(Case { seed, plain: gate.plain(), tls: gate.tls() }.play());
    }
    for stage in running.join_all().await {
        reached[stage as usize] += 1;
    }
    println!("rejected at the TLS, HTTP, CONNECT, tunnel: {reached:?}");

    gate.idle().await;
    until("the last piece of work", || gate.shared.drain.work() + gate.shared.sessions.work() == 0).await;
    // Under plain cargo other tests open files in this process.
    if std::env::var_os("NEXTEST").is_some() {
        until("closing every file", || open_files() <= files).await;
    }
    every_slot_is_free(&gate).await;
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics on a worker; see above");
    gate.ask();
    gate.stopped().await;
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics on a worker; see above");
    if std::env::var_os("TORTURE_SEED").is_none() {
        assert!(reached.iter().all(|count| *count > 100), "some part was not tortured: {reached:?}");
    }
}

/// How far a case came.
#[derive(Debug, Clone, Copy)]
enum Reached {
    Tls,
    Request,
    Connect,
    Tunnel,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    seed: u64,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Case {
    async fn play(self) -> Reached {
        let mut random = fastrand::Rng::with_seed(self.seed);
        match random.u8(..32) {
            0 => self.say_hello(random).await,
            1..4 => {
                let stream = TcpStream::connect(self.tls).await.unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                let connecting = TlsConnector::from(CERTIFICATES.client()).connect(name, stream);
                // A busy machine may let the arrival time out.
                match self.within("the TLS handshake", connecting).await {
                    Ok(stream) => self.talk(stream, random).await,
                    Err(_) => Reached::Tls,
                }
            }
            _ => self.talk(TcpStream::connect(self.plain).await.unwrap(), random).await,
        }
    }

    /// A mutated ClientHello.
    async fn say_hello(self, mut random: fastrand::Rng) -> Reached {
        let name = ServerName::try_from("localhost").unwrap();
        let mut hello = Vec::new();
        rustls::ClientConnection::new(CERTIFICATES.client(), name).unwrap().write_tls(&mut hello).unwrap();
        mutate(&mut hello, &mut random);
        let mut stream = TcpStream::connect(self.tls).await.unwrap();
        self.say(&mut stream, &hello, &mut random).await;
        self.leave(stream, &mut random).await;
        Reached::Tls
    }

    /// Handshake, CONNECT, packets: each mutated at times, and each after the answer to the one before.
    async fn talk(
        self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        mut random: fastrand::Rng,
    ) -> Reached {
        let mut parts = [request(), self.connect(&mut random), packets(&mut random)];
        let target = random.usize(..4);
        match parts.get_mut(target) {
            Some(part) => mutate(part, &mut random),
            None => parts.iter_mut().for_each(|part| mutate(part, &mut random)),
        }
        let [request, connect, packets] = parts;
        self.say(&mut stream, &request, &mut random).await;
        let answer = self.hear_head(&mut stream).await;
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            self.leave(stream, &mut random).await;
            return Reached::Request;
        }
        self.say(&mut stream, &connect, &mut random).await;
        let answer = self.hear(&mut stream).await;
        if !matches!(answer[..], [0x82, _, 0x20, ..]) {
            self.leave(stream, &mut random).await;
            return Reached::Connect;
        }
        self.say(&mut stream, &packets, &mut random).await;
        self.leave(stream, &mut random).await;
        Reached::Tunnel
    }

    /// In a few pieces. Whether the gateway still listens is its affair.
    async fn say(self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8], random: &mut fastrand::Rng) {
        let cut = if random.bool() { random.usize(..=bytes.len()) } else { 0 };
        for piece in [&bytes[..cut], &bytes[cut..]] {
            let said = async {
                stream.write_all(piece).await?;
                stream.flush().await
            };
            if self.within("saying", said).await.is_err() {
                return;
            }
        }
    }

    /// What comes at once; nothing at the end.
    async fn hear(self, stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut heard = Vec::new();
        let _ = self.within("an answer", stream.read_buf(&mut heard)).await;
        heard
    }

    async fn hear_head(self, stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.within("a head", stream.read_buf(&mut head)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        head
    }

    /// Vanish, or say no more and wait until the gateway has left too.
    async fn leave(self, mut stream: impl AsyncRead + AsyncWrite + Unpin, random: &mut fastrand::Rng) {
        if random.u8(..8) == 0 {
            return;
        }
        let _ = self.within("shutdown", stream.shutdown()).await;
        let mut rest = Vec::new();
        let _ = self.within("the gateway's leaving", stream.read_to_end(&mut rest)).await;
    }

    async fn within<T>(self, what: impl Display, step: impl Future<Output = T>) -> T {
        let seed = self.seed;
        timeout(STEP, step)
            .await
            .unwrap_or_else(|_| panic!("{what} hung; try again with TORTURE_SEED={seed}"))
    }

    fn connect(self, random: &mut fastrand::Rng) -> Vec<u8> {
        let client_id = format!("seed-{}", self.seed);
        let packet = if random.bool() { connect_v3(&client_id, 0) } else { connect_v5(&client_id, 0) };
        framed(&packet, random)
    }
}

fn request() -> Vec<u8> {
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: mqtt, mqttv3.1\r\nOrigin: https://example.org\r\nCookie: a=b\r\n\
        X-Forwarded-For: 192.0.2.1, [2001:db8::1]:80\r\n\r\n"
        .to_vec()
}

/// A client's everyday, some of it in fragments.
fn packets(random: &mut fastrand::Rng) -> Vec<u8> {
    const EACH: [&[u8]; 7] = [
        b"\x82\x08\0\x01\0\x03a/b\0",
        b"\x30\x08\0\x03a/bhey",
        b"\x32\x0a\0\x03a/b\0\x02hey",
        b"\x62\x02\0\x02",
        b"\xC0\0",
        b"\xA2\x07\0\x03\0\x03a/b",
        b"\xE0\0",
    ];
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..12) {
        let mask = Some(Mask::new(random.u32(..).to_ne_bytes()));
        match random.u8(..8) {
            0 => bytes.extend(frame(Opcode::Ping, b"ping", mask)),
            1 => bytes.extend(frame(Opcode::Pong, b"", mask)),
            2 if random.u8(..4) == 0 => bytes.extend(frame(Opcode::Close, b"\x03\xe8bye", mask)),
            3 => {
                // A PUBLISH of a few kilobytes: long forms of both lengths.
                let size = random.usize(130..20_000);
                let mut packet = vec![0x30, (size % 128) as u8 | 0x80, (size / 128 % 128) as u8 | 0x80];
                packet.push((size / 128 / 128) as u8);
                packet.extend([0, 1, b'a']);
                packet.resize(4 + size, b'x');
                bytes.extend(framed(&packet, random));
            }
            _ => bytes.extend(framed(EACH[random.usize(..EACH.len())], random)),
        }
    }
    bytes
}

/// In one message of one to three frames.
fn framed(packet: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut cuts = [random.usize(..=packet.len()), random.usize(..=packet.len())];
    cuts.sort_unstable();
    if random.bool() {
        cuts = [0, 0];
    }
    let pieces = [&packet[..cuts[0]], &packet[cuts[0]..cuts[1]], &packet[cuts[1]..]];
    let first = if cuts == [0, 0] { 2 } else { 0 };
    let mut bytes = Vec::new();
    for (index, piece) in pieces.iter().enumerate().skip(first) {
        let opcode = if index == first { Opcode::Binary } else { Opcode::Continuation };
        let start = bytes.len();
        bytes.extend(frame(opcode, piece, Some(Mask::new(random.u32(..).to_ne_bytes()))));
        if index < 2 {
            bytes[start] &= 0x7F;
        }
    }
    bytes
}

/// As many sessions as the cap allows, which is one address's, and not one more.
async fn every_slot_is_free(gate: &Gate) {
    let mut clients = Vec::new();
    for _ in 0..CAP {
        clients.push(Client::plain(gate.plain()).await);
    }
    let Err(full) = Client::open(gate.plain(), false, &[]).await else { panic!("over the cap") };
    assert_eq!(full.status(), 503);
    drop(clients);
    gate.idle().await;
}

/// Panics of other tests' own threads are theirs.
fn count_worker_panics() {
    let shown = Arc::new(panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        if std::thread::current().name().is_some_and(|name| name.starts_with("worker-")) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        shown(info);
    }));
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
