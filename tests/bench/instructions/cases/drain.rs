//! What a drain costs a core before others have their turn: a slice of its work, looked at for whom to ask.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};

use brokergate::drain::{Drain, Member, Watch};

use super::{Operation, SESSIONS};

/// The first slice, where all are to be asked.
pub(super) fn slice() -> Operation {
    let drain = Drain::new();
    let watches: Vec<Watch> = (0..SESSIONS).map(|_| drain.watch()).collect();
    Box::new(move |_| {
        black_box(&watches);
        let mut found = pin!(drain.find(Member::is_at_work));
        assert!(found.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    })
}
