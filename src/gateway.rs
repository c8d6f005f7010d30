//! The life of the process: bind, serve, reload, drain, stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::admin::{self, Admin, AdminError};
use crate::config::Config;
use crate::drain::Drain;
use crate::listener::{self, BindError, Bound, Listeners, ensure_open_files};
use crate::proxy::{Rejection, Shared};
use crate::reload::{Asker, Reloads, Source};
use crate::snapshot::{BuildError, Snapshot};
use crate::telemetry::Metrics;
use crate::tunnel::Ending;
use crate::worker::Workers;

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
        let admin = match &config.admin {
            Some(admin) => Some(admin::bind(admin, Arc::clone(&shared), stages, asker.clone())?),
            None => None,
        };
        ensure_open_files(config.limits.connections);
        Ok(Self { shared, bound, admin, stage, reloads, asker })
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

    /// Serve and reload until `asked` to stop, then drain; `now` cuts a drain short.
    ///
    /// # Errors
    /// When the workers can't start.
    pub async fn run(
        self,
        asked: impl Future<Output = ()>,
        now: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let Self { shared, bound, admin, stage, mut reloads, asker: _ } = self;
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
        stage.send_replace(Stage::Ready);
        tokio::select! {
            () = asked => {}
            never = reloads.serve(&mut listeners) => match never {},
        }
        // Whoever asks for a reload now is told that it is too late.
        drop(reloads);

        info!("asked to stop: draining");
        stage.send_replace(Stage::Draining);
        let finished = async {
            let drain = shared.snapshot.load().config.drain.clone();
            tokio::time::sleep(drain.delay).await;
            listeners.close().await;
            shared.drain.ask();
            let goodbyes = async {
                shared.sessions.ask_over(drain.window).await;
                shared.sessions.ended().await;
                shared.drain.ended().await;
            };
            timeout(drain.window + drain.grace, goodbyes).await.is_ok()
        };
        let finished = tokio::select! {
            finished = finished => finished,
            () = now => false,
        };
        if !finished {
            warn!(sessions = shared.sessions.work(), "cutting what is left");
            listeners.close().await;
            shared.drain.cut();
            shared.sessions.cut();
            let ended = async { tokio::join!(shared.sessions.ended(), shared.drain.ended()) };
            let _ = timeout(LAST_LINES, ended).await;
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
