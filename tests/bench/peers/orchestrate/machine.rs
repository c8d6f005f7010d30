//! A sentence on the machine, the programs and the way it was measured.

use std::fs;
use std::time::SystemTime;

use anyhow::Result;

use super::certificate::KeyKind;
use super::contestant::{Contestant, Kind};
use super::place::Place;

/// Processor, kernel, pinning, versions.
pub(super) fn words(place: &Place, contestants: &[Contestant], key: KeyKind, rounds: u32) -> Result<String> {
    let processor = first("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut versions = Vec::new();
    for contestant in contestants.iter().filter(|it| !matches!(it.kind, Kind::Direct | Kind::BrokergateTcp)) {
        versions.push(format!("{} {}", contestant.name, contestant.version()?));
    }
    let today = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let today = today.split('T').next().unwrap_or_default();
    Ok(format!(
        "{today}: {processor}, {cores} cores, Linux {}; proxy on core {}, clients and brokers on core {}; up to {} sessions; \
         {} certificate; rounds: {rounds}. {}.",
        kernel.trim(),
        place.cores.proxy,
        place.cores.load,
        place.most_sessions,
        key.words(),
        versions.join(", "),
    ))
}

fn first(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
