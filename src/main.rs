//! The program: arguments, a command, an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration.

use std::process::ExitCode;

/// Sessions come and go for months in one process: what stays after bursts must not fragment.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    brokergate::cli::main()
}
