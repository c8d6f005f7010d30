//! What the gateway takes from the heap: for each message of a session at work, and for a session that is silent.
//!
//! A test program of its own, because its allocator counts. The gateway runs on a thread of its own, clients and
//! brokers on others, and only that thread's allocations count; those of the TLS provider, which is C, are not
//! seen. What the program as a whole takes of the machine's memory is in `tests/gateway/memory.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::large_futures, reason = "of a test, and there is one")]

#[path = "../gateway/harness/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "some of the harness's words are enough here")]
mod harness;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocation_counter::{AllocationInfo, measure};
use brokergate::config::{self, Config};
use brokergate::gateway::Gateway;
use brokergate::listener::{
    self, Accepted, Listener, Socket,
    connection::{self, Handed},
};
use brokergate::proxy::{Load, Shared};
use harness::{Broker, Client, KINDS, Kind, Visit, accepted, connect_v3, publish, simple, within};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// Allocations that a message of 256 KiB may take, to the broker and back: what a read leaves of a record, and
/// what a full socket does not take, are copies no larger than they must be. 4 were measured.
const MOST_OF_A_LARGE_MESSAGE: u64 = 8;

/// Bytes of heap that a silent session may hold. 3489 were measured.
const MOST_OF_A_SILENT_SESSION: i64 = 3600;

const LARGE: usize = 256 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_message_allocates_nothing_and_a_large_one_little() {
    for kind in KINDS {
        let (gateway, broker) = start(kind).await;
        let mut session = Session::join(&gateway, &broker, kind, "client").await;
        // The first ones let buffers grow to what they stay at.
        session.talk(128, 16).await;
        let small = gateway.during(session.talk(128, 500)).await;
        session.talk(LARGE, 16).await;
        let large = gateway.during(session.talk(LARGE, 50)).await;
        println!(
            "{kind:?}: {} allocations for 500 messages, {} for 50 large ones",
            small.count_total, large.count_total
        );
        assert_eq!(small.count_total, 0);
        assert!(large.count_total <= 50 * MOST_OF_A_LARGE_MESSAGE, "{large:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_silent_session_holds_little_also_when_it_was_busy() {
    const SESSIONS: i64 = 100;
    for kind in KINDS {
        let (gateway, broker) = start(kind).await;
        // The first one fills what the thread keeps for all.
        let mut first = Session::join(&gateway, &broker, kind, "client").await;
        first.talk(LARGE, 1).await;

        let mut sessions = Vec::new();
        let opened = gateway.during(async {
            for number in 0..SESSIONS {
                sessions.push(Session::join(&gateway, &broker, kind, &format!("client-{number}")).await);
            }
        });
        let opened = opened.await.bytes_current / SESSIONS;
        let used = gateway.during(async {
            for session in &mut sessions {
                session.talk(LARGE, 1).await;
            }
        });
        let used = used.await.bytes_current / SESSIONS;
        println!("{kind:?}: {opened} bytes a session, {used} more when it was busy");
        assert!((1000..=MOST_OF_A_SILENT_SESSION).contains(&opened), "{opened} bytes");
        assert!(used < 64, "{used} bytes");
    }
}

/// A client that speaks TLS, and its broker's end.
struct Session {
    client: Client,
    visit: Visit,
}

impl Session {
    async fn join(gateway: &Counted, broker: &Broker, kind: Kind, client_id: &str) -> Self {
        let connect = connect_v3(client_id, 60);
        let mut client = Client::tls(gateway.address).await;
        client.say(&connect).await;
        let mut visit = broker.visit(kind).await;
        visit.welcome(&connect).await;
        assert_eq!(client.hear_mqtt(4).await, accepted(&connect));
        Self { client, visit }
    }

    /// So many messages of so many bytes, to the broker and back.
    async fn talk(&mut self, size: usize, times: usize) {
        let message = publish(4, size);
        for _ in 0..times {
            self.client.say(&message).await;
            assert!(self.visit.hear(message.len()).await == message);
            self.visit.say(&message).await;
            assert!(self.client.hear_mqtt(message.len()).await == message);
        }
    }
}

/// A gateway before one broker.
async fn start(kind: Kind) -> (Counted, Broker) {
    const QUIET: &str = "[admin]\nenabled = false\n[log]\naccess = false\n";
    let broker = Broker::listen().await;
    (Counted::start(&simple(&[broker.endpoint(kind)], QUIET)), broker)
}

/// A gateway on a thread of its own, in the place of a worker.
struct Counted {
    address: SocketAddr,
    marks: mpsc::UnboundedSender<oneshot::Sender<AllocationInfo>>,
}

impl Counted {
    fn start(text: &str) -> Self {
        let config = config::parse(Path::new("heap.toml"), text, &|_| None).unwrap();
        let (marks, marked) = mpsc::unbounded_channel();
        let (ready, bound) = std::sync::mpsc::channel();
        std::thread::spawn(move || serve(config, &ready, marked));
        Self { address: bound.recv().unwrap(), marks }
    }

    /// What the gateway took from the heap, and gave back, while `step` went on.
    async fn during(&self, step: impl Future<Output = ()>) -> AllocationInfo {
        self.since_mark().await;
        step.await;
        self.since_mark().await
    }

    async fn since_mark(&self) -> AllocationInfo {
        let (mark, counted) = oneshot::channel();
        self.marks.send(mark).unwrap();
        within("counting", counted).await.unwrap()
    }
}

/// Serve, and count from mark to mark, until nobody marks any more.
fn serve(
    config: Config,
    ready: &std::sync::mpsc::Sender<SocketAddr>,
    mut marked: mpsc::UnboundedReceiver<oneshot::Sender<AllocationInfo>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shared = Arc::clone(Gateway::bind(config).unwrap().shared());
        let mut listeners = listener::build(&shared.snapshot.load().config, &[]).unwrap();
        let listener = listeners.pop().unwrap();
        assert!(listener.tls.is_some());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        ready.send(socket.local_addr().unwrap()).unwrap();
        tokio::spawn(accept(socket, listener, shared));
    });
    loop {
        let mut mark = None;
        let counted = measure(|| mark = runtime.block_on(marked.recv()));
        match mark {
            Some(mark) => mark.send(counted).unwrap(),
            None => return,
        }
    }
}

/// Take clients as a worker does.
async fn accept(socket: TcpListener, listener: Arc<Listener>, shared: Arc<Shared>) {
    let (served, traffic) = (Arc::new(AtomicUsize::new(0)), shared.traffic.open());
    let shard = shared.roster.open();
    loop {
        let (stream, peer) = socket.accept().await.unwrap();
        served.fetch_add(1, Ordering::Relaxed);
        let client = Accepted { listener: Arc::clone(&listener), socket: Socket::Here(stream), peer };
        let client = Handed::new(client, &shared);
        tokio::spawn(connection::serve(client, Arc::clone(&shared), Load::new(&served, &traffic, &shard)));
    }
}
