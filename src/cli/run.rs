//! `brokergate run`: serve until a signal says stop.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tracing::warn;

use super::signals::Signals;
use crate::gateway::Gateway;
use crate::reload::Source;
use crate::telemetry::log;

/// What a reload that still reads files may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) fn run(path: &Path) -> anyhow::Result<()> {
    let (source, config) = Source::read(path);
    let config = config?;
    let _log = log::start(&config.log).context("the log can't begin; look at `log.level`")?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    // The workers have runtimes of their own; this one accepts, and serves the admin listener.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let (signals, hangups) = Signals::catch()?;
        let gateway = Gateway::bind(config)?.reload_from(source);
        hangups.reload(gateway.asker());
        gateway.run(signals.clone().wait(1), signals.wait(2)).await?;
        Ok(())
    });
    // A file system that hangs must not hold the end.
    runtime.shutdown_timeout(LAST_WORDS);
    served
}
