//! The program: arguments, a command, an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration.

use std::process::ExitCode;

/// Sessions come and go for months in one process: what stays after bursts must not fragment.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for pages of 2 MiB, which fill up with little: 6 of the 22 MiB of a process that has just
    // begun (`memory`). What it has by now, two of them, stays. Where this can't be had, all works with them.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    brokergate::cli::main()
}
