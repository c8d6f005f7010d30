//! The log: text for people or JSON for machines, written to standard error without blocking a worker.

use std::io::{self, BufWriter, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use super::harmless;
use crate::config::{Log, LogFormat};

/// Lines that wait for a slow standard error; what comes beyond is dropped rather than block.
const WAITING: usize = 65_536;

/// How long a line waits for others, and in how many bytes: to wake the writer for each line of a storm costs
/// more than the line (`full`).
const PAUSE: Duration = Duration::from_millis(20);
const GATHERED: usize = 64 * 1024;

/// Standard error, written to in batches, on a thread of its own.
struct Gathered<W: Write> {
    lines: BufWriter<W>,
    format: LogFormat,
}

impl<W: Write> Write for Gathered<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.format {
            // What it has of clients is escaped, and on a terminal it has colours of ours.
            LogFormat::Text => self.lines.write(line),
            // JSON itself allows DEL, C1 and marks of direction as they are.
            LogFormat::Json => harmless::write_line(&mut self.lines, line).map(|()| line.len()),
        }
    }

    /// The writer's thread flushes when no line waits any more: then more may come.
    fn flush(&mut self) -> io::Result<()> {
        std::thread::sleep(PAUSE);
        self.lines.flush()
    }
}

/// Keeps the log's writer alive; dropping it writes what waits.
#[derive(Debug)]
pub struct Guard {
    _writer: WorkerGuard,
}

/// Changes the filter of the log that was begun. The process has one log, so this is one as well.
static FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Counts the lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Begin to log for the whole process.
///
/// # Errors
/// When the level is no filter. A log that was begun before is left as it is.
pub fn start(config: &Log) -> Result<Guard, ParseError> {
    let filter = EnvFilter::builder().parse(&config.level)?;
    let lines = Gathered { lines: BufWriter::with_capacity(GATHERED, io::stderr()), format: config.format };
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(WAITING).finish(lines);
    let _ = DROPPED.set(writer.error_counter());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(true);
    // In tests the first gateway of a process begins the log for all.
    let _ = match config.format {
        LogFormat::Text => {
            let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
            let builder = builder.with_ansi(is_terminal).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = FILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
            builder.try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = FILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
            builder.try_init()
        }
    };
    Ok(Guard { _writer: guard })
}

/// Lines that were dropped because standard error was slower.
#[must_use]
pub fn dropped_lines() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Log by another level from now on; without effect on a log that somebody else began.
pub fn change_level(level: &str) {
    // The configuration was checked: its level is a filter.
    if let (Some(change), Ok(filter)) = (FILTER.get(), EnvFilter::builder().parse(level)) {
        change(filter);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_calls_itself_steers_no_terminal_that_shows_the_log() {
        let hostile = "\u{202e}\u{9b}31m\u{7f}\\\u{2066}\u{ad}\"Gerät";
        let line = serde_json::json!({ "client_id": hostile }).to_string() + "\n";
        let mut log = Gathered { lines: BufWriter::new(Vec::new()), format: LogFormat::Json };
        log.write_all(line.as_bytes()).unwrap();
        let written = String::from_utf8(log.lines.into_inner().unwrap()).unwrap();
        assert!(written.trim_end_matches('\n').chars().all(|sign| !harmless::steers(sign)), "{written:?}");
        let json: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!((json["client_id"].as_str(), written.matches('\n').count()), (Some(hostile), 1));
    }
}
