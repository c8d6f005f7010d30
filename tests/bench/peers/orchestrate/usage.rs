//! What a group of processes uses, read from /proc: time on a core and memory; and how busy the cores are.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The time that processes have spent on a core, in user and system mode.
///
/// It is `/proc/PID/task/*/schedstat`, in nanoseconds. `/proc/PID/stat` tells the same clock in steps of 10 ms.
fn cpu(processes: &[u32]) -> Duration {
    let mut nanoseconds: u64 = 0;
    for process in processes {
        // It may have ended, and so may a thread.
        let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for task in tasks.flatten() {
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanoseconds)
}

/// The memory of the processes of a group, in bytes: PSS, in which shared pages count once in all.
pub(super) fn memory(group: u32) -> Result<u64> {
    let mut kib = 0;
    for process in processes(group)? {
        let file = format!("/proc/{process}/smaps_rollup");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss line")?;
        kib += pss.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(kib * 1024)
}

/// The processes of a group: all that its leader started, for none of ours founds a group of its own.
fn processes(group: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // `PID (name) state ppid pgrp …`, and a name may hold anything.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        if rest.split(' ').nth(2).and_then(|it| it.parse::<u32>().ok()) == Some(group) {
            found.push(process);
        }
    }
    Ok(found)
}

/// How busy the machine's cores were until a moment, in all and stolen by the host.
#[derive(Debug, Clone)]
struct Cores {
    at: Instant,
    busy: Vec<u64>,
    stolen: Vec<u64>,
}

/// `/proc/stat` counts in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

impl Cores {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let mut cores = Self { at: Instant::now(), busy: Vec::new(), stolen: Vec::new() };
        for line in text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")) {
            let ticks: Vec<u64> = line.split(' ').skip(1).filter_map(|tick| tick.parse().ok()).collect();
            // user nice system idle iowait irq softirq steal
            let stolen = ticks.get(7).copied().unwrap_or(0);
            cores.busy.push(ticks.iter().take(7).sum::<u64>() - ticks.iter().skip(3).take(2).sum::<u64>());
            cores.stolen.push(stolen);
        }
        Ok(cores)
    }
}

/// The processes that take part in a measurement.
#[derive(Debug, Clone)]
pub(super) struct Crew {
    proxy: Vec<u32>,
    broker: Vec<u32>,
    clients: Vec<u32>,
}

impl Crew {
    /// All of these groups.
    pub(super) fn of(proxy: Option<u32>, broker: u32, clients: &[u32]) -> Result<Self> {
        let clients = clients.iter().map(|group| processes(*group)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            proxy: proxy.map_or(Ok(Vec::new()), processes)?,
            broker: processes(broker)?,
            clients: clients.concat(),
        })
    }

    fn used(&self) -> (Duration, Duration, Duration) {
        (cpu(&self.proxy), cpu(&self.broker), cpu(&self.clients))
    }
}

/// A measurement under way.
#[derive(Debug)]
pub(super) struct Watch {
    crew: Crew,
    cores: Cores,
    used: (Duration, Duration, Duration),
}

/// What was used between two moments.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub(super) proxy: Duration,
    pub(super) broker: Duration,
    pub(super) clients: Duration,
    pub(super) elapsed: Duration,
    /// Cores' worth of time that went to none of the three.
    pub(super) others: f64,
    /// Cores' worth of time that the host took away.
    pub(super) stolen: f64,
}

impl Watch {
    pub(super) fn start(crew: Crew) -> Result<Self> {
        Ok(Self { used: crew.used(), cores: Cores::now()?, crew })
    }

    pub(super) fn stop(self) -> Result<Usage> {
        let ((proxy, broker, clients), before) = (self.crew.used(), self.used);
        let cores = Cores::now()?;
        let elapsed = cores.at - self.cores.at;
        let share = |now: &[u64], then: &[u64]| -> f64 {
            let ticks: u64 = now.iter().zip(then).map(|(now, then)| now.saturating_sub(*then)).sum();
            ticks as f64 * TICK.as_secs_f64() / elapsed.as_secs_f64()
        };
        let (proxy, broker) = (proxy.saturating_sub(before.0), broker.saturating_sub(before.1));
        let clients = clients.saturating_sub(before.2);
        let ours = (proxy + broker + clients).as_secs_f64() / elapsed.as_secs_f64();
        let others = (share(&cores.busy, &self.cores.busy) - ours).max(0.0);
        Ok(Usage {
            proxy,
            broker,
            clients,
            elapsed,
            others,
            stolen: share(&cores.stolen, &self.cores.stolen),
        })
    }
}
