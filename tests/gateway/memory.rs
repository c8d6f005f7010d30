//! What an idle session costs: the program as it is, in a process of its own, with 2000 sessions over TLS.
//!
//! `BROKERGATE_BIN` names another build to measure.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use brokergate::websocket::{Mask, Opcode, frame};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::{Broker, CERTIFICATES, Visit, connect_v3, simple, until, within};

const SESSIONS: usize = 2000;

/// KiB of resident memory that a session may cost.
const BOUND: f64 = 12.0;

/// How many clients arrive at once.
const AT_ONCE: usize = 32;

/// Each sample of a histogram is kept until it is summed up.
#[tokio::test]
async fn samples_are_summed_up_though_nobody_scrapes() {
    let text = simple(&["\"ws://127.0.0.1:1\"".into()], "[admin]\nenabled = false\n");
    let config = brokergate::config::parse(Path::new("test.toml"), &text, &|_| None).unwrap();
    let gateway = brokergate::gateway::Gateway::bind(config).unwrap();
    let metrics = std::sync::Arc::clone(&gateway.shared().metrics);
    let running = tokio::spawn(gateway.run(std::future::pending(), std::future::pending()));
    until("summing up", || metrics.upkept() > 1).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_costs_little() {
    // Both ends of everything but the gateway's are ours.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let broker = Broker::listen().await;
    let program = Program::start(&broker).await;
    // The first session brings in the code that it runs.
    Sessions::open(1, &program, &broker).await.close().await;
    let start = program.resident();
    let sessions = Sessions::open(SESSIONS, &program, &broker).await;
    let idle = program.resident();
    sessions.close().await;
    let after = program.resident();

    let each = (idle - start) / SESSIONS as f64;
    println!("{}:", program.path.display());
    println!(
        "{each:.2} KiB an idle session; {start:.0} KiB at the start, {idle:.0} with {SESSIONS} sessions, {after:.0} after them"
    );
    check(each, BOUND).unwrap();
    // The measure itself is no stub: nothing costs nothing.
    check(each, 1.0).unwrap_err();
}

fn check(each: f64, bound: f64) -> Result<(), String> {
    if each < bound { Ok(()) } else { Err(format!("{each:.2} KiB a session, and not below {bound}")) }
}

/// The gateway, started as a user does. It ends with the test.
struct Program {
    path: PathBuf,
    process: Child,
    address: SocketAddr,
}

impl Program {
    async fn start(broker: &Broker) -> Self {
        let path = std::env::var_os("BROKERGATE_BIN")
            .map_or_else(|| env!("CARGO_BIN_EXE_brokergate").into(), PathBuf::from);
        let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        let more = "[admin]\nenabled = false\n[log]\nformat = \"json\"\n";
        file.write_all(simple(&[broker.ws()], more).as_bytes()).unwrap();
        let mut process = Command::new(&path)
            .args(["run", "--config"])
            .arg(file.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = within("the listeners", async {
            loop {
                let line =
                    log.next_line().await.unwrap().expect("the program stopped; is its configuration good?");
                if line.contains("\"listening\"") && line.contains("\"tls\":true") {
                    let (_, rest) = line.split_once("\"address\":\"").unwrap();
                    return rest.split('"').next().unwrap().parse().unwrap();
                }
            }
        })
        .await;
        // A pipe that nobody empties would stall the log.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { path, process, address }
    }

    /// KiB in memory.
    fn resident(&self) -> f64 {
        let process = Path::new("/proc").join(self.process.id().unwrap().to_string());
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Clients that say nothing any more, and the broker's ends of their sessions.
struct Sessions {
    clients: Vec<TlsStream<TcpStream>>,
    visits: Vec<Visit>,
}

impl Sessions {
    async fn open(count: usize, program: &Program, broker: &Broker) -> Self {
        let mut sessions = Self { clients: Vec::with_capacity(count), visits: Vec::with_capacity(count) };
        while sessions.clients.len() < count {
            let mut arriving = JoinSet::new();
            for number in 0..AT_ONCE.min(count - sessions.clients.len()) {
                arriving
                    .spawn(arrive(program.address, format!("client-{}", sessions.clients.len() + number)));
            }
            for _ in 0..arriving.len() {
                let mut visit = broker.visit_ws().await;
                let head = visit.hear(2).await;
                visit.hear(usize::from(head[1])).await;
                visit.say(&[0x20, 2, 0, 0]).await;
                sessions.visits.push(visit);
            }
            sessions.clients.extend(within("arriving", arriving.join_all()).await);
        }
        sessions
    }

    /// Leave, and wait until the gateway has left the broker.
    async fn close(self) {
        drop(self.clients);
        for mut visit in self.visits {
            assert!(visit.hear_all().await.is_empty());
        }
    }
}

/// A client that holds no more than its connection, once it has its CONNACK.
async fn arrive(gateway: SocketAddr, client_id: String) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(gateway).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(CERTIFICATES.client()).connect(name, stream).await.unwrap();
    let request = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let connect = frame(Opcode::Binary, &connect_v3(&client_id, 0), Some(Mask::new([1, 2, 3, 4])));
    stream.write_all(&connect).await.unwrap();
    let mut connack = [0; 6];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack, [0x82, 4, 0x20, 2, 0, 0]);
    stream
}
