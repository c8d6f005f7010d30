//! An upgrade in place, seen from the process at work: start the next one, hand it the sockets, step back.

use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
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
    /// The next process serves. Who ordered it is to hear these words once this one does not answer any more.
    HandedOver(Ordered, String),
    /// There is none: this one works on.
    Failed,
    /// This one was asked to stop, and so there is none.
    Stopped,
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
            Ok(Some(pid)) => {
                let left = self.shared.sessions.work();
                info!(
                    successor = pid,
                    sessions = left,
                    "handed over: the new process serves, this one drains"
                );
                self.note(Outcome::HandedOver { pid });
                let ours = std::process::id();
                let words =
                    format!("process {pid} serves; process {ours} drains its {left} sessions and ends");
                Upgraded::HandedOver(ordered, words)
            }
            Ok(None) => {
                warn!("asked to stop: the new process was ended before it served");
                ordered.answer(Err("the gateway was asked to stop, so the new process was ended".into()));
                Upgraded::Stopped
            }
            Err(error) => {
                let words = ErrorChain(&error).to_string();
                error!(error = %words, "not upgraded: this process works on");
                self.note(Outcome::Failed { error: words.clone() });
                ordered
                    .answer(Err(format!("{words}\nnot upgraded: process {} works on", std::process::id())));
                Upgraded::Failed
            }
        }
    }

    /// The next process, once it serves; `None` where somebody asked us to stop before.
    async fn hand_over(
        &self,
        sockets: &[(Role, BorrowedFd<'_>)],
        asked: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<u32>, HandoverError> {
        let program = self.program.as_ref().ok_or(HandoverError::NoProgram)?;
        if std::process::id() == 1 {
            return Err(HandoverError::First);
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
        // It is heard only once it is named, and begins to speak when its stream ends.
        self.supervisor.tell(News::Successor(pid)).await;
        self.supervisor.speak(false);
        successor.leave();
        Ok(Some(pid))
    }

    fn note(&self, outcome: Outcome) {
        self.shared.metrics.upgraded(outcome.label());
        self.journal.note(outcome);
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
