//! Putting the next configuration to work while sessions live on.
//!
//! SIGHUP, the admin listener and a change of a file ask; one is answered at a time. The next snapshot and
//! the next listeners are built whole, beside the thread that accepts, and swapped in at once. On any error
//! the old ones work on, and the log says what is wrong.

mod certificates;
mod journal;
mod outcome;
mod source;
mod watch;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use self::certificates::Certificates;
use self::watch::Watch;
use crate::config::{Config, OnLoss};
use crate::drain::Ordered;
use crate::listener::{self, Accepted, Listener, Listeners, ensure_open_files};
use crate::proxy::Shared;
use crate::snapshot::Snapshot;
use crate::supervisor::{News, Supervisor};
use crate::telemetry::log;

pub use self::journal::{InUse, Journal, Latest};
pub use self::outcome::{Applied, Cause, Refusal};
pub use self::source::Source;

/// Requests that wait for the reload under way. Whoever comes beyond waits to be one of them.
const WAITING: usize = 8;

/// How often the log speaks of certificates that end soon.
const DAILY: Duration = Duration::from_hours(24);

/// Asks for reloads.
#[derive(Debug, Clone)]
pub struct Asker {
    requests: mpsc::Sender<Request>,
    journal: Journal,
}

#[derive(Debug)]
struct Request {
    cause: Cause,
    answer: oneshot::Sender<Result<Applied, Refusal>>,
}

/// Answers who asks for reloads.
#[derive(Debug)]
pub struct Reloads {
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    /// `None` where there is no file to read again.
    source: Option<Source>,
    watch: Option<Watch>,
    certificates: Certificates,
    /// When the log speaks of certificates again.
    next_look: Instant,
    /// Nobody has looked at the files for a while: since the start, or during a drain.
    has_rested: bool,
    journal: Journal,
    supervisor: Supervisor,
}

/// A configuration that is ready to work, but for the new addresses.
#[derive(Debug)]
struct Next {
    snapshot: Snapshot,
    listeners: Vec<Arc<Listener>>,
}

impl Asker {
    /// Ask for a reload, and wait for its outcome.
    ///
    /// # Errors
    /// Why the old configuration works on.
    pub async fn ask(&self, cause: Cause) -> Result<Applied, Refusal> {
        let (answer, outcome) = oneshot::channel();
        self.requests.send(Request { cause, answer }).await.map_err(|_| Refusal::Stopping)?;
        outcome.await.map_err(|_| Refusal::Stopping)?
    }

