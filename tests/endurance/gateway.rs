//! The gateway as a child process, and all that its operator does: files, signals, the admin listener.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use brokergate::admin::status::form::{State, Status};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::Options;
use super::certificate::{Authority, Certificate};
use super::client::Door;
use super::process::{End, Process};

/// What the admin listener, or the start, may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often we look whether something has happened that nobody tells of.
const LOOK: Duration = Duration::from_millis(10);

/// What an upgrade may take, until the next process serves.
const UPGRADE: Duration = Duration::from_secs(60);

/// A gateway at work; dropped, its process is killed.
pub(crate) struct Gateway {
    program: PathBuf,
    /// The one that serves.
    process: Process,
    folder: TempDir,
    pub(crate) door: Door,
    pub(crate) authority: Authority,
    pub(crate) certificate: Certificate,
}

/// A port that nobody had a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The endpoints of a pool, and keys of its own.
pub(crate) fn pool(keys: &str, endpoints: &[String]) -> String {
    format!("[upstreams.brokers]\n{keys}\nendpoints = [\n{}\n]\n", endpoints.join(",\n"))
}

impl Gateway {
    /// Start one and wait until it is ready. `rest` is all but its listener, its route and its admin.
    pub(crate) async fn start(options: &Options, rest: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut authority = Authority::new(folder.path())?;
        let certificate = authority.sign()?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let door = Door { address, tls: authority.client()? };
        let file = folder.path().join("brokergate.toml");
        fs::write(&file, toml(address, folder.path(), &certificate, rest))?;
        let log = File::create(folder.path().join("log"))?;
        let process = start(&options.gateway, &file, log)?;
        let program = options.gateway.clone();
        let mut gateway = Self { program, process, folder, door, authority, certificate };
        let began = Instant::now();
        while !matches!(gateway.get("/ready").await, Ok((StatusCode::OK, _))) {
            if let Some(end) = gateway.process.look()? {
                bail!("the gateway ended: {end:?}: {}", gateway.complaints().join("\n"));
            }
            ensure!(began.elapsed() < PATIENCE, "the gateway was not ready after {PATIENCE:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(gateway)
    }

    /// Write its configuration anew, in one step.
    pub(crate) fn configure(&self, rest: &str) -> Result<()> {
        self.write(&toml(self.door.address, self.folder.path(), &self.certificate, rest))
    }

    /// Write this as its configuration.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        let file = self.file();
        let next = file.with_extension("next");
        fs::write(&next, text)?;
        Ok(fs::rename(next, file)?)
    }

    /// From the next `configure` on its certificate is another.
    pub(crate) fn renew(&mut self) -> Result<()> {
        self.certificate = self.authority.sign()?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// How it ended, once it has.
    pub(crate) async fn ended(&mut self, within: Duration) -> Result<End> {
        self.process.ended(within).await
    }

    /// Let a new process take over, as an operator would; the one before, which leaves.
    pub(crate) async fn upgrade(&mut self) -> Result<Process> {
        let mut command = Command::new(&self.program);
        let command = command.args(["upgrade".as_ref(), "--config".as_ref(), self.file().as_os_str()]);
        let output = timeout(UPGRADE, command.kill_on_drop(true).output());
        let output = output.await.with_context(|| format!("the command runs after {UPGRADE:?}"))??;
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "the command ended with {}: {words}", output.status);
        let next = self.status().await?.pid;
        ensure!(
            next != self.process.id(),
            "process {next} serves as before, though the command says: {words}"
        );
        Ok(std::mem::replace(&mut self.process, Process::of(next)?))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(StatusCode, String)> {
        self.ask(Method::GET, path).await
    }

    pub(crate) async fn post(&self, path: &str) -> Result<(StatusCode, String)> {
        self.ask(Method::POST, path).await
    }

    /// Let it do something, which it must; its words.
    pub(crate) async fn order(&self, path: &str) -> Result<String> {
        let (status, words) = self.post(path).await?;
        ensure!(status == StatusCode::OK, "{path} is answered {status}: {words}");
        Ok(words)
    }

    async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, String)> {
        let asked = async {
            let stream = UnixStream::connect(admin(self.folder.path())).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let request = Request::builder().method(method).uri(path).header("host", "localhost");
            let request = request.header("x-brokergate", "1").body(Empty::<&[u8]>::new())?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let words = body.collect().await?.to_bytes();
            anyhow::Ok((head.status, String::from_utf8_lossy(&words).into_owned()))
        };
        timeout(PATIENCE, asked).await.with_context(|| format!("{path} had no answer after {PATIENCE:?}"))?
    }

    /// The value of a metric, as `/metrics` writes its name and labels; 0 when it is not there.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let (status, text) = self.get("/metrics").await?;
        ensure!(status == StatusCode::OK, "/metrics is answered {status}");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.map_or(Ok(0.0), str::parse)?)
    }

    /// Wait until a metric fits; how long that took.
    pub(crate) async fn until(
        &self,
        name: &str,
        within: Duration,
        fits: impl Fn(f64) -> bool,
    ) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let value = self.metric(name).await?;
            if fits(value) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > within {
                return Err(anyhow!("{name} is {value} after {within:?}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What `/status` says.
    pub(crate) async fn status(&self) -> Result<Status> {
        let (status, text) = self.get("/status").await?;
        ensure!(status == StatusCode::OK, "/status is answered {status}");
        Ok(serde_json::from_str(&text)?)
    }

    /// What `/status` says of an endpoint's state.
    pub(crate) async fn state(&self, endpoint: &str) -> Result<State> {
        let status = self.status().await?;
        let mut endpoints = status.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
        let found = endpoints.find(|it| it.name == endpoint).context("/status misses an endpoint")?;
        Ok(found.state)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("brokergate.toml")
    }

    /// Its memory in bytes: PSS.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.process.memory()
    }

    /// Its time on a core.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.process.cpu()
    }

    /// The lines of its log that a person should read.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines = log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
        lines.map(str::to_owned).collect()
    }
}

/// Start `program` by `file`; what it logs goes to `log`.
fn start(program: &Path, file: &Path, log: File) -> Result<Process> {
    let child = std::process::Command::new(program)
        .args(["run".as_ref(), "--config".as_ref(), file.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} does not start", program.display()))?;
    Process::of(child.id())
}

fn admin(folder: &Path) -> PathBuf {
    folder.join("admin.sock")
}

fn toml(address: SocketAddr, folder: &Path, certificate: &Certificate, rest: &str) -> String {
    let admin = admin(folder);
    format!(
        "[admin]\naddress = \"unix:{}\"\n\n[[listeners]]\naddresses = [\"{address}\"]\ntls = {}\n\n\
         [[routes]]\npath = \"/mqtt\"\nupstream = \"brokers\"\n\n{rest}",
        admin.display(),
        certificate.toml
    )
}
