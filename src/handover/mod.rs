//! An upgrade in place: the process at work (the predecessor) starts the next one (its successor) and hands it
//! the sockets it listens on.
//!
//! A socket that is handed over is the same one in both processes, with one queue of clients that wait: whoever
//! closes its copy loses nobody. Both talk over a Unix stream, the successor's standard input, in words (`Word`):
//! the sockets → ready, or failed and why → serve → serving. Until "serve" nothing has changed.

mod descriptors;
mod inherited;
mod journal;
mod predecessor;
mod successor;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::inherited::{Inherited, InheritedError};
pub use self::journal::{Journal, Latest, Outcome};
pub use self::predecessor::{Begin, Predecessor, TakeError};
pub use self::successor::{Program, Successor};

/// How long a successor may take until it is ready: it reads files, looks names up and starts threads.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// How long either may take for its part once the successor is ready. Nothing is left to be done but to begin.
const PROMPT: Duration = Duration::from_secs(5);

/// The environment's name for the process that hands over: a gateway that finds its parent's number in it takes
/// its standard input for the stream.
const PREDECESSOR: &str = "BROKERGATE_PREDECESSOR";

/// The longest word, in bytes; the longest error is shown far below that.
const LONGEST: usize = 1 << 20;

/// What is said, one line of JSON each. Fields may be added: either side may be the newer version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
enum Word {
    /// By the predecessor: the sockets whose descriptors come with it, in this order.
    Take {
        /// Of the predecessor.
        version: String,
        /// What each is for, as [`Role`] writes it.
        sockets: Vec<String>,
        /// Whether more of them follow.
        more: bool,
    },
    /// By the successor: all is bound and built.
    Ready {
        /// Of the successor.
        version: String,
    },
    /// By the successor: it can't begin.
    Failed {
        /// In words for a person.
        why: String,
    },
    /// By the predecessor: begin. It can't be taken back.
    Serve,
    /// By the successor: it has begun.
    Serving,
}

/// Why there was no handover.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The program.
    #[error("the new process can't be started from {program}")]
    Start {
        /// Its file.
        program: String,
        /// The kernel's no.
        source: io::Error,
    },
    /// There is no program.
    #[error(
        "there is nothing to start again: this gateway was not started by `brokergate run`, or the system does not \
         know its file"
    )]
    NoProgram,
    /// It would not outlive us.
    #[error(
        "this is the first process of its container, which ends with it: start a new container instead, and \
         stop this one when that is ready"
    )]
    First,
    /// We have not taken over whole yet.
    #[error(
        "the service manager does not hear yet that this process took over (NOTIFY_SOCKET); upgrade again when it does"
    )]
    Unnamed,
    /// The sockets.
    #[error("the sockets can't be handed to the new process")]
    Hand(#[source] io::Error),
    /// The successor's own words.
    #[error("the new process can't begin: {0}")]
    Failed(String),
    /// It ended without a word.
    #[error("the new process ended before it was ready ({0}); its own last lines are in the log")]
    Ended(ExitStatus),
    /// It is still there and says nothing.
    #[error("the new process was not ready within {0:?}")]
    Silent(Duration),
    /// It is another program, or there is a mistake in one of them.
    #[error("what the new process says is not understood; is it a brokergate?")]
    Garbled(#[source] io::Error),
    /// Seen from the successor.
    #[error("the process that started this one, to be its successor, has ended or changed its mind")]
    Abandoned(#[source] io::Error),
}

/// What a socket is for, by the address as it was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Clients arrive there.
    Clients(SocketAddr),
    /// The admin listener, on TCP.
    Admin(SocketAddr),
    /// The admin listener, on a Unix socket.
    AdminUnix(Box<Path>),
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Clients(address) => write!(f, "clients {address}"),
            Self::Admin(address) => write!(f, "admin {address}"),
            Self::AdminUnix(path) => write!(f, "admin unix:{}", path.display()),
        }
    }
}

impl Word {
    /// As it is said.
    fn line(&self) -> Vec<u8> {
        // Text and flags: there is nothing that could fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// What a line says.
    fn read(line: &[u8]) -> io::Result<Self> {
        Ok(serde_json::from_slice(line)?)
    }
}
