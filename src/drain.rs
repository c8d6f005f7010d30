//! Ask all work to finish, and know when it has.
//!
//! Every piece of work holds a [`Watch`]. The [`Drain`] asks one after the other, over a window or in haste, later
//! cuts them, and waits until the last watch is dropped. What a watch costs its work at each wake-up is one
//! atomic load and the registration of a waker: it is polled beside every message.

mod member;
mod order;
mod pace;
mod round;

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout_at;

use self::member::{ASKED, CUT};
use self::pace::Pace;

pub use self::member::{Asked, Member, Watch};
pub use self::order::{Order, Ordered, Orders, orders};
pub use self::round::{Progress, Round, Terms, Will};

/// How many are looked at under the lock, or told, before others have their turn (`drain-slice`).
const SLICE: usize = 256;

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
    /// The latest round of goodbyes.
    round: Mutex<Option<Arc<Round>>>,
    /// Rounds that began, of this drain and of its parts.
    rounds: [AtomicU64; 2],
    /// How many ages there were. Work knows the one it began in.
    age: AtomicU32,
    /// How many workers the work is spread over; 0 stands for one.
    workers: usize,
}

impl Drain {
    /// A drain that nobody asked for yet, of work on one worker.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, of work that is spread over so many: in haste, the more they are, the more are told at once.
    #[must_use]
    pub fn of(workers: usize) -> Self {
        Self(Arc::new(Inner { workers, ..Inner::default() }))
    }

    /// A drain of a part of the work. It can be asked by itself; to ask, cut and wait for the whole is to do
    /// so for all parts. A part has none of its own.
    #[must_use]
    pub fn part(&self) -> Self {
        let (whole, workers) = (Some(self.clone()), self.0.workers);
        Self(Arc::new(Inner { whole, workers, ..Inner::default() }))
    }

