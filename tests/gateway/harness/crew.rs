//! Brokers that need no leading: they welcome everybody, and remember whom.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::{Broker, Visit, accepted};

/// A broker that welcomes all who come, until dropped.
pub struct Crew {
    pub endpoint: String,
    address: SocketAddr,
    clients: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

/// A crew that listens no more; sessions that it has go on.
pub struct Resting {
    endpoint: String,
    address: SocketAddr,
}

impl Crew {
    /// `keys` are the endpoint's own, such as `weight = 3`.
    pub async fn serve(keys: &str) -> Self {
        let broker = Broker::listen().await;
        let endpoint = broker.mqtt().replace(" }", &format!(", name = \"{}\", {keys} }}", broker.address()));
        Self::of(broker, endpoint.replace(",  }", " }"))
    }

    /// Listen there, if nobody else does.
    pub async fn serve_on(address: SocketAddr) -> Option<Self> {
        let broker = Broker::try_listen_on(&address.to_string()).await.ok()?;
        let endpoint = broker.mqtt();
        Some(Self::of(broker, endpoint))
    }

    fn of(broker: Broker, endpoint: String) -> Self {
        let clients = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&clients);
        let address = broker.address();
        let serving = tokio::spawn(async move {
            loop {
                let Ok(stream) = broker.accept_any().await else { return };
                let seen = Arc::clone(&seen);
                tokio::spawn(welcome(stream, seen));
            }
        });
        Self { endpoint, address, clients, serving }
    }

    /// The name of its endpoint.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listen no more.
    pub async fn stop_listening(mut self) -> Resting {
        self.serving.abort();
        let _ = (&mut self.serving).await;
        Resting { endpoint: self.endpoint.clone(), address: self.address }
    }

    /// The ClientIDs it has welcomed, in their order.
    pub fn clients(&self) -> Vec<String> {
        self.clients.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.clients.lock().unwrap().len()
    }
}

impl Resting {
    /// Listen where it did before.
    pub async fn listen_again(self) -> Crew {
        Crew::of(Broker::listen_on(&self.address.to_string()).await, self.endpoint)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Welcome one, and stay until it leaves.
async fn welcome(mut visit: Visit, clients: Arc<Mutex<Vec<String>>>) {
    // Who opens a connection only to close it is a probe.
    while visit.unheard().len() < 2 {
        if !visit.read().await {
            return;
        }
    }
    let mut connect = visit.hear(2).await;
    connect.extend(visit.hear(connect[1].into()).await);
    // Header, name, level, flags, keepalive: and MQTT 5's empty properties.
    let start = if connect[8] == 5 { 15 } else { 14 };
    clients.lock().unwrap().push(String::from_utf8_lossy(&connect[start..]).into_owned());
    visit.say(accepted(&connect)).await;
    while visit.read_patiently().await {}
}
