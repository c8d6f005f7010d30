//! A high priority for all we start, while it is held: who else works on these cores shall not be measured.

use std::{fs, process, thread};

use tokio::signal::unix::{SignalKind, signal};

/// As `nice` counts.
const PREFERRED: i32 = -15;
/// As shells count.
const INTERRUPTED: i32 = 130;
/// Linux shares a core among sessions of processes before it looks at the priorities inside each.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// Gives our session its place back when dropped.
#[derive(Debug)]
pub(super) struct Priority;

impl Priority {
    /// Only root is granted it; others measure without.
    pub(super) fn raise() -> Self {
        let has_groups = fs::metadata(AUTOGROUP).is_ok();
        let is_granted = rustix::process::setpriority_process(None, PREFERRED).is_ok()
            && (!has_groups || fs::write(AUTOGROUP, PREFERRED.to_string()).is_ok());
        if !is_granted {
            eprintln!("not root: other work on these cores may disturb the figures");
        }
        give_back_when_interrupted();
        Self
    }
}

/// Ctrl-C and SIGTERM end us, and with us all that we started: the kernel sees to that.
fn give_back_when_interrupted() {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            drop(Priority);
            process::exit(INTERRUPTED);
        });
    });
}

impl Drop for Priority {
    fn drop(&mut self) {
        // Where there are no groups, or none was raised, there is nothing to give back.
        let _ = fs::write(AUTOGROUP, "0");
    }
}
