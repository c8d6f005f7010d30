//! The command line: one file a command.

pub mod check;
mod completions;
mod control;
#[cfg(feature = "demo")]
mod demo;
mod drain;
mod kick;
mod run;
mod sessions;
mod signals;
mod status;
mod tap;
mod terminal;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use self::check::CheckError;
use self::control::{AdminArguments, ControlError};
use self::status::StatusArguments;
use crate::config::ConfigErrors;
use crate::gateway::StartError;
use crate::listener::BindError;

/// Where the configuration is when no `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/brokergate/brokergate.toml";

/// Carries MQTT over WebSocket to brokers: TLS, weights, the client's address, and the web application
/// on one domain.
#[derive(Debug, Parser)]
#[command(name = "brokergate", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT, then drain; a second one stops at once.
    Run(ConfigArgument),
    /// Say whether a configuration would work, and what it would do.
    Check(ConfigArgument),
    /// Ask the running gateway to read its configuration again, and say how that went.
    Reload(AdminArguments),
    /// Let a new process, of the file that the running gateway was started from, take over its sockets; the old
    /// one drains.
    Upgrade(AdminArguments),
    /// Show how the running gateway is: brokers, sessions, messages a second, and what is wrong.
    Status(StatusArguments),
    /// Say goodbye to all sessions, or to those of one endpoint, one after the other, and take nobody new.
    Drain(drain::DrainArguments),
    /// Say goodbye to as many sessions as are too many at their endpoints, so that all have their share.
    Rebalance(drain::RebalanceArguments),
    /// List who is connected: all, or one client by its ClientID.
    Sessions(sessions::SessionsArguments),
    /// Ask a client to go: it is told why, and its connection is closed.
    Kick(kick::KickArguments),
    /// Look on at one session: each packet that goes by, as a line.
    Tap(tap::TapArguments),
    /// Show the gateway at work: a broker, a certificate and a page, without any file.
    #[cfg(feature = "demo")]
    Demo {
        /// The port of the page and of wss; the next free one where it is taken.
        #[arg(long, default_value_t = crate::demo::DEFAULT_PORT)]
        port: u16,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct ConfigArgument {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG, env = "BROKERGATE_CONFIG")]
    config: PathBuf,
}

/// Run the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => {
            // Help and version are no mistakes, and clap knows which stream they belong to.
            let code = usage.exit_code();
            let _ = usage.print();
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    let done = match arguments.command {
        Command::Run(ConfigArgument { config }) => run::run(&config),
        Command::Check(ConfigArgument { config }) => {
            check::run(&config, &mut io::stdout()).map_err(Into::into)
        }
        Command::Reload(arguments) => control::reload(&arguments),
        Command::Upgrade(arguments) => control::upgrade(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Drain(arguments) => drain::drain(&arguments),
        Command::Rebalance(arguments) => drain::rebalance(&arguments),
        Command::Sessions(arguments) => sessions::run(&arguments),
        Command::Kick(arguments) => kick::run(&arguments),
        Command::Tap(arguments) => tap::run(&arguments),
        #[cfg(feature = "demo")]
        Command::Demo { port } => demo::run(port),
        Command::Completions { shell } => completions::run(shell),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    say(&words(&error));
    if is_configuration(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// What is said of an error.
fn words(error: &anyhow::Error) -> String {
    let is_told = matches!(error.downcast_ref(), Some(ControlError::Refused { .. }));
    if is_told || error.is::<ConfigErrors>() || error.is::<CheckError>() {
        // Each mistake has its file and line before it already.
        error.to_string()
    } else {
        format!("brokergate: {error:#}")
    }
}

/// Whether the file, or what it names, must change before this can work.
fn is_configuration(error: &anyhow::Error) -> bool {
    let check = error.downcast_ref::<CheckError>();
    let start = error.downcast_ref::<StartError>();
    let control = error.downcast_ref::<ControlError>();
    error.is::<ConfigErrors>()
        || control.is_some_and(ControlError::is_configuration)
        || check.is_some_and(|error| !matches!(error, CheckError::Output(_)))
        || matches!(start, Some(StartError::Build(_) | StartError::Bind(BindError::Tls { .. })))
}

/// To standard error, whoever still reads it.
fn say(text: &dyn Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
