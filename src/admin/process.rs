//! What the process takes of its machine. Linux tells; elsewhere nothing is known.

use std::fs;

/// Memory and descriptors; `None` where the system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Process {
    /// Resident memory, bytes.
    pub(super) memory: Option<u64>,
    /// Open descriptors.
    pub(super) descriptors: Option<u64>,
    /// How many may be open.
    pub(super) descriptors_limit: Option<u64>,
}

impl Process {
    /// As it is now. It may block for milliseconds.
    pub(super) fn look() -> Self {
        Self {
            memory: fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident),
            descriptors: descriptors(),
            descriptors_limit: rlimit::Resource::NOFILE.get_soft().ok(),
        }
    }
}

/// `VmRSS:     1234 kB` (proc_pid_status(5)).
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Since Linux 6.2 the folder's size is their number; before, it is 0 and they are counted.
fn descriptors() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        0 => Some(fs::read_dir(FOLDER).ok()?.count() as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_its_line() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n"), Some(1_263_616));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::look();
        assert!(process.memory.unwrap() > 1 << 20);
        assert!(process.descriptors.unwrap() >= 3);
        assert!(process.descriptors_limit >= process.descriptors);
    }
}
