//! Ask all work to finish, and know when it has.
//!
//! Every piece of work holds a [`Watch`]. The [`Drain`] asks once, later cuts once, and waits until
//! the last watch is dropped. An upgraded session outlives its HTTP connection, so it holds its own.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The asking side.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    asked: CancellationToken,
    cut: CancellationToken,
    work: TaskTracker,
}

impl Drain {
    /// A drain that nobody asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A drain of a part of the work. It can be asked by itself; to ask, cut and wait for the whole is to do
    /// so for all parts.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { asked: self.asked.child_token(), cut: self.cut.child_token(), work: self.work.clone() }
    }

    /// A piece of work: it will be asked, and waited for until the watch is dropped.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch { asked: self.asked.clone(), cut: self.cut.clone(), work: self.work.token() }
    }

    /// Ask all work, present and future, to say goodbye.
    pub fn ask(&self) {
        self.asked.cancel();
    }

    /// Tell all work to stop where it stands.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// How many watches are held, of the whole.
    #[must_use]
    pub fn work(&self) -> usize {
        self.work.len()
    }

    /// Wait until the last watch is dropped.
    pub async fn ended(&self) {
        self.work.close();
        self.work.wait().await;
    }
}

/// The asked side: one for each piece of work.
#[derive(Debug, Clone)]
pub struct Watch {
    asked: CancellationToken,
    cut: CancellationToken,
    #[expect(dead_code, reason = "held: dropping it says that the work has ended")]
    work: TaskTrackerToken,
}

impl Watch {
    /// Wait until we are asked to say goodbye.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Wait until we are told to stop at once.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Whether we have been asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_asked_by_itself_and_with_the_whole() {
        let whole = Drain::new();
        let (first, second) = (whole.part(), whole.part());
        let watches = [first.watch(), second.watch()];
        first.ask();
        assert!(watches[0].is_asked() && !watches[1].is_asked() && !whole.watch().is_asked());
        whole.ask();
        assert!(watches[1].is_asked());
        assert_eq!(whole.work(), 2);
        drop(watches);
        whole.ended().await;
    }
}
