//! What listing costs a core before others have their turn: a slice of the roster, looked at and written.

use std::hint::black_box;
use std::sync::Arc;

use brokergate::admin::sessions::Listing;
use brokergate::drain::Drain;
use brokergate::mqtt::Connect;
use brokergate::proxy::roster::{Entry, Roster};

use super::{Operation, SESSIONS};

/// The first slice for a query.
pub(super) fn slice(query: &'static str) -> Operation {
    let (roster, drain, upstream) = (Roster::default(), Drain::new(), Arc::from("emqx"));
    let (shard, watch) = (roster.open(), drain.watch());
    for number in 0..SESSIONS {
        let entry = Entry::new(([192, 0, 2, 1], number as u16).into(), &upstream, &watch, true);
        entry.introduce(&connect(&format!("sensor-{number:05}")));
        shard.enter(entry);
    }
    Box::new(move |_| {
        let mut listing = Listing::begin(Some(query)).unwrap();
        assert!(listing.step(&roster));
        black_box(listing.finish());
    })
}

fn connect(client_id: &str) -> Connect {
    let mut packet = b"\x10\0\0\x04MQTT\x04\x02\0\x3c\0".to_vec();
    packet.push(client_id.len() as u8);
    packet.extend(client_id.as_bytes());
    packet[1] = packet.len() as u8 - 2;
    Connect::parse(&packet, packet.len()).unwrap().unwrap()
}
