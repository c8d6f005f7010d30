//! SIGTERM and SIGINT: the first asks to stop, the second means now. SIGHUP reloads, SIGUSR2 upgrades.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::drain::{Order, Orders};
use crate::reload::{Asker, Cause};

/// Counts the signals that ask to stop.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    seen: watch::Receiver<u8>,
}

impl Signals {
    /// Catch the signals from here on, within a runtime. SIGHUP or SIGUSR2, not caught, would end the process and
    /// every session with it; what comes before [`Wishes::pass_on`] waits for it.
    pub(super) fn catch() -> io::Result<(Self, Wishes)> {
        let (seen, receiver) = watch::channel(0);
        tokio::spawn(count(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, seen));
        let wishes =
            Wishes { hangup: signal(SignalKind::hangup())?, user2: signal(SignalKind::user_defined2())? };
        Ok((Self { seen: receiver }, wishes))
    }

    /// Wait until `count` signals have come.
    pub(super) async fn wait(mut self, count: u8) {
        // The counter lives as long as the runtime, and so longer than we.
        let _ = self.seen.wait_for(|seen| *seen >= count).await;
    }
}

/// SIGHUPs and SIGUSR2s, those of the past as well.
pub(super) struct Wishes {
    hangup: Signal,
    user2: Signal,
}

impl Wishes {
    /// Ask for a reload or an upgrade at each, until the runtime ends. How it went is in the log.
    pub(super) fn pass_on(mut self, asker: &Asker, orders: &Orders) {
        let (asker, orders) = (asker.clone(), orders.clone());
        tokio::spawn(async move {
            while self.hangup.recv().await.is_some() {
                let _ = asker.ask(Cause::Signal).await;
            }
        });
        tokio::spawn(async move {
            while self.user2.recv().await.is_some() {
                let _ = orders.give(Order::Upgrade).await;
            }
        });
    }
}

async fn count(mut terminate: Signal, mut interrupt: Signal, seen: watch::Sender<u8>) {
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        seen.send_modify(|seen| *seen = seen.saturating_add(1));
    }
}
