//! Who has come and not been answered yet: from accept to the answer of the first request, or to the broker of
//! its session. Whoever hands over to another process lets these finish first.

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// All who arrive.
#[derive(Debug, Clone, Default)]
pub struct Arrivals(TaskTracker);

/// One of them, until dropped.
#[derive(Debug)]
pub struct Arriving(
    #[expect(dead_code, reason = "held, and counted off when it is dropped")] TaskTrackerToken,
);

impl Arrivals {
    /// One more.
    #[must_use]
    pub fn begin(&self) -> Arriving {
        Arriving(self.0.token())
    }

    /// Wait until there are none. To be called when nobody comes any more.
    pub async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }
}
