//! Who asked for a reload, and how it went.

use tokio::task::JoinError;

use crate::config::{Config, ConfigErrors};
use crate::listener::BindError;
use crate::snapshot::BuildError;
use crate::telemetry::ErrorChain;

/// Why a reload was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// SIGHUP.
    Signal,
    /// The admin listener.
    Admin,
    /// A file of the configuration changed.
    Change,
}

impl Cause {
    /// The log's word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Signal => "sighup",
            Self::Admin => "admin",
            Self::Change => "file_changed",
        }
    }
}

/// A configuration that was put to work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What is probably not wanted, and what takes a restart.
    pub warnings: Vec<String>,
}

/// Why the configuration from before works on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing to read again.
    #[error("this gateway was not started from a configuration file, so there is none to read again")]
    NoFile,
    /// It ends.
    #[error("the gateway is about to stop")]
    Stopping,
    /// It was drained by hand.
    #[error(
        "the gateway drains, or is drained; `brokergate drain --cancel` puts it back to work, then reload"
    )]
    Draining,
    /// Another process takes over.
    #[error("the gateway hands over to a new process, which reads its configuration anew; ask that one")]
    HandingOver,
    /// The file.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What it points at.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A mistake of ours.
    #[error("the reload panicked; please report this with the log lines above")]
    Panicked(#[from] JoinError),
}

impl Refusal {
    /// Each mistake with its place, in the words of `brokergate check`.
    #[must_use]
    pub fn reports(&self) -> Vec<String> {
        match self {
            Self::Config(errors) if !errors.notes().is_empty() => {
                errors.notes().iter().map(ToString::to_string).collect()
            }
            error => vec![ErrorChain(error).to_string()],
        }
    }

    /// Whether the file, or what it names, must change before a reload can work.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Build(_) | Self::Bind(BindError::Tls { .. }))
    }
}

/// What `new` asks for and a running gateway can't change.
pub(super) fn unchangeable(old: &Config, new: &Config) -> impl Iterator<Item = String> {
    let address = |config: &Config| config.admin.as_ref().map(|admin| admin.address.clone());
    let changed = [
        ("runtime.workers", old.runtime.workers != new.runtime.workers),
        ("runtime.busy_poll", old.runtime.busy_poll != new.runtime.busy_poll),
        ("admin", address(old) != address(new)),
        ("log.format", old.log.format != new.log.format),
    ];
    let file = new.source.display().to_string();
    changed.into_iter().filter(|(_, changed)| *changed).map(move |(key, _)| {
        format!(
            "{file}: {key}: a running gateway can't change this; all else is applied, restart it for this"
        )
    })
}
