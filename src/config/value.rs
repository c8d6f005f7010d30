//! Values that many sections share: durations, sizes, weights.

use std::num::NonZeroU16;

/// An endpoint's share of the sessions, 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(NonZeroU16);

impl Weight {
    /// The weight of an endpoint that names none.
    pub const ONE: Self = Self(NonZeroU16::MIN);
    /// The largest weight.
    pub const MAX: u16 = 1000;

    /// A weight, or `None` outside 1 to 1000.
    #[must_use]
    pub fn new(value: u16) -> Option<Self> {
        NonZeroU16::new(value).filter(|_| value <= Self::MAX).map(Self)
    }

    /// The weight as a number, 1 to 1000.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}
