//! The life of the process: take over or bind, serve, reload, hand over or drain, stop.

mod at_work;
mod attending;
mod draining;
mod upgrading;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use self::at_work::AtWork;
use self::attending::attend;
use self::upgrading::Upgrading;
use crate::admin::{self, Admin, AdminError};
use crate::config::Config;
use crate::drain::{self, Drain, Ordered, Orders};
use crate::handover::{Begin, HandoverError, Inherited, Journal, Outcome, Predecessor, Program};
use crate::listener::{self, BindError, Bound, Listeners, ensure_open_files};
use crate::proxy::{Rejection, Shared};
use crate::reload::{Asker, Reloads, Source};
use crate::snapshot::{BuildError, Snapshot, Target};
use crate::supervisor::{News, Supervisor};
use crate::telemetry::{Labels, Metrics};
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
    orders: (Orders, mpsc::Receiver<Ordered>),
    supervisor: Supervisor,
    upgrades: Journal,
    /// What the next process is started from.
    program: Option<Program>,
    /// Whom we take over from.
    predecessor: Option<Predecessor>,
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
    /// The process before this one.
    #[error(transparent)]
    Handover(#[from] HandoverError),
}

impl Gateway {
    /// Build all there is and bind all addresses, within a runtime: either all of it, or an error and
    /// nothing.
    ///
    /// # Errors
    /// The first thing that does not do.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_or_inherit(config, &mut Inherited::default())
    }

    /// The same, but for addresses that somebody listens on for us already.
    ///
    /// # Errors
    /// The first thing that does not do.
    pub fn bind_or_inherit(config: Config, inherited: &mut Inherited) -> Result<Self, StartError> {
        let metrics = Metrics::build(&Labels {
            rejections: &Rejection::LABELS,
            arrivals: listener::connection::REASONS,
            targets: Target::LABELS,
            stages: &Stage::LABELS,
        })?;
        let sessions = Drain::of(config.runtime.workers);
        let snapshot = Snapshot::build(Arc::new(config), &metrics, &sessions, None)?;
        let config = Arc::clone(&snapshot.config);
        let mut bound = Vec::new();
        for listener in listener::build(&config, &[])? {
            bound.extend(listener::bind(&listener, inherited)?);
        }
        let shared = Shared::new(snapshot, metrics, sessions);
        let (stage, stages) = watch::channel(Stage::Starting);
        let (reloads, asker) = Reloads::new(Arc::clone(&shared));
        let (orders, upgrades) = (drain::orders(), Journal::default());
        let admin = match &config.admin {
            Some(admin) => {
                let (shared, asker) = (Arc::clone(&shared), asker.clone());
                let (orders, upgrades) = (orders.0.clone(), upgrades.clone());
                Some(admin::bind(admin, shared, stages, asker, orders, upgrades, inherited)?)
            }
            None => None,
        };
        ensure_open_files(config.limits.connections);
        let (supervisor, program, predecessor) = (Supervisor::default(), None, None);
        Ok(Self {
            shared,
            bound,
            admin,
            stage,
            reloads,
            asker,
            orders,
            supervisor,
            upgrades,
            program,
            predecessor,
        })
    }

    /// Reload from `source`, where the configuration came from. Without this there is nothing to reload.
    #[must_use]
    pub fn reload_from(mut self, source: Source) -> Self {
        self.reloads.read_from(source);
        self
    }

    /// Start the next process from this program when an upgrade is ordered. Without it there is none.
    #[must_use]
    pub fn upgrade_from(mut self, program: Program) -> Self {
        self.program = Some(program);
        self
    }

    /// Serve when this process says so, in its place: its sockets were inherited.
    #[must_use]
    pub fn succeed(mut self, predecessor: Predecessor) -> Self {
        self.predecessor = Some(predecessor);
        self
    }

    /// Tell this one how things are.
    #[must_use]
    pub fn supervised_by(mut self, supervisor: Supervisor) -> Self {
        self.reloads.supervised_by(supervisor.clone());
        self.supervisor = supervisor;
        self
    }

    /// Gives orders, as the admin listener does.
    #[must_use]
    pub fn orders(&self) -> &Orders {
        &self.orders.0
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

    /// Serve and reload until `asked` to stop or another process has taken over, then drain; `now` cuts a drain
    /// short. An order drains too, and then waits for either.
    ///
    /// # Errors
    /// When the workers can't start, or the process that we succeed does not step back. Nobody was served then.
    pub async fn run(
        self,
        asked: impl Future<Output = ()>,
        now: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let Self { shared, bound, admin, stage, reloads, orders: (_, orders), .. } = self;
        let Self { supervisor, upgrades: journal, program, predecessor, .. } = self;
        let workers = Arc::new(Workers::start(shared.snapshot.load().config.runtime.workers, &shared)?);
        // Ends with us.
        let _upkeep = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared.metrics).look_after()));
        let mut asked = pin!(asked);
        let ready = async {
            // The first client should find brokers.
            let snapshot = shared.snapshot.load_full();
            snapshot.looked_up().await;
            drop(snapshot);
            // From here on nothing fails: whoever is to step back for us may.
            match &predecessor {
                Some(predecessor) => predecessor.ready().await.map(Some),
                None => Ok(None),
            }
        };
        let begin = tokio::select! {
            biased;
            () = asked.as_mut() => return Ok(()),
            begin = ready => begin?,
        };
        let hand = {
            let workers = Arc::clone(&workers);
            move |accepted| workers.hand(accepted)
        };
        let listeners = Listeners::start(bound, workers.accepting(), hand);
        let admin = admin.map(Admin::start);
        stage.send_replace(Stage::Ready);
        match predecessor.zip(begin) {
            Some((predecessor, begin)) => take_over(&predecessor, begin, &journal, &shared, &supervisor),
            None => drop(supervisor.tell(News::Ready).await),
        }
        let attended = attend(supervisor.clone(), Arc::clone(&shared), stage.subscribe(), workers.turns());
        let attended = AbortOnDropHandle::new(tokio::spawn(attended));

        let upgrading = Upgrading { shared: Arc::clone(&shared), supervisor, journal, program };
        let mut at_work = AtWork { shared, stage, listeners, admin, upgrading };
        let end = at_work.serve(asked.as_mut(), reloads, orders).await;
        at_work.drain(end, asked, now).await;
        drop(attended);

        let AtWork { shared, listeners, admin, .. } = at_work;
        if let Some(admin) = admin {
            admin.end().await;
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

/// We serve in the place of another process: let it step back, and speak to the supervisor when it has.
fn take_over(
    predecessor: &Predecessor,
    begin: Begin,
    journal: &Journal,
    shared: &Shared,
    supervisor: &Supervisor,
) {
    let (pid, version) = (predecessor.pid(), predecessor.version().to_owned());
    info!(predecessor = pid, %version, "taken over: serving in the place of another process");
    let outcome = Outcome::TookOver { pid, version };
    shared.metrics.upgraded(outcome.label());
    journal.note(outcome);
    let supervisor = supervisor.clone();
    tokio::spawn(async move {
        begin.serving().await;
        supervisor.speak(true);
    });
}
