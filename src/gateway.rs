//! The life of the process: bind, serve, reload, drain, stop.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::admin::{self, Admin, AdminError};
use crate::config::Config;
use crate::drain::{self, Drain, Order, Ordered, Round, Terms};
use crate::listener::{self, Accepted, BindError, Bound, Listeners, ensure_open_files};
use crate::proxy::{Rejection, Shared};
use crate::reload::{Asker, Refusal, Reloads, Source};
use crate::snapshot::{BuildError, Snapshot};
use crate::telemetry::{ErrorChain, Metrics};
use crate::tunnel::Ending;
use crate::worker::Workers;

/// What somebody who is too late is told.
const STOPS: &str = "the gateway is about to stop: start another";

/// What cut work may still take to write its log lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A gateway whose addresses are bound, and that serves nobody yet.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    bound: Vec<Bound>,
    admin: Option<Admin>,
    stage: watch::Sender<Stage>,
    reloads: Reloads,
    asker: Asker,
    orders: mpsc::Receiver<Ordered>,
}

/// How far the gateway's life has come; the admin listener's `/ready` looks at it.
pub use crate::admin::Stage;

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An upstream or a site.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin listener.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The metrics recorder.
    #[error("the metrics can't be set up")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The threads.
    #[error("the workers can't start")]
    Workers(#[from] io::Error),
}

impl Gateway {
    /// Build all there is and bind all addresses, within a runtime: either all of it, or an error and
    /// nothing.
    ///
    /// # Errors
    /// The first thing that does not do.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let endings = Ending::all_labels();
        let metrics = Metrics::build(&Rejection::LABELS, endings)?;
        let sessions = Drain::new();
        let snapshot = Snapshot::build(Arc::new(config), &metrics, &sessions, None)?;
        let config = Arc::clone(&snapshot.config);
        let mut bound = Vec::new();
        for listener in listener::build(&config, &[])? {
            bound.extend(listener::bind(&listener)?);
        }
        let shared = Shared::new(snapshot, metrics, sessions);
        let (stage, stages) = watch::channel(Stage::Starting);
        let (reloads, asker) = Reloads::new(Arc::clone(&shared));
        let (orders, ordered) = drain::orders();
        let admin = match &config.admin {
            Some(admin) => Some(admin::bind(admin, Arc::clone(&shared), stages, asker.clone(), orders)?),
            None => None,
        };
        ensure_open_files(config.limits.connections);
        Ok(Self { shared, bound, admin, stage, reloads, asker, orders: ordered })
    }

    /// Reload from `source`, where the configuration came from. Without this there is nothing to reload.
    #[must_use]
    pub fn reload_from(mut self, source: Source) -> Self {
        self.reloads.read_from(source);
        self
    }

    /// Asks for reloads.
    #[must_use]
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Where it listens for clients, in the configuration's order.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(Bound::address).collect()
    }

    /// Where the admin listener listens, if on TCP.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(Admin::address)
    }

    /// What all its connections share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Serve and reload until `asked` to stop, then drain; `now` cuts a drain short. An order drains too, and
    /// then waits for either.
    ///
    /// # Errors
    /// When the workers can't start.
    pub async fn run(
        self,
        asked: impl Future<Output = ()>,
        now: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let Self { shared, bound, admin, stage, mut reloads, asker: _, mut orders } = self;
        let workers = Arc::new(Workers::start(shared.snapshot.load().config.runtime.workers, &shared)?);
        // The first client should find brokers.
        let snapshot = shared.snapshot.load_full();
        snapshot.looked_up().await;
        drop(snapshot);
        let hand = {
            let workers = Arc::clone(&workers);
            move |accepted| workers.hand(accepted)
        };
        let mut listeners = Listeners::start(bound, workers.accepting(), hand);
        let admin = admin.map(|admin| tokio::spawn(admin.serve()));
        let (mut asked, mut now) = (pin!(asked), pin!(now));
        let mut is_stopping = false;
        let mut again = None;
        loop {
            let (terms, delay) = match again.take() {
                Some(terms) => (terms, Duration::ZERO),
                None => {
                    stage.send_replace(Stage::Ready);
                    let by_hand = tokio::select! {
                        () = asked.as_mut() => None,
                        never = reloads.serve(&mut listeners) => match never {},
                        terms = ordered(&mut orders) => Some(terms),
                    };
                    is_stopping = by_hand.is_none();
                    // A reload may have changed it meanwhile.
                    let config = shared.snapshot.load().config.drain.clone();
                    (by_hand.unwrap_or_else(|| config.terms()), config.delay)
                }
            };
            info!(is_stopping, "asked to drain");
            stage.send_replace(Stage::Draining);
            // Whoever is to move is asked with all others, at one pace.
            shared.snapshot.load().pools.values().for_each(|upstream| {
                upstream.pool.cancel_rebalance();
            });
            let round = shared.sessions.begin(terms);
            let resumed = {
                let mut drained = pin!(drain_all(&shared, &mut listeners, &round, delay));
                let mut is_drained = false;
                loop {
                    tokio::select! {
                        biased;
                        () = now.as_mut(), if !is_drained => {
                            break None;
                        }
                        () = asked.as_mut(), if !is_stopping => {
                            is_stopping = true;
                            if is_drained {
                                break None;
                            }
                        }
                        () = drained.as_mut(), if !is_drained => {
                            is_drained = true;
                            if is_stopping {
                                break None;
                            }
                            info!("drained: waiting to be stopped, or put back to work");
                            stage.send_replace(Stage::Drained);
                        }
                        Some(ordered) = orders.recv() => match ordered.order {
                            Order::Resume if is_stopping => ordered.answer(Err(STOPS.to_owned())),
                            Order::Resume => break Some(ordered),
                            Order::Drain(_) => {
                                let left = shared.sessions.work();
                                ordered.answer(Ok(format!("the gateway drains already: {left} sessions left")));
                            }
                        },
                        () = reloads.refuse(|| match is_stopping {
                            true => Refusal::Stopping,
                            false => Refusal::Draining,
                        }) => {}
                    }
                }
            };
            let Some(resumed) = resumed else { break };
            shared.sessions.cancel();
            shared.drain.cancel();
            match listeners.open().await {
                Ok(()) => {
                    info!("the drain is cancelled: serving again");
                    resumed.answer(Ok("the gateway serves again".to_owned()));
                }
                Err(error) => {
                    // Nobody could come: what was begun goes on.
                    warn!(error = %ErrorChain(&error), "the drain can't be cancelled");
                    resumed.answer(Err(format!("{}; the drain goes on", ErrorChain(&error))));
                    again = Some(terms);
                }
            }
        }
        // Whoever asks for something now is told that it is too late.
        drop((reloads, orders));
        if shared.sessions.work() > 0 || shared.drain.work() > 0 {
            warn!(sessions = shared.sessions.work(), "cutting what is left");
        }
        listeners.close().await;
        cut(&shared).await;
        if let Some(admin) = admin {
            admin.abort();
        }
        shared.snapshot.load().rest();
        drop(listeners);
        // Joining the threads would block this one, which may be a test's.
        let workers = Arc::into_inner(workers);
        let _ = tokio::task::spawn_blocking(|| workers.map(Workers::stop)).await;
        info!("stopped");
        Ok(())
    }
}

