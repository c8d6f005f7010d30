//! The words of these tests: a gateway, brokers behind it, clients before it.

mod broker;
mod client;
mod crew;
pub mod log;
mod names;
mod patient;
mod session;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use brokergate::config;
use brokergate::gateway::Gateway;
use brokergate::proxy::Shared;
use brokergate::reload::{Applied, Asker, Cause, Refusal, Source};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use broker::{Broker, KINDS, Kind, Visit, accepted};
pub use client::{Client, Message, Wire, connect_v3, connect_v5, connect_v31, dial_from, publish, secure};
pub use crew::Crew;
pub use names::{Mood, Names};
pub use patient::{Manner, Patient};
pub use session::Session;

/// What any single step of a test may take. A step that takes longer has hung.
pub const STEP: Duration = Duration::from_secs(10);

/// Wait for a step, and fail where it hangs.
pub async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    timeout(STEP, step).await.unwrap_or_else(|_| panic!("{what} took longer than {STEP:?}"))
}

/// Wait until `holds`, by asking again and again: for what has no event to wait for.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let asking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, asking).await;
}

/// The certificate of every test's TLS listener, for localhost, and the CA that signed it.
pub struct Certificates {
    folder: TempDir,
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
}

/// Made once a process: keys cost time.
pub static CERTIFICATES: LazyLock<Certificates> =
    LazyLock::new(|| Certificates::of(&["localhost", "127.0.0.1", "::1"]));

impl Certificates {
    /// A certificate for these names, and a CA of its own.
    pub fn of(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = rcgen::CertifiedIssuer::self_signed(ca, ca_key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        std::fs::write(folder.path().join("chain.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { folder, ca: ca.der().clone(), certificate: certificate.der().clone() }
    }

    pub fn ca(&self) -> CertificateDer<'static> {
        self.ca.clone()
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// One of a listener's `tls.certificates`.
    pub fn certificate_toml(&self) -> String {
        let (chain, key) = (self.path("chain.pem"), self.path("key.pem"));
        format!("{{ chain = {chain:?}, key = {key:?} }}")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The `tls` value of a listener.
    pub fn toml(&self) -> String {
        format!("{{ certificates = [{}] }}", self.certificate_toml())
    }

    /// What a client that trusts the CA speaks TLS by.
    pub fn client(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(brokergate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// A gateway at work, in this process. Dropping it cuts it.
pub struct Gate {
    pub shared: Arc<Shared>,
    asker: Asker,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    now: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

/// A plain listener, `/mqtt` to an upstream `brokers` of these endpoints, and short patience. `more` is
/// appended: tables such as `[limits]`.
pub fn simple(endpoints: &[String], more: &str) -> String {
    format!(
        r#"
        [runtime]
        workers = 1
        [[listeners]]
        addresses = ["127.0.0.1:0"]
        [[listeners]]
        addresses = ["[::1]:0"]
        tls = {tls}
        [[routes]]
        path = "/mqtt"
        upstream = "brokers"
        [upstreams.brokers]
        endpoints = [{endpoints}]
        {more}
        "#,
        tls = CERTIFICATES.toml(),
        endpoints = endpoints.join(", "),
    )
}

impl Gate {
    /// Start a gateway by its configuration's text. `[admin]` and `[drain]` are added where it has none.
    pub async fn start(text: &str) -> Self {
        Self::try_start(text).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn try_start(text: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut text = format!("{text}\n");
        if !text.contains("[admin]") {
            text.push_str("[admin]\naddress = \"127.0.0.1:0\"\n");
        }
        if !text.contains("[drain]") {
            text.push_str("[drain]\nwindow = \"0s\"\ngrace = \"5s\"\n");
        }
        let config = config::parse(Path::new("test.toml"), &text, &|_| None)?;
        Ok(Self::run(Gateway::bind(config)?))
    }

    /// Start a gateway by a file, as `brokergate run` does. It needs an admin address.
    pub async fn start_file(file: &Path) -> Self {
        let (source, config) = Source::read(file);
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        Self::run(Gateway::bind(config).unwrap().reload_from(source))
    }

    fn run(gateway: Gateway) -> Self {
        let asker = gateway.asker().clone();
        let shared = Arc::clone(gateway.shared());
        let addresses = gateway.addresses();
        let admin = gateway.admin_address().unwrap();
        let (stop, asked) = oneshot::channel();
        let (now, cut) = oneshot::channel();
        // A sender that is dropped says so as well.
        let gone = |receiver: oneshot::Receiver<()>| async { drop(receiver.await) };
        let running = tokio::spawn(async move { gateway.run(gone(asked), gone(cut)).await.unwrap() });
        Self { shared, asker, addresses, admin, stop: Some(stop), now: Some(now), running }
    }

    /// Reload, as SIGHUP does.
    pub async fn reload(&self) -> Result<Applied, Refusal> {
        within("a reload", self.asker.ask(Cause::Signal)).await
    }

    /// The plain listener of [`simple`].
    pub fn plain(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The TLS listener of [`simple`].
    pub fn tls(&self) -> SocketAddr {
        self.addresses[1]
    }

    pub fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Ask it to stop, as SIGTERM does.
    pub fn ask(&mut self) {
        drop(self.stop.take());
    }

    /// Tell it to stop at once, as a second SIGTERM does.
    pub fn cut(&mut self) {
        drop(self.now.take());
    }

    /// Wait until it has stopped, after [`Gate::ask`].
    pub async fn stopped(self) {
        let Self { running, now, .. } = self;
        within("stopping", running).await.unwrap();
        drop(now);
    }

    /// The value of a metric's line, such as `brokergate_sessions` or
    /// `brokergate_sessions_ended_total{reason="client_closed",by="client"}`; 0 where there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.shared.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Wait until no connection, session or permit is held.
    pub async fn idle(&self) {
        until("returning to zero", || {
            self.metric("brokergate_connections") == 0.0 && self.metric("brokergate_sessions") == 0.0
        })
        .await;
        let pools = &self.shared.snapshot.load().pools;
        let held: usize = pools
            .values()
            .flat_map(|upstream| upstream.pool.endpoints().to_vec())
            .map(|endpoint| endpoint.sessions())
            .sum();
        assert_eq!(held, 0, "endpoint slots still held");
    }

    /// Wait until a session has ended for `reason`.
    pub async fn ended(&self, reason: &str, by: &str) {
        let name = format!("brokergate_sessions_ended_total{{reason=\"{reason}\",by=\"{by}\"}}");
        until(&format!("an ending by {reason}"), || self.metric(&name) > 0.0).await;
    }
}

/// Send `request` as it is, and give all that comes back until the gateway closes.
pub async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("an answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
