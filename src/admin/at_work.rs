//! The admin listener at work: until it is closed, and its last answers are given.

use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::handover::Role;

/// What answers under way may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// An admin listener that serves until dropped.
#[derive(Debug)]
pub struct AtWork {
    /// `None` once it is closed.
    listening: Option<(AbortOnDropHandle<()>, (Role, OwnedFd))>,
    life: Life,
}

/// What its connections share: who they are, and whether they are to end. All copies are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    connections: TaskTracker,
    ends: CancellationToken,
}

impl AtWork {
    pub(super) fn new(
        copy: (Role, OwnedFd),
        life: Life,
        accepting: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { listening: Some((AbortOnDropHandle::new(tokio::spawn(accepting)), copy)), life }
    }

    /// Its socket, for a process that takes over.
    #[must_use]
    pub fn socket(&self) -> Option<(Role, BorrowedFd<'_>)> {
        self.listening.as_ref().map(|(_, (role, socket))| (role.clone(), socket.as_fd()))
    }

    /// Stop to listen: whoever comes from now on comes to the process that took over. Who is here already gets one more
    /// answer where it had none, and else the one that is under way.
    pub async fn close(&mut self) {
        if let Some((accepting, _)) = self.listening.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        self.life.ends.cancel();
        self.life.connections.close();
    }

    /// The same, and wait a second at most for the last answers.
    pub async fn end(mut self) {
        self.close().await;
        let _ = timeout(LAST_ANSWERS, self.life.connections.wait()).await;
    }
}

impl Life {
    /// Serve a connection, within a runtime.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        self.connections.spawn(connection);
    }

    /// Wait until a connection is to end, which `has_asked` something.
    pub(super) async fn ends(&self, has_asked: &Notify) {
        self.ends.cancelled().await;
        has_asked.notified().await;
    }
}
