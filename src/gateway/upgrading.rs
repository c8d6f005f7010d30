//! An upgrade in place, seen from the process at work: start the next one, hand it the sockets, step back.

use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::drain::{Order, Ordered};
use crate::handover::{HandoverError, Journal, Outcome, PATIENCE, Program, Role, Successor};
use crate::proxy::Shared;
use crate::reload::{Refusal, Reloads};
use crate::supervisor::{News, Supervisor};
use crate::telemetry::ErrorChain;

/// What a word of no is for who asks for something else meanwhile.
const BUSY: &str = "the gateway hands over to a new process; ask that one, or again when it is over";

/// How long the process before us may take to name us to the supervisor. Were the next one to serve before, it would
/// be named first, and then we, who end.
const NAMING: Duration = Duration::from_secs(2);

/// What it takes to hand over.
#[derive(Debug)]
pub(super) struct Upgrading {
    pub(super) shared: Arc<Shared>,
    pub(super) supervisor: Supervisor,
    pub(super) journal: Journal,
    /// `None` where there is nothing to start again.
    pub(super) program: Option<Program>,
}

/// How it went.
#[derive(Debug)]
pub(super) enum Upgraded {
    /// The next process serves.
    HandedOver(HandedOver),
    /// There is none: this one works on.
    Failed,
    /// This one was asked to stop, and so there is none.
    Stopped,
}

/// What is left to be done when the next process serves.
#[derive(Debug)]
pub(super) struct HandedOver {
    /// Who ordered it is to hear these words once this one does not answer any more.
    pub(super) ordered: Ordered,
    pub(super) words: String,
    /// Ends when the supervisor has heard the name of the next process. Until then it would take our end for the
    /// end of the service.
    pub(super) naming: JoinHandle<()>,
}

impl Upgrading {
    /// Hand over, and say how it went: in the log, in the journal, and to who ordered it. Until the next process is
    /// ready, whoever asks this one to stop ends that one; from then on the two take a moment, and it stays.
    pub(super) async fn carry_out(
        &self,
        ordered: Ordered,
        asked: Pin<&mut impl Future<Output = ()>>,
        sockets: &[(Role, BorrowedFd<'_>)],
        reloads: &mut Reloads,
        orders: &mut mpsc::Receiver<Ordered>,
    ) -> Upgraded {
        let handed = tokio::select! {
            handed = self.hand_over(sockets, asked) => handed,
            never = reloads.refuse(|| Refusal::HandingOver) => match never {},
            never = refuse(orders) => match never {},
        };
        match handed {
            Ok(Some((pid, naming))) => {
                let left = self.shared.sessions.work();
                info!(
                    successor = pid,
                    sessions = left,
                    "handed over: the new process serves, this one drains"
                );
                let ours = std::process::id();
                let words = match left {
                    1 => format!("process {pid} serves; process {ours} drains its one session and ends"),
                    _ => format!("process {pid} serves; process {ours} drains its {left} sessions and ends"),
                };
                Upgraded::HandedOver(HandedOver { ordered, words, naming })
            }
            Ok(None) => {
                warn!("asked to stop: the new process was ended before it served");
                ordered.answer(Err("the gateway was asked to stop, so the new process was ended".into()));
                Upgraded::Stopped
            }
            Err(error) => {
                let words = ErrorChain(&error).to_string();
                error!(error = %words, "not upgraded: this process works on");
                let failed = Outcome::Failed { error: words.clone() };
                self.shared.metrics.upgraded(failed.label());
                self.journal.note(failed);
                ordered
                    .answer(Err(format!("{words}\nnot upgraded: process {} works on", std::process::id())));
                Upgraded::Failed
            }
        }
    }

    /// The next process, once it serves, and until it is named; `None` where somebody asked us to stop before.
    async fn hand_over(
        &self,
        sockets: &[(Role, BorrowedFd<'_>)],
        mut asked: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<(u32, JoinHandle<()>)>, HandoverError> {
        let program = self.program.as_ref().ok_or(HandoverError::NoProgram)?;
        if std::process::id() == 1 {
            return Err(HandoverError::First);
        }
        tokio::select! {
            named = timeout(NAMING, self.supervisor.may_be_told()) => {
                named.map_err(|_| HandoverError::Unnamed)?;
            }
            () = asked.as_mut() => return Ok(None),
        }
        let mut successor = Successor::start(program, sockets)?;
        let pid = successor.pid();
        info!(successor = pid, program = %program.file().display(), "a new process is to take over");
        let ready = tokio::select! {
            ready = successor.ready(PATIENCE) => ready,
            () = asked => {
                successor.kill().await;
                return Ok(None);
            }
        };
        let begun = match ready {
            Ok(version) => {
                info!(successor = pid, %version, "the new process is ready");
                successor.serve().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            successor.kill().await;
            return Err(error);
        }
        successor.leave();
        let supervisor = self.supervisor.clone();
        let naming = tokio::spawn(async move {
            supervisor.tell(News::Successor(pid)).await;
            // It is heard only once it is named.
            drop(successor);
        });
        Ok(Some((pid, naming)))
    }

    /// Let those finish who have been accepted by us and not been answered, for as long as any of them may take:
    /// they came for a gateway that stays.
    pub(super) async fn settle(&self) {
        let longest = {
            let snapshot = self.shared.snapshot.load();
            snapshot.config.limits.arrival_timeout + snapshot.config.limits.connect_timeout
        };
        let _ = timeout(longest, self.shared.arrivals.ended()).await;
    }
}

/// Answer every order with a no until dropped.
async fn refuse(orders: &mut mpsc::Receiver<Ordered>) -> std::convert::Infallible {
    loop {
        match orders.recv().await {
            Some(ordered) => {
                if ordered.order == Order::Upgrade {
                    warn!("not upgraded again: an upgrade is under way");
                }
                ordered.answer(Err(BUSY.into()));
            }
            None => std::future::pending().await,
        }
    }
}
