//! The words the tests of pools and dials are written in.

mod dial;
mod members;
mod pick;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::*;
use crate::config::{Balance, EndpointAddress, Transport, Upstream, Weight};
use crate::net::{Arrival, Stream};

const OPTIONS: SocketOptions = SocketOptions { keepalive: None, user_timeout: None };
const AVOID: Duration = Duration::from_secs(10);

/// A raw MQTT endpoint at `address`.
pub(super) fn mqtt(address: EndpointAddress) -> config::Endpoint {
    config::Endpoint {
        name: format!("{address:?}").into(),
        transport: Transport::Mqtt,
        address,
        tls: false,
        server_name: None,
        weight: Weight::ONE,
        max_sessions: None,
        backup: false,
        proxy_protocol: None,
        discover: None,
    }
}

/// A WebSocket endpoint at `address`.
fn ws(address: EndpointAddress) -> config::Endpoint {
    let transport = Transport::WebSocket {
        path: "/mqtt".into(),
        authority: "broker.example.org".into(),
        subprotocol: "mqtt".into(),
    };
    config::Endpoint { transport, ..mqtt(address) }
}

/// An endpoint that nobody dials.
fn broker(number: u8, weight: u16) -> config::Endpoint {
    let address = EndpointAddress::Ip(SocketAddr::from(([192, 0, 2, number], 1883)));
    config::Endpoint { weight: Weight::new(weight).unwrap(), ..mqtt(address) }
}

fn at(address: SocketAddr) -> EndpointAddress {
    EndpointAddress::Ip(address)
}

pub(super) fn upstream(endpoints: impl IntoIterator<Item = config::Endpoint>) -> Upstream {
    Upstream {
        name: "brokers".into(),
        balance: Balance::Weighted,
        endpoints: endpoints.into_iter().map(Arc::new).collect(),
        attempts: 3,
        dial_timeout: Duration::from_secs(10),
        connack_timeout: Duration::from_secs(10),
        avoid: AVOID,
        probe: None,
        slow_start: Duration::ZERO,
        resolve_interval: Duration::from_secs(30),
        max_endpoints: 3,
        required: false,
        on_removal: config::OnLoss::Keep,
        on_down: config::OnLoss::Keep,
        keepalive_margin: Duration::ZERO,
        tls: config::BrokerTls::default(),
        forwarded: config::ForwardedOptions::default(),
        source_addresses: Vec::new(),
    }
}

pub(super) fn pool(upstream: Upstream) -> Pool {
    Pool::build(&Arc::new(upstream), OPTIONS, &Resolver::default(), None).unwrap()
}

/// Pick for somebody.
fn pick(pool: &Pool, tried: &Tried, now: Instant) -> Result<Picked, NoEndpoint> {
    pick_for(pool, "", tried, now)
}

fn pick_for(pool: &Pool, client_id: &str, tried: &Tried, now: Instant) -> Result<Picked, NoEndpoint> {
    pool.pick(&Key { client_id, address: IpAddr::from([198, 51, 100, 1]) }, tried, now)
}

/// A client that has come to us.
struct Client {
    arrival: Arrival,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Client {
    fn new() -> Self {
        let client = SocketAddr::from(([198, 51, 100, 1], 50_000));
        let arrival = Arrival { peer: client, client, local: ([192, 0, 2, 9], 443).into(), tls: None };
        let headers = [("x-real-ip", "198.51.100.1"), ("host", "mqtt.example.org")];
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Self { arrival, headers: headers.into() }
    }

    fn hello(&self) -> Hello<'_> {
        Hello { arrival: Some(&self.arrival), headers: &self.headers }
    }
}

/// Pick and dial for a new client.
async fn dial(pool: &Pool) -> Result<Dialled, DialError> {
    let picked = pick(pool, &Tried::new(), Instant::now()).unwrap();
    picked.dial(pool, &Client::new().hello()).await
}
