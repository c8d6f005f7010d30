//! The program: arguments, a command, an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration.

use std::process::ExitCode;

/// Sessions come and go for months in one process: what stays after bursts must not fragment.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator would take pieces of 2 MiB: 9 of the 22 MiB of a process that has just begun (`memory`). Where it
    // can't be had, all works without.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    brokergate::cli::main()
}
