//! `brokergate demo`: everything in one process, and a page that shows it.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use super::signals::Signals;
use crate::config::{self, Log, LogFormat};
use crate::demo::{Demo, Presence, PresenceBoard, free_port};
use crate::gateway::{Gateway, StartError};
use crate::proxy::SessionEvent;
use crate::telemetry::log;

/// Warnings, of ourselves; the broker inside is left to itself.
const LEVEL: &str = "off,brokergate=warn";

pub(super) fn run(wanted: u16) -> anyhow::Result<()> {
    let _log = log::start(&Log { format: LogFormat::Text, level: LEVEL.into(), access: false })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (signals, wishes) = Signals::catch()?;
        let (demo, gateway) = prepare(wanted).await?;
        wishes.pass_on(gateway.asker(), gateway.orders());
        let board = demo.presence();
        gateway.shared().observe(move |event| record(&board, event));
        print(&demo.banner());
        gateway.run(signals.clone().wait(1), signals.wait(2)).await?;
        Ok(())
    })
}

/// The demo and its gateway on the wanted port, or on the next that is free.
async fn prepare(wanted: u16) -> anyhow::Result<(Demo, Gateway)> {
    let mut port = free_port(wanted)?;
    loop {
        let demo = Demo::prepare(port).await?;
        let config = config::parse(Path::new("demo.toml"), &demo.configuration(), &|_| None)?;
        match Gateway::bind(config) {
            Ok(gateway) => {
                if port != wanted {
                    print(&format_args!(
                        "Port {wanted} is taken by another process; the demo uses {port}.\n"
                    ));
                }
                return Ok((demo, gateway));
            }
            // Somebody was quicker.
            Err(StartError::Bind(error)) if error.address_in_use().is_some() => {
                port = free_port(port.saturating_add(1))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// To standard output, whoever still reads it.
fn print(text: &dyn Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn record(board: &PresenceBoard, event: &SessionEvent<'_>) {
    board.record(Presence {
        opened: event.opened,
        client_id: event.client_id.to_owned(),
        client: event.client,
        endpoint: event.endpoint.to_owned(),
        protocol: event.protocol,
    });
}
