//! Ask all work to finish, and know when it has.
//!
//! Every piece of work holds a [`Watch`]. The [`Drain`] asks each, at once or one after the other, later cuts
//! them, and waits until the last watch is dropped. What a watch costs its work at each wake-up is one
//! atomic load and the registration of a waker: it is polled beside every message.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often those whose turn has come are asked.
const STEP: Duration = Duration::from_millis(10);

/// The asking side.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What work that begins from now on is told at once: 0 is nothing.
    stage: AtomicU8,
    work: Mutex<Slab<Arc<Member>>>,
    none_left: Notify,
    /// Of which this is a part.
    whole: Option<Drain>,
}

/// One piece of work, as the asking side knows it.
#[derive(Debug)]
struct Member {
    stage: AtomicU8,
    waker: AtomicWaker,
}

/// Stages of a piece of work, behind 0.
const ASKED: u8 = 1;
const CUT: u8 = 2;

impl Drain {
    /// A drain that nobody asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A drain of a part of the work. It can be asked by itself; to ask, cut and wait for the whole is to do
    /// so for all parts. A part has none of its own.
    #[must_use]
    pub fn part(&self) -> Self {
        Self(Arc::new(Inner { whole: Some(self.clone()), ..Inner::default() }))
    }

    /// A piece of work: it will be asked, and waited for until the watch is dropped.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let member = Arc::new(Member { stage: AtomicU8::new(0), waker: AtomicWaker::new() });
        let place = self.enter(&member);
        let place_in_whole = self.0.whole.as_ref().map(|whole| whole.enter(&member));
        Watch { member, _place: place, _place_in_whole: place_in_whole }
    }

    fn enter(&self, member: &Arc<Member>) -> Place {
        let mut work = self.0.work();
        let key = work.insert(Arc::clone(member));
        // Under the lock: who enters later than the asking begins is told here, all others by it.
        member.tell(self.0.stage.load(Ordering::Acquire));
        Place { drain: self.clone(), key }
    }

    /// Whether the asking has begun.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.stage.load(Ordering::Acquire) >= ASKED
    }

    /// Ask all work, present and future, to say goodbye.
    pub fn ask(&self) {
        for member in self.0.begin(ASKED) {
            member.tell(ASKED);
        }
    }

    /// Ask the present work evenly over `window`, and future work at once. Returns when all are asked.
    pub async fn ask_over(&self, window: Duration) {
        let work = self.0.begin(ASKED);
        let began = Instant::now();
        let mut turn = 0;
        while turn < work.len() {
            let due = due(work.len(), began.elapsed(), window);
            for member in &work[turn..due] {
                member.tell(ASKED);
            }
            turn = due;
            tokio::time::sleep(STEP).await;
        }
    }

    /// Tell all work to stop where it stands.
    pub fn cut(&self) {
        for member in self.0.begin(CUT) {
            member.tell(CUT);
        }
    }

    /// How many watches are held, of the whole.
    #[must_use]
    pub fn work(&self) -> usize {
        self.0.work().len()
    }

    /// Wait until the last watch is dropped.
    pub async fn ended(&self) {
        loop {
            let mut none_left = std::pin::pin!(self.0.none_left.notified());
            none_left.as_mut().enable();
            if self.work() == 0 {
                return;
            }
            none_left.await;
        }
    }
}

/// How many of `total` are to be asked when `elapsed` of `window` is over: the first at once.
fn due(total: usize, elapsed: Duration, window: Duration) -> usize {
    if elapsed >= window {
        return total;
    }
    let share = elapsed.as_secs_f64() / window.as_secs_f64();
    ((total as f64 * share) as usize + 1).min(total)
}

impl Inner {
    fn work(&self) -> MutexGuard<'_, Slab<Arc<Member>>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Future work is told `stage` when it begins; here is the present.
    fn begin(&self, stage: u8) -> Vec<Arc<Member>> {
        let work = self.work();
        self.stage.fetch_max(stage, Ordering::AcqRel);
        work.iter().map(|(_, member)| Arc::clone(member)).collect()
    }
}

impl Member {
    fn tell(&self, stage: u8) {
        self.stage.fetch_max(stage, Ordering::AcqRel);
        self.waker.wake();
    }
}

/// The asked side: one for each piece of work, which is one task.
#[derive(Debug)]
pub struct Watch {
    member: Arc<Member>,
    _place: Place,
    _place_in_whole: Option<Place>,
}

impl Watch {
    /// Wait until we are asked to say goodbye.
    pub fn asked(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reached(ASKED)
    }

    /// Wait until we are told to stop at once.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reached(CUT)
    }

    fn reached(&self, stage: u8) -> impl Future<Output = ()> + Send + use<> {
        let member = Arc::clone(&self.member);
        poll_fn(move |cx| {
            let is_reached = || member.stage.load(Ordering::Acquire) >= stage;
            if is_reached() {
                return Poll::Ready(());
            }
            member.waker.register(cx.waker());
            // It may have come while we registered.
            if is_reached() { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

/// One of those that a drain waits for, until dropped.
#[derive(Debug)]
struct Place {
    drain: Drain,
    key: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Inner { work, none_left, .. } = &*self.drain.0;
        let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
        work.remove(self.key);
        if work.is_empty() {
            none_left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_even() {
        let second = Duration::from_secs(1);
        let at = |elapsed| due(1000, Duration::from_millis(elapsed), second);
        assert_eq!([at(0), at(10), at(500), at(999), at(1000), at(5000)], [1, 11, 501, 1000, 1000, 1000]);
        assert_eq!(due(5, Duration::ZERO, Duration::ZERO), 5);
        assert_eq!(due(0, Duration::ZERO, second), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_asked_within_the_window_and_none_long_before_its_turn() {
        let drain = Drain::new();
        let asking = drain.clone();
        let began = Instant::now();
        let work: Vec<_> = (0..100)
            .map(|_| {
                let watch = drain.watch();
                tokio::spawn(async move {
                    watch.asked().await;
                    began.elapsed()
                })
            })
            .collect();
        let asked = tokio::spawn(async move { asking.ask_over(Duration::from_secs(10)).await });
        drain.ended().await;
        asked.await.unwrap();
        for (turn, work) in work.into_iter().enumerate() {
            let (turn, at) = (turn as f64 / 10.0, work.await.unwrap().as_secs_f64());
            assert!((at - turn).abs() < 0.15, "the one due at {turn} was asked at {at}");
        }
        // Who comes now is asked at once.
        drain.watch().asked().await;
    }

    #[tokio::test]
    async fn a_cut_reaches_who_was_not_asked_and_who_comes_later() {
        let drain = Drain::new();
        let watch = drain.watch();
        let work = tokio::spawn(async move { watch.cut().await });
        tokio::task::yield_now().await;
        assert_eq!(drain.work(), 1);
        drain.cut();
        work.await.unwrap();
        drain.ended().await;
        drain.watch().cut().await;
        assert!(drain.is_asked());
    }

    #[tokio::test]
    async fn a_part_is_asked_by_itself_and_with_the_whole() {
        let whole = Drain::new();
        let (first, second) = (whole.part(), whole.part());
        let watches = [first.watch(), second.watch()];
        first.ask();
        watches[0].asked().await;
        assert!(!second.is_asked() && !whole.is_asked());
        whole.ask();
        watches[1].asked().await;
        assert_eq!((whole.work(), first.work()), (2, 1));
        drop(watches);
        whole.ended().await;
    }
}
