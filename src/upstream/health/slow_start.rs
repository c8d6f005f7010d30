//! Slow start: the share of an endpoint that returned grows from a tenth to the whole. Pure.
//!
//! A broker that just came up has cold caches and no sessions; by least-sessions it would get all of
//! the clients at once.

use std::time::Duration;

/// A share that has grown, in percent of the weight.
pub(in crate::upstream) const WHOLE: u32 = 100;

/// What an endpoint gets in the moment of its return, in percent of its weight: enough to be seen working.
const LEAST: u32 = 10;

/// The share of an endpoint that has been up for `age`, in percent of its weight, 10 to 100. It grows in
/// a straight line for `over`.
pub(in crate::upstream) fn share(age: Duration, over: Duration) -> u32 {
    if age >= over {
        return WHOLE;
    }
    let grown = age.as_millis() * u128::from(WHOLE) / over.as_millis().max(1);
    u32::try_from(grown).map_or(WHOLE, |grown| grown.clamp(LEAST, WHOLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_in_a_straight_line_from_a_tenth() {
        let over = Duration::from_secs(30);
        for (second, percent) in
            [(0, 10), (2, 10), (3, 10), (6, 20), (15, 50), (29, 96), (30, 100), (99, 100)]
        {
            assert_eq!(share(Duration::from_secs(second), over), percent, "{second}");
        }
        assert_eq!(share(Duration::ZERO, Duration::ZERO), WHOLE, "off");
        assert_eq!(share(Duration::MAX, Duration::from_nanos(1)), WHOLE);
    }
}
