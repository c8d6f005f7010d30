//! Three echoing brokers in one thread.

use std::process::ExitCode;

/// Runs the role with the arguments behind its name.
pub(crate) fn main(_arguments: &[String]) -> ExitCode {
    ExitCode::SUCCESS
}
