//! What is at work while the gateway serves: until somebody asks it to stop, or another process serves; and its end.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::info;

use super::Stage;
use super::draining::{Draining, cut};
use super::upgrading::{HandedOver, Upgraded, Upgrading};
use crate::admin;
use crate::drain::{Order, Ordered};
use crate::listener::{Accepted, Listeners};
use crate::proxy::Shared;
use crate::reload::Reloads;
use crate::supervisor::News;

/// What the end may take behind a drain, for a supervisor: cutting, last answers and last lines.
const LAST: Duration = Duration::from_secs(5);

/// See above.
pub(super) struct AtWork<H> {
    pub(super) shared: Arc<Shared>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) listeners: Listeners<H>,
    pub(super) admin: Option<admin::AtWork>,
    pub(super) upgrading: Upgrading,
}

/// Why it serves no longer.
pub(super) enum End {
    /// It was asked to stop. A drain by hand that is under way is the one that goes on.
    Asked(Option<Draining>),
    /// Another process serves.
    HandedOver(HandedOver),
}

impl<H: Fn(Accepted) + Clone + Send + 'static> AtWork<H> {
    /// Serve, reload and carry out orders, until the end. Whoever orders something after it is told that it is too
    /// late.
    pub(super) async fn serve(
        &mut self,
        mut asked: Pin<&mut impl Future<Output = ()>>,
        mut reloads: Reloads,
        mut orders: mpsc::Receiver<Ordered>,
    ) -> End {
        // Drained and put back to work as often as somebody orders it.
        loop {
            let ordered = tokio::select! {
                () = asked.as_mut() => return End::Asked(None),
                ordered = reloads.serve(&mut self.listeners, &mut orders) => ordered,
            };
            match ordered.order {
                Order::Resume => {
                    ordered.answer(Ok("the gateway serves: there is no drain to cancel".to_owned()));
                }
                Order::Upgrade => {
                    let mut sockets = self.listeners.sockets();
                    sockets.extend(self.admin.as_ref().and_then(admin::AtWork::socket));
                    let asked = asked.as_mut();
                    match self.upgrading.carry_out(ordered, asked, &sockets, &mut reloads, &mut orders).await
                    {
                        Upgraded::Failed => {}
                        Upgraded::Stopped => return End::Asked(None),
                        Upgraded::HandedOver(handed) => return End::HandedOver(handed),
                    }
                }
                Order::Drain(terms) => {
                    info!("asked to drain, and to stay");
                    let delay = self.shared.snapshot.load().config.drain.delay;
                    self.stage.send_replace(Stage::Draining);
                    let mut draining = Draining::begin(&self.shared, terms, delay);
                    ordered.answer(Ok("the gateway drains".to_owned()));
                    tokio::select! {
                        () = asked.as_mut() => return End::Asked(Some(draining)),
                        () = draining.until_resumed(&mut self.listeners, &mut reloads, &mut orders, &self.stage) => {}
                    }
                }
            }
        }
    }

    /// Drain to the end, or until `now`.
    pub(super) async fn drain(
        &mut self,
        end: End,
        asked: Pin<&mut impl Future<Output = ()>>,
        now: impl Future<Output = ()>,
    ) {
        let config = self.shared.snapshot.load().config.drain.clone();
        let begin = |delay| Draining::begin(&self.shared, config.terms(), delay);
        let mut draining = match end {
            End::Asked(by_hand) => {
                info!("asked to stop: draining");
                let longest = config.delay + config.window + config.grace + LAST;
                self.upgrading.supervisor.tell(News::Stopping(longest)).await;
                by_hand.unwrap_or_else(|| {
                    self.stage.send_replace(Stage::Draining);
                    begin(config.delay)
                })
            }
            End::HandedOver(HandedOver { ordered, words, naming }) => {
                // Nobody is lost: who waits in the kernel waits at the next process.
                self.listeners.close().await;
                if let Some(admin) = &mut self.admin {
                    admin.close().await;
                }
                ordered.answer(Ok(words));
                tokio::select! {
                    _ = async { tokio::join!(self.upgrading.settle(), naming) } => {}
                    () = asked => {}
                }
                // No load balancer has to notice anything: whoever still asks here is told that this address is ready.
                begin(Duration::ZERO)
            }
        };
        let now = pin!(now);
        tokio::select! {
            () = draining.carry_out(&mut self.listeners) => {}
            () = now => {
                self.listeners.close().await;
                cut(&self.shared).await;
            }
        }
    }
}
