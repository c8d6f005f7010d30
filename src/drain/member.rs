//! One piece of work: the [`Member`] whom the asking side knows, and the [`Watch`] by which the work hears.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

use atomic_waker::AtomicWaker;

use super::{Place, Will};

/// One piece of work, as the asking side knows it.
#[derive(Debug)]
pub struct Member {
    stage: AtomicU8,
    age: u32,
    key: u64,
    waker: AtomicWaker,
}

/// The asked side: one for each piece of work, which is one task.
#[derive(Debug)]
pub struct Watch {
    member: Arc<Member>,
    _place: Place,
    _place_in_whole: Option<Place>,
}

/// Why work is asked to say goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// What it belongs to drains.
    Drain(Will),
    /// A person meant this very piece of work.
    Kick(Will),
}

/// Stages of a piece of work, behind 0. Each counts more than those before it.
pub(super) const ASKED: u8 = 1;
const ASKED_QUIETLY: u8 = 2;
const KICKED: u8 = 3;
const KICKED_QUIETLY: u8 = 4;
pub(super) const CUT: u8 = u8::MAX;

impl Member {
    /// One that was not asked yet.
    pub(super) fn new(age: u32, key: u64) -> Arc<Self> {
        Arc::new(Self { stage: AtomicU8::new(0), age, key, waker: AtomicWaker::new() })
    }

    /// To whom it belongs: what balances by hashing go by. 0 is nobody.
    #[must_use]
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// Whether it was not asked yet.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.stage.load(Ordering::Acquire) == 0
    }

    /// Whether it began before an age.
    #[must_use]
    pub const fn is_older(&self, age: u32) -> bool {
        // Ages may come around again.
        self.age.wrapping_sub(age).cast_signed() < 0
    }

    /// Ask this one alone to say goodbye. Says whether it is the first that asks.
    pub fn kick(&self, will: Will) -> bool {
        self.tell(Asked::Kick(will).stage()) == 0
    }

    /// Whether a kick was the latest word, which whoever takes this one's place must hear too.
    #[must_use]
    pub fn kicked(&self) -> Option<Will> {
        match self.stage.load(Ordering::Acquire) {
            KICKED => Some(Will::Fire),
            KICKED_QUIETLY => Some(Will::Suppress),
            _ => None,
        }
    }

    /// Gives the stage before. Whoever was told as much already is not woken for it.
    pub(super) fn tell(&self, stage: u8) -> u8 {
        let before = self.stage.fetch_max(stage, Ordering::AcqRel);
        if before < stage {
            self.waker.wake();
        }
        before
    }
}

impl Watch {
    /// Of a member that has its place in a drain, and in the whole of which that is a part.
    pub(super) const fn new(member: Arc<Member>, place: Place, place_in_whole: Option<Place>) -> Self {
        Self { member, _place: place, _place_in_whole: place_in_whole }
    }

    /// Whom the asking side knows.
    #[must_use]
    pub const fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Wait until we are asked to say goodbye.
    pub fn asked(&self) -> impl Future<Output = Asked> + Send + use<> {
        let reached = self.reached(ASKED);
        async move { Asked::of(reached.await) }
    }

    /// Wait until we are told to stop at once.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        let reached = self.reached(CUT);
        async move {
            reached.await;
        }
    }

    fn reached(&self, stage: u8) -> impl Future<Output = u8> + Send + use<> {
        let member = Arc::clone(&self.member);
        poll_fn(move |cx| {
            let reached = || Some(member.stage.load(Ordering::Acquire)).filter(|now| *now >= stage);
            if let Some(now) = reached() {
                return Poll::Ready(now);
            }
            member.waker.register(cx.waker());
            // It may have come while we registered.
            reached().map_or(Poll::Pending, Poll::Ready)
        })
    }
}

impl Asked {
    /// The stage of work that is asked so.
    pub(super) const fn stage(self) -> u8 {
        match self {
            Self::Drain(Will::Fire) => ASKED,
            Self::Drain(Will::Suppress) => ASKED_QUIETLY,
            Self::Kick(Will::Fire) => KICKED,
            Self::Kick(Will::Suppress) => KICKED_QUIETLY,
        }
    }

    /// What a stage says; the latest word counts.
    const fn of(stage: u8) -> Self {
        match stage {
            ASKED_QUIETLY => Self::Drain(Will::Suppress),
            KICKED => Self::Kick(Will::Fire),
            KICKED_QUIETLY => Self::Kick(Will::Suppress),
            _ => Self::Drain(Will::Fire),
        }
    }
}
