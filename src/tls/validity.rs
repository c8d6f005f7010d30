//! When certificates begin and end to be valid, and what to make of it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::certificate::LoadedCertificate;
use crate::config::CertificateFiles;

/// Three weeks: long enough for a person to renew a certificate that no program renews.
const SOON: Duration = Duration::from_hours(21 * 24);

/// A certificate in use, and its dates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// The file of its chain, as configured.
    pub chain: PathBuf,
    /// When it begins to be valid.
    pub not_before: SystemTime,
    /// When it ends to be valid.
    pub not_after: SystemTime,
}

/// A certificate's dates, seen from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It is not valid yet; or the clock is wrong.
    NotYet,
    /// It is valid for more than three weeks.
    Sound,
    /// It ends in so many whole days.
    EndsSoon(u64),
    /// It has ended.
    Over,
}

impl Dated {
    pub(super) fn of(files: &CertificateFiles, loaded: &LoadedCertificate) -> Self {
        Self { chain: files.chain.clone(), not_before: loaded.not_before, not_after: loaded.not_after }
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn validity(&self, now: SystemTime) -> Validity {
        Validity::of(self.not_before, self.not_after, now)
    }
}

impl Validity {
    /// How a certificate of these dates stands at `now`.
    #[must_use]
    pub fn of(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> Self {
        if now < not_before {
            return Self::NotYet;
        }
        match not_after.duration_since(now) {
            Err(_) => Self::Over,
            Ok(left) if left < SOON => Self::EndsSoon(left.as_secs() / (24 * 60 * 60)),
            Ok(_) => Self::Sound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_dates() {
        let day = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_hours(24 * day);
        let validity = |now| Validity::of(day(10), day(100), day(now));
        assert_eq!(validity(9), Validity::NotYet);
        assert_eq!(validity(10), Validity::Sound);
        assert_eq!(validity(79), Validity::Sound);
        assert_eq!(validity(80), Validity::EndsSoon(20));
        assert_eq!(validity(101), Validity::Over);
    }
}
