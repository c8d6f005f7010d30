//! Who started this process and watches it, and what it is told: systemd with `Type=notify` (sd_notify(3)).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{Mutex, watch};
use tracing::warn;

/// How long it may take to hear us, but for the name of the next process: without that it would take our end for
/// the end of the service.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who started this process and watches over it; by default nobody does. All copies are one.
#[derive(Debug, Clone, Default)]
pub struct Supervisor(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// One process speaks for the service: not one that has handed over, or has not taken over yet.
    speaks: watch::Sender<bool>,
    is_deaf: AtomicBool,
    /// Held while something is said: what comes later is heard later.
    turn: Arc<Mutex<()>>,
    watchdog: Option<Duration>,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// We serve: after the start, or after a reload.
    Ready,
    /// The configuration is read again.
    Reloading,
    /// We are about to end, within so long.
    Stopping(Duration),
    /// How things are, in words for a person.
    Status(String),
    /// No thread of ours is stuck.
    Alive,
    /// Another process is the service now, and the only one to speak.
    Successor(u32),
}

impl Supervisor {
    /// The one that the environment names.
    #[must_use]
    pub fn find() -> Self {
        let inner = || Inner {
            speaks: watch::Sender::new(true),
            is_deaf: AtomicBool::new(false),
            turn: Arc::default(),
            watchdog: sd_notify::watchdog_enabled(),
        };
        Self(std::env::var_os("NOTIFY_SOCKET").map(|_| Arc::new(inner())))
    }

    /// How often it wants to hear that we are [alive](News::Alive), at least, or it ends us; `None` is never.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref()?.watchdog
    }

    /// Whether anybody listens.
    #[must_use]
    pub const fn listens(&self) -> bool {
        self.0.is_some()
    }

    /// Say nothing from now on, or speak again: one process speaks for the service.
    pub fn speak(&self, speaks: bool) {
        if let Some(inner) = &self.0 {
            inner.speaks.send_replace(speaks);
        }
    }

    /// Wait until we are the one that speaks; at once where nobody listens.
    pub async fn may_be_told(&self) {
        if let Some(inner) = &self.0 {
            // Its sender lives as long as we.
            let _ = inner.speaks.subscribe().wait_for(|speaks| *speaks).await;
        }
    }

    /// Tell it something; whether it was told. Where that fails, the log says so once. What it does not hear within
    /// a second is dropped, but for the name of our [successor](News::Successor).
    pub async fn tell(&self, news: News) -> bool {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.may_speak()) else { return false };
        let patience = if matches!(news, News::Successor(_)) { Duration::MAX } else { PATIENCE };
        let told = async {
            let turn = Arc::clone(&inner.turn).lock_owned().await;
            let speaker = Arc::clone(inner);
            // Its socket may be full, and then the call blocks.
            let sent = tokio::task::spawn_blocking(move || {
                // Another process may have been named meanwhile.
                let sent = if speaker.may_speak() { send(&news) } else { Ok(()) };
                if matches!(news, News::Successor(_)) {
                    speaker.speaks.send_replace(false);
                }
                drop(turn);
                sent
            });
            sent.await.map_err(std::io::Error::other)?
        };
        let told = tokio::time::timeout(patience, told).await;
        let told = told.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let was_deaf = inner.is_deaf.swap(told.is_err(), Ordering::AcqRel);
        match told {
            Ok(()) => true,
            Err(error) => {
                if !was_deaf {
                    warn!(%error, "the supervisor at NOTIFY_SOCKET does not hear us");
                }
                false
            }
        }
    }
}

impl Inner {
    fn may_speak(&self) -> bool {
        *self.speaks.borrow()
    }
}

fn send(news: &News) -> std::io::Result<()> {
    match news {
        News::Ready => sd_notify::notify(&[NotifyState::Ready]),
        News::Reloading => sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]),
        News::Stopping(within) => {
            let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
            sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)])
        }
        News::Status(words) => sd_notify::notify(&[NotifyState::Status(words)]),
        News::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        News::Successor(pid) => sd_notify::notify(&[NotifyState::MainPid(*pid), NotifyState::Ready]),
    }
}
