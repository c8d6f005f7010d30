//! `brokergate run`: serve until a signal says stop, or a new process has taken over.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tracing::warn;

use super::signals::Signals;
use super::words;
use crate::gateway::Gateway;
use crate::handover::{Inherited, Predecessor, Program};
use crate::reload::Source;
use crate::supervisor::Supervisor;
use crate::telemetry::log;

/// What a reload that still reads files may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) fn run(path: &Path) -> anyhow::Result<()> {
    // First of all: before there are threads, and before the file may be replaced.
    let program = Program::of_this_process().context("this program's own file can't be found")?;
    let systemd = Inherited::of_systemd()?;
    let (predecessor, inherited) = match Predecessor::find()? {
        Some((predecessor, inherited)) => (Some(predecessor), inherited),
        None => (None, systemd),
    };
    let served = serve(path, program, inherited, predecessor.clone());
    if let (Err(error), Some(predecessor)) = (&served, predecessor) {
        predecessor.fail(&words(error));
    }
    served
}

fn serve(
    path: &Path,
    program: Program,
    mut inherited: Inherited,
    predecessor: Option<Predecessor>,
) -> anyhow::Result<()> {
    let (source, config) = Source::read(path);
    let config = config?;
    let _log = log::start(&config.log).context("the log can't begin; look at `log.level`")?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let supervisor = Supervisor::find();
    // Until it has stepped back, the process before is the service.
    supervisor.speak(predecessor.is_none());
    // The workers have runtimes of their own; this one accepts, and serves the admin listener.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let (signals, wishes) = Signals::catch()?;
        let mut gateway = Gateway::bind_or_inherit(config, &mut inherited)?
            .reload_from(source)
            .upgrade_from(program)
            .supervised_by(supervisor);
        for socket in inherited.left() {
            warn!(%socket, "closing a socket that was passed to us: no listener has its address");
        }
        drop(inherited);
        wishes.pass_on(gateway.asker(), gateway.orders());
        if let Some(predecessor) = predecessor {
            gateway = gateway.succeed(predecessor);
        }
        gateway.run(signals.clone().wait(1), signals.wait(2)).await?;
        Ok(())
    });
    // A file system that hangs must not hold the end.
    runtime.shutdown_timeout(LAST_WORDS);
    served
}
