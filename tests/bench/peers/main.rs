//! Compares the gateway with its peers under one load: `peers` runs the comparison, and starts itself as
//! `peers clients` (the load) and `peers broker` (three echoing brokers).

mod broker;
mod clients;
mod orchestrate;

use std::process::ExitCode;

fn main() -> ExitCode {
    // cargo adds `--bench` when it runs us.
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("clients") => clients::main(&arguments.split_off(1)),
        Some("broker") => broker::main(&arguments.split_off(1)),
        _ => orchestrate::main(&arguments),
    }
}
