//! What a run is asked to do.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use super::certificate::KeyKind;
use super::contestant::{Contestant, Kind};
use super::scenario::Scenario;

/// Measures brokergate beside nginx, HAProxy, Caddy and Traefik under the same load.
#[derive(Debug, Parser)]
#[command(name = "just bench-peers")]
pub(super) struct Options {
    /// Only these: brokergate, brokergate-tcp, nginx, haproxy, caddy, traefik, direct, or a label.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(super) only: Vec<String>,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    pub(super) scenario: Vec<Scenario>,
    /// How often a contestant is measured in a scenario, by turns, Caddy, Traefik and direct a sixth of that. Where
    /// the budget leaves little it is two or four times that, where it leaves much half; memory a sixth, growth once.
    #[arg(long)]
    rounds: Option<u32>,
    /// Of most measurements, twice that where few bursts decide; behind a warm-up of a quarter, and 0.3 at least.
    #[arg(long, default_value_t = 0.5)]
    pub(super) seconds: f64,
    /// brokergate, nginx and HAProxy, three rounds.
    #[arg(long)]
    pub(super) quick: bool,
    /// A build to measure, instead of target/dist/brokergate; several are compared with each other.
    #[arg(long, value_name = "PATH[=LABEL]")]
    brokergate: Vec<String>,
    /// A contestant with a configuration of one's own, beside the one with ours; see tests/bench/configurations.
    #[arg(long, value_name = "NAME=FILE[=LABEL]")]
    configuration: Vec<String>,
    /// Cores of the proxies, as `taskset -c` takes them.
    #[arg(long, default_value = "0", value_name = "CORES")]
    pub(super) proxy_core: String,
    /// Cores of the clients and brokers.
    #[arg(long, default_value = "1", value_name = "CORES")]
    pub(super) load_core: String,
    /// A certificate with an RSA key of 2048 bits, instead of ECDSA P-256.
    #[arg(long)]
    rsa: bool,
    /// Write the results into docs/performance.md and docs/performance/.
    #[arg(long)]
    pub(super) save: bool,
}

impl Options {
    pub(super) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 30 }).max(1)
    }

    pub(super) fn key(&self) -> KeyKind {
        if self.rsa { KeyKind::Rsa } else { KeyKind::Ecdsa }
    }

    pub(super) fn scenarios(&self) -> Vec<Scenario> {
        let wanted = |scenario: &Scenario| self.scenario.is_empty() || self.scenario.contains(scenario);
        Scenario::ALL.into_iter().filter(wanted).collect()
    }

    /// The contestants in the report's order. `root` is the repository's folder, `target` that of the builds.
    pub(super) fn contestants(&self, root: &Path, target: &Path) -> Result<Vec<Contestant>> {
        let venv = root.join("tests/bench/.venv");
        let builds = self.builds(target)?;
        let mut all = Vec::new();
        for kind in [Kind::Brokergate, Kind::BrokergateTcp] {
            all.extend(builds.iter().map(|(label, path)| Contestant::brokergate(label, path, kind)));
        }
        all.extend(Kind::PEERS.into_iter().chain([Kind::Direct]).map(|kind| Contestant::peer(kind, &venv)));
        for argument in &self.configuration {
            let variant = configured(argument, &all)?;
            all.push(variant);
        }
        if let Some(unknown) = self.only.iter().find(|name| all.iter().all(|it| !is_called(it, name))) {
            let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
            bail!("nobody is called {unknown:?}; there are {}", names.join(", "));
        }
        let is_wanted = |it: &Contestant| match self.only.is_empty() {
            false => self.only.iter().any(|name| is_called(it, name)),
            true if self.quick => matches!(it.kind, Kind::Brokergate | Kind::Nginx | Kind::HaProxy),
            // Builds of our own are compared in the one form that the peers have too.
            true => self.brokergate.is_empty() || it.kind != Kind::BrokergateTcp,
        };
        all.retain(is_wanted);
        Ok(all)
    }

    /// Label and path of each build of the gateway.
    fn builds(&self, target: &Path) -> Result<Vec<(String, PathBuf)>> {
        if self.brokergate.is_empty() {
            return Ok(vec![(Kind::Brokergate.name().to_owned(), target.join("dist/brokergate"))]);
        }
        let mut builds: Vec<(String, PathBuf)> = Vec::new();
        for argument in &self.brokergate {
            let (path, label) = argument.rsplit_once('=').unwrap_or((argument, "brokergate"));
            let path = std::path::absolute(path)?;
            ensure!(path.is_file(), "{} is no file", path.display());
            ensure!(
                builds.iter().all(|(other, _)| other != label),
                "two builds are called {label:?}: give each a label"
            );
            builds.push((label.to_owned(), path));
        }
        Ok(builds)
    }
}

/// `nginx=my.conf=mine`; without a label it is called by the file's name.
fn configured(argument: &str, all: &[Contestant]) -> Result<Contestant> {
    let mut parts = argument.splitn(3, '=');
    let (name, file) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let found = all.iter().find(|it| it.name == name && it.kind != Kind::Direct);
    let found =
        found.with_context(|| format!("{argument:?} names nobody; write nginx=FILE or nginx=FILE=LABEL"))?;
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(found.with_configuration(parts.next().unwrap_or(&stem), text))
}

/// `brokergate` and `brokergate-tcp` mean all builds in that form.
fn is_called(contestant: &Contestant, name: &str) -> bool {
    contestant.name == name || contestant.kind.name() == name
}
