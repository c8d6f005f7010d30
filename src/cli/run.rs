//! `brokergate run`: serve until a signal says stop.

use std::path::Path;

use anyhow::Context;
use tracing::warn;

use super::signals::Signals;
use crate::config;
use crate::gateway::Gateway;
use crate::telemetry::log;

pub(super) fn run(path: &Path) -> anyhow::Result<()> {
    let config = config::load(path)?;
    let _log = log::start(&config.log).context("the log can't begin; look at `log.level`")?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    // The workers have runtimes of their own; this one accepts, and serves the admin listener.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::catch()?;
        let gateway = Gateway::bind(config)?;
        gateway.run(signals.clone().wait(1), signals.wait(2)).await?;
        Ok(())
    })
}
