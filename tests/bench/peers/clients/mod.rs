//! The load: MQTT sessions over WebSocket, with or without TLS, from one thread, driven by commands.
//!
//! `peers clients --target wss://127.0.0.1:8443/mqtt --ca ca.pem --server-name gateway.test` reads commands,
//! one a line, and answers in JSON, one line an event. Against `peers broker` directly it is its own check:
//! `printf 'connect 64\nround-trips outstanding=8 seconds=5\n' | peers clients --target ws://127.0.0.1:9001/mqtt`

mod churn;
mod each;
mod failure;
mod fan_out;
mod fleet;
mod hold;
mod meter;
mod order;
mod phases;
mod round_trips;
mod session;
mod talk;
mod target;
mod tickets;
mod tls;
mod verifier;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::broker::{say, wire};
use churn::Churn;
use each::{Burst, Ping};
use failure::Failure;
use fan_out::FanOut;
use fleet::Fleet;
use order::Order;
use round_trips::RoundTrips;
use target::Target;

/// MQTT clients for the benchmark: commands on standard input, JSON lines on standard output.
#[derive(Debug, Parser)]
#[command(name = "peers clients", after_help = COMMANDS)]
struct Arguments {
    /// ws://ADDRESS:PORT/PATH or wss://ADDRESS:PORT/PATH.
    #[arg(long)]
    target: String,
    /// The authority to trust, PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The name in certificate and Host; by default the target's address.
    #[arg(long)]
    server_name: Option<String>,
    /// Come from 127.0.0.2 and on, so many addresses in rotation (0: whatever the kernel takes).
    #[arg(long, default_value_t = 16)]
    sources: u8,
    /// Look for messages instead of sleeping until one comes.
    #[arg(long)]
    awake: bool,
}

const COMMANDS: &str = "\
Commands, one a line (warmup= is 1, size= 128 bytes of payload where it is left out):
  connect N [CONCURRENCY]     hold N sessions; opens so many at once (64)
  round-trips [connections=C] [outstanding=K] [rate=R] [size=S] [warmup=W] seconds=T
                              the first C sessions send and await echoes: K under way on each (1), or R a
                              second in all, on a schedule that does not wait for late ones
  talk fraction=F …           the same on a part of all sessions, evenly spread
  fan-out [connections=C] [interval_ms=100] [size=S] [warmup=W] seconds=T
                              the first C sessions subscribe; the broker sends to all at once
  ping [concurrency=K]        PINGREQ and PINGRESP on every session, so many at once (64)
  burst [size=S] [concurrency=K]
                              one echo on every session
  churn [concurrency=K] [rate=R] [resumed=false] [warmup=W] seconds=T
                              connect, CONNECT, CONNACK, DISCONNECT, close: K at once (8), or R a second
  close                       DISCONNECT and close all
Measurements print `measuring`, `measured` and, when nothing is under way any more, `idle`.";

/// Runs the role with the arguments behind its name.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let name = "peers clients".to_owned();
    let arguments = Arguments::parse_from(std::iter::once(&name).chain(arguments));
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    wire::check().map_err(Failure::new)?;
    let Arguments { target, ca, server_name, sources, awake } = arguments;
    let target = Target::parse(target, ca.as_deref(), server_name.as_deref(), *sources)?;
    let mut fleet = Fleet::new(target, *awake)?;
    while !fleet.input.is_over() {
        // Between commands sessions answer pings and notice their end.
        for at in 0..fleet.wait(None)? {
            fleet.turn(at)?;
        }
        while let Some(line) = fleet.input.line() {
            if let Err(failure) = obey(&mut fleet, &line) {
                tell(&failure);
            }
        }
    }
    Ok(())
}

fn tell(failure: &Failure) {
    say(&json!({ "event": "error", "message": failure.to_string() }));
}

fn obey(fleet: &mut Fleet, line: &str) -> Result<(), Failure> {
    let mut order = Order::parse(line);
    match order.word.as_str() {
        "connect" => {
            let count = order.bare("the number of sessions")?.ok_or(Failure::new("connect: how many?"))?;
            let concurrency = order.bare("the concurrency")?.unwrap_or(64);
            order.end()?;
            say(&hold::connect(fleet, count, concurrency.max(1))?);
        }
        "round-trips" | "talk" => {
            let round_trips = RoundTrips::parse(&mut order, fleet)?;
            order.end()?;
            round_trips.run(fleet)?;
        }
        "fan-out" => {
            let fan_out = FanOut::parse(&mut order, fleet)?;
            order.end()?;
            fan_out.run(fleet)?;
        }
        "ping" => {
            let concurrency = order.pair("concurrency")?.unwrap_or(64).max(1);
            order.end()?;
            let held = fleet.held();
            say(&each::each(fleet, &held, concurrency, &Ping, "pinged")?);
        }
        "burst" => {
            let concurrency = order.pair("concurrency")?.unwrap_or(64).max(1);
            fleet.size = round_trips::size(&mut order)?;
            order.end()?;
            let held = fleet.held();
            say(&each::each(fleet, &held, concurrency, &Burst(fleet.size), "bursted")?);
        }
        "churn" => {
            let churn = Churn::parse(&mut order)?;
            order.end()?;
            churn.run(fleet)?;
        }
        "close" => {
            order.end()?;
            let held = fleet.held();
            say(&hold::close(fleet, &held)?);
        }
        "" => {}
        other => return Err(Failure::new(format!("`{other}` is no command; see --help"))),
    }
    Ok(())
}
