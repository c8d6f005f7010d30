//! A session that is open: a client joined to a broker through a gateway of its own.

use super::{Broker, Client, Gate, Kind, Visit, accepted, simple};

/// All three, and the CONNACK has come through.
pub struct Session {
    pub gate: Gate,
    pub broker: Broker,
    pub client: Client,
    pub visit: Visit,
}

impl Session {
    /// A plain client at a broker of this kind. `more` goes behind the upstream's endpoints: its keys
    /// first, then tables.
    pub async fn open(kind: Kind, connect: &[u8], more: &str) -> Self {
        Self::open_by(kind, false, connect, accepted(connect), more).await
    }

    /// With a CONNACK of the test's own.
    pub async fn open_by(kind: Kind, tls: bool, connect: &[u8], connack: &[u8], more: &str) -> Self {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], more)).await;
        let mut client = Client::of(&gate, tls).await;
        client.say(connect).await;
        let mut visit = broker.visit(kind).await;
        visit.welcome_by(connect, connack).await;
        assert_eq!(client.hear_mqtt(connack.len()).await, connack);
        Self { gate, broker, client, visit }
    }

    /// Wait for its one ending, with both peers gone, and for all it held to be free.
    pub async fn ended(self, reason: &str, by: &str) {
        drop((self.client, self.visit));
        self.gate.ended(reason, by).await;
        self.gate.idle().await;
    }
}
