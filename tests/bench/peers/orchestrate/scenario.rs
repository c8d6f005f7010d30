//! What is done to a contestant, and which figures that gives.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::contestant::Kind;
use super::figure::Figure;
use super::results::Sample;
use super::stage::Trial;

/// What is measured together. See [`Scenario::measure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scenario {
    Memory,
    Everyday,
    Load,
    Bulk16,
    Bulk256,
    FanOut,
    Full,
    Resumed,
    Storm,
    Growth,
}

/// Sessions of the memory scenario.
const IDLE: u64 = 1000;
/// Sessions before those whose memory is measured.
const FIRST: u64 = 8;
/// Sessions held in the growth scenario, as far as descriptors allow.
const HELD: [u64; 5] = [100, 1000, 5000, 10_000, 50_000];
/// Sessions that carry the traffic there, and how often it is measured at each step.
const ACTIVE: u64 = 100;
const TALKS: u32 = 5;
/// How often the gateway's fewest and most are held against each other, and how often each is measured then.
const TURNS: u32 = 8;
const TALKS_A_TURN: u32 = 3;
/// Handshakes at once while sessions are opened for a scenario.
const ARRIVING: u64 = 32;
/// Handshakes at once where they are what is measured.
const CHURN: u64 = 16;
/// Connects a second beside traffic, and for how many seconds more than the traffic is measured.
const STORM: u64 = 200;
const STORM_LONGER: f64 = 1.2;

impl Scenario {
    pub(super) const ALL: [Self; 10] = [
        Self::Everyday,
        Self::Load,
        Self::Bulk16,
        Self::Bulk256,
        Self::FanOut,
        Self::Full,
        Self::Resumed,
        Self::Storm,
        Self::Memory,
        Self::Growth,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Everyday => "everyday",
            Self::Load => "load",
            Self::Bulk16 => "bulk16",
            Self::Bulk256 => "bulk256",
            Self::FanOut => "fan-out",
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Storm => "storm",
            Self::Growth => "growth",
        }
    }

    /// Whether a contestant must be alone: memory that others share would count in part, and many sessions
    /// take long to open. All others are at work side by side, and measured by turns.
    pub(super) fn is_alone(self) -> bool {
        matches!(self, Self::Memory | Self::Growth)
    }

    /// Where there is no proxy, there is nothing of a proxy to measure.
    pub(super) fn concerns(self, kind: Kind) -> bool {
        match kind {
            Kind::Direct => {
                matches!(self, Self::Everyday | Self::Load | Self::Bulk16 | Self::Bulk256 | Self::FanOut)
            }
            _ => true,
        }
    }

    /// Whether clients and brokers stay awake between messages: where latency is a figure, to wake their core would
    /// be most of it.
    pub(super) fn is_awake(self) -> bool {
        matches!(self, Self::Everyday | Self::Storm)
    }

    /// How many rounds, where most have so many: more where the budget leaves little, fewer where it leaves much or
    /// each takes long.
    pub(super) fn rounds(self, most_have: u32) -> u32 {
        match self {
            Self::FanOut => 4 * most_have,
            Self::Everyday | Self::Load | Self::Bulk256 => 2 * most_have,
            Self::Storm => most_have.div_ceil(2),
            Self::Memory => most_have.div_ceil(6),
            Self::Growth => 1,
            _ => most_have,
        }
    }

    /// How often all contestants are started anew between rounds: what large messages cost depends on where a process
    /// happens to have its memory, and stays so.
    pub(super) fn starts(self) -> u32 {
        if self == Self::Bulk256 { 6 } else { 1 }
    }

    /// How long a measurement takes, in seconds, where most take so long: longer where a few bursts, or where large
    /// messages happen to wait, decide what it gives.
    pub(super) fn seconds(self, most_take: f64) -> f64 {
        match self {
            Self::Bulk256 | Self::FanOut => 2.0 * most_take,
            _ => most_take,
        }
    }

    /// Opens the sessions that all turns use.
    pub(super) fn open(self, trial: &mut Trial<'_>) -> Result<()> {
        let sessions = match self {
            Self::Everyday | Self::Storm => 200,
            Self::Load => 64,
            Self::Bulk16 => 16,
            Self::Bulk256 => 8,
            Self::FanOut => 500,
            Self::Full | Self::Resumed => 1,
            Self::Memory | Self::Growth => return Ok(()),
        };
        trial.connect(sessions, ARRIVING)?;
        if self == Self::Storm { trial.add_clients() } else { Ok(()) }
    }

    /// Measures once.
    pub(super) fn measure(self, trial: &mut Trial<'_>) -> Result<Vec<Sample>> {
        match self {
            Self::Everyday => everyday(trial),
            Self::Load => round_trips(trial, Figure::LoadCpu, "outstanding=8 size=128"),
            Self::Bulk16 => round_trips(trial, Figure::Bulk16Cpu, "outstanding=4 size=16384"),
            Self::Bulk256 => round_trips(trial, Figure::Bulk256Cpu, "outstanding=2 size=262144"),
            Self::FanOut => fan_out(trial),
            Self::Full => connects(trial, Figure::FullCpu, false),
            Self::Resumed => connects(trial, Figure::ResumedCpu, true),
            Self::Storm => storm(trial),
            Self::Memory => memory(trial),
            Self::Growth => growth(trial),
        }
    }
}

