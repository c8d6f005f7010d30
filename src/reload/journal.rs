//! What reloads did last, and which certificates are shown: for whoever asks how things are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::outcome::{Applied, Cause, Refusal};
use crate::tls::Dated;

/// What is to be told of reloads. All copies are one.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    latest: Option<Latest>,
    warnings: Option<Vec<String>>,
    certificates: Vec<InUse>,
}

/// The latest reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// When it was done.
    pub at: SystemTime,
    /// Who asked for it.
    pub cause: Cause,
    /// Each mistake, if it was refused.
    pub mistakes: Option<Vec<String>>,
}

/// A certificate that somebody shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// `listener` or `upstream`.
    pub kind: &'static str,
    /// The name of that.
    pub name: Arc<str>,
    /// Which it is, and its dates.
    pub dated: Dated,
}

impl Journal {
    /// The latest reload; `None` before the first.
    #[must_use]
    pub fn latest(&self) -> Option<Latest> {
        self.pages().latest.clone()
    }

    /// The warnings of the latest reload that was applied; `None` before the first.
    #[must_use]
    pub fn warnings(&self) -> Option<Vec<String>> {
        self.pages().warnings.clone()
    }

    /// The certificates in use.
    #[must_use]
    pub fn certificates(&self) -> Vec<InUse> {
        self.pages().certificates.clone()
    }

    pub(super) fn reloaded(&self, cause: Cause, outcome: &Result<Applied, Refusal>) {
        let mut pages = self.pages();
        let mistakes = outcome.as_ref().err().map(Refusal::reports);
        pages.latest = Some(Latest { at: SystemTime::now(), cause, mistakes });
        if let Ok(applied) = outcome {
            pages.warnings = Some(applied.warnings.clone());
        }
    }

    pub(super) fn shows(&self, certificates: Vec<InUse>) {
        self.pages().certificates = certificates;
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
