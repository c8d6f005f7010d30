//! `[log]`: what is written, and in which form.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}
