//! One process of a gateway: the first, or one that took over. It is known by a descriptor, for a number may come
//! to be somebody else's.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};

/// How often we look whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A process; dropped, it is killed.
pub(crate) struct Process {
    pid: Pid,
    handle: OwnedFd,
    has_ended: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exit(i32),
    Signal(i32),
    /// Its parent was somebody else, and has not told us.
    Unknown,
}

impl Process {
    /// The process of this number, which runs.
    pub(crate) fn of(id: u32) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(id)?).context("no process id")?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("process {id}"))?;
        Ok(Self { pid, handle, has_ended: false })
    }

    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }

    /// How it ended, once it has.
    pub(crate) async fn ended(&mut self, within: Duration) -> Result<End> {
        let began = Instant::now();
        loop {
            if let Some(end) = self.look()? {
                return Ok(end);
            }
            ensure!(began.elapsed() < within, "process {} runs after {within:?}", self.id());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn look(&mut self) -> Result<Option<End>> {
        // Readable is ended (pidfd_open(2)).
        if poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&Timespec::default()))? == 0 {
            return Ok(None);
        }
        self.has_ended = true;
        // As a rule it is a child of ours, for whoever loses its parent becomes one.
        match waitid(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(status) => Ok(Some(status.map_or(End::Unknown, |status| End::of(&status)))),
            Err(Errno::CHILD) => Ok(Some(End::Unknown)),
            Err(error) => Err(error.into()),
        }
    }

    /// Its memory in bytes: PSS.
    pub(crate) fn memory(&self) -> Result<u64> {
        let text = fs::read_to_string(self.file("smaps_rollup"))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss line")?;
        Ok(pss.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Its time on a core.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(self.file("task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.id()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended {
            // It may have ended just now.
            let _ = self.signal(Signal::KILL);
        }
    }
}

impl End {
    fn of(status: &WaitIdStatus) -> Self {
        let signal = || status.terminating_signal().map(Self::Signal);
        status.exit_status().map(Self::Exit).or_else(signal).unwrap_or(Self::Unknown)
    }
}

/// Our children that run, by their commands: those whose parents have left them to us, too.
pub(crate) fn children() -> Result<Vec<(u32, String)>> {
    let (mut children, own) = (Vec::new(), std::process::id().to_string());
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // Whoever ends while we look is nobody's child.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        // Behind the name, which may hold anything: state and parent (proc_pid_stat(5)).
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        if parent != Some(own.as_str()) || state == Some("Z") {
            continue;
        }
        let id = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().parse()?;
        let command = fs::read_to_string(path.join("cmdline")).unwrap_or_default().replace('\0', " ");
        children.push((id, command));
    }
    Ok(children)
}
