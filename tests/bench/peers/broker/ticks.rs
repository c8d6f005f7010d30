//! Fan-out: a PUBLISH to all subscribers of one interval and size, each time it is due.

use super::connection::{Connection, Form, Subscription};
use super::payload::{self, Filling, Stamp};
use super::socket::now;
use super::wire::{self, opcode};

/// All that ticks.
pub(super) struct Ticks {
    filling: Filling,
    groups: Vec<Group>,
}

/// The subscribers of one topic.
struct Group {
    subscription: Subscription,
    members: Vec<usize>,
    /// When the next is due, in nanoseconds of the clock.
    due: u64,
    sequence: u32,
}

impl Ticks {
    pub(super) fn new() -> Self {
        Self { filling: Filling::new(), groups: Vec::new() }
    }

    /// Put connection `at` where it wants to be.
    pub(super) fn subscribe(&mut self, at: usize, subscription: Option<Subscription>) {
        for group in &mut self.groups {
            group.members.retain(|member| *member != at);
        }
        self.groups.retain(|group| !group.members.is_empty());
        let Some(subscription) = subscription else { return };
        match self.groups.iter_mut().find(|group| group.subscription == subscription) {
            Some(group) => group.members.push(at),
            None => {
                let due = now() + subscription.interval * 1_000_000;
                self.groups.push(Group { subscription, members: vec![at], due, sequence: 0 });
            }
        }
    }

    /// When the next tick is due.
    pub(super) fn due(&self) -> Option<u64> {
        self.groups.iter().map(|group| group.due).min()
    }

    /// Send what is due.
    pub(super) fn send(&mut self, connections: &mut [Option<Box<Connection>>]) {
        for group in self.groups.iter_mut().filter(|group| group.due <= now()) {
            group.send(&self.filling, connections);
        }
    }
}

impl Group {
    fn send(&mut self, filling: &Filling, connections: &mut [Option<Box<Connection>>]) {
        let Subscription { interval, size } = self.subscription;
        let topic = self.subscription.topic();
        let mut message = Vec::with_capacity(size + 64);
        let packet_size = wire::packet_size(payload::publish_size(&topic, size));
        wire::begin_frame(&mut message, opcode::BINARY, packet_size, None);
        let packet = message.len();
        let mut stamp = Stamp { time: 0, sequence: self.sequence, sender: 0 };
        payload::publish(&mut message, &topic, stamp, size, filling);
        let stamped = message.len() - size;
        for member in &self.members {
            let Some(connection) = connections.get_mut(*member).and_then(Option::as_mut) else { continue };
            stamp.time = now();
            message[stamped..stamped + payload::STAMP_SIZE].copy_from_slice(&stamp.bytes());
            let start = if connection.form == Form::WebSocket { 0 } else { packet };
            // A connection that is broken tells so by an event of its own.
            let _ = connection.send(&message[start..]);
        }
        self.sequence = self.sequence.wrapping_add(1);
        // A broker that is late does not send the missed ones in a burst, and its clients lose nothing.
        self.due = (self.due + interval * 1_000_000).max(now());
    }
}