    /// How it went so far.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl Reloads {
    /// Reloads of what `shared` has at work, and who asks for them.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> (Self, Asker) {
        let (sender, requests) = mpsc::channel(WAITING);
        let (certificates, journal) = (Certificates::default(), Journal::default());
        let asker = Asker { requests: sender, journal: journal.clone() };
        let reloads = Self {
            shared,
            requests,
            source: None,
            watch: None,
            certificates,
            next_look: Instant::now(),
            has_rested: true,
            journal,
            supervisor: Supervisor::default(),
        };
        (reloads, asker)
    }

    /// Read the configuration from `source` again; without one every request is refused.
    pub fn read_from(&mut self, source: Source) {
        self.source = Some(source);
    }

    /// Tell this one of each reload.
    pub fn supervised_by(&mut self, supervisor: Supervisor) {
        self.supervisor = supervisor;
    }

    /// Answer requests and watch files until something else is ordered. A reload under way is finished first.
    pub async fn serve<H>(
        &mut self,
        listeners: &mut Listeners<H>,
        orders: &mut mpsc::Receiver<Ordered>,
    ) -> Ordered
    where
        H: Fn(Accepted) + Clone + Send + 'static,
    {
        if std::mem::take(&mut self.has_rested) {
            self.follow().await;
            // Whatever changed while nobody looked.
            if self.watch.is_some() && self.has_changed().await {
                let _ = self.reload(Cause::Change, listeners).await;
            }
        }
        loop {
            tokio::select! {
                Some(Request { cause, answer }) = self.requests.recv() => {
                    let outcome = self.reload(cause, listeners).await;
                    // Whoever does not wait for the answer reads the log.
                    let _ = answer.send(outcome);
                }
                () = watch::noticed(&mut self.watch) => {
                    watch::settle().await;
                    if self.has_changed().await {
                        let _ = self.reload(Cause::Change, listeners).await;
                    }
                }
                () = sleep_until(self.next_look) => self.look_at_certificates(listeners),
                Some(ordered) = orders.recv() => return ordered,
            }
        }
    }

    /// Answer every request with a no until dropped.
    pub async fn refuse(&mut self, why: impl Fn() -> Refusal) -> Infallible {
        self.has_rested = true;
        loop {
            match self.requests.recv().await {
                Some(Request { answer, .. }) => drop(answer.send(Err(why()))),
                None => std::future::pending().await,
            }
        }
    }

    /// Reload, and say how it went.
    async fn reload<H>(&mut self, cause: Cause, listeners: &mut Listeners<H>) -> Result<Applied, Refusal>
    where
        H: Fn(Accepted) + Clone + Send + 'static,
    {
        self.supervisor.tell(News::Reloading).await;
        let outcome = self.try_reload(listeners).await;
        self.shared.metrics.reloaded(outcome.is_ok());
        self.journal.reloaded(cause, &outcome);
        match &outcome {
            Ok(applied) => {
                applied.warnings.iter().for_each(|warning| warn!("{warning}"));
                info!(cause = cause.label(), "reloaded the configuration");
                self.look_at_certificates(listeners);
            }
            Err(refusal) => {
                refusal.reports().iter().for_each(|report| error!("{report}"));
                error!(cause = cause.label(), "not reloaded: the configuration from before works on");
            }
        }
        self.follow().await;
        // Whatever came of it: its outcome is for who asked.
        self.supervisor.tell(News::Ready).await;
        outcome
    }

    async fn try_reload<H>(&mut self, listeners: &mut Listeners<H>) -> Result<Applied, Refusal>
    where
        H: Fn(Accepted) + Clone + Send + 'static,
    {
        let file = self.source.as_ref().ok_or(Refusal::NoFile)?.file().to_owned();
        let (shared, at_work) = (Arc::clone(&self.shared), listeners.at_work());
        // Files, keys and roots take milliseconds that no client shall wait for.
        let reading = tokio::task::spawn_blocking(move || {
            let (source, config) = Source::read(&file);
            (source, config.map_err(Refusal::from).and_then(|config| Next::build(config, &shared, &at_work)))
        });
        let (source, next) = reading.await?;
        self.source = Some(source);
        let next = next?;
        // Whom a name stands for is known before sessions ask. It takes no longer than `resolver.timeout`.
        next.snapshot.looked_up().await;
        let addresses = listeners.prepare(&next.listeners)?;

        // From here on nothing fails.
        let old = self.put_to_work(next.snapshot);
        listeners.change(addresses).await;
        let new = &self.shared.snapshot.load().config;
        let warnings = new.warnings.iter().map(ToString::to_string);
        Ok(Applied { warnings: warnings.chain(outcome::unchangeable(&old.config, new)).collect() })
    }

    /// Swap the snapshots; the old one is returned.
    fn put_to_work(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let shared = &self.shared;
        let new = Arc::new(snapshot);
        new.go_to_work();
        let old = shared.snapshot.swap(Arc::clone(&new));
        let (before, after) = (&old.config, &new.config);
        shared.change_limits(&after.limits);
        if after.limits.connections != before.limits.connections {
            ensure_open_files(after.limits.connections);
        }
        if after.log.level != before.log.level {
            log::change_level(&after.log.level);
        }
        for (name, upstream) in &old.pools {
            let next = new.pools.get(name);
            upstream.retire(next.map(AsRef::as_ref));
            let on_removal = next.unwrap_or(upstream).pool.config().on_removal;
            for endpoint in upstream.pool.without_heir(next.map(|next| &next.pool)) {
                let (sessions, drain) = (endpoint.sessions(), on_removal == OnLoss::Drain);
                info!(upstream = %name, endpoint = %endpoint.name(), sessions, drain, "an endpoint is removed");
                if drain {
                    let drain = endpoint.drain(&shared.sessions);
                    let round = drain.begin(after.drain.terms());
                    tokio::spawn(async move { drain.carry_out(&round).await });
                }
            }
        }
        old
    }

    /// Watch the files of the latest reading, refused or not; or none.
    async fn follow(&mut self) {
        let watch = self.watch.take();
        if !self.shared.snapshot.load().config.reload.watch {
            return;
        }
        let Some(source) = self.source.clone() else { return };
        let mut watch = watch.unwrap_or_else(Watch::new);
        // A file system that hangs must hold up nobody else.
        let following = tokio::task::spawn_blocking(move || {
            watch.follow(source.files());
            watch
        });
        self.watch = following.await.ok();
    }

    async fn has_changed(&self) -> bool {
        let Some(source) = self.source.clone() else { return false };
        tokio::task::spawn_blocking(move || source.has_changed()).await.unwrap_or(false)
    }

    fn look_at_certificates<H>(&mut self, listeners: &Listeners<H>)
    where
        H: Fn(Accepted) + Clone + Send + 'static,
    {
        self.next_look = Instant::now() + DAILY;
        let snapshot = self.shared.snapshot.load();
        let in_use = self.certificates.look(&listeners.at_work(), &snapshot, &self.shared.metrics);
        self.journal.shows(in_use);
    }
}

impl Next {
    fn build(
        config: Config,
        shared: &Shared,
        at_work: &[(SocketAddr, Arc<Listener>)],
    ) -> Result<Self, Refusal> {
        let listeners = listener::build(&config, at_work)?;
        let old = shared.snapshot.load();
        let snapshot = Snapshot::build(Arc::new(config), &shared.metrics, &shared.sessions, Some(&old))?;
        Ok(Self { snapshot, listeners })
    }
}
