//! The log: text for people or JSON for machines, written to standard error without blocking a worker.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

/// Lines that wait for a slow standard error; what comes beyond is dropped rather than block.
const WAITING: usize = 65_536;

/// Keeps the log's writer alive; dropping it writes what waits.
#[derive(Debug)]
pub struct Guard {
    _writer: WorkerGuard,
}

/// Begin to log for the whole process.
///
/// # Errors
/// When the level is no filter. A log that was begun before is left as it is.
pub fn start(config: &Log) -> Result<Guard, ParseError> {
    let filter = EnvFilter::builder().parse(&config.level)?;
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(WAITING).finish(io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(true);
    // In tests the first gateway of a process begins the log for all.
    let _ = match config.format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(Guard { _writer: guard })
}

/// An error and its causes, on one line.
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
