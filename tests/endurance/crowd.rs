//! Sessions that talk: each sends itself numbered messages at QoS 1, one at each beat, and counts what comes
//! back. A number that is missing, or comes twice, or an acknowledgement out of turn, is a fault.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use super::client::{Client, Door, Heard};
use super::packet::{self, Packet, Version, kind};

/// So many connect at once.
const AT_ONCE: usize = 64;

/// What is under way at the end must have come back after so long.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// The payload's size in bytes; its number and time stand at the front.
const SIZE: usize = 64;

/// Sessions that talk until they are told to end.
pub(crate) struct Crowd {
    stop: watch::Sender<bool>,
    sessions: JoinSet<Result<Tally>>,
    times: Arc<Mutex<Histogram<u64>>>,
}

/// What one session, or all, sent and heard.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    acknowledged: u64,
    returned: u64,
}

/// What all sessions had to tell.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sessions: usize,
    pub(crate) tally: Tally,
    pub(crate) faults: Vec<String>,
}

impl Crowd {
    /// Connect `count` sessions; `beat` is the time from one message of a session to its next.
    pub(crate) async fn gather(door: &Door, name: &str, count: usize, beat: Duration) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let times = Arc::new(Mutex::new(Histogram::new_with_max(60_000_000, 3)?));
        let mut sessions = JoinSet::new();
        let mut arriving = JoinSet::new();
        let doorway = Arc::new(Semaphore::new(AT_ONCE));
        for number in 0..count {
            let (door, doorway, id) = (door.clone(), Arc::clone(&doorway), format!("{name}-{number}"));
            arriving.spawn(async move {
                let _turn = doorway.acquire().await?;
                let topic = format!("to/{id}");
                let mut client =
                    Client::connect(&door, &id, Version::of(number)).await.context(id.clone())?;
                client.subscribe(&topic).await.context(id.clone())?;
                anyhow::Ok(Session { client, id, topic, tally: Tally::default(), under_way: VecDeque::new() })
            });
        }
        let began = Instant::now();
        while let Some(arrived) = arriving.join_next().await {
            let session = arrived??;
            // All beats are spread evenly.
            let first = beat.mul_f64(fastrand::f64());
            sessions.spawn(session.talk(began, first, beat, stopped.clone(), Arc::clone(&times)));
        }
        Ok(Self { stop, sessions, times })
    }

    /// From a message's sending to its return, of those since the last time we looked: in microseconds.
    pub(crate) fn times(&self) -> Histogram<u64> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = times.clone();
        times.reset();
        seen
    }

    /// No more messages; wait for those under way, and leave.
    pub(crate) async fn end(mut self) -> Outcome {
        let mut outcome =
            Outcome { sessions: self.sessions.len(), tally: Tally::default(), faults: Vec::new() };
        let _ = self.stop.send(true);
        while let Some(ended) = self.sessions.join_next().await {
            match ended {
                Ok(Ok(tally)) => outcome.tally.add(tally),
                Ok(Err(error)) => outcome.faults.push(format!("{error:#}")),
                Err(error) => outcome.faults.push(error.to_string()),
            }
        }
        outcome
    }
}

impl Outcome {
    /// For the report.
    pub(crate) fn figures(&self) -> String {
        let Tally { sent, acknowledged, returned } = self.tally;
        format!(
            "{} sessions, {} lost; of those that stayed {sent} messages sent, {acknowledged} acknowledged, {returned} returned",
            self.sessions,
            self.faults.len()
        )
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.returned += other.returned;
    }
}

struct Session {
    client: Client,
    id: String,
    topic: String,
    tally: Tally,
    /// Identifiers of messages that are not acknowledged, in their order.
    under_way: VecDeque<u16>,
}

impl Session {
    async fn talk(
        mut self,
        epoch: Instant,
        first: Duration,
        beat: Duration,
        mut stopped: watch::Receiver<bool>,
        times: Arc<Mutex<Histogram<u64>>>,
    ) -> Result<Tally> {
        let mut schedule = interval_at(tokio::time::Instant::now() + first, beat);
        schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let talked = async {
            loop {
                tokio::select! {
                    _ = stopped.changed() => break,
                    _ = schedule.tick() => self.publish(epoch).await?,
                    heard = self.client.hear() => self.hear(heard, epoch, &times).await?,
                }
            }
            let rest = async {
                while !self.has_all() {
                    let heard = self.client.hear().await;
                    self.hear(heard, epoch, &times).await?;
                }
                anyhow::Ok(())
            };
            timeout(LAST_WORDS, rest).await.unwrap_or_else(|_| bail!("messages did not come back"))
        };
        let talked: Result<()> = talked.await;
        talked.with_context(|| {
            format!("{} after {:.2} s, {:?}", self.id, epoch.elapsed().as_secs_f64(), self.tally)
        })?;
        self.client.leave().await;
        Ok(self.tally)
    }

    fn has_all(&self) -> bool {
        let Tally { sent, acknowledged, returned } = self.tally;
        sent == acknowledged && sent == returned
    }

    async fn publish(&mut self, epoch: Instant) -> Result<()> {
        self.tally.sent += 1;
        let id = (self.tally.sent % 65_535) as u16 + 1;
        self.under_way.push_back(id);
        let mut payload = [0; SIZE];
        payload[..8].copy_from_slice(&self.tally.sent.to_be_bytes());
        payload[8..16].copy_from_slice(&(epoch.elapsed().as_micros() as u64).to_be_bytes());
        self.client.say(packet::publish(self.client.version, id, self.topic.as_bytes(), &payload)).await
    }

    async fn hear(&mut self, heard: Heard, epoch: Instant, times: &Mutex<Histogram<u64>>) -> Result<()> {
        let packet = match heard {
            Heard::Packet(packet) => packet,
            other => bail!("the session is lost: {}", other.words()),
        };
        match packet.kind() {
            kind::PUBACK => {
                let id = packet.id()?;
                ensure!(self.under_way.pop_front() == Some(id), "an acknowledgement of {id} out of turn");
                self.tally.acknowledged += 1;
                Ok(())
            }
            kind::PUBLISH => self.take(&packet, epoch, times).await,
            other => bail!("packet type {other}: {packet:?}"),
        }
    }

    async fn take(&mut self, packet: &Packet, epoch: Instant, times: &Mutex<Histogram<u64>>) -> Result<()> {
        let publish = packet.publish(self.client.version)?;
        let field = |at: usize| publish.payload.get(at..at + 8).and_then(|it| it.first_chunk());
        let (number, sent) = field(0).zip(field(8)).context("a message that nobody sent")?;
        let (number, sent) = (u64::from_be_bytes(*number), u64::from_be_bytes(*sent));
        let due = self.tally.returned + 1;
        ensure!(number == due, "message {number} came where {due} was due");
        ensure!(number <= self.tally.sent && publish.payload.len() == SIZE, "a message that nobody sent");
        self.tally.returned = number;
        let took = (epoch.elapsed().as_micros() as u64).saturating_sub(sent);
        times.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
        self.client.say(packet::puback(publish.id)).await
    }
}
