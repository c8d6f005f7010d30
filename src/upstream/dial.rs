//! One dial: resolve, connect, PROXY preamble, TLS, WebSocket handshake, all under one deadline.
//!
//! A dial owns what it opens: dropped at any point, nothing stays behind.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::error::{DialError, Step};
use super::source_address::ConnectError;
use super::upgrade::{self, Request};
use super::{Endpoint, Pool, proxy_protocol};
use crate::config::{EndpointAddress, Transport};
use crate::net::clock::timeout_at;
use crate::net::{Arrival, Stream};
use crate::tls::Speaks;
use crate::tunnel::Framing;

/// What the broker learns about the client.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    /// For the PROXY preamble; `None` when we call for ourselves.
    pub arrival: Option<&'a Arrival>,
    /// Sent behind the handshake's own headers. A `Host` here goes before the endpoint's own; what else belongs
    /// to the handshake is left out.
    pub headers: &'a [(HeaderName, HeaderValue)],
}

/// An open way to a broker.
#[derive(Debug)]
pub struct Dialled {
    /// The way.
    pub stream: Stream,
    /// Bytes that came right behind the handshake: they go first.
    pub read: Vec<u8>,
    /// How MQTT packets lie on it.
    pub framing: Framing,
    /// Whether this dial brought an endpoint back that was avoided.
    pub returned: bool,
}

/// Dial `endpoint` under the pool's `dial_timeout`.
pub(super) async fn dial(pool: &Pool, endpoint: &Endpoint, hello: &Hello<'_>) -> Result<Dialled, DialError> {
    let deadline = Instant::now() + pool.config.dial_timeout;
    let mut step = Step::Resolve;
    let dial = Dial { pool, endpoint, deadline };
    let outcome = timeout_at(deadline, dial.run(hello, &mut step)).await;
    outcome.unwrap_or_else(|_| Err(DialError::Timeout { endpoint: dial.name(), step }))
}

/// Open a connection to `endpoint`, or to another `port` of its host, and say nothing on it.
pub(super) async fn reach(pool: &Pool, endpoint: &Endpoint, port: Option<u16>) -> Result<Stream, DialError> {
    let deadline = Instant::now() + pool.config.dial_timeout;
    let mut step = Step::Resolve;
    let dial = Dial { pool, endpoint, deadline };
    let outcome = timeout_at(deadline, dial.reach(port, &mut step)).await;
    outcome.unwrap_or_else(|_| Err(DialError::Timeout { endpoint: dial.name(), step }))
}

struct Dial<'a> {
    pool: &'a Pool,
    endpoint: &'a Endpoint,
    deadline: Instant,
}

