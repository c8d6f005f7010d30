//! Seen from the process at work: the one that comes after it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::descriptors::{self, AT_ONCE};
use super::{HandoverError, LONGEST, PREDECESSOR, PROMPT, Role, Word};

/// What a successor is started from.
#[derive(Debug, Clone)]
pub struct Program {
    file: PathBuf,
    arguments: Vec<OsString>,
}

/// A process that is to take over. Dropped before it is left alone, it is killed.
#[derive(Debug)]
pub struct Successor {
    child: Option<Child>,
    pid: u32,
    stream: BufReader<tokio::net::UnixStream>,
}

impl Program {
    /// What this process was started from: the file at the path of then, which may be a newer one by the time it
    /// is started again, and the same arguments. To be called before that file is replaced.
    ///
    /// # Errors
    /// When the system does not know our file.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let ours = std::env::current_exe()?;
        // The kernel names the file itself. An upgrade often swaps a symlink on the way to it.
        let named = arguments.next().map(PathBuf::from);
        let file = named.and_then(|named| find(&named, &ours)).unwrap_or(ours);
        Ok(Self { file, arguments: arguments.collect() })
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// The path by which `named` leads to the program `ours`, as a shell finds it.
fn find(named: &Path, ours: &Path) -> Option<PathBuf> {
    let is_ours = |path: &PathBuf| {
        let (Ok(path), Ok(ours)) = (path.metadata(), ours.metadata()) else { return false };
        (path.dev(), path.ino()) == (ours.dev(), ours.ino())
    };
    if named.components().count() > 1 {
        return std::path::absolute(named).ok().filter(is_ours);
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(named)).find(is_ours)
}

impl Successor {
    /// Start it and hand it the sockets, within a runtime.
    ///
    /// # Errors
    /// When it can't be started, or the sockets do not go through.
    pub fn start(program: &Program, sockets: &[(Role, BorrowedFd<'_>)]) -> Result<Self, HandoverError> {
        let (ours, theirs) = UnixStream::pair().map_err(HandoverError::Hand)?;
        // They wait in the kernel: how it takes them is its own affair, and it may end before.
        hand(&ours, sockets).map_err(HandoverError::Hand)?;
        ours.set_nonblocking(true).map_err(HandoverError::Hand)?;
        let stream = tokio::net::UnixStream::from_std(ours).map_err(HandoverError::Hand)?;
        let child = Command::new(&program.file)
            .args(&program.arguments)
            .env(PREDECESSOR, std::process::id().to_string())
            // Named for us alone by systemd: who has no number is meant by the rest.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn();
        let child = child
            .map_err(|source| HandoverError::Start { program: program.file.display().to_string(), source })?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child: Some(child), pid, stream: BufReader::new(stream) })
    }

    /// Its process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Wait until it is ready, at most `patience`; its version.
    ///
    /// # Errors
    /// When it can't begin, in its own words, ends, or says nothing.
    pub async fn ready(&mut self, patience: Duration) -> Result<String, HandoverError> {
        match timeout(patience, self.hear()).await {
            Ok(Ok(Word::Ready { version })) => Ok(version),
            Ok(said) => Err(self.failed(said).await),
            Err(_) => Err(HandoverError::Silent(patience)),
        }
    }

    /// Tell it to begin, and wait until it has. This can't be taken back: from now on clients may be there.
    ///
    /// # Errors
    /// When it fails all the same; it is to be killed then.
    pub async fn serve(&mut self) -> Result<(), HandoverError> {
        let spoken = async {
            self.stream.get_mut().write_all(&Word::Serve.line()).await?;
            self.hear().await
        };
        match timeout(PROMPT, spoken).await {
            Ok(Ok(Word::Serving)) => Ok(()),
            Ok(said) => Err(self.failed(said).await),
            Err(_) => Err(HandoverError::Silent(PROMPT)),
        }
    }

    /// End it, and wait until it has ended.
    pub async fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            // Before the stream is closed: what has ended can't do anything about it.
            let _ = child.kill().await;
        }
    }

    /// It has taken over: whatever becomes of us, it stays. It speaks for the service once this is dropped.
    pub fn leave(&mut self) {
        drop(self.child.take());
    }

    async fn hear(&mut self) -> io::Result<Word> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LONGEST as u64).read_until(b'\n', &mut line).await?;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Word::read(&line) }
    }

    /// What it means that it did not say what it should.
    async fn failed(&mut self, said: io::Result<Word>) -> HandoverError {
        match said {
            Ok(Word::Failed { why }) => HandoverError::Failed(why),
            Ok(_) => HandoverError::Garbled(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => HandoverError::Garbled(error),
            // It has closed the stream, which whoever ends does: how it ended says more.
            Err(error) => match &mut self.child {
                Some(child) => match timeout(PROMPT, child.wait()).await {
                    Ok(Ok(status)) => HandoverError::Ended(status),
                    _ => HandoverError::Garbled(error),
                },
                None => HandoverError::Garbled(error),
            },
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // The runtime sees to the rest of it.
            let _ = child.start_kill();
        }
    }
}

