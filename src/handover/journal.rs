//! How the latest upgrade went: for whoever asks how things are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// What is to be told of upgrades. All copies are one.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Option<Latest>>>);

/// The latest upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// When it was done.
    pub at: SystemTime,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an upgrade, as a process sees it that is there to tell: not the one that has handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took over.
    TookOver {
        /// From this process.
        pid: u32,
        /// Which was of this version.
        version: String,
    },
    /// It tried to hand over and works on.
    Failed {
        /// Why.
        error: String,
    },
}

impl Outcome {
    /// The word for it in metrics and in `/status`.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TookOver { .. } => "took_over",
            Self::Failed { .. } => "failed",
        }
    }
}

impl Journal {
    /// The latest upgrade; `None` before the first.
    #[must_use]
    pub fn latest(&self) -> Option<Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another one, now.
    pub fn note(&self, outcome: Outcome) {
        let latest = Latest { at: SystemTime::now(), outcome };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(latest);
    }
}
