//! The life of the process: bind, serve, reload, drain, stop.

mod draining;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use self::draining::{Draining, cut};
use crate::admin::{self, Admin, AdminError};
use crate::config::Config;
use crate::drain::{self, Drain, Order, Ordered};
use crate::listener::{self, BindError, Bound, Listeners, ensure_open_files};
use crate::proxy::{Rejection, Shared};
use crate::reload::{Asker, Reloads, Source};
use crate::snapshot::{BuildError, Snapshot};
use crate::telemetry::Metrics;
use crate::tunnel::Ending;
use crate::worker::Workers;

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
        // Ends with us.
        let _upkeep = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared.metrics).look_after()));
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
        let mut asked = pin!(asked);
        stage.send_replace(Stage::Ready);
        // Drained and put back to work as often as somebody orders it.
        let by_hand = loop {
            let ordered = tokio::select! {
                () = asked.as_mut() => break None,
                ordered = reloads.serve(&mut listeners, &mut orders) => ordered,
            };
            let Order::Drain(terms) = ordered.order else {
                ordered.answer(Ok("the gateway serves: there is no drain to cancel".to_owned()));
                continue;
            };
            info!("asked to drain, and to stay");
            let delay = shared.snapshot.load().config.drain.delay;
            let mut draining = Draining::begin(&shared, &stage, terms, delay);
            ordered.answer(Ok("the gateway drains".to_owned()));
            tokio::select! {
                () = asked.as_mut() => break Some(draining),
                () = draining.until_resumed(&mut listeners, &mut reloads, &mut orders, &stage) => {}
            }
        };
        // Whoever asks for something now is told that it is too late.
        drop((reloads, orders));

        info!("asked to stop: draining");
        let mut draining = by_hand.unwrap_or_else(|| {
            let config = &shared.snapshot.load().config.drain;
            Draining::begin(&shared, &stage, config.terms(), config.delay)
        });
        tokio::select! {
            () = draining.carry_out(&mut listeners) => {}
            () = now => {
                listeners.close().await;
                cut(&shared).await;
            }
        }
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
