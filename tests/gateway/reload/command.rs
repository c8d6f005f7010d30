//! The process: SIGHUP, and `brokergate reload` with its exit codes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::super::harness::{Broker, raw, until, within};
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
            .stderr(std::fs::File::create(site.log()).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // It is bound last.
        let up = async { while TcpStream::connect(admin).await.is_err() {} };
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

impl Site {
    /// The file of the process's log.
    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Wait until the log has these words.
    async fn logged(&self, words: &str) {
        until(words, || std::fs::read_to_string(self.log()).unwrap().contains(words)).await;
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

/// A listener whose certificate has expired: each look at it is a line of the log.
fn expired(site: &Site) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let write = |name: &str, text: String| std::fs::write(site.folder.path().join(name), text).unwrap();
    write("old.pem", params.self_signed(&key).unwrap().pem() + &key.serialize_pem());
    format!(
        "[[listeners]]\nname = \"edge\"\naddresses = [\"{}\"]\ntls.certificates = [{{ chain = \"old.pem\", key = \"old.pem\" }}]\n",
        site.plain
    )
}

#[tokio::test]
async fn to_resume_a_gateway_that_serves_does_nothing() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let text = site.text_with(&expired(&site), &[broker.mqtt()], "[log]\nlevel = \"error\"");
    let (process, _) = Process::start(&site, &text).await;
    site.logged("old.pem expired on").await;
    for _ in 0..5 {
        let asked = b"POST /resume HTTP/1.0\r\nX-Brokergate: 1\r\n\r\n";
        let answer = raw(process.admin, asked).await;
        assert!(answer.ends_with("the gateway serves: there is no drain to cancel\n"), "{answer}");
    }
    assert_eq!(reload(&site.file(), &[]).await.0, Some(0));
    // At the start, and at the reload.
    let looks = || std::fs::read_to_string(site.log()).unwrap().matches("old.pem expired on").count();
    until("two looks", || looks() >= 2).await;
    assert_eq!(looks(), 2);
}

#[tokio::test]
async fn the_log_changes_its_level_and_speaks_of_certificates() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let text = site.text_with(&expired(&site), &[broker.mqtt()], "[log]\nlevel = \"error\"");
    let (process, text) = Process::start(&site, &text).await;
    site.logged("listener edge: ").await;
    site.logged("old.pem expired on 2021-01-01T00:00:00Z; renew it").await;
    assert_eq!(reload(&site.file(), &[]).await, (Some(0), "reloaded\n".into()));
    site.write(&text.replace("\"error\"", "\"info\""));
    assert_eq!(reload(&site.file(), &[]).await.0, Some(0));
    site.logged("reloaded the configuration").await;
    let log = std::fs::read_to_string(site.log()).unwrap();
    assert_eq!(log.matches("reloaded the configuration").count(), 1, "the first was said to nobody: {log}");
    drop(process);
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
