//! `brokergate completions SHELL`.

use std::io;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::Arguments;

pub(super) fn run(shell: Shell) -> anyhow::Result<()> {
    generate(shell, &mut Arguments::command(), "brokergate", &mut io::stdout());
    Ok(())
}
