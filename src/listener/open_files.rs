//! Descriptors: as many as the system gives, and a warning where that is too few.

use tracing::warn;

/// Descriptors of a session: the client's and the broker's.
const A_CONNECTION: u64 = 2;

/// Descriptors the process needs beside its connections: listeners, runtimes, log, files of a site.
const BESIDE: u64 = 128;

/// Raise the limit of open files, and say when it is too low for so many connections.
pub fn ensure_open_files(connections: usize) {
    let needed = connections as u64 * A_CONNECTION + BESIDE;
    match raise() {
        Some(limit) if limit < needed => warn!(
            limit,
            needed,
            connections,
            "the limit of open files is too low for limits.connections: raise it (LimitNOFILE, ulimit -n), or lower limits.connections to {}",
            limit.saturating_sub(BESIDE) / A_CONNECTION
        ),
        _ => {}
    }
}

/// The soft limit, raised to the hard one; `None` where it can't be read.
fn raise() -> Option<u64> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => Some(limit),
        Err(error) => {
            warn!(%error, "can't raise the limit of open files");
            rlimit::getrlimit(rlimit::Resource::NOFILE).ok().map(|(soft, _)| soft)
        }
    }
}