/// A rate that leaves the proxy's core time to sleep.
fn everyday(trial: &mut Trial<'_>) -> Result<Vec<Sample>> {
    let (said, usage) = trial.measure("round-trips rate=5000 size=128")?;
    Ok(vec![
        Sample::new(Figure::EverydayCpu, each(trial.cost(&usage), &said, "messages", MICROSECOND)?),
        Sample::new(Figure::EverydayP50, number(&said, "p50_us")?),
        Sample::new(Figure::EverydayP99, number(&said, "p99_us")?),
        Sample::new(Figure::EverydayP999, number(&said, "p999_us")?),
    ])
}

/// As many messages as go. Of small ones each counts, of large ones each byte, there and back.
fn round_trips(trial: &mut Trial<'_>, figure: Figure, how: &str) -> Result<Vec<Sample>> {
    let (said, usage) = trial.measure(&format!("round-trips {how}"))?;
    let (what, unit) = match figure {
        Figure::LoadCpu => ("messages", MICROSECOND),
        _ => ("bytes", NANOSECOND),
    };
    Ok(vec![Sample::new(figure, each(trial.cost(&usage), &said, what, unit)?)])
}

/// The brokers speak, the clients listen.
fn fan_out(trial: &mut Trial<'_>) -> Result<Vec<Sample>> {
    let (said, usage) = trial.measure("fan-out interval_ms=100 size=128")?;
    Ok(vec![Sample::new(Figure::FanOutCpu, each(trial.cost(&usage), &said, "messages", MICROSECOND)?)])
}

/// Sessions that come, say CONNECT, and go.
fn connects(trial: &mut Trial<'_>, figure: Figure, are_resumed: bool) -> Result<Vec<Sample>> {
    let command = format!("churn concurrency={CHURN} resumed={are_resumed}");
    let (said, usage) = trial.measure(&command)?;
    let (all, resumed, anew) =
        (number(&said, "connects")?, number(&said, "resumed")?, number(&said, "anew")?);
    let is_so = if are_resumed { anew <= 0.01 * all } else { resumed == 0.0 };
    ensure!(is_so, "of {all} TLS sessions {resumed} were resumed, {anew} might have been and were not");
    Ok(vec![Sample::new(figure, each(trial.cost(&usage), &said, "connects", MILLISECOND)?)])
}

/// The everyday traffic, less of it, while others come and go.
fn storm(trial: &mut Trial<'_>) -> Result<Vec<Sample>> {
    let seconds = trial.seconds() + STORM_LONGER;
    trial.begin(1, &format!("churn rate={STORM} warmup=0 seconds={seconds}"))?;
    let (said, _) = trial.measure("round-trips rate=2000 size=128")?;
    trial.end(1)?;
    Ok(vec![
        Sample::new(Figure::StormP50, number(&said, "p50_us")?),
        Sample::new(Figure::StormP99, number(&said, "p99_us")?),
    ])
}

