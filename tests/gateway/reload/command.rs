//! The process: SIGHUP, and `brokergate reload` with its exit codes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::super::harness::{Broker, raw, within};
use super::Site;

/// `brokergate run`, killed when dropped.
struct Process {
    child: Child,
    admin: SocketAddr,
}

impl Process {
    /// Start it by a file whose text has `127.0.0.1:0` for the admin listener.
    async fn start(site: &Site, text: &str) -> (Self, String) {
        let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = text.replace("127.0.0.1:0", &admin.to_string());
        site.write(&text);
        let child = Command::new(env!("CARGO_BIN_EXE_brokergate"))
            .args(["run", "--config"])
            .arg(site.file())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let up = async { while TcpStream::connect(site.plain).await.is_err() {} };
        within("the start", up).await;
        (Self { child, admin }, text)
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// The line of a metric with this name.
    async fn metric(&self, name: &str) -> String {
        let text = raw(self.admin, b"GET /metrics HTTP/1.0\r\n\r\n").await;
        text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
    }

    async fn until(&self, line: &str) {
        let name = line.split(' ').next().unwrap();
        within(line, async { while self.metric(name).await != line {} }).await;
    }
}

async fn reload(file: &Path, more: &[&str]) -> (Option<i32>, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_brokergate"))
        .args(["reload", "--config"])
        .arg(file)
        .args(more)
        .output();
    let Output { status, stdout, stderr } = within("the command", command).await.unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[tokio::test]
async fn a_hangup_reloads() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let (mut process, text) = Process::start(&site, &site.text(&[broker.mqtt()], "")).await;
    process.signal("-HUP").await;
    process.until("brokergate_reloads_total{result=\"applied\"} 1").await;
    site.write("rubbish");
    process.signal("-HUP").await;
    process.until("brokergate_reloads_total{result=\"refused\"} 1").await;
    site.write(&text);
    process.signal("-HUP").await;
    process.until("brokergate_reloads_total{result=\"applied\"} 2").await;
    process.signal("-TERM").await;
    assert!(within("the end", process.child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn the_command_says_how_it_went() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let (process, text) = Process::start(&site, &site.text(&[broker.mqtt()], "")).await;
    let admin = process.admin.to_string();
    assert_eq!(reload(&site.file(), &[]).await, (Some(0), "reloaded\n".into()));

    // A mistake that the command sees for itself, and one that only the gateway does.
    site.write(&text.replace("workers", "wrokers"));
    let (code, said) = reload(&site.file(), &[]).await;
    assert!(code == Some(2) && said.contains("did you mean `workers`"), "{code:?}: {said}");
    let (code, said) = reload(&site.file(), &["--admin", &admin]).await;
    assert!(code == Some(2) && said.contains("did you mean `workers`"), "{code:?}: {said}");
    assert!(said.ends_with("not reloaded: the configuration from before works on\n"), "{said}");
    site.write(&text.replace("key.pem", "nowhere.pem"));
    let (code, said) = reload(&site.file(), &[]).await;
    assert!(code == Some(2) && said.contains("nowhere.pem cannot be read"), "{code:?}: {said}");

    // An address that is taken is no mistake of the file.
    site.write(&text.replace(&site.tls.to_string(), &broker.address().to_string()));
    let (code, said) = reload(&site.file(), &[]).await;
    assert!(code == Some(1) && said.contains("another process listens there"), "{code:?}: {said}");

    // Nobody to ask, and nobody there.
    site.write(&text.replace(&format!("address = \"{admin}\""), "enabled = false"));
    let (code, said) = reload(&site.file(), &[]).await;
    assert!(code == Some(1) && said.contains("SIGHUP"), "{code:?}: {said}");
    let nowhere = format!("unix:{}", site.folder.path().join("nowhere.sock").display());
    let (code, said) = reload(&site.file(), &["--admin", &nowhere]).await;
    assert!(code == Some(1) && said.contains("nobody answers"), "{code:?}: {said}");
    assert_eq!(reload(&site.file(), &["--admin", "nonsense"]).await.0, Some(2));
}
