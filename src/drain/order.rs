//! Orders to the gateway as a whole, by hand: drain, resume, and upgrade.

use tokio::sync::{mpsc, oneshot};

use super::Terms;

/// Orders that wait. Whoever comes beyond waits to be one of them.
const WAITING: usize = 8;

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Drain on these terms, then stay.
    Drain(Terms),
    /// Cancel the drain and serve again.
    Resume,
    /// Start the next process, hand over to it, drain and end.
    Upgrade,
}

/// An order, and who waits to hear what became of it.
#[derive(Debug)]
pub struct Ordered {
    /// What is ordered.
    pub order: Order,
    answer: oneshot::Sender<Result<String, String>>,
}

/// Gives orders.
#[derive(Debug, Clone)]
pub struct Orders(mpsc::Sender<Ordered>);

/// A way for orders, and where they arrive.
#[must_use]
pub fn orders() -> (Orders, mpsc::Receiver<Ordered>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Orders(sender), receiver)
}

impl Orders {
    /// Give an order, and wait for the answer: words for a person.
    ///
    /// # Errors
    /// The same, where it was not done.
    pub async fn give(&self, order: Order) -> Result<String, String> {
        let gone = || "the gateway is about to stop".to_owned();
        let (answer, answered) = oneshot::channel();
        self.0.send(Ordered { order, answer }).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Ordered {
    /// Say what became of it.
    pub fn answer(self, words: Result<String, String>) {
        // Whoever does not wait for it looks at the status.
        let _ = self.answer.send(words);
    }
}
