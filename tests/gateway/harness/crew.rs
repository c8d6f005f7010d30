//! Brokers that need no leading: they welcome everybody, and remember whom.

use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::{Broker, Visit, accepted};

/// A broker that welcomes all who come, until dropped.
pub struct Crew {
    pub endpoint: String,
    clients: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Crew {
    /// `keys` are the endpoint's own, such as `weight = 3`.
    pub async fn serve(keys: &str) -> Self {
        let broker = Broker::listen().await;
        let endpoint = broker.mqtt().replace(" }", &format!(", name = \"{}\", {keys} }}", broker.address()));
        let endpoint = endpoint.replace(",  }", " }");
        let clients = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&clients);
        let serving = tokio::spawn(async move {
            loop {
                let Ok(stream) = broker.accept_any().await else { return };
                let seen = Arc::clone(&seen);
                tokio::spawn(welcome(stream, seen));
            }
        });
        Self { endpoint, clients, serving }
    }

    /// The ClientIDs it has welcomed, in their order.
    pub fn clients(&self) -> Vec<String> {
        self.clients.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.clients.lock().unwrap().len()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Welcome one, and stay until it leaves.
async fn welcome(mut visit: Visit, clients: Arc<Mutex<Vec<String>>>) {
    let mut connect = visit.hear(2).await;
    connect.extend(visit.hear(connect[1].into()).await);
    // Header, name, level, flags, keepalive: and MQTT 5's empty properties.
    let start = if connect[8] == 5 { 15 } else { 14 };
    clients.lock().unwrap().push(String::from_utf8_lossy(&connect[start..]).into_owned());
    visit.say(accepted(&connect)).await;
    while visit.read_patiently().await {}
}
