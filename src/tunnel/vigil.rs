//! Awake for an answer: a broker on the same machine may have answered before a worker that goes to sleep would be up
//! again.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// How long a broker may take: on a virtual machine to sleep and to be woken takes nearly as long (`everyday`).
const PATIENCE: Duration = Duration::from_micros(30);

/// What a worker may spend on it: this part of the time that goes by. More of it makes `everyday` dearer where the machine
/// is fast, less of it its p50 higher where it is slow.
const SHARE: u32 = 40;

/// What it may save up for a burst of messages.
const MOST_SAVED: Duration = Duration::from_millis(1);

/// A wait in vain counts so many times: where brokers are slow it is seldom tried.
const VAIN: u32 = 4;

thread_local! {
    static PURSE: Cell<Option<Purse>> = const { Cell::new(None) };
}

/// From now on sessions of this thread stay awake for their brokers' answers, where these are quick. It costs the
/// thread a fortieth of its time at most, and a quarter of that where none is.
pub fn stay_awake() {
    PURSE.set(Some(Purse { spent_until: Instant::now() }));
}

/// The time that a worker may spend awake.
#[derive(Debug, Clone, Copy)]
struct Purse {
    /// All that is earned until then is spent.
    spent_until: Instant,
}

impl Purse {
    /// Whether there is something left to spend.
    fn has_some(&mut self, now: Instant) -> bool {
        let saves_from = now.checked_sub(MOST_SAVED * SHARE).unwrap_or(now);
        self.spent_until = self.spent_until.max(saves_from);
        self.spent_until < now
    }

    fn spend(&mut self, time: Duration) {
        self.spent_until += time * SHARE;
    }
}

/// A session's wait for its broker, and since when.
#[derive(Debug, Default)]
pub(super) struct Vigil(Option<Instant>);

impl Vigil {
    /// The broker was sent something. A wait that goes on is not made longer: a client that sends and sends must not
    /// keep the worker awake.
    pub(super) fn begin(&mut self) {
        if self.0.is_some() {
            return;
        }
        let Some(mut purse) = PURSE.get() else { return };
        let now = Instant::now();
        self.0 = purse.has_some(now).then_some(now);
        PURSE.set(Some(purse));
    }

    /// The broker has said something, or there is something to be done for it.
    pub(super) fn end(&mut self) {
        if let Some(since) = self.0.take() {
            spend(since.elapsed());
        }
    }

    /// While the wait goes on, `cx` is woken once more as soon as its worker has looked at its sockets, and has done
    /// what came in; so the worker does not sleep.
    pub(super) fn keep(&mut self, cx: &mut Context<'_>) {
        let Some(since) = self.0 else { return };
        let time = since.elapsed();
        if time < PATIENCE {
            let _ = pin!(yield_now()).poll(cx);
        } else {
            self.0 = None;
            spend(time * VAIN);
        }
    }
}

fn spend(time: Duration) {
    PURSE.set(PURSE.get().map(|mut purse| {
        purse.spend(time);
        purse
    }));
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    const WAIT: Duration = Duration::from_micros(10);

    /// How many of the messages that come one each `interval` for a second are waited for, if each wait costs `cost`.
    fn waits(interval: Duration, cost: Duration) -> u32 {
        let begin = Instant::now();
        let mut purse = Purse { spent_until: begin };
        let mut count = 0;
        for message in 1..=(Duration::from_secs(1).as_nanos() / interval.as_nanos()) as u32 {
            if purse.has_some(begin + message * interval) {
                purse.spend(cost);
                count += 1;
            }
        }
        count
    }

    /// Polls until nobody wakes the session any more, and how often that was.
    async fn keep(vigil: &mut Vigil) -> usize {
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            vigil.keep(cx);
            if vigil.0.is_some() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        polls
    }

    /// With all that it may have saved. When it began to save.
    fn fill() -> Instant {
        let spent_until = Instant::now() - MOST_SAVED * SHARE;
        PURSE.set(Some(Purse { spent_until }));
        spent_until
    }

    /// What was spent of what was saved from then on.
    fn spent(since: Instant) -> Duration {
        (PURSE.get().unwrap().spent_until - since) / SHARE
    }

    #[test]
    fn without_leave_nobody_waits() {
        let mut vigil = Vigil::default();
        vigil.begin();
        assert!(vigil.0.is_none());
    }

    #[test]
    fn seldom_messages_are_all_waited_for() {
        assert_eq!(waits(Duration::from_millis(1), WAIT), 1000);
    }

    #[test]
    fn no_more_than_its_share_of_a_second_is_spent() {
        let share = Duration::from_secs(1) / SHARE;
        for interval in [10, 20, 50, 100, 200] {
            for cost in [WAIT, PATIENCE * VAIN] {
                let all = cost * (1_000_000 / interval);
                let spent = waits(Duration::from_micros(interval.into()), cost) * cost;
                assert!(spent <= share + cost, "{interval} µs, {cost:?}: {spent:?}");
                assert!(spent >= share.min(all) * 9 / 10, "{interval} µs, {cost:?}: {spent:?}");
            }
        }
    }

    #[test]
    fn silence_saves_up_for_no_more_than_a_burst() {
        let begin = Instant::now();
        let mut purse = Purse { spent_until: begin };
        let now = begin + Duration::from_secs(3600);
        assert!(purse.has_some(now));
        assert_eq!((now - purse.spent_until) / SHARE, MOST_SAVED);
    }

    #[tokio::test]
    async fn a_session_stays_awake_for_so_long() {
        let full = fill();
        // It begins a little later: the machine may be busy until the first poll.
        let begins = Instant::now() + Duration::from_millis(100);
        let mut vigil = Vigil(Some(begins));
        let polls = keep(&mut vigil).await;
        assert!(begins.elapsed() >= PATIENCE);
        assert!(polls > 1, "nobody woke it");
        assert!(spent(full) >= PATIENCE * VAIN, "it was in vain");
    }

    #[tokio::test]
    async fn an_answer_ends_the_wait() {
        fill();
        let mut vigil = Vigil::default();
        vigil.begin();
        let begun = PURSE.get().unwrap().spent_until;
        vigil.end();
        assert_eq!(keep(&mut vigil).await, 1);
        let cost = spent(begun);
        assert!(!cost.is_zero(), "it costs what it took");
        vigil.end();
        assert_eq!(spent(begun), cost, "what nobody waited for costs nothing");
    }

    #[test]
    fn who_sends_on_and_on_makes_no_wait_longer() {
        fill();
        let mut vigil = Vigil::default();
        vigil.begin();
        let since = vigil.0;
        vigil.begin();
        assert_eq!(vigil.0, since);
    }
}
