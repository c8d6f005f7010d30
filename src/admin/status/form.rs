//! The form of `/status`. Times are RFC 3339 in UTC; compare them with `now`, which is the gateway's clock.
//! Keys are only ever added.

use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When this was said.
    pub now: String,
    /// When the gateway was started.
    pub started: String,
    /// How long ago that is.
    pub uptime_seconds: u64,
    /// `starting`, `ready`, `draining` or `drained`.
    pub stage: String,
    /// Sessions that have not ended, while draining.
    pub left: Option<u64>,
    /// The gateway's drain, while there is one.
    pub drain: Option<Drain>,
    /// Sessions in all.
    pub sessions: Sessions,
    /// What flows, over the last five seconds.
    pub rates: Rates,
    /// What flowed in each second of the last minute, the oldest first.
    pub history: History,
    /// By name.
    pub upstreams: Vec<Upstream>,
    /// Endings that there were, the most frequent of the last minute first.
    pub endings: Vec<Ending>,
    /// The same of rejections.
    pub rejections: Vec<Rejection>,
    /// Certificates in use, the one that ends first first.
    pub certificates: Vec<Certificate>,
    /// The configuration's file.
    pub config: String,
    /// The latest reload; `null` before the first.
    pub reload: Option<Reload>,
    /// The latest upgrade in place; `null` before the first.
    pub upgrade: Option<Upgrade>,
    /// What is probably not wanted about the configuration at work, and what takes a restart.
    pub warnings: Vec<String>,
    /// Connections that hold a permit.
    pub connections: Connections,
    /// What the process takes.
    pub process: Process,
}

/// Sessions in all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// Between their 101 and their ending.
    pub open: u64,
    /// Since the start.
    pub opened: u64,
    /// Since the start.
    pub ended: u64,
}

/// Each is a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// CONNECTs that a broker answered.
    pub connects: f64,
    /// PUBLISH from clients.
    pub publish_up: f64,
    /// PUBLISH from brokers.
    pub publish_down: f64,
    /// Bytes from clients.
    pub bytes_up: f64,
    /// Bytes from brokers.
    pub bytes_down: f64,
}

/// One value for each second, up to 60.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Open sessions.
    pub sessions: Vec<u64>,
    /// CONNECTs that a broker answered.
    pub connects: Vec<f64>,
    /// PUBLISH from clients.
    pub publish_up: Vec<f64>,
    /// PUBLISH from brokers.
    pub publish_down: Vec<f64>,
}

/// One upstream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// How it picks.
    pub balance: String,
    /// Whether `/ready` depends on it.
    pub required: bool,
    /// Whether some endpoint takes sessions.
    pub available: bool,
    /// In the file's order.
    pub endpoints: Vec<Endpoint>,
    /// The rebalance, while one is under way; `left` are those who were not asked yet.
    pub rebalance: Option<Drain>,
}

/// How far goodbyes are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// Sessions that are to be asked.
    pub total: u64,
    /// Those that were.
    pub asked: u64,
    /// Those that are still here.
    pub left: u64,
    /// How long ago it began.
    pub since_seconds: f64,
    /// How soon what is left is cut; 0 once that is over.
    pub deadline_seconds: f64,
    /// `fire` or `suppress`.
    pub will: String,
}

/// Whether an endpoint is picked, and why not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    Up,
    /// Dials failed: not before its time.
    Avoided,
    /// The next session tries it.
    TrialDue,
    /// One session is trying it.
    Trial,
    /// Its probes fail.
    Down,
    /// Its sessions are asked to go, and nobody is sent there.
    Draining,
    /// It has no sessions any more, and nobody is sent there.
    Drained,
    /// A word of a later version.
    #[default]
    #[serde(other)]
    Unknown,
}

impl State {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Avoided => "avoided",
            Self::TrialDue => "trial due",
            Self::Trial => "on trial",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Unknown => "unknown",
        }
    }
}

/// One broker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Whether it is picked.
    pub state: State,
    /// Since when dials or probes speak against it, while they do.
    pub since: Option<String>,
    /// How long it is still avoided, while it is.
    pub avoided_seconds: Option<u64>,
    /// As configured.
    pub weight: u32,
    /// How much of it counts: less than 100 while it starts slowly.
    pub share_percent: u32,
    /// Whether it serves only while no other is up.
    pub backup: bool,
    /// Sessions that it has, and dials under way.
    pub sessions: u64,
    /// Its cap.
    pub max_sessions: Option<u64>,
    /// CONNECTs that it has answered.
    pub opened: u64,
    /// The last probe, where there are any.
    pub probe: Option<LastProbe>,
    /// The last dial that failed, or CONNECT that it did not take.
    pub error: Option<LastError>,
    /// Its drain, while there is one.
    pub drain: Option<Drain>,
}

/// A probe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastProbe {
    /// When it had its result.
    pub at: String,
    /// Its result.
    pub passed: bool,
    /// How long it took.
    pub milliseconds: f64,
    /// Why it did not pass.
    pub error: Option<String>,
}

/// Something that went wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastError {
    /// When.
    pub at: String,
    /// What.
    pub words: String,
}

/// Sessions that ended for one reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ending {
    /// The access log's word.
    pub reason: String,
    /// Whose doing it was.
    pub by: String,
    /// In the last minute.
    pub minute: u64,
    /// Since the start.
    pub total: u64,
}

/// Requests turned away before 101, for one reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rejection {
    /// The access log's word.
    pub reason: String,
    /// In the last minute.
    pub minute: u64,
    /// Since the start.
    pub total: u64,
}

/// A certificate in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// Who shows it: `listener` or `upstream`.
    pub kind: String,
    /// The name of that.
    pub name: String,
    /// The file of its chain.
    pub chain: String,
    /// When it ends.
    pub expires: String,
    /// Whole days until then; below 0 once it has ended.
    pub days_left: i64,
    /// What is wrong with its dates, or soon will be.
    pub complaint: Option<String>,
}

/// A reload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// When it was done.
    pub at: String,
    /// Who asked for it: `sighup`, `admin` or `file_changed`.
    pub cause: String,
    /// Whether its configuration is at work; if not, the one before is.
    pub applied: bool,
    /// Each mistake with its place, as `brokergate check` tells it.
    pub mistakes: Vec<String>,
}

/// The latest upgrade in place, as this process sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upgrade {
    /// When it was done.
    pub at: String,
    /// `took_over` from another process, or `failed`: this one works on.
    pub outcome: String,
    /// The other process.
    pub pid: Option<u32>,
    /// The version of the process before this one.
    pub from_version: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Connections of clients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// There are.
    pub held: u64,
    /// There may be.
    pub limit: u64,
}

/// The process; `null` where the system does not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Resident memory.
    pub memory_bytes: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// How many may be open.
    pub descriptors_limit: Option<u64>,
}
