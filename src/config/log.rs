//! `[log]`: what is written, and in which form.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::nearest::did_you_mean;
use super::value::{Leaf, Parsed};

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A `tracing` filter such as `info` or `brokergate=debug,warn`.
    pub level: String,
    /// Whether each session and request writes its access-log line.
    pub access: bool,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogTable {
    format: LogFormat,
    level: Option<Parsed<Level>>,
    access: Option<bool>,
}

impl LogTable {
    pub(super) fn check(self) -> Log {
        Log {
            format: self.format,
            level: self.level.map_or_else(|| "info".to_owned(), |Parsed(Level(level))| level),
            access: self.access.unwrap_or(true),
        }
    }
}

/// A filter that `tracing` understands.
#[derive(Debug, Clone)]
struct Level(String);

impl Leaf for Level {
    const FORM: &'static str = "a level such as \"info\" or \"brokergate=debug,warn\"";

    fn text(text: &str) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        // `tracing` takes an unknown word for the name of a module, and then logs nothing else.
        for directive in text.split(',').map(str::trim) {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if !LEVELS.contains(&level.to_lowercase().as_str()) {
                let advice = match did_you_mean(level, LEVELS) {
                    none if none.is_empty() => format!("; write one of {}", LEVELS.join(", ")),
                    near => near,
                };
                return Err(format!("{level:?} is not a log level{advice}"));
            }
        }
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(format!("{text:?} is not a log filter; write {}", Self::FORM)),
        }
    }
}
