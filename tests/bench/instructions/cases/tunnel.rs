//! What a small message costs on its way through a session, tokio and both ends of the test's own included.

use std::future::pending;
use std::time::Duration;

use brokergate::mqtt::Level;
use brokergate::tunnel::{Ends, Framing, Meter, Patience, Traffic, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Operation;

const HOUR: Duration = Duration::from_hours(1);

/// From a client to its broker: `sent` arrives as `heard` many bytes.
pub(super) fn up(framing: Framing, sent: Vec<u8>, heard: usize) -> Operation {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut client, mut broker) = runtime.block_on(async {
        let (client, client_end) = UnixStream::pair().unwrap();
        let (broker, broker_end) = UnixStream::pair().unwrap();
        let ends = Ends {
            client: client_end.into(),
            broker: broker_end.into(),
            framing,
            from_client: Vec::new(),
            begins_message: false,
            from_broker: Vec::new(),
            level: Level::V311,
            was_refused: false,
        };
        let patience = Patience { idle: Some(HOUR), stall: HOUR, farewell: HOUR, max_packet_size: 1 << 20 };
        let mut tunnel = Tunnel::new(ends, patience);
        tokio::spawn(async move { tunnel.run(pending(), &Traffic::default(), &Meter::new()).await });
        (client, broker)
    });
    let mut bytes = vec![0; heard];
    Box::new(move |_| {
        runtime.block_on(async {
            client.write_all(&sent).await.unwrap();
            broker.read_exact(&mut bytes).await.unwrap();
        });
    })
}
