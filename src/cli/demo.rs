//! `brokergate demo`: everything in one process, and a page that shows it.

use std::path::Path;

use super::print;
use super::signals::Signals;
use crate::config::{self, Log, LogFormat};
use crate::demo::{Demo, Presence, PresenceBoard, free_port};
use crate::gateway::Gateway;
use crate::proxy::SessionEvent;
use crate::telemetry::log;

/// Warnings, of ourselves; the broker inside is left to itself.
const LEVEL: &str = "off,brokergate=warn";

pub(super) fn run(wanted: u16) -> anyhow::Result<()> {
    let _log = log::start(&Log { format: LogFormat::Text, level: LEVEL.into(), access: false })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::catch()?;
        let port = free_port(wanted)?;
        if port != wanted {
            print(&format_args!("Port {wanted} is taken by another process; the demo uses {port}.\n"));
        }
        let demo = Demo::prepare(port).await?;
        let config = config::parse(Path::new("demo.toml"), &demo.configuration(), &|_| None)?;
        let gateway = Gateway::bind(config)?;
        let board = demo.presence();
        gateway.shared().observe(move |event| record(&board, event));
        print(&demo.banner());
        gateway.run(signals.clone().wait(1), signals.wait(2)).await?;
        Ok(())
    })
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