/// What a session that does nothing holds.
fn memory(trial: &mut Trial<'_>) -> Result<Vec<Sample>> {
    let before = trial.settled_memory()?;
    let warm = warmed_up(trial)?;
    let kib_each = |after: u64| after.saturating_sub(warm) as f64 / KIB / IDLE as f64;
    trial.connect(IDLE, ARRIVING)?;
    let connected = trial.settled_memory()?;
    trial.ask("ping", "pinged")?;
    let pinged = trial.settled_memory()?;
    trial.ask("burst size=20480", "bursted")?;
    let burst = trial.settled_memory()?;
    Ok(vec![
        Sample::new(Figure::Process, before as f64 / MIB),
        Sample::new(Figure::MemoryConnected, kib_each(connected)),
        Sample::new(Figure::MemoryPinged, kib_each(pinged)),
        Sample::new(Figure::MemoryBurst, kib_each(burst)),
    ])
}

/// The memory of a process that has served a few sessions: the first ones bring in the code that they run.
fn warmed_up(trial: &mut Trial<'_>) -> Result<u64> {
    trial.connect(FIRST, FIRST)?;
    trial.ask("ping", "pinged")?;
    trial.ask("close", "closed")?;
    trial.settled_memory()
}

/// The same traffic over the same number of sessions, while ever more are held.
fn growth(trial: &mut Trial<'_>) -> Result<Vec<Sample>> {
    let most = trial.most_sessions() / 500 * 500;
    let (mut held, mut memory) = (0, 0.0);
    let mut samples = Vec::new();
    for target in HELD.map(|target| target.min(most)) {
        if target == held {
            break;
        }
        trial.connect(target, ARRIVING)?;
        let now = trial.settled_memory()? as f64;
        samples.push(Sample::held(Figure::HeldTotal, target, now / MIB));
        // The first step bears what any sessions bring with them.
        if held > 0 {
            let each = (now - memory) / KIB / (target - held) as f64;
            samples.push(Sample::held(Figure::HeldMemory, target, each));
        }
        (held, memory) = (target, now);
        talk(trial, held, TALKS, &mut samples)?;
    }
    // Between the first step and the last the machine's pace may have drifted. The budget asks of the gateway alone
    // whether it is flat.
    let turns = if trial.contestant.kind == Kind::Brokergate { TURNS } else { 0 };
    for _ in 0..turns {
        for target in [HELD[0], held] {
            trial.ask("close", "closed")?;
            trial.connect(target, ARRIVING)?;
            talk(trial, target, TALKS_A_TURN, &mut samples)?;
        }
    }
    Ok(samples)
}

/// What a message costs while so many sessions are held.
fn talk(trial: &mut Trial<'_>, held: u64, times: u32, samples: &mut Vec<Sample>) -> Result<()> {
    let command = format!("talk fraction={} rate=5000 size=128", ACTIVE as f64 / held as f64);
    for _ in 0..times {
        let (said, usage) = trial.measure(&command)?;
        let each = each(trial.cost(&usage), &said, "messages", MICROSECOND)?;
        samples.push(Sample::held(Figure::HeldCpu, held, each));
    }
    Ok(())
}

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
const MILLISECOND: f64 = 1e-3;
const MICROSECOND: f64 = 1e-6;
const NANOSECOND: f64 = 1e-9;

/// Time for each of what the clients counted, in the unit (in seconds).
fn each(cost: Duration, said: &Value, what: &str, unit: f64) -> Result<f64> {
    let count = number(said, what)?;
    ensure!(count > 0.0, "no {what} at all");
    Ok(cost.as_secs_f64() / count / unit)
}

fn number(said: &Value, key: &str) -> Result<f64> {
    said[key].as_f64().with_context(|| format!("the clients do not say {key}: {said}"))
}