/// Send the sockets, as many at once as go.
fn hand(stream: &UnixStream, sockets: &[(Role, BorrowedFd<'_>)]) -> io::Result<()> {
    // Names of thousands fit into the kernel's buffer. With more it ends here, for nobody reads yet.
    stream.set_write_timeout(Some(PROMPT))?;
    let mut rest = sockets;
    loop {
        let (now, later) = rest.split_at(rest.len().min(AT_ONCE));
        let word = Word::Take {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sockets: now.iter().map(|(role, _)| role.to_string()).collect(),
            more: !later.is_empty(),
        };
        let descriptors: Vec<_> = now.iter().map(|(_, socket)| socket.as_fd()).collect();
        descriptors::send(stream, &word.line(), &descriptors)?;
        if later.is_empty() {
            return Ok(());
        }
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that plays the successor; it has the stream as its standard input and may write to it, too.
    fn shell(script: &str) -> Program {
        Program { file: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    fn is_there(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn who_begins_is_left_alone() {
        let program = shell(
            r#"read -r take; echo '{"word":"ready","version":"9.9"}' >&0
               read -r serve; echo '{"word":"serving"}' >&0; read -r end; exec sleep 1000"#,
        );
        let mut successor = Successor::start(&program, &[]).unwrap();
        let pid = successor.pid();
        assert_eq!(successor.ready(PROMPT).await.unwrap(), "9.9");
        successor.serve().await.unwrap();
        successor.leave();
        assert!(is_there(pid));
        std::process::Command::new("kill").arg(pid.to_string()).status().unwrap();
    }

    #[tokio::test]
    async fn who_can_not_begin_says_why() {
        let cases = [
            (
                r#"echo '{"word":"failed","why":"no such file"}' >&0; read -r end; exec sleep 1000"#,
                "begin: no such file",
            ),
            ("read -r take; exit 3", "exit status: 3"),
            ("echo rubbish >&0; exec sleep 1000", "is it a brokergate?"),
            (r#"echo '{"word":"serving"}' >&0; exec sleep 1000"#, "is it a brokergate?"),
            ("exec sleep 1000", "was not ready within 200ms"),
        ];
        for (script, words) in cases {
            let mut successor = Successor::start(&shell(script), &[]).unwrap();
            let pid = successor.pid();
            let patience = if script.starts_with("exec") { Duration::from_millis(200) } else { PROMPT };
            let error = successor.ready(patience).await.unwrap_err().to_string();
            assert!(error.contains(words), "{script}: {error}");
            successor.kill().await;
            assert!(!is_there(pid), "{script}");
        }
    }

    #[tokio::test]
    async fn who_fails_after_all_or_is_dropped_is_killed() {
        let program =
            shell(r#"echo '{"word":"ready","version":"9.9"}' >&0; read -r take; read -r serve; exit 4"#);
        let mut successor = Successor::start(&program, &[]).unwrap();
        successor.ready(PROMPT).await.unwrap();
        assert!(successor.serve().await.unwrap_err().to_string().contains("exit status: 4"));
        let successor = Successor::start(&shell("exec sleep 1000"), &[]).unwrap();
        let pid = successor.pid();
        drop(successor);
        while is_there(pid) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_says_so() {
        let program = Program { file: "/nowhere/brokergate".into(), arguments: Vec::new() };
        let error = Successor::start(&program, &[]).unwrap_err().to_string();
        assert_eq!(error, "the new process can't be started from /nowhere/brokergate");
    }

    #[test]
    fn a_path_that_leads_to_us_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let ours = std::env::current_exe().unwrap();
        let link = folder.path().join("brokergate");
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        assert_eq!(find(&link, &ours), Some(link));
        assert_eq!(find(Path::new("/bin/sh"), &ours), None, "a name that was given, and is not ours");
        assert_eq!(find(Path::new("no-such-program"), &ours), None);
    }
}
