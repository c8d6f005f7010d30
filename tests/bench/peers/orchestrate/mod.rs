//! Runs the peers one after the other under the same load, and compares what they cost.

use std::process::ExitCode;

/// Runs the role with the arguments behind its name.
pub(crate) fn main(_arguments: &[String]) -> ExitCode {
    ExitCode::SUCCESS
}
