//! Bytes and packets of many sessions together, for whoever scrapes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::mqtt::PacketType;

/// What flows on all workers. Each counts on its own page: one that all wrote to would travel between their
/// caches at each message.
#[derive(Debug, Default)]
pub struct AllTraffic(Mutex<Vec<Arc<Traffic>>>);

impl AllTraffic {
    /// A page for one more worker.
    #[must_use]
    pub fn open(&self) -> Arc<Traffic> {
        let page = Arc::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&page));
        page
    }

    /// The sum over all pages.
    #[must_use]
    pub fn sum(&self, of: impl Fn(&Traffic) -> u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|page| of(page)).sum()
    }
}

/// What flowed through the sessions of a worker. Counted as it flows: a session may last for months.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From clients to brokers.
    pub up: Flow,
    /// From brokers to clients.
    pub down: Flow,
}

/// One direction.
#[derive(Debug, Default)]
pub struct Flow {
    bytes: AtomicU64,
    packets: [AtomicU64; PacketType::ALL.len()],
}

impl Flow {
    /// Bytes read from the side that sent them, WebSocket framing included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Packets of one type.
    #[must_use]
    pub fn packets(&self, packet_type: PacketType) -> u64 {
        self.packets[packet_type.index()].load(Ordering::Relaxed)
    }

    /// Count bytes that came.
    pub fn add_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Count a packet that began.
    pub fn add_packet(&self, packet_type: PacketType) {
        self.packets[packet_type.index()].fetch_add(1, Ordering::Relaxed);
    }
}
