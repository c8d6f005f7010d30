//! A drain of the whole gateway: from the first word until nobody is left, or until it is cancelled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::Stage;
use crate::drain::{Order, Ordered, Round, Terms};
use crate::listener::{Accepted, Listeners};
use crate::proxy::Shared;
use crate::reload::{Refusal, Reloads};
use crate::telemetry::ErrorChain;

/// What cut work may still take to write its log lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// See above.
#[derive(Debug)]
pub(super) struct Draining {
    shared: Arc<Shared>,
    round: Arc<Round>,
    /// A task of its own, so that who waits for it may do something else in between.
    goodbyes: Option<AbortOnDropHandle<()>>,
    is_over: bool,
}

impl Draining {
    /// All is served for `delay`: time for load balancers to notice that we are not ready.
    pub(super) fn begin(shared: &Arc<Shared>, terms: Terms, delay: Duration) -> Self {
        // Whoever is to move is asked with all others, at one pace.
        shared.snapshot.load().pools.values().for_each(|upstream| {
            upstream.pool.cancel_rebalance();
        });
        let (shared, round) = (Arc::clone(shared), shared.sessions.begin_after(delay, terms));
        Self { shared, round, goodbyes: None, is_over: false }
    }

    /// Go on until nobody is left. Dropped on the way, it goes on from there when it is called again.
    pub(super) async fn carry_out<H>(&mut self, listeners: &mut Listeners<H>)
    where
        H: Fn(Accepted) + Clone + Send + 'static,
    {
        if self.is_over {
            return;
        }
        sleep_until(self.round.begins()).await;
        listeners.close().await;
        let (shared, round) = (&self.shared, &self.round);
        let goodbyes = self.goodbyes.get_or_insert_with(|| {
            AbortOnDropHandle::new(tokio::spawn(say_goodbye(Arc::clone(shared), Arc::clone(round))))
        });
        let _ = goodbyes.await;
        self.is_over = true;
    }

    /// The same by hand: when nobody is left the gateway stays, until somebody says to resume.
    pub(super) async fn until_resumed<H>(
        &mut self,
        listeners: &mut Listeners<H>,
        reloads: &mut Reloads,
        orders: &mut mpsc::Receiver<Ordered>,
        stage: &watch::Sender<Stage>,
    ) where
        H: Fn(Accepted) + Clone + Send + 'static,
    {
        loop {
            let ordered = tokio::select! {
                () = self.carry_out(listeners), if !self.is_over => {
                    stage.send_replace(Stage::Drained);
                    info!("drained: waiting to be stopped, or put back to work");
                    continue;
                }
                never = reloads.refuse(|| Refusal::Draining) => match never {},
                Some(ordered) = orders.recv() => ordered,
            };
            match ordered.order {
                Order::Drain(_) => {
                    let left = self.shared.sessions.work();
                    ordered.answer(Ok(format!("the gateway drains already: {left} sessions left")));
                }
                Order::Upgrade => {
                    let words = "the gateway drains, or is drained, and has nothing to hand over; \
                                 `brokergate drain --cancel` puts it back to work, then upgrade";
                    warn!("not upgraded: {words}");
                    ordered.answer(Err(words.to_owned()));
                }
                Order::Resume => match listeners.open().await {
                    Ok(()) => {
                        self.cancel();
                        stage.send_replace(Stage::Ready);
                        info!("the drain is cancelled: serving again");
                        ordered.answer(Ok("the gateway serves again".into()));
                        return;
                    }
                    // Nobody could come: what was begun goes on.
                    Err(error) => {
                        warn!(error = %ErrorChain(&error), "the drain can't be cancelled");
                        ordered.answer(Err(format!("{}; the drain goes on", ErrorChain(&error))));
                    }
                },
            }
        }
    }

    /// Who was asked leaves, all others stay.
    fn cancel(&mut self) {
        self.goodbyes = None;
        self.shared.sessions.cancel();
        self.shared.drain.cancel();
    }
}

/// Ask connections in haste and sessions over the window; cut who is left after the grace.
async fn say_goodbye(shared: Arc<Shared>, round: Arc<Round>) {
    let all = async {
        tokio::join!(shared.drain.ask(), shared.sessions.say(&round));
        shared.sessions.ended().await;
        shared.drain.ended().await;
    };
    if timeout_at(round.deadline(), all).await.is_err() {
        cut(&shared).await;
    }
}

/// End what is left where it stands.
pub(super) async fn cut(shared: &Shared) {
    warn!(sessions = shared.sessions.work(), "cutting what is left");
    tokio::join!(shared.drain.cut(), shared.sessions.cut());
    let ended = async { tokio::join!(shared.sessions.ended(), shared.drain.ended()) };
    let _ = timeout(LAST_LINES, ended).await;
}
