//! Mosquitto on loopback, over TCP, that can be killed and come back to its port.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::gateway::free_port;

const PATIENCE: Duration = Duration::from_secs(10);

/// A Mosquitto; dropped, it is killed.
pub(crate) struct Mosquitto {
    folder: TempDir,
    port: u16,
    /// While it runs.
    child: Option<Child>,
}

impl Mosquitto {
    pub(crate) async fn start() -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let mut mosquitto = Self { folder, port, child: None };
        fs::write(
            mosquitto.file(),
            format!(
                "allow_anonymous true\npersistence false\nuser root\nmax_inflight_messages 0\n\
                 max_queued_messages 0\nlog_type error\nset_tcp_nodelay true\n\
                 listener {port} 127.0.0.1\nsocket_domain ipv4\n"
            ),
        )?;
        mosquitto.start_again().await?;
        Ok(mosquitto)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("mosquitto.conf")
    }

    /// The URL of its endpoint.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.take().context("it does not run")?.kill().await.context("mosquitto")
    }

    /// It listens when this returns.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        // Debian keeps it where only root looks.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("mosquitto")
            .env("PATH", path)
            .arg("-c")
            .arg(self.file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("mosquitto does not start; is it installed?")?;
        let child = self.child.insert(child);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("mosquitto ended with {status}");
            }
            ensure!(began.elapsed() < PATIENCE, "mosquitto does not listen after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}