/// Wait for the order to drain; there is nothing to resume meanwhile.
async fn ordered(orders: &mut mpsc::Receiver<Ordered>) -> Terms {
    loop {
        let Some(ordered) = orders.recv().await else { return std::future::pending().await };
        match ordered.order {
            Order::Drain(terms) => {
                ordered.answer(Ok("the gateway drains".to_owned()));
                return terms;
            }
            Order::Resume => ordered.answer(Ok("the gateway serves: there is no drain to cancel".to_owned())),
        }
    }
}

/// Serve for `delay`, stop to listen, say the goodbyes of `round`, and cut what is left after its grace.
async fn drain_all<H>(shared: &Shared, listeners: &mut Listeners<H>, round: &Round, delay: Duration)
where
    H: Fn(Accepted) + Clone + Send + 'static,
{
    tokio::time::sleep(delay).await;
    listeners.close().await;
    shared.drain.ask();
    let Terms { window, grace, .. } = *round.terms();
    let goodbyes = async {
        shared.sessions.say(round).await;
        shared.sessions.ended().await;
        shared.drain.ended().await;
    };
    if timeout(window + grace, goodbyes).await.is_err() {
        warn!(sessions = shared.sessions.work(), "cutting what is left");
        cut(shared).await;
    }
}

/// Cut what is left, and give it a moment to write its last lines.
async fn cut(shared: &Shared) {
    shared.drain.cut();
    shared.sessions.cut();
    let ended = async { tokio::join!(shared.sessions.ended(), shared.drain.ended()) };
    let _ = timeout(LAST_LINES, ended).await;
}
