//! Any schedule of writes, reads and new keys, in any pieces: both ends get what the other said, in order.

use proptest::prelude::*;
use rustls::ClientConnection;
use std::io::{Read, Write};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// We write; what is not taken at once is given up, as by a future that is dropped.
    Write(usize),
    Flush,
    /// We read into a room of so many bytes, and give up if there is nothing.
    Read(usize),
    /// Our key bears so many records more.
    Wear(u64),
    ClientWrites(usize),
    /// It asks for new keys.
    ClientRefreshes,
    /// So many bytes of its go to the socket.
    ClientSends(usize),
    /// And from it.
    ClientReceives(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![0..40_usize, 0..2000_usize, 16_380..16_390_usize, 0..40_000_usize];
    prop_oneof![
        3 => size().prop_map(Step::Write),
        1 => Just(Step::Flush),
        3 => prop_oneof![1..100_usize, 1..40_000_usize].prop_map(Step::Read),
        1 => (1..4_u64).prop_map(Step::Wear),
        3 => size().prop_map(Step::ClientWrites),
        1 => Just(Step::ClientRefreshes),
        3 => prop_oneof![1..30_usize, 1..40_000_usize].prop_map(Step::ClientSends),
        3 => prop_oneof![1..30_usize, 1..40_000_usize].prop_map(Step::ClientReceives),
    ]
}

/// Both ends, and what each has said and heard.
struct Talk {
    client: ClientConnection,
    socket: TcpStream,
    /// Sealed by the client, not yet sent.
    sealed: Vec<u8>,
    ours: TlsStream,
    said: Vec<u8>,
    heard: Vec<u8>,
    client_said: Vec<u8>,
    client_heard: Vec<u8>,
}

impl Talk {
    async fn begin(server: &Server, client: &Arc<ClientConfig>) -> Self {
        let (client, ours) = server.pair(client).await;
        let (socket, mut client) = client.into_inner();
        client.set_buffer_limit(None);
        let empty = Vec::new;
        Self {
            client,
            socket,
            ours,
            sealed: empty(),
            said: empty(),
            heard: empty(),
            client_said: empty(),
            client_heard: empty(),
        }
    }

    /// Bytes that no other place of the talk has.
    fn words(said: &[u8], length: usize) -> Vec<u8> {
        (said.len()..said.len() + length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Write(length) => {
                let words = Self::words(&self.said, length);
                if let Some(count) = super::keys::write_ready(&mut self.ours, &words).await {
                    self.said.extend_from_slice(&words[..count.unwrap()]);
                }
            }
            Step::Flush => {
                poll_fn(|cx| {
                    let flushed = Pin::new(&mut self.ours).poll_flush(cx);
                    assert!(!matches!(flushed, Poll::Ready(Err(_))), "{flushed:?}");
                    Poll::Ready(())
                })
                .await;
            }
            Step::Read(room) => {
                let mut room = vec![0; room];
                if let Some(count) = read_ready(&mut self.ours, &mut room).await {
                    self.heard.extend_from_slice(&room[..count.unwrap()]);
                }
            }
            Step::Wear(records) => self.ours.wear_key(records),
            Step::ClientWrites(length) => {
                let words = Self::words(&self.client_said, length);
                self.client.writer().write_all(&words).unwrap();
                self.client_said.extend(words);
            }
            Step::ClientRefreshes => {
                if self.client.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
                    self.client.refresh_traffic_keys().unwrap();
                }
            }
            Step::ClientSends(length) => {
                self.seal();
                let length = length.min(self.sealed.len());
                if let Ok(sent) = self.socket.try_write(&self.sealed[..length]) {
                    self.sealed.drain(..sent);
                }
            }
            Step::ClientReceives(length) => {
                let mut bytes = vec![0; length];
                if let Ok(count) = self.socket.try_read(&mut bytes) {
                    self.take(&bytes[..count]);
                }
            }
        }
    }

    fn seal(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.sealed).unwrap();
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets().expect("what we send is TLS");
            let _ = self.client.reader().read_to_end(&mut self.client_heard);
        }
    }

    /// All that was said is heard, then both say goodbye.
    async fn end(mut self) {
        self.client.send_close_notify();
        self.seal();
        let Self { client, socket, sealed, mut ours, said, heard, client_said, client_heard } = self;
        let (mut from, mut to) = socket.into_split();
        let (mut rest, mut bytes) = (Vec::new(), Vec::new());
        let our_end = async {
            ours.read_to_end(&mut rest).await.unwrap();
            ours.shutdown().await.unwrap();
        };
        let sending = async { to.write_all(&sealed).await.unwrap() };
        let receiving = from.read_to_end(&mut bytes);
        let all = async { tokio::join!(our_end, sending, receiving) };
        within("the end of a talk", all).await.2.unwrap();
        assert!([heard, rest].concat() == client_said, "we heard what the client did not say");
        assert_eq!(ours.kept(), 0);

        let socket = from.reunite(to).unwrap();
        let mut talk = Self {
            client,
            socket,
            sealed: Vec::new(),
            ours,
            said,
            heard: Vec::new(),
            client_said,
            client_heard,
        };
        talk.take(&bytes);
        assert!(talk.client_heard == talk.said, "the client heard what we did not say");
        assert_eq!(talk.client.reader().read(&mut [0]).unwrap(), 0, "our close_notify");
    }
}

#[test]
fn any_schedule_loses_nothing() {
    let server = Server::new();
    // Resumed after the first time, which is quicker.
    let clients = [tls13(), tls12()].map(|suite| server.client(&[suite]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let strategy = (prop_oneof![3 => Just(0_usize), 1 => Just(1)], prop::collection::vec(step(), 1..24));
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((version, steps) in strategy)| {
        runtime.block_on(async {
            let mut talk = Talk::begin(&server, &clients[version]).await;
            for step in &steps {
                // TLS 1.2 has no other key.
                if version == 0 || !matches!(step, Step::Wear(_)) {
                    talk.step(step).await;
                }
                // Let the runtime see what the sockets have to say.
                tokio::task::yield_now().await;
            }
            talk.end().await;
        });
    });
}
