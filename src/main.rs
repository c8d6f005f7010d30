//! The program: arguments, a command, an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration.

use std::process::ExitCode;

/// Gives memory back after bursts, where glibc keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    brokergate::cli::main()
}
