//! Sums that can be read one by one: what `/status` tells of sessions, connects, endings and rejections.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was counted since the start.
#[derive(Debug)]
pub struct Tally {
    opened: AtomicU64,
    connected: AtomicU64,
    endings: Vec<Ending>,
    rejections: Vec<(&'static str, AtomicU64)>,
}

/// An ending's reason, and whose doing that is.
#[derive(Debug)]
struct Ending {
    reason: &'static str,
    by: &'static str,
    count: AtomicU64,
}

/// A [`Tally`] at one moment. Two of them are a rate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Handshakes answered with 101.
    pub opened: u64,
    /// CONNECTs that a broker has answered.
    pub connected: u64,
    /// Endings, in the order of [`Tally::endings`].
    pub endings: Vec<u64>,
    /// Rejections, in the order of [`Tally::rejections`].
    pub rejections: Vec<u64>,
}

impl Tally {
    /// Nothing counted of these labels.
    pub(super) fn new(rejections: &[&'static str], endings: &[(&'static str, &'static str)]) -> Self {
        let ending = |(reason, by): &(&'static str, &'static str)| {
            let (reason, by) = (*reason, *by);
            Ending { reason, by, count: AtomicU64::new(0) }
        };
        Self {
            opened: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            endings: endings.iter().map(ending).collect(),
            rejections: rejections.iter().map(|reason| (*reason, AtomicU64::new(0))).collect(),
        }
    }

    /// A session began.
    pub fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A broker answered a CONNECT.
    pub fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    /// A session ended.
    pub(super) fn ended(&self, reason: &str) {
        if let Some(ending) = self.endings.iter().find(|ending| ending.reason == reason) {
            ending.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request was turned away.
    pub(super) fn rejected(&self, reason: &str) {
        if let Some((_, count)) = self.rejections.iter().find(|(label, _)| *label == reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The reasons of endings, and whose doing each is.
    pub fn endings(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.endings.iter().map(|ending| (ending.reason, ending.by))
    }

    /// The reasons of rejections.
    pub fn rejections(&self) -> impl Iterator<Item = &'static str> {
        self.rejections.iter().map(|(reason, _)| *reason)
    }

    /// All sums, as of now.
    #[must_use]
    pub fn read(&self) -> Counted {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // What ended was opened before: read the other way round, less than nothing could be open.
        let endings = self.endings.iter().map(|ending| read(&ending.count)).collect();
        Counted {
            endings,
            opened: read(&self.opened),
            connected: read(&self.connected),
            rejections: self.rejections.iter().map(|(_, count)| read(count)).collect(),
        }
    }
}

impl Counted {
    /// Sessions that ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.endings.iter().sum()
    }

    /// Sessions between their 101 and their ending.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.opened.saturating_sub(self.ended())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_by_their_labels() {
        let tally = Tally::new(&["key", "draining"], &[("client_closed", "client"), ("drained", "gateway")]);
        (0..3).for_each(|_| tally.opened());
        tally.connected();
        tally.ended("drained");
        tally.rejected("draining");
        tally.rejected("unheard of");
        let counted = tally.read();
        assert_eq!((counted.opened, counted.connected, counted.open()), (3, 1, 2));
        assert_eq!((counted.endings, counted.rejections), (vec![0, 1], vec![0, 1]));
        assert_eq!(tally.endings().last(), Some(("drained", "gateway")));
        assert_eq!(tally.rejections().next(), Some("key"));
    }
}
