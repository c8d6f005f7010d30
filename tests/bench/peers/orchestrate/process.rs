//! A process we start: pinned to a core, leading a group of its own, and ended with all of that group when
//! its handle is dropped. The kernel ends it too when we are killed: `setpriv --pdeathsig` asks for that.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

/// How long a process may take to end when asked.
const ENDING: Duration = Duration::from_secs(3);

/// A running process, and those it starts.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// What it wrote to its error output.
    log: PathBuf,
}

impl Process {
    /// Starts `program` on `cores` (as `taskset` takes them). Its output goes to the file `log`.
    ///
    /// Only the main thread may call this: the kernel ends the process when the thread that started it ends.
    pub(super) fn start(cores: &str, log: &Path, program: &Path, arguments: &[&OsStr]) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = pinned(cores, program, arguments);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        Ok(Self { child: spawn(command, program)?, log: log.to_owned() })
    }

    /// The process' identifier, which is that of its group too.
    pub(super) fn group(&self) -> u32 {
        self.child.id()
    }

    /// Fails once the process has ended, with the end of its log.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("it ended with {status}: {}", last_lines(&self.log))),
        }
    }
}

impl Drop for Process {
    /// Asks the whole group to end, waits for its leader, and then insists.
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // Fails only when nobody of the group is left.
        let _ = kill_process_group(group, Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < ENDING && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A process that takes commands on its input, and answers with a line of JSON.
#[derive(Debug)]
pub(super) struct Dialogue {
    process: Process,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Dialogue {
    /// Starts `program`; see [`Process::start`].
    pub(super) fn start(cores: &str, log: &Path, program: &Path, arguments: &[&OsStr]) -> Result<Self> {
        let error = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = pinned(cores, program, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(error);
        let mut child = spawn(command, program)?;
        let input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process: Process { child, log: log.to_owned() }, input, lines })
    }

    /// Gives it a command.
    pub(super) fn say(&mut self, command: &str) -> Result<()> {
        writeln!(self.input, "{command}")
            .with_context(|| format!("{command:?} found no listener: {}", self.tail()))
    }

    /// Waits for the line with this event, and fails at one that says `failed`.
    pub(super) fn hear(&mut self, event: &str, within: Duration) -> Result<Value> {
        let until = Instant::now() + within;
        loop {
            let line = match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("no {event:?} within {within:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended before {event:?}: {}", self.tail()),
            };
            let value: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
            match value["event"].as_str() {
                Some(name) if name == event => return Ok(value),
                Some("failed" | "error") => bail!("{line}"),
                _ => {}
            }
        }
    }

    /// A command and its answer.
    pub(super) fn ask(&mut self, command: &str, event: &str, within: Duration) -> Result<Value> {
        self.say(command)?;
        self.hear(event, within).with_context(|| format!("after {command:?}"))
    }

    /// The identifier of the process' group.
    pub(super) fn group(&self) -> u32 {
        self.process.group()
    }

    fn tail(&self) -> String {
        last_lines(&self.process.log)
    }
}

fn pinned(cores: &str, program: &Path, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", cores]).arg(program).args(arguments);
    command.process_group(0);
    command
}

fn spawn(mut command: Command, program: &Path) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot start {}", program.display()))
}

fn last_lines(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}
