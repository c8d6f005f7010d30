//! Why a session, or a command, came to nothing: a sentence for the report.

use std::fmt;

/// The sentence.
#[derive(Debug, Clone)]
pub(super) struct Failure(String);

impl Failure {
    pub(super) fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }

    /// A session that should have gone on.
    pub(super) fn closed() -> Self {
        Self::new("the peer closed the session")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}
