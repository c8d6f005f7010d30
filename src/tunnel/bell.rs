//! Rung by what seldom happens to a session: a limit is reached, or somebody asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use atomic_waker::AtomicWaker;

/// One for whatever seldom wakes a session. Where it has not rung, a session that wakes for a message need not ask
/// each of them, which would touch memory that is cold (`fan-out`).
#[derive(Debug)]
pub(super) struct Bell {
    session: AtomicWaker,
    rang: AtomicBool,
}

impl Bell {
    /// One that has rung: nobody knows it yet, so all must be asked once.
    pub(super) const fn new() -> Self {
        Self { session: AtomicWaker::new(), rang: AtomicBool::new(true) }
    }

    /// Ring.
    pub(super) fn ring(&self) {
        self.rang.store(true, Ordering::Release);
        self.session.wake();
    }

    /// Whether it rang since it was last asked. When it rings next it wakes `cx`.
    pub(super) fn take_rung(&self, cx: &Context<'_>) -> bool {
        // Before we look: else a ring in between would wake nobody.
        self.session.register(cx.waker());
        self.rang.load(Ordering::Relaxed) && self.rang.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    use super::*;

    /// A session that counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_heard_once_and_wakes_who_asked_last() {
        let (first, last) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let (first_waker, last_waker) = (Waker::from(first.clone()), Waker::from(last.clone()));
        let bell = Bell::new();
        assert!(bell.take_rung(&Context::from_waker(&first_waker)), "at first all is to be asked");
        assert!(!bell.take_rung(&Context::from_waker(&last_waker)));

        bell.ring();
        bell.ring();
        assert_eq!((first.0.load(Ordering::Relaxed), last.0.load(Ordering::Relaxed)), (0, 1));
        assert!(bell.take_rung(&Context::from_waker(&last_waker)));
        assert!(!bell.take_rung(&Context::from_waker(&last_waker)));
    }
}