    /// A piece of work: it will be asked, and waited for until the watch is dropped.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch_by(0)
    }

    /// The same, with a key that says to whom it belongs; see [`Member::key`].
    #[must_use]
    pub fn watch_by(&self, key: u64) -> Watch {
        let whole = self.0.whole.as_ref();
        let age = whole.unwrap_or(self).0.age.load(Ordering::Acquire);
        let member = Member::new(age, key);
        let place = self.enter(&member);
        let place_in_whole = whole.map(|whole| whole.enter(&member));
        Watch::new(member, place, place_in_whole)
    }

    fn enter(&self, member: &Arc<Member>) -> Place {
        let mut work = self.0.work();
        let key = work.insert(Arc::clone(member));
        // Under the lock: who enters later than the asking begins is told here, all others by it.
        member.tell(self.0.stage.load(Ordering::Acquire));
        Place { drain: self.clone(), key }
    }

    /// Whether all work is asked, that which is to come too.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.stage.load(Ordering::Acquire) >= ASKED
    }

    /// Ask all work to say goodbye: future work at once, the present in haste. Returns when all are asked.
    pub async fn ask(&self) {
        self.0.tell_who_comes(ASKED);
        let present = self.find(Member::is_at_work).await;
        let ask = |member: &Member| {
            member.tell(ASKED);
        };
        self.haste().tell(present, ask, || true).await;
    }

    /// Begin a round of goodbyes. The one before it is over.
    #[must_use]
    pub fn begin(&self, terms: Terms) -> Arc<Round> {
        self.begin_after(Duration::ZERO, terms)
    }

    /// The same, whose goodbyes whoever says them begins when `delay` is over.
    #[must_use]
    pub fn begin_after(&self, delay: Duration, terms: Terms) -> Arc<Round> {
        let round = Round::after(delay, terms);
        let (counted, place) = self.0.whole.as_ref().map_or((self, 0), |whole| (whole, 1));
        counted.0.rounds[place].fetch_add(1, Ordering::Relaxed);
        if let Some(before) = self.0.round().replace(Arc::clone(&round)) {
            before.cancel();
        }
        round
    }

    /// Ask the present work one after the other over the round's window, and who came meanwhile in the same
    /// rhythm; future work at once. Returns when all are asked, or the round was cancelled.
    pub async fn say(&self, round: &Round) {
        let mut pace = None;
        loop {
            let work = self.find(Member::is_at_work).await;
            if work.is_empty() || round.is_cancelled() {
                break;
            }
            let pace = pace.get_or_insert_with(|| self.pace(work.len(), round.terms().window));
            round.ask(work, pace).await;
        }
        self.ask_who_comes(round);
        // Who came since we looked.
        let late = self.find(Member::is_at_work).await;
        round.ask(late, &mut self.haste()).await;
    }

    fn ask_who_comes(&self, round: &Round) {
        // The lock keeps a cancelling out.
        let _current = self.0.round();
        if !round.is_cancelled() {
            self.0.tell_who_comes(round.stage());
        }
    }

    /// The whole of a round: the goodbyes, and after the grace a cut of what is left, in haste. Returns when
    /// nobody is left, or the round was cancelled; whether nobody had to be cut.
    pub async fn carry_out(&self, round: &Round) -> bool {
        let said = async {
            self.say(round).await;
            if !round.is_cancelled() {
                self.ended().await;
            }
        };
        let has_finished = timeout_at(round.deadline(), said).await.is_ok();
        if !has_finished {
            // Perhaps the window was too short to come so far.
            self.ask_who_comes(round);
            round.cut(self.find(|_| true).await, &mut self.haste()).await;
        }
        has_finished
    }

    /// Ask nobody any more: who was asked leaves, who was not and who comes stays.
    pub fn cancel(&self) {
        let mut round = self.0.round();
        if let Some(round) = round.take() {
            round.cancel();
        }
        self.0.stage.store(0, Ordering::Release);
    }

    /// How far its round is; `None` where there is none.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        let round = self.0.round().clone();
        round.map(|round| round.progress(self.work()))
    }

    /// How many rounds began: of this drain, and of its parts.
    #[must_use]
    pub fn rounds(&self) -> [u64; 2] {
        self.0.rounds.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// A new age of the whole: what is at work began before it. See [`Member::is_older`].
    #[must_use]
    pub fn new_age(&self) -> u32 {
        self.0.age.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The work that is `wanted`, looked up bit by bit, so that nobody waits long for the lock.
    pub async fn find(&self, mut wanted: impl FnMut(&Member) -> bool + Send) -> Vec<Arc<Member>> {
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(next) = self.0.look(from, |member| {
            if wanted(member) {
                found.push(Arc::clone(member));
            }
        }) {
            from = next;
            yield_now().await;
        }
        found
    }

    /// Ask these one after the other over the round's window.
    pub async fn say_to(&self, work: Vec<Arc<Member>>, round: &Round) {
        let mut pace = self.pace(work.len(), round.terms().window);
        round.ask(work, &mut pace).await;
    }

    /// Tell all work to stop where it stands: at once, for nobody stays who would have to wait for that.
    pub async fn cut(&self) {
        self.0.tell_who_comes(CUT);
        let mut from = 0;
        while let Some(next) = self.0.look(from, |member| {
            member.tell(CUT);
        }) {
            from = next;
            yield_now().await;
        }
    }

    fn pace(&self, turns: usize, window: Duration) -> Pace {
        Pace::new(turns, window, self.0.workers.max(1))
    }

    /// The pace of what is to be over soon.
    fn haste(&self) -> Pace {
        self.pace(0, Duration::ZERO)
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

impl Inner {
    fn work(&self) -> MutexGuard<'_, Slab<Arc<Member>>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round(&self) -> MutexGuard<'_, Option<Arc<Round>>> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tell those who come from now on.
    fn tell_who_comes(&self, stage: u8) {
        // The lock: see [`Drain::enter`].
        let _work = self.work();
        self.stage.fetch_max(stage, Ordering::AcqRel);
    }

    /// Look at some of the work, and say where to go on; `None` at the end.
    fn look(&self, from: usize, each: impl FnMut(&Arc<Member>)) -> Option<usize> {
        let work = self.work();
        let next = from + SLICE;
        (from..next.min(work.capacity())).filter_map(|key| work.get(key)).for_each(each);
        (next < work.capacity()).then_some(next)
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
mod tests;
