//! Where a run takes place: its folder, cores, ports and certificate, and how many sessions fit.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::certificate::{Certificate, KeyKind};
use super::contestant::Kind;

/// The first port that is tried; all are below those that the kernel gives to outgoing connections.
const FIRST_PORT: u16 = 21000;
const LAST_PORT: u16 = 31000;
/// Descriptors that a proxy needs beside those of its sessions.
const SPARE_FILES: u64 = 200;
/// More sessions than any scenario wants.
const MOST_SESSIONS: u64 = 51_000;

/// The cores that the two sides are pinned to, as `taskset -c` takes them.
#[derive(Debug, Clone)]
pub(super) struct Cores {
    pub(super) proxy: String,
    pub(super) load: String,
}

/// See above.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    pub(super) cores: Cores,
    pub(super) certificate: Certificate,
    seats: BTreeMap<String, Seat>,
    /// Sessions that a proxy has descriptors for.
    pub(super) most_sessions: u64,
}

/// What one contestant has for itself.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) folder: PathBuf,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    admin: SocketAddr,
    /// Its brokers' WebSocket addresses.
    pub(super) websocket: Vec<SocketAddr>,
    /// Its brokers' MQTT addresses.
    pub(super) tcp: Vec<SocketAddr>,
}

impl Place {
    /// Empties the folder, makes the certificate, and finds free ports for contestants of these names.
    pub(super) fn prepare<'a>(
        folder: &Path,
        cores: Cores,
        key: KeyKind,
        names: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Self> {
        // Absent the first time.
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut ports = free_addresses(names.len() * Seat::PORTS)?.into_iter();
        let mut seats = BTreeMap::new();
        for name in names {
            let seat = Seat::take(folder.join(name), &mut ports).context("too few ports")?;
            fs::create_dir(&seat.folder).with_context(|| format!("cannot make {}", seat.folder.display()))?;
            seats.insert(name.to_owned(), seat);
        }
        Ok(Self {
            folder: folder.to_owned(),
            cores,
            certificate: Certificate::make(folder, key)?,
            seats,
            most_sessions: (most_files()?.saturating_sub(SPARE_FILES) / 2).min(MOST_SESSIONS),
        })
    }

    pub(super) fn seat(&self, name: &str) -> Result<&Seat> {
        self.seats.get(name).with_context(|| format!("{name} has no seat"))
    }

    /// Writes a file for readers.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        write(self.folder.join(name), text)
    }

    /// Fills in what stands between @ signs in a configuration.
    pub(super) fn fill(&self, template: &str, seat: &Seat, kind: Kind, buffers: Option<u32>) -> String {
        let (scheme, path, brokers) = match kind {
            Kind::BrokergateTcp => ("mqtt", "", &seat.tcp),
            _ => ("ws", "/mqtt", &seat.websocket),
        };
        let (one, two) = (self.most_sessions, 2 * self.most_sessions + SPARE_FILES / 2);
        let certificate = &self.certificate;
        let mut text = template
            .replace("@WORK@", &seat.folder.display().to_string())
            .replace("@CHAIN@", &certificate.chain.display().to_string())
            .replace("@KEY@", &certificate.key.display().to_string())
            .replace("@CHAIN_AND_KEY@", &certificate.chain_and_key.display().to_string())
            .replace("@LISTEN@", &seat.listen.to_string())
            .replace("@PORT@", &seat.listen.port().to_string())
            .replace("@ADMIN@", &seat.admin.to_string())
            .replace("@BUFFER@", &(buffers.unwrap_or(0) * 1024).to_string())
            .replace("@SESSIONS@", &one.to_string())
            .replace("@SOCKETS@", &two.to_string())
            .replace("@SLOTS@", &(two + two / 15 + 1).to_string())
            .replace("@SCHEME@", scheme)
            .replace("@PATH@", path);
        for (number, broker) in brokers.iter().enumerate() {
            text = text.replace(&format!("@BROKER_{}@", number + 1), &broker.to_string());
        }
        text
    }
}

impl Seat {
    const PORTS: usize = 8;

    fn take(folder: PathBuf, ports: &mut impl Iterator<Item = SocketAddr>) -> Option<Self> {
        Some(Self {
            folder,
            listen: ports.next()?,
            admin: ports.next()?,
            websocket: vec![ports.next()?, ports.next()?, ports.next()?],
            tcp: vec![ports.next()?, ports.next()?, ports.next()?],
        })
    }

    /// Writes a file for its contestant.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        write(self.folder.join(name), text)
    }
}

fn write(file: PathBuf, text: &str) -> Result<PathBuf> {
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// So many loopback addresses that nobody listens at.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let mut held = Vec::new();
    for port in FIRST_PORT..LAST_PORT {
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if held.len() == count {
            return Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?);
        }
    }
    bail!("fewer than {count} ports are free between {FIRST_PORT} and {LAST_PORT}")
}

/// The hard limit of open files, which all take part raise theirs to.
fn most_files() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/limits")?;
    let line =
        text.lines().find(|line| line.starts_with("Max open files")).context("no limit of open files")?;
    let hard = line.split_whitespace().nth(4).context("no hard limit")?;
    Ok(hard.parse().unwrap_or(u64::MAX))
}

/// Held while a run lasts: two at once would spoil each other's figures.
pub(super) fn lock() -> Result<File> {
    let path = std::env::temp_dir().join("brokergate-bench.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("another bench is running; waiting for its end");
        file.lock()?;
    }
    Ok(file)
}
