//! What is measured, in the report's order, and what the gateway may cost: the budget.

use super::contestant::Kind;

/// What a row of the report is about. Of all figures less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    Process,
    MemoryConnected,
    MemoryPinged,
    MemoryBurst,
    EverydayCpu,
    EverydayP50,
    EverydayP99,
    EverydayP999,
    LoadCpu,
    Bulk16Cpu,
    Bulk256Cpu,
    FanOutCpu,
    FullCpu,
    ResumedCpu,
    StormP50,
    StormP99,
    HeldTotal,
    HeldMemory,
    HeldCpu,
}

/// A figure, and how many sessions are held where that is part of it; else 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) figure: Figure,
    pub(super) held: u64,
}

impl From<Figure> for Row {
    fn from(figure: Figure) -> Self {
        Self { figure, held: 0 }
    }
}

impl Row {
    /// As the JSON calls it.
    pub(super) fn key(self) -> String {
        let (key, _, _) = self.figure.words();
        if self.held == 0 { key.to_owned() } else { format!("{key}@{}", self.held) }
    }

    /// As the report calls it, with its unit.
    pub(super) fn title(self) -> String {
        let (_, title, unit) = self.figure.words();
        if self.held == 0 { format!("{title}, {unit}") } else { format!("{} {title}, {unit}", self.held) }
    }
}

impl Figure {
    /// Key, title, unit.
    pub(super) fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Process => ("process", "process before load", "MiB"),
            Self::MemoryConnected => ("memory.connected", "1000 idle sessions: memory of each", "KiB"),
            Self::MemoryPinged => ("memory.pinged", "… after a ping each", "KiB"),
            Self::MemoryBurst => ("memory.burst", "… after a message of 20 KiB each", "KiB"),
            Self::EverydayCpu => ("everyday.cpu", "200 sessions, 5000 msg/s, 128 B: CPU a message", "µs"),
            Self::EverydayP50 => ("everyday.p50", "… round trip p50", "µs"),
            Self::EverydayP99 => ("everyday.p99", "… p99", "µs"),
            Self::EverydayP999 => ("everyday.p999", "… p99.9", "µs"),
            Self::LoadCpu => ("load.cpu", "64 sessions × 8 outstanding, 128 B: CPU a message", "µs"),
            Self::Bulk16Cpu => ("bulk16.cpu", "16 × 4 outstanding, 16 KiB: CPU a byte", "ns"),
            Self::Bulk256Cpu => ("bulk256.cpu", "8 × 2 outstanding, 256 KiB: CPU a byte", "ns"),
            Self::FanOutCpu => ("fan-out.cpu", "500 subscribers, 10/s each, 128 B: CPU a message", "µs"),
            Self::FullCpu => ("full.cpu", "connect, full handshake: CPU", "ms"),
            Self::ResumedCpu => ("resumed.cpu", "connect, resumed: CPU", "ms"),
            Self::StormP50 => ("storm.p50", "traffic beside a storm of connects: p50", "µs"),
            Self::StormP99 => ("storm.p99", "… p99", "µs"),
            Self::HeldTotal => ("held.total", "sessions held: memory of the process", "MiB"),
            Self::HeldMemory => ("held.memory", "sessions held: memory of each since the step before", "KiB"),
            Self::HeldCpu => ("held.cpu", "sessions held, 5000 msg/s over 100 of them: CPU a message", "µs"),
        }
    }

    /// What it may be for the gateway, if that is laid down.
    pub(super) fn budget(self) -> Option<Budget> {
        let classic = |must, aim| Some(Budget { against: &[Kind::Nginx, Kind::HaProxy], must, aim });
        let all = |must, aim| Some(Budget { against: &Kind::PEERS, must, aim });
        match self {
            Self::MemoryConnected => classic(Bound { ratio: Some(0.5), most: Some(10.0) }, Bound::most(7.0)),
            Self::EverydayCpu => classic(Bound::ratio(0.9), Bound::ratio(0.8)),
            Self::EverydayP50 => classic(Bound::ratio(0.9), Bound::ratio(0.7)),
            Self::LoadCpu => classic(Bound::ratio(0.85), Bound::ratio(0.75)),
            Self::Bulk16Cpu | Self::Bulk256Cpu => all(Bound::ratio(0.95), Bound::ratio(0.8)),
            Self::FanOutCpu => classic(Bound::ratio(0.75), Bound::ratio(0.65)),
            Self::FullCpu | Self::ResumedCpu => classic(Bound::ratio(0.6), Bound::ratio(0.5)),
            _ => None,
        }
    }
}

/// What a figure of the gateway may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// The peers of whom the best is the measure.
    pub(super) against: &'static [Kind],
    pub(super) must: Bound,
    pub(super) aim: Bound,
}

/// A ratio to the best peer, a bound in the figure's unit, or both at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    ratio: Option<f64>,
    most: Option<f64>,
}

impl Bound {
    pub(super) const fn ratio(ratio: f64) -> Self {
        Self { ratio: Some(ratio), most: None }
    }

    const fn most(most: f64) -> Self {
        Self { ratio: None, most: Some(most) }
    }

    pub(super) fn holds(self, value: f64, ratio: f64) -> bool {
        self.ratio.is_none_or(|most| ratio <= most) && self.most.is_none_or(|most| value <= most)
    }

    /// Such as `0.5 ×, ≤ 10 KiB`.
    pub(super) fn words(self, unit: &str) -> String {
        let ratio = self.ratio.map(|ratio| format!("{ratio} ×"));
        let most = self.most.map(|most| format!("≤ {most} {unit}"));
        ratio.into_iter().chain(most).collect::<Vec<_>>().join(", ")
    }
}

/// Our own TCP form may cost so much, as a ratio to our WebSocket form, in every figure of the budget.
pub(super) const TCP_FORM: (f64, f64) = (1.1, 1.0);
/// With the most sessions held, a message and a session may cost so much, as a ratio to the fewest: flat, as
/// far as a measurement tells.
pub(super) const GROWTH: (f64, f64) = (1.15, 1.05);
