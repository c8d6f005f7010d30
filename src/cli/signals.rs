//! SIGTERM and SIGINT: the first asks to stop, the second means now. SIGHUP does nothing yet.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::warn;

/// Counts the signals that ask to stop.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    seen: watch::Receiver<u8>,
}

impl Signals {
    /// Catch both signals from here on, within a runtime.
    pub(super) fn catch() -> io::Result<Self> {
        let (seen, receiver) = watch::channel(0);
        tokio::spawn(count(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, seen));
        // Not caught, it would end the process and every session with it.
        tokio::spawn(ignore(signal(SignalKind::hangup())?));
        Ok(Self { seen: receiver })
    }

    /// Wait until `count` signals have come.
    pub(super) async fn wait(mut self, count: u8) {
        // The counter lives as long as the runtime, and so longer than we.
        let _ = self.seen.wait_for(|seen| *seen >= count).await;
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

async fn ignore(mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        warn!("there is no reload yet: restart the gateway to take up a change");
    }
}
