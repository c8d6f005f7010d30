//! The load: many MQTT sessions over WebSocket from one thread, driven by commands on standard input.

use std::process::ExitCode;

/// Runs the role with the arguments behind its name.
pub(crate) fn main(_arguments: &[String]) -> ExitCode {
    ExitCode::SUCCESS
}
