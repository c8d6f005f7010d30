//! A trial: a fresh broker, a fresh proxy and clients, all pinned; what they say of a measurement, and what
//! /proc says they used for it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::certificate;
use super::contestant::{Contestant, Kind};
use super::job;
use super::place::{Place, Seat};
use super::process::{Dialogue, Process};
use super::scenario::Scenario;
use super::usage::{self, Crew, Usage, Watch};

/// What a step may take beside the seconds that it measures.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at memory that is to come to rest, and in all.
const SETTLING: Duration = Duration::from_millis(300);
const LONGEST_SETTLING: Duration = Duration::from_secs(4);
/// For who listens before it can serve.
const TRYING: Duration = Duration::from_secs(15);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
const TRIED_SESSIONS: u32 = 5;
/// How many addresses clients come from.
const SOURCES: &str = "16";

/// What all trials share.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) place: Place,
    /// Ourselves: `peers clients` and `peers broker` are started from it.
    pub(super) program: PathBuf,
    /// Of most measurements.
    pub(super) seconds: f64,
}

/// One contestant at work. All of it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    stage: &'a Stage,
    seat: &'a Seat,
    pub(super) contestant: &'a Contestant,
    scenario: Scenario,
    clients: Vec<Dialogue>,
    proxy: Option<Process>,
    broker: Dialogue,
    /// What was negotiated with the proxy, such as `TLSv1_3 TLS13_AES_128_GCM_SHA256`.
    pub(super) tls: String,
    /// Of each measurement.
    pub(super) usages: Vec<Usage>,
}

impl Stage {
    /// Starts brokers, proxy and clients.
    pub(super) fn begin<'a>(&'a self, contestant: &'a Contestant, scenario: Scenario) -> Result<Trial<'a>> {
        let seat = self.place.seat(&contestant.name)?;
        // Of direct the broker's own CPU is the figure.
        let broker = self.broker(seat, scenario.is_awake() && contestant.kind != Kind::Direct)?;
        let proxy = contestant.start(&self.place, seat, scenario)?;
        let mut trial = Trial {
            stage: self,
            seat,
            contestant,
            scenario,
            clients: Vec::new(),
            proxy,
            broker,
            tls: String::new(),
            usages: Vec::new(),
        };
        trial.add_clients()?;
        if contestant.kind.listens_early() {
            trial.try_sessions()?;
        }
        Ok(trial)
    }

    fn broker(&self, seat: &Seat, is_awake: bool) -> Result<Dialogue> {
        let list = |addresses: &[SocketAddr]| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let (websocket, tcp) = (list(&seat.websocket), list(&seat.tcp));
        let mut arguments = ["broker", "--ws", &websocket, "--tcp", &tcp].map(OsStr::new).to_vec();
        arguments.extend(is_awake.then_some(OsStr::new("--awake")));
        let log = seat.folder.join("broker.log");
        let mut broker = Dialogue::start(&self.place.cores.load, &log, &self.program, &arguments)?;
        broker.hear("listening", PATIENCE).context("the brokers did not start")?;
        Ok(broker)
    }
}