impl Dial<'_> {
    async fn run(&self, hello: &Hello<'_>, step: &mut Step) -> Result<Dialled, DialError> {
        let config = self.endpoint.config();
        let mut opening = self.preamble(hello)?;
        let mut stream = match self.reach(None, step).await? {
            Stream::Tcp(stream) => self.secure(stream, &mut opening, step).await?,
            stream => stream,
        };
        match &config.transport {
            Transport::Mqtt => {
                self.send(&mut stream, &opening, step).await?;
                Ok(Dialled { stream, read: Vec::new(), framing: Framing::Raw, returned: false })
            }
            Transport::WebSocket { path, authority, subprotocol } => {
                *step = Step::Upgrade;
                let request = Request { path, host: authority, subprotocol, headers: hello.headers };
                let read = upgrade::upgrade(&mut stream, opening, &request)
                    .await
                    .map_err(|source| DialError::Upgrade { endpoint: self.name(), source })?;
                Ok(Dialled { stream, read, framing: Framing::WebSocket, returned: false })
            }
        }
    }

    /// TCP to the endpoint, or another `port` of its host; or its Unix socket.
    async fn reach(&self, port: Option<u16>, step: &mut Step) -> Result<Stream, DialError> {
        match &self.endpoint.config().address {
            EndpointAddress::Ip(address) => {
                let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
                Ok(self.connect(&[address], step).await?.into())
            }
            EndpointAddress::Name { host, port: own } => {
                let found = self.pool.resolver.addresses(host, port.unwrap_or(*own)).await;
                let addresses = found.map_err(|source| {
                    self.blame(source, |endpoint, source| DialError::Resolve { endpoint, source })
                })?;
                Ok(self.connect(&addresses, step).await?.into())
            }
            EndpointAddress::Unix(path) => {
                *step = Step::Connect;
                let stream = UnixStream::connect(path).await;
                Ok(stream.map_err(|source| self.connect_error(ConnectError::Broker(source)))?.into())
            }
        }
    }

    /// TCP to the first address that answers. Each may take an equal part of the time that is left, so
    /// that a dead one does not use up the others'.
    async fn connect(&self, addresses: &[SocketAddr], step: &mut Step) -> Result<TcpStream, DialError> {
        *step = Step::Connect;
        let mut failure: Option<DialError> = None;
        for (address, left) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
            let now = Instant::now();
            let until = now + self.deadline.saturating_duration_since(now) / left;
            let connecting = self.pool.sources.connect(*address, self.pool.options);
            let error = match timeout_at(until, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => self.connect_error(error),
                Err(_) => DialError::Timeout { endpoint: self.name(), step: Step::Connect },
            };
            // An address that our own side cannot dial says less than one that did not answer.
            if !failure.as_ref().is_some_and(DialError::counts_against_health)
                || error.counts_against_health()
            {
                failure = Some(error);
            }
        }
        Err(failure.unwrap_or_else(|| DialError::Timeout { endpoint: self.name(), step: Step::Connect }))
    }

    /// TLS where the endpoint speaks it. The preamble goes before it, in the clear.
    async fn secure(
        &self,
        mut stream: TcpStream,
        opening: &mut Vec<u8>,
        step: &mut Step,
    ) -> Result<Stream, DialError> {
        let (Some(connector), Some(name)) = (&self.pool.tls, &self.endpoint.server_name) else {
            return Ok(stream.into());
        };
        self.send(&mut stream, opening, step).await?;
        opening.clear();
        *step = Step::Tls;
        let speaks = match self.endpoint.config().transport {
            Transport::Mqtt => Speaks::Mqtt,
            Transport::WebSocket { .. } => Speaks::WebSocket,
        };
        let stream = connector.connect(name.clone(), speaks, stream).await;
        Ok(stream.map_err(|source| DialError::Tls { endpoint: self.name(), source })?.into())
    }

    async fn send(
        &self,
        stream: &mut (impl tokio::io::AsyncWrite + Unpin),
        preamble: &[u8],
        step: &mut Step,
    ) -> Result<(), DialError> {
        *step = Step::ProxyProtocol;
        let sent = stream.write_all(preamble).await;
        sent.map_err(|source| DialError::ProxyProtocol { endpoint: self.name(), source })
    }

    fn preamble(&self, hello: &Hello<'_>) -> Result<Vec<u8>, DialError> {
        let preamble = match self.endpoint.config().proxy_protocol {
            Some(version) => proxy_protocol::preamble(version, hello.arrival),
            None => Ok(Vec::new()),
        };
        preamble.map_err(|error| DialError::ProxyProtocol {
            endpoint: self.name(),
            source: io::Error::other(error),
        })
    }

    fn connect_error(&self, error: ConnectError) -> DialError {
        let endpoint = self.name();
        match error {
            ConnectError::Broker(source) => {
                self.blame(source, |endpoint, source| DialError::Connect { endpoint, source })
            }
            ConnectError::SourceAddress(source) => DialError::SourceAddress { endpoint, source },
            ConnectError::Socket(source) => DialError::Socket { endpoint, source },
        }
    }

    /// The broker, unless it is we who have no socket left.
    fn blame(&self, source: io::Error, broker: impl FnOnce(Arc<str>, io::Error) -> DialError) -> DialError {
        // ENFILE and EMFILE, the same numbers on every Unix.
        match source.raw_os_error() {
            Some(23 | 24) => DialError::Socket { endpoint: self.name(), source },
            _ => broker(self.name(), source),
        }
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(self.endpoint.name())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket};

    use super::super::tests::{mqtt, pool, upstream};
    use super::*;

    async fn connect(dial_timeout: Duration, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
        let name = EndpointAddress::Name { host: "broker.example.org".into(), port: 1883 };
        let pool = pool(crate::config::Upstream { dial_timeout, ..upstream([mqtt(name)]) });
        let deadline = Instant::now() + dial_timeout;
        let endpoints = pool.endpoints();
        let dial = Dial { pool: &pool, endpoint: &endpoints[0], deadline };
        dial.connect(addresses, &mut Step::Resolve).await
    }

    /// Nobody listens on port 1 (tcpmux).
    const GONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let stream = connect(Duration::from_secs(10), &[GONE, GONE, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = connect(Duration::from_secs(10), &[GONE, GONE]).await.unwrap_err();
        assert_eq!(error.label(), "connect");
    }

    /// A listener whose queue is full drops what knocks: an address behind a firewall does the same.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_dead_address_leaves_time_for_the_next() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let full = socket.listen(1).unwrap();
        let dead = full.local_addr().unwrap();
        let mut queued = Vec::new();
        let knock = || tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(dead));
        while let Ok(stream) = knock().await {
            queued.push(stream);
            assert!(queued.len() < 20, "the queue is never full");
        }

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let stream = connect(Duration::from_millis(400), &[dead, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = connect(Duration::from_millis(50), &[dead]).await.unwrap_err();
        assert!(matches!(error, DialError::Timeout { step: Step::Connect, .. }), "{error:?}");
    }
}
