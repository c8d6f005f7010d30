//! SIGTERM and SIGINT: the first asks to stop, the second means now. SIGHUP reloads.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::reload::{Asker, Cause};

/// Counts the signals that ask to stop.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    seen: watch::Receiver<u8>,
}

impl Signals {
    /// Catch the signals from here on, within a runtime. SIGHUP, not caught, would end the process and
    /// every session with it; what comes before [`Hangups::reload`] waits for it.
    pub(super) fn catch() -> io::Result<(Self, Hangups)> {
        let (seen, receiver) = watch::channel(0);
        tokio::spawn(count(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, seen));
        Ok((Self { seen: receiver }, Hangups(signal(SignalKind::hangup())?)))
    }

    /// Wait until `count` signals have come.
    pub(super) async fn wait(mut self, count: u8) {
        // The counter lives as long as the runtime, and so longer than we.
        let _ = self.seen.wait_for(|seen| *seen >= count).await;
    }
}

/// SIGHUPs, those of the past as well.
pub(super) struct Hangups(Signal);

impl Hangups {
    /// Reload at each, until the runtime ends.
    pub(super) fn reload(mut self, asker: &Asker) {
        let asker = asker.clone();
        tokio::spawn(async move {
            while self.0.recv().await.is_some() {
                // How it went is in the log.
                let _ = asker.ask(Cause::Signal).await;
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
