//! When certificates begin and end to be valid, and what to say of it.

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

/// Something to say of a certificate's dates, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Complaint {
    /// It ends within three weeks.
    Soon(String),
    /// Clients refuse it now.
    Wrong(String),
}

impl Dated {
    /// The dates of what was loaded from `files`.
    #[must_use]
    pub fn of(files: &CertificateFiles, loaded: &LoadedCertificate) -> Self {
        Self { chain: files.chain.clone(), not_before: loaded.not_before, not_after: loaded.not_after }
    }

    /// What is wrong with it at `now`, or soon will be.
    #[must_use]
    pub fn complaint(&self, now: SystemTime) -> Option<Complaint> {
        let chain = self.chain.display();
        let date = humantime::format_rfc3339_seconds;
        if now < self.not_before {
            let from = date(self.not_before);
            let words = format!("{chain} is valid from {from} on, not yet; look at this machine's clock");
            return Some(Complaint::Wrong(words));
        }
        let until = date(self.not_after);
        match self.not_after.duration_since(now) {
            Err(_) => Some(Complaint::Wrong(format!("{chain} expired on {until}; renew it"))),
            Ok(left) if left < SOON => {
                let days = left.as_secs() / (24 * 60 * 60);
                Some(Complaint::Soon(format!("{chain} expires on {until}, in {days} days; renew it")))
            }
            Ok(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_dates() {
        let day = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_hours(24 * day);
        let dated = Dated { chain: "tls.crt".into(), not_before: day(10), not_after: day(100) };
        let complaint = |now| dated.complaint(day(now));
        let wrong = |words: &str| Some(Complaint::Wrong(format!("tls.crt {words}")));
        let early = "is valid from 1970-01-11T00:00:00Z on, not yet; look at this machine's clock";
        assert_eq!(complaint(9), wrong(early));
        assert_eq!(complaint(10), None);
        assert_eq!(complaint(79), None);
        let soon = "tls.crt expires on 1970-04-11T00:00:00Z, in 20 days; renew it";
        assert_eq!(complaint(80), Some(Complaint::Soon(soon.into())));
        assert_eq!(complaint(101), wrong("expired on 1970-04-11T00:00:00Z; renew it"));
    }
}
