//! Bytes and packets of many sessions together, for whoever scrapes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::mqtt::PacketType;

/// What flowed through all sessions. Counted as it flows: a session may last for months.
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
