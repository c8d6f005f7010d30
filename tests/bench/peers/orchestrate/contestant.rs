//! Who is compared: what each is called, how it is set up for a scenario, and how it is started.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::place::{Place, Seat};
use super::process::Process;
use super::scenario::Scenario;

/// How long a proxy may take until it accepts connections.
const START: Duration = Duration::from_secs(15);

/// A column of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contestant {
    /// As the report calls it.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// What is started; nothing for [`Kind::Direct`].
    program: PathBuf,
    /// A configuration of one's own instead of ours.
    configuration: Option<String>,
}

/// What a contestant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// WebSocket to the clients and to the brokers.
    Brokergate,
    /// WebSocket to the clients, MQTT on TCP to the brokers.
    BrokergateTcp,
    Nginx,
    HaProxy,
    Caddy,
    Traefik,
    /// No proxy at all: clients talk to a broker, without TLS.
    Direct,
}

impl Kind {
    /// The peers of the report, in its order.
    pub(super) const PEERS: [Self; 4] = [Self::Nginx, Self::HaProxy, Self::Caddy, Self::Traefik];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Brokergate => "brokergate",
            Self::BrokergateTcp => "brokergate-tcp",
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
            Self::Direct => "direct",
        }
    }

    /// Whether it listens before it has its routes and certificates, so that first sessions may fail.
    pub(super) fn listens_early(self) -> bool {
        self == Self::Traefik
    }

    /// Whether it is measured in a round: those whose ratios are close, in each; others in every sixth.
    pub(super) fn takes_part_in(self, round: u32) -> bool {
        let is_other = matches!(self, Self::Caddy | Self::Traefik | Self::Direct);
        !is_other || round.is_multiple_of(6)
    }

    /// The buffers that it has in a scenario, in KiB, where they are chosen: large ones cost memory, small
    /// ones cost time for each byte, so each scenario gets what is better there.
    pub(super) fn buffers(self, scenario: Scenario) -> Option<u32> {
        let is_bulk = matches!(scenario, Scenario::Bulk16 | Scenario::Bulk256);
        let is_memory = matches!(scenario, Scenario::Memory | Scenario::Growth);
        match self {
            Self::Nginx | Self::HaProxy if is_bulk => Some(64),
            // HAProxy's idle sessions hold none.
            Self::Nginx if is_memory => Some(4),
            Self::Nginx | Self::HaProxy => Some(16),
            _ => None,
        }
    }
}

impl Contestant {
    /// One of the peers, or the direct way. `venv` is where PyPI's programs are.
    pub(super) fn peer(kind: Kind, venv: &Path) -> Self {
        let program = match kind {
            Kind::Nginx => PathBuf::from("/usr/sbin/nginx"),
            Kind::HaProxy => PathBuf::from("/usr/sbin/haproxy"),
            Kind::Caddy => venv.join("bin/caddy"),
            Kind::Traefik => venv.join("bin/traefik"),
            Kind::Brokergate | Kind::BrokergateTcp | Kind::Direct => PathBuf::new(),
        };
        Self { name: kind.name().to_owned(), kind, program, configuration: None }
    }

    /// A build of brokergate, in one of its two forms.
    pub(super) fn brokergate(label: &str, program: &Path, kind: Kind) -> Self {
        let suffix = if kind == Kind::BrokergateTcp { "-tcp" } else { "" };
        Self { name: format!("{label}{suffix}"), kind, program: program.to_owned(), configuration: None }
    }

    /// The same program with another configuration, filled in like ours; [`Kind::Traefik`] with other routes.
    pub(super) fn with_configuration(&self, label: &str, configuration: String) -> Self {
        Self { name: label.to_owned(), configuration: Some(configuration), ..self.clone() }
    }

    pub(super) fn is_brokergate(&self) -> bool {
        matches!(self.kind, Kind::Brokergate | Kind::BrokergateTcp)
    }

    /// The program's own word for its version.
    pub(super) fn version(&self) -> Result<String> {
        let (argument, word) = match self.kind {
            Kind::Direct => return Ok(String::new()),
            Kind::Nginx => ("-v", 2),
            Kind::HaProxy => ("-v", 2),
            Kind::Caddy => ("version", 0),
            Kind::Traefik => ("version", 1),
            Kind::Brokergate | Kind::BrokergateTcp => ("--version", 1),
        };
        let output = Command::new(&self.program).arg(argument).output().with_context(|| {
            format!("cannot run {}; tests/bench/install installs the peers", self.program.display())
        })?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let version = text.split_whitespace().nth(word).unwrap_or("?");
        Ok(version.trim_start_matches("nginx/").trim_start_matches('v').to_owned())
    }

    /// Starts it, set up for the scenario, and returns once it accepts connections; nothing for the direct way.
    pub(super) fn start(&self, place: &Place, seat: &Seat, scenario: Scenario) -> Result<Option<Process>> {
        let buffers = self.kind.buffers(scenario);
        let file = |name: &str, template: &str| {
            let template = self.configuration.as_deref().unwrap_or(template);
            seat.write(name, &place.fill(template, seat, self.kind, buffers))
        };
        let arguments: Vec<PathBuf> = match self.kind {
            Kind::Direct => return Ok(None),
            Kind::Brokergate | Kind::BrokergateTcp => {
                vec!["run".into(), "--config".into(), file("brokergate.toml", BROKERGATE)?]
            }
            // The error output, for what goes wrong before the configuration is read.
            Kind::Nginx => vec!["-e".into(), "stderr".into(), "-c".into(), file("nginx.conf", NGINX)?],
            Kind::HaProxy => vec!["-db".into(), "-f".into(), file("haproxy.cfg", HAPROXY)?],
            Kind::Caddy => {
                vec![
                    "run".into(),
                    "--adapter".into(),
                    "caddyfile".into(),
                    "--config".into(),
                    file("Caddyfile", CADDY)?,
                ]
            }
            Kind::Traefik => {
                file("traefik-routes.toml", TRAEFIK_ROUTES)?;
                let main = seat.write("traefik.toml", &place.fill(TRAEFIK, seat, self.kind, buffers))?;
                vec![format!("--configFile={}", main.display()).into()]
            }
        };
        let arguments: Vec<&OsStr> = arguments.iter().map(|argument| argument.as_os_str()).collect();
        let log = seat.folder.join("output.log");
        let mut process = Process::start(&place.cores.proxy, &log, &self.program, &arguments)?;
        accepts(seat.listen, &mut process).with_context(|| format!("{} did not start", self.name))?;
        Ok(Some(process))
    }
}

fn accepts(address: SocketAddr, process: &mut Process) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < START {
        process.check_alive()?;
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    bail!("nobody accepts connections at {address} within {START:?}")
}

const BROKERGATE: &str = include_str!("../../configurations/brokergate.toml");
const NGINX: &str = include_str!("../../configurations/nginx.conf");
const HAPROXY: &str = include_str!("../../configurations/haproxy.cfg");
const CADDY: &str = include_str!("../../configurations/Caddyfile");
const TRAEFIK: &str = include_str!("../../configurations/traefik.toml");
const TRAEFIK_ROUTES: &str = include_str!("../../configurations/traefik-routes.toml");