impl Trial<'_> {
    /// One more process of clients.
    pub(super) fn add_clients(&mut self) -> Result<()> {
        let (place, seat) = (&self.stage.place, self.seat);
        let target = match self.contestant.kind {
            Kind::Direct => format!("ws://{}/mqtt", seat.websocket[0]),
            _ => format!("wss://{}/mqtt", seat.listen),
        };
        let ca = place.certificate.ca.as_os_str();
        let mut arguments = ["clients", "--target", &target, "--sources", SOURCES].map(OsStr::new).to_vec();
        arguments.extend(self.scenario.is_awake().then_some(OsStr::new("--awake")));
        if self.contestant.kind != Kind::Direct {
            arguments.extend([
                OsStr::new("--ca"),
                ca,
                OsStr::new("--server-name"),
                OsStr::new(certificate::NAME),
            ]);
        }
        let log = seat.folder.join(format!("clients-{}.log", self.clients.len()));
        self.clients.push(Dialogue::start(&place.cores.load, &log, &self.stage.program, &arguments)?);
        Ok(())
    }

    /// Opens a session at a time until several in a row have come to be, and closes them.
    fn try_sessions(&mut self) -> Result<()> {
        let start = Instant::now();
        let mut in_a_row = 0;
        while in_a_row < TRIED_SESSIONS {
            ensure!(start.elapsed() < TRYING, "it serves no session within {TRYING:?}");
            let answer = self.clients[0].ask("connect 1 1", "connected", PATIENCE)?;
            in_a_row = if answer["failed"] == 0 { in_a_row + 1 } else { 0 };
            thread::sleep(BETWEEN_TRIES);
        }
        self.ask("close", "closed")
    }

    /// Has the first clients hold so many sessions, and sees whether the proxy does its job for them.
    pub(super) fn connect(&mut self, sessions: u64, at_once: u64) -> Result<()> {
        let answer = self.clients[0].ask(&format!("connect {sessions} {at_once}"), "connected", PATIENCE)?;
        let stats = self.broker.ask("stats", "stats", PATIENCE)?;
        self.tls = job::check(self.contestant.kind, sessions, &answer, &stats)?;
        Ok(())
    }

    /// Gives the first clients a command that measures nothing.
    pub(super) fn ask(&mut self, command: &str, event: &str) -> Result<()> {
        job::check_end(&self.clients[0].ask(command, event, PATIENCE)?)
    }

    /// Tells clients to begin something that lasts, and returns without waiting for it.
    pub(super) fn begin(&mut self, clients: usize, command: &str) -> Result<()> {
        self.clients[clients].ask(command, "measuring", PATIENCE)?;
        Ok(())
    }

    /// Waits for the end of what was begun so.
    pub(super) fn end(&mut self, clients: usize) -> Result<Value> {
        let answer = self.clients[clients].hear("measured", PATIENCE)?;
        job::check_end(&self.clients[clients].hear("idle", PATIENCE)?)?;
        Ok(answer)
    }

    /// Has the first clients measure something after a warm-up; what they say, and what was used.
    pub(super) fn measure(&mut self, command: &str) -> Result<(Value, Usage)> {
        let seconds = self.seconds();
        let warm_up = (seconds / 4.0).clamp(0.3, 1.0);
        let command = format!("{command} warmup={warm_up} seconds={seconds}");
        let within = PATIENCE + Duration::from_secs_f64(seconds);
        let crew = self.crew()?;
        self.clients[0].ask(&command, "measuring", PATIENCE)?;
        let watch = Watch::start(crew)?;
        let answer =
            self.clients[0].hear("measured", within).with_context(|| format!("after {command:?}"))?;
        let usage = watch.stop()?;
        let idle = self.clients[0].hear("idle", PATIENCE)?;
        job::check_end(&idle)?;
        self.usages.push(usage.clone());
        Ok((answer, usage))
    }

    /// How long a measurement takes.
    pub(super) fn seconds(&self) -> f64 {
        self.scenario.seconds(self.stage.seconds)
    }

    /// Time used by who stands between: the proxy, or the broker where there is none.
    pub(super) fn cost(&self, usage: &Usage) -> Duration {
        if self.contestant.kind == Kind::Direct { usage.broker } else { usage.proxy }
    }

    /// The proxy's memory in bytes, once it hardly changes: allocators give back late.
    pub(super) fn settled_memory(&self) -> Result<u64> {
        let start = Instant::now();
        let mut last = self.memory()?;
        loop {
            thread::sleep(SETTLING);
            let now = self.memory()?;
            if now.abs_diff(last) * 1000 < last || start.elapsed() > LONGEST_SETTLING {
                return Ok(now);
            }
            last = now;
        }
    }

    /// How many sessions the place has descriptors for.
    pub(super) fn most_sessions(&self) -> u64 {
        self.stage.place.most_sessions
    }

    /// The proxy's memory in bytes.
    fn memory(&self) -> Result<u64> {
        self.proxy.as_ref().map_or(Ok(0), |proxy| usage::memory(proxy.group()))
    }

    fn crew(&self) -> Result<Crew> {
        let clients: Vec<u32> = self.clients.iter().map(Dialogue::group).collect();
        Crew::of(self.proxy.as_ref().map(Process::group), self.broker.group(), &clients)
    }
}
