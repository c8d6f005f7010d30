//! A gateway as a process, and all that come after it: started from a file that can be replaced, ended with the test.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use brokergate::admin::status::form::Status;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};

use super::super::harness::{CERTIFICATES, until, within};

/// Processes that were started from one folder.
pub struct Family {
    folder: TempDir,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    /// As the configuration has it.
    pub admin: String,
}

impl Family {
    /// Nobody yet. Its admin listener is on TCP.
    pub fn new() -> Self {
        let free = |at: &str| std::net::TcpListener::bind(at).unwrap();
        let held = [free("127.0.0.1:0"), free("[::1]:0"), free("127.0.0.1:0")];
        let [plain, tls, admin] = held.map(|listener| listener.local_addr().unwrap());
        let family = Self { folder: tempfile::tempdir().unwrap(), plain, tls, admin: admin.to_string() };
        symlink(env!("CARGO_BIN_EXE_brokergate"), family.path("brokergate")).unwrap();
        family
    }

    /// The same with the admin listener on a Unix socket.
    pub fn on_unix_socket() -> Self {
        let mut family = Self::new();
        family.admin = format!("unix:{}", family.path("admin.sock").display());
        family
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Write the configuration: a plain and a TLS listener, `/mqtt` to these endpoints, and `more`.
    pub fn configure(&self, endpoints: &[String], more: &str) {
        let drain = if more.contains("[drain]") { "" } else { "[drain]\nwindow = \"0s\"\ngrace = \"5s\"" };
        let (plain, tls, admin, endpoints) = (self.plain, self.tls, &self.admin, endpoints.join(", "));
        let text = format!(
            r#"
            [[listeners]]
            addresses = ["{plain}"]
            [[listeners]]
            addresses = ["{tls}"]
            tls = {certificates}
            [[routes]]
            path = "/mqtt"
            upstream = "brokers"
            [runtime]
            workers = 2
            [admin]
            address = "{admin}"
            [upstreams.brokers]
            endpoints = [{endpoints}]
            {drain}
            {more}
            "#,
            certificates = CERTIFICATES.toml()
        );
        self.write(&text);
    }

    pub fn write(&self, text: &str) {
        fs::write(self.path("brokergate.toml"), text).unwrap();
    }

    /// Replace the program by a shell's script.
    pub fn replace_program(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        // Written under another name first: a file that is open for writing can't be executed.
        let (new, program) = (self.path("new"), self.path("brokergate"));
        fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, program).unwrap();
    }

    /// Put the real program back.
    pub fn restore_program(&self) {
        let _ = fs::remove_file(self.path("brokergate"));
        symlink(env!("CARGO_BIN_EXE_brokergate"), self.path("brokergate")).unwrap();
    }

    /// `brokergate run`, with its log in a file.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.path("brokergate"));
        command.args(["run", "--config"]).arg(self.path("brokergate.toml"));
        self.attend(&mut command);
        command
    }

    /// Let a command write to the family's log, and end with the test.
    pub fn attend(&self, command: &mut Command) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        command.stdin(Stdio::null()).stderr(log).kill_on_drop(true);
    }

    /// Start the first, and wait until it serves.
    pub async fn start(&self) -> Child {
        let child = self.command().spawn().unwrap();
        self.serving().await;
        child
    }

    /// Wait until somebody serves.
    pub async fn serving(&self) {
        within("the start", async { while self.try_ask("/ready").await.is_none_or(|it| it != "ready\n") {} })
            .await;
    }

    /// Ask for an upgrade by the command: its exit code and what it says.
    pub async fn upgrade(&self) -> (Option<i32>, String) {
        let command =
            Command::new(env!("CARGO_BIN_EXE_brokergate")).args(["upgrade", "--admin", &self.admin]).output();
        let Output { status, stdout, stderr } = within("the command", command).await.unwrap();
        (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }

    /// The same, and it must be done; the new process.
    pub async fn upgraded(&self) -> u32 {
        let (code, said) = self.upgrade().await;
        assert_eq!(code, Some(0), "{said}");
        self.status().await.pid
    }

    pub async fn status(&self) -> Status {
        let text = within("a status", self.try_ask("/status")).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// A metric's value, by its whole name.
    pub async fn metric(&self, name: &str) -> Option<String> {
        let text = within("metrics", self.try_ask("/metrics")).await.unwrap();
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
    }

    /// What the admin listener answers.
    pub async fn try_ask(&self, path: &str) -> Option<String> {
        match self.admin.strip_prefix("unix:") {
            Some(socket) => ask(UnixStream::connect(socket).await.ok()?, path).await,
            None => ask(TcpStream::connect(&self.admin).await.ok()?, path).await,
        }
    }

    /// Wait until the log has these words.
    pub async fn logged(&self, words: &str) {
        until(words, || fs::read_to_string(self.path("log")).unwrap_or_default().contains(words)).await;
    }

    /// All of the family that live: whose command line has our folder. What has ended and waits to be looked at
    /// has none.
    pub fn living(&self) -> Vec<u32> {
        let folder = self.folder.path().to_str().unwrap();
        let is_ours = |process: &Path| {
            fs::read(process.join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(folder))
        };
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let mut living: Vec<u32> = processes
            .filter(|path| is_ours(path))
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .collect();
        living.sort_unstable();
        living
    }

    /// Whether a process holds a socket of our plain listener: it has been handed over.
    pub fn listens(&self, process: u32) -> bool {
        // `sl local_address …`, by port in hexadecimal; the tenth column is the inode.
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let at = format!("0100007F:{:04X}", self.plain.port());
        let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let inodes: Vec<_> = rows
            .filter(|row| row.get(1) == Some(&at.as_str()) && row.get(3) == Some(&"0A"))
            .map(|row| format!("socket:[{}]", row[9]))
            .collect();
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
        let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter_map(|link| link.to_str().map(str::to_owned)).any(|link| inodes.contains(&link))
    }

    /// Wait until these live, and no others.
    pub async fn only(&self, processes: &[u32]) {
        let mut expected = processes.to_vec();
        expected.sort_unstable();
        let words = format!("{expected:?} to be all that live");
        until(&words, || self.living() == expected).await;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.path("log")).unwrap_or_default());
        }
        for process in self.living() {
            signal(process, "-KILL");
        }
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Option<String> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

pub fn signal(process: u32, signal: &str) {
    let _ = std::process::Command::new("kill").args([signal, &process.to_string()]).status();
}
