//! Clients that stay: whoever is told to go hears its goodbye to the end, and comes back at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client::{self, Client, Door};
use super::goodbye::Goodbye;
use super::packet::Version;

/// Before the next try of one that could not come back.
const AGAIN: Duration = Duration::from_secs(1);

/// They come back until dropped.
pub(crate) struct Regulars {
    count: usize,
    books: Arc<Books>,
    /// Dropped with us: then they are gone.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Books {
    door: Door,
    moves: Mutex<Vec<Move>>,
    /// How many have a session.
    present: watch::Sender<usize>,
}

/// One was told to go, and is back.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) goodbye: Goodbye,
    /// What it took to come back, from the goodbye to the CONNACK.
    pub(crate) took: Duration,
    /// Each time that it could not come back.
    pub(crate) failures: Vec<String>,
}

impl Regulars {
    pub(crate) async fn gather(door: &Door, count: usize) -> Result<Self> {
        let (present, moves) = (watch::Sender::new(count), Mutex::default());
        let books = Arc::new(Books { door: door.clone(), moves, present });
        let mut tasks = JoinSet::new();
        for (number, client) in client::gather(door, count).await? {
            tasks.spawn(stay(Arc::clone(&books), number, client));
        }
        Ok(Self { count, books, _tasks: tasks })
    }

    /// Those who went and are back since we last looked, in the order of their goodbyes.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let mut moves = std::mem::take(&mut *self.books.moves.lock().unwrap_or_else(PoisonError::into_inner));
        moves.sort_by_key(|it| it.goodbye.at);
        moves
    }

    /// Wait until `count` have come back, of those who went since [`Self::moves`] was last asked, and nobody is away.
    pub(crate) async fn moved(&self, count: usize, within: Duration) -> Result<()> {
        let mut present = self.books.present.subscribe();
        let is_done = |present: &usize| {
            let moves = self.books.moves.lock().unwrap_or_else(PoisonError::into_inner).len();
            *present == self.count && moves >= count
        };
        timeout(within, present.wait_for(is_done)).await.map(|_| ()).with_context(|| {
            let moves = self.books.moves.lock().unwrap_or_else(PoisonError::into_inner).len();
            let away = self.count - *self.books.present.borrow();
            format!("{moves} of {count} have moved and {away} are away after {within:?}")
        })
    }
}

/// One client's life.
async fn stay(books: Arc<Books>, number: usize, mut client: Client) {
    loop {
        let goodbye = Goodbye::hear(number, &mut client).await;
        books.present.send_modify(|present| *present -= 1);
        client.follow_close().await;
        let mut failures = Vec::new();
        client = loop {
            match Client::connect(&books.door, &format!("client-{number}"), Version::of(number)).await {
                Ok(client) => break client,
                Err(error) => failures.push(format!("client {number} could not come back: {error:#}")),
            }
            sleep(AGAIN).await;
        };
        let took = Instant::now().duration_since(goodbye.at);
        books.moves.lock().unwrap_or_else(PoisonError::into_inner).push(Move { goodbye, took, failures });
        books.present.send_modify(|present| *present += 1);
    }
}
