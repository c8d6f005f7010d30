//! The admin listener: is it alive, is it ready, what has it counted, how are things; and what it is asked to do.
//!
//! The way of a request: `socket` accepts, `connection` serves one after the other, `request` finds what answers it,
//! and `answer` is how that is written.

mod answer;
mod at_work;
mod connection;
pub mod control;
mod drain;
mod guard;
mod kick;
mod metrics;
pub(crate) mod page;
mod process;
mod query;
mod rates;
mod request;
pub mod sessions;
mod socket;
mod stall;
pub mod status;
pub mod tap;
mod upgrade;
mod which;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use self::at_work::Life;
use self::guard::Reach;
use self::rates::Rates;
use self::socket::Socket;
use crate::config;
use crate::drain::Orders;
use crate::handover::{Inherited, Journal, Role};
use crate::net::Stream;
use crate::permit::{Cap, Permit};
use crate::proxy::Shared;
use crate::reload::Asker;

pub use self::at_work::AtWork;
pub use self::socket::AdminError;

/// Connections at once. Whoever reaches the address could take all descriptors from clients otherwise.
const AT_ONCE: usize = 256;

/// How long accept rests after an error.
const REST: Duration = Duration::from_millis(100);

/// How far the gateway's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bound, not serving.
    Starting,
    /// Serving.
    Ready,
    /// Serving what is left.
    Draining,
    /// Nothing is left: waiting to be stopped, or put back to work.
    Drained,
}

impl Stage {
    /// Every [`label`](Self::label).
    pub const LABELS: [&'static str; 4] = ["starting", "ready", "draining", "drained"];

    /// The word for it in `/ready` and `/status`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// A bound admin listener.
#[derive(Debug)]
pub struct Admin {
    socket: Socket,
    /// The same socket, for a process that takes over.
    copy: (Role, OwnedFd),
    served: Served,
}

/// What requests are answered from.
#[derive(Debug, Clone)]
struct Served {
    shared: Arc<Shared>,
    stage: watch::Receiver<Stage>,
    asker: Asker,
    orders: Orders,
    upgrades: Journal,
    life: Life,
    /// As it was bound. What a reload says of the address takes a restart.
    config: config::Admin,
    reach: Reach,
    started: (SystemTime, Instant),
    rates: Rates,
    connections: Arc<Cap>,
    taps: Arc<Cap>,
}

/// Bind the admin listener, within a runtime, unless its socket is inherited.
///
/// # Errors
/// When the address is taken or not allowed.
pub fn bind(
    config: &config::Admin,
    shared: Arc<Shared>,
    stage: watch::Receiver<Stage>,
    asker: Asker,
    orders: Orders,
    upgrades: Journal,
    inherited: &mut Inherited,
) -> Result<Admin, AdminError> {
    let (socket, copy) = Socket::bind(&config.address, inherited)?;
    let reach = Reach::of(&config.address);
    let started = (SystemTime::now(), Instant::now());
    let (config, rates, life) = (config.clone(), Rates::default(), Life::default());
    let (connections, taps) = (Cap::new(AT_ONCE), Cap::new(tap::AT_ONCE));
    let served = Served {
        shared,
        stage,
        asker,
        orders,
        upgrades,
        life,
        config,
        reach,
        started,
        rates,
        connections,
        taps,
    };
    Ok(Admin { socket, copy, served })
}

impl Admin {
    /// Where it listens, if on TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.tcp_address()
    }

    /// Serve until told otherwise.
    #[must_use]
    pub fn start(self) -> AtWork {
        let Self { socket, copy, served } = self;
        AtWork::new(copy, served.life.clone(), accept_all(socket, served))
    }
}

/// Accept for ever.
async fn accept_all(socket: Socket, served: Served) {
    // Ends with us.
    let _sampler =
        AbortOnDropHandle::new(tokio::spawn(served.rates.clone().follow(Arc::clone(&served.shared))));
    match &socket {
        Socket::Tcp(listener) => info!(address = ?listener.local_addr().ok(), "admin listening"),
        Socket::Unix(listener) => info!(address = ?listener.local_addr().ok(), "admin listening"),
    }
    loop {
        match socket.accept().await {
            Ok((stream, who)) => match served.connections.take() {
                Some(permit) => serve(stream, who, permit, served.clone()),
                None => debug!(%who, "the admin listener has {AT_ONCE} connections: this one is closed"),
            },
            Err(error) => {
                debug!(%error, "the admin listener can't accept for now");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Serve `who` is at the other end of `stream`.
fn serve(stream: Stream, who: String, permit: Permit, served: Served) {
    served.life.clone().spawn(async move {
        let _permit = permit;
        if let Err(error) = connection::serve(stream, &who, &served).await {
            debug!(%error, "an admin connection broke");
        }
    });
}
