//! Who is let in: the caps on connections, in all and for each address.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Limit, Shard};
use crate::config::Limits;
use crate::permit::{AddressCap, AddressPermit, Cap, Permit};
use crate::telemetry::{Metrics, Open};
use crate::tunnel::Traffic;

/// Connections over a cap that may arrive nevertheless, to be answered 503: a client that is only hung up
/// on comes back at once, and nobody learns why.
const TOLD: usize = 256;

/// One connection among those of its worker, its session included.
#[derive(Debug)]
pub struct Load {
    served: Arc<AtomicUsize>,
    traffic: Arc<Traffic>,
    shard: Arc<Shard>,
}

impl Load {
    /// One of `served`, which has counted it already: dropping it counts it off.
    #[must_use]
    pub fn new(served: &Arc<AtomicUsize>, traffic: &Arc<Traffic>, shard: &Arc<Shard>) -> Self {
        Self { served: Arc::clone(served), traffic: Arc::clone(traffic), shard: Arc::clone(shard) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.served.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all workers serve, for whoever scrapes.
#[derive(Debug, Default)]
pub struct Loads(Mutex<Vec<(Arc<AtomicUsize>, Handle)>>);

impl Loads {
    /// One more worker: the connections that it has `served`, and its runtime.
    pub fn open(&self, runtime: &Handle) -> Arc<AtomicUsize> {
        let served = Arc::default();
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push((Arc::clone(&served), runtime.clone()));
        served
    }

    /// Of each worker: the connections that it serves, and how long it was busy in all.
    #[must_use]
    pub fn look(&self) -> Vec<(usize, Duration)> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each runtime has one thread.
        let busy = |runtime: &Handle| runtime.metrics().worker_total_busy_duration(0);
        workers.iter().map(|(served, runtime)| (served.load(Ordering::Relaxed), busy(runtime))).collect()
    }
}

/// How many permits are out, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permits {
    /// Connections that were let in: `limits.connections`.
    pub connections: (usize, usize),
    /// Connections over a cap, on their way to being told so.
    pub refused: (usize, usize),
    /// Addresses that hold connections under `limits.connections_per_address`.
    pub addresses: usize,
}

/// The caps at work.
#[derive(Debug)]
pub(super) struct Caps {
    connections: Arc<Cap>,
    addresses: Arc<AddressCap>,
    told: Arc<Cap>,
}

/// A connection that was let in. It holds its slots until dropped, with its session.
#[derive(Debug)]
pub struct Admission {
    refused: Option<Limit>,
    _connection: Permit,
    _address: Option<AddressPermit>,
    _open: Open,
    load: Load,
}

impl Caps {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            connections: Cap::new(limits.connections),
            addresses: AddressCap::new(an_address(limits)),
            told: Cap::new(TOLD),
        }
    }

    pub(super) fn permits(&self) -> Permits {
        let of = |cap: &Cap| (cap.held(), cap.limit());
        Permits {
            connections: of(&self.connections),
            refused: of(&self.told),
            addresses: self.addresses.addresses(),
        }
    }

    /// Other caps from now on. Who is in stays in.
    pub(super) fn change(&self, limits: &Limits) {
        self.connections.set_limit(limits.connections);
        self.addresses.set_limit(an_address(limits));
    }

    /// `address` is the one whose cap counts, if any.
    pub(super) fn admit(&self, address: Option<IpAddr>, metrics: &Metrics, load: Load) -> Option<Admission> {
        metrics.accepted.increment(1);
        let connection = self.connections.take().ok_or(Limit::Connections);
        let held = connection.and_then(|connection| {
            let take = |address| self.addresses.take(address).ok_or(Limit::ConnectionsPerAddress);
            Ok((connection, address.map(take).transpose()?))
        });
        let (refused, connection, address) = match held {
            Ok((connection, address)) => (None, connection, address),
            Err(limit) => (Some(limit), self.told.take()?, None),
        };
        Some(Admission {
            refused,
            _connection: connection,
            _address: address,
            _open: Open::new(&metrics.connections),
            load,
        })
    }
}

fn an_address(limits: &Limits) -> usize {
    limits.connections_per_address.unwrap_or(usize::MAX)
}

impl Admission {
    /// The cap it is over: whatever it asks, the answer is 503.
    #[must_use]
    pub const fn refused(&self) -> Option<Limit> {
        self.refused
    }

    /// What flows on the connection's worker.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.load.traffic
    }

    /// Where the sessions of the connection's worker are listed.
    pub(super) fn shard(&self) -> &Shard {
        &self.load.shard
    }
}
