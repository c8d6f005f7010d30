//! An honest broker for QoS 1, MQTT over TCP: what a client publishes to the topic that it subscribed to comes
//! back once. It counts what it sent and was never acknowledged.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::packet::{self, Packet, Version, kind};

/// A broker, until dropped.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    books: Arc<Books>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Books {
    /// CONNECTs.
    connects: AtomicUsize,
    /// Messages to clients that left properly without having acknowledged them.
    unacknowledged: AtomicUsize,
    /// What a proper client does not do.
    faults: AtomicUsize,
    /// Sessions by ClientID. One that comes back may be here before its old session is gone.
    present: Mutex<HashMap<String, usize>>,
}

impl Books {
    fn present(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    pub(crate) async fn serve() -> Result<Self> {
        Self::serve_on("127.0.0.1:0".parse()?).await
    }

    pub(crate) async fn serve_on(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let books = Arc::<Books>::default();
        let shared = Arc::clone(&books);
        let serving = tokio::spawn(async move {
            let mut visits = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        // Without descriptors the client's side fails, and says so.
                        let Ok((stream, _)) = accepted else { continue };
                        visits.spawn(visit(stream, Arc::clone(&shared)));
                    }
                    Some(_) = visits.join_next() => {}
                }
            }
        });
        Ok(Self { address, books, serving })
    }

    /// The URL of its endpoint.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    pub(crate) fn connects(&self) -> usize {
        self.books.connects.load(Ordering::Relaxed)
    }

    /// The ClientIDs of its sessions.
    pub(crate) fn present(&self) -> HashSet<String> {
        self.books.present().keys().cloned().collect()
    }

    /// What it has to complain of.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let counts = [
            ("messages were never acknowledged", &self.books.unacknowledged),
            ("sessions broke MQTT's rules", &self.books.faults),
        ];
        let counts = counts.map(|(what, count)| (what, count.load(Ordering::Relaxed)));
        let some = counts.iter().filter(|(_, count)| *count > 0);
        some.map(|(what, count)| format!("broker {}: {count} {what}", self.address)).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn visit(stream: TcpStream, books: Arc<Books>) {
    let _ = stream.set_nodelay(true);
    let mut visit = Visit { books, session: None, topic: None, next_id: 0, under_way: HashSet::new() };
    if visit.serve(stream).await.is_err() {
        visit.books.faults.fetch_add(1, Ordering::Relaxed);
    }
}

/// One client's.
struct Visit {
    books: Arc<Books>,
    /// Its version and ClientID, once it has said CONNECT.
    session: Option<(Version, String)>,
    topic: Option<Bytes>,
    next_id: u16,
    under_way: HashSet<u16>,
}

impl Visit {
    async fn serve(&mut self, mut stream: TcpStream) -> Result<()> {
        let mut bytes = BytesMut::with_capacity(512);
        let mut answer = Vec::new();
        // A stream that breaks is no fault of MQTT: the client tells of it.
        while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            answer.clear();
            let mut goes_on = true;
            while let Some(packet) = Packet::take(&mut bytes)? {
                goes_on &= self.hear(&packet, &mut answer)?;
            }
            if !goes_on || stream.write_all(&answer).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Whether the client stays.
    fn hear(&mut self, packet: &Packet, answer: &mut Vec<u8>) -> Result<bool> {
        let Some((version, _)) = self.session else {
            ensure!(packet.kind() == kind::CONNECT, "no CONNECT");
            let (version, client_id) = (packet.version()?, packet.client_id()?);
            *self.books.present().entry(client_id.clone()).or_default() += 1;
            self.session = Some((version, client_id));
            self.books.connects.fetch_add(1, Ordering::Relaxed);
            answer.extend(packet::connack(version));
            return Ok(true);
        };
        match packet.kind() {
            kind::SUBSCRIBE => {
                self.topic = Some(packet.topic(version)?);
                answer.extend(packet::suback(version, packet.id()?));
            }
            kind::PUBLISH => {
                let publish = packet.publish(version)?;
                answer.extend(packet::puback(publish.id));
                if self.topic.as_ref() == Some(&publish.topic) {
                    self.next_id = self.next_id.checked_add(1).unwrap_or(1);
                    ensure!(self.under_way.insert(self.next_id), "too many messages are unacknowledged");
                    answer.extend(packet::publish(version, self.next_id, &publish.topic, &publish.payload));
                }
            }
            kind::PUBACK => ensure!(self.under_way.remove(&packet.id()?), "a PUBACK of nothing"),
            kind::PINGREQ => answer.extend(packet::PINGRESP),
            kind::DISCONNECT => {
                self.books.unacknowledged.fetch_add(self.under_way.len(), Ordering::Relaxed);
                return Ok(false);
            }
            other => bail!("packet type {other}"),
        }
        Ok(true)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some((_, client_id)) = self.session.take() else { return };
        let mut present = self.books.present();
        let left = present.get(&client_id).map_or(0, |sessions| sessions - 1);
        if left == 0 {
            present.remove(&client_id);
        } else {
            present.insert(client_id, left);
        }
    }
}
