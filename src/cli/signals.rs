//! SIGTERM and SIGINT: the first asks to stop, the second means now.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

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
