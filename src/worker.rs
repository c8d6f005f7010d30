//! One core: a thread with a runtime of its own, and the connections it serves.
//!
//! A connection stays on the worker that got it: no message crosses threads. New ones go to the worker
//! with the fewest, since sessions last and an even start is all the balance there is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::error;

use crate::listener::Accepted;
use crate::listener::connection::{self, Handed};
use crate::net::clock::{self, Clock};
use crate::proxy::{Load, Shared};
use crate::{net, tunnel};

/// The worker that accepts.
const ACCEPTING: usize = 0;

/// How often a worker shows that it comes around.
const TICK: Duration = Duration::from_secs(1);

/// Sockets that a worker is told of at once: what they touch is still in the cache when their sessions' turn comes
/// (`fan-out`).
const EVENTS: usize = 32;

/// What blocking calls that still run may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// All workers.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

/// Counts up, each second, for as long as its worker's thread comes around: a worker whose count stands is stuck.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<AtomicU64>);

impl Turns {
    /// One more.
    pub(crate) fn turn(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Worker {
    /// Unbounded, yet bounded: what is sent was admitted by the kernel's accept, and is taken out at once.
    inbox: mpsc::UnboundedSender<Handed>,
    served: Arc<AtomicUsize>,
    turns: Turns,
    runtime: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Start `count` workers.
    ///
    /// # Errors
    /// When the process may have no more threads or descriptors.
    pub fn start(count: usize, shared: &Arc<Shared>) -> io::Result<Self> {
        let clock = Clock::start()?;
        let workers = (0..count.max(1)).map(|index| Worker::start(index, Arc::clone(shared), clock.clone()));
        Ok(Self { shared: Arc::clone(shared), workers: workers.collect::<io::Result<_>>()? })
    }

    /// Where clients are accepted: on a worker, for no thread has to be woken for those that it keeps.
    #[must_use]
    pub fn accepting(&self) -> Handle {
        self.workers[ACCEPTING].runtime.clone()
    }

    /// What shows of each worker that it is not stuck.
    #[must_use]
    pub fn turns(&self) -> Vec<Turns> {
        self.workers.iter().map(|worker| worker.turns.clone()).collect()
    }

    /// Hand a client to the worker that serves the fewest.
    pub fn hand(&self, accepted: Accepted) {
        let served = |(_, worker): &(usize, &Worker)| worker.served.load(Ordering::Relaxed);
        let Some((index, worker)) = self.workers.iter().enumerate().min_by_key(served) else { return };
        let accepted = if index == ACCEPTING { Ok(accepted) } else { accepted.move_away() };
        if let Ok(accepted) = accepted {
            worker.served.fetch_add(1, Ordering::Relaxed);
            // A worker that is gone has closed its inbox, and the client is hung up on.
            let _ = worker.inbox.send(Handed::new(accepted, &self.shared));
        }
    }

    /// Stop the threads, and all that still runs on them.
    pub fn stop(mut self) {
        for worker in &mut self.workers {
            let (closed, _) = mpsc::unbounded_channel();
            worker.inbox = closed;
        }
        for worker in &mut self.workers {
            if worker.thread.take().is_some_and(|thread| thread.join().is_err()) {
                error!("a worker panicked; please report this with the log lines above");
            }
        }
    }
}

impl Worker {
    fn start(index: usize, shared: Arc<Shared>, clock: Clock) -> io::Result<Self> {
        let (inbox, incoming) = mpsc::unbounded_channel();
        let turns = Turns::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_io_events_per_tick(EVENTS)
            .build()?;
        let served = shared.loads.open(runtime.handle());
        let (load, handle, ticked) = (Arc::clone(&served), runtime.handle().clone(), turns.clone());
        let busy_poll = shared.snapshot.load().config.runtime.busy_poll;
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            clock.serve_thread();
            if busy_poll {
                tunnel::stay_awake();
            }
            runtime.block_on(work(incoming, shared, load, ticked));
            // A resolver or a disk that does not answer must not hold the end.
            runtime.shutdown_timeout(LAST_WORDS);
            // Nobody waits for it any more.
            drop(clock);
        })?;
        Ok(Self { inbox, served, turns, runtime: handle, thread: Some(thread) })
    }
}

/// Serve what comes until the inbox is closed. What still runs then is dropped with the runtime.
async fn work(
    mut incoming: mpsc::UnboundedReceiver<Handed>,
    shared: Arc<Shared>,
    served: Arc<AtomicUsize>,
    turns: Turns,
) {
    let (traffic, shard) = (shared.traffic.open(), shared.roster.open());
    tokio::spawn(tick(turns));
    tokio::spawn(net::send_each_turn());
    while let Some(handed) = incoming.recv().await {
        let load = Load::new(&served, &traffic, &shard);
        tokio::spawn(connection::serve(handed, Arc::clone(&shared), load));
    }
}

/// Come around, for who watches over us counts the turns.
async fn tick(turns: Turns) {
    loop {
        clock::sleep_until(Instant::now() + TICK).await;
        turns.turn();
    }
}
