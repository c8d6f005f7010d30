//! One dial: resolve, connect, PROXY preamble, TLS, WebSocket handshake, all under one deadline.
//!
//! A dial owns what it opens: dropped at any point, nothing stays behind.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::error::{DialError, Step};
use super::source_address::ConnectError;
use super::upgrade::{self, Request};
use super::{Endpoint, Pool, proxy_protocol, resolve};
use crate::config::{EndpointAddress, HostHeader, Transport};
use crate::net::{Arrival, Stream};
use crate::tls::Speaks;
use crate::tunnel::Framing;

/// What the broker learns about the client.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    /// For the PROXY preamble.
    pub arrival: &'a Arrival,
    /// Sent behind the handshake's own headers. A `Host` here goes before any other; what else belongs
    /// to the handshake is left out.
    pub headers: &'a HeaderMap,
    /// The client's `Host`, sent where the upstream passes it on.
    pub host: Option<&'a str>,
    /// The client's choice, or `mqtt`; an endpoint's own goes before it.
    pub subprotocol: &'a str,
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

struct Dial<'a> {
    pool: &'a Pool,
    endpoint: &'a Endpoint,
    deadline: Instant,
}

impl Dial<'_> {
    async fn run(&self, hello: &Hello<'_>, step: &mut Step) -> Result<Dialled, DialError> {
        let config = self.endpoint.config();
        let mut opening = self.preamble(hello)?;
        let mut stream = match &config.address {
            EndpointAddress::Ip(address) => {
                let stream = self.connect(&[*address], step).await?;
                self.secure(stream, &mut opening, step).await?
            }
            EndpointAddress::Name { host, port } => {
                let addresses = resolve::resolve(host, *port)
                    .await
                    .map_err(|source| DialError::Resolve { endpoint: self.name(), source })?;
                let stream = self.connect(&addresses, step).await?;
                self.secure(stream, &mut opening, step).await?
            }
            EndpointAddress::Unix(path) => {
                *step = Step::Connect;
                let stream = UnixStream::connect(path).await;
                stream.map_err(|source| DialError::Connect { endpoint: self.name(), source })?.into()
            }
        };
        match &config.transport {
            Transport::Mqtt => {
                self.send(&mut stream, &opening, step).await?;
                Ok(Dialled { stream, read: Vec::new(), framing: Framing::Raw, returned: false })
            }
            Transport::WebSocket { path, authority, subprotocol } => {
                *step = Step::Upgrade;
                let request = Request {
                    path,
                    host: self.host(hello, authority),
                    subprotocol: subprotocol.as_deref().unwrap_or(hello.subprotocol),
                    headers: hello.headers,
                };
                let read = upgrade::upgrade(&mut stream, opening, &request)
                    .await
                    .map_err(|source| DialError::Upgrade { endpoint: self.name(), source })?;
                Ok(Dialled { stream, read, framing: Framing::WebSocket, returned: false })
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
            source: std::io::Error::other(error),
        })
    }

    fn host<'h>(&self, hello: &Hello<'h>, authority: &'h str) -> &'h str {
        match self.pool.config.forwarded.host {
            // What a request line or a header of ours could not hold is not passed on.
            HostHeader::Client => hello
                .host
                .filter(|host| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()))
                .unwrap_or(authority),
            HostHeader::Endpoint => authority,
        }
    }

    fn connect_error(&self, error: ConnectError) -> DialError {
        let endpoint = self.name();
        match error {
            ConnectError::Broker(source) => DialError::Connect { endpoint, source },
            ConnectError::Own(source) if source.kind() == std::io::ErrorKind::AddrNotAvailable => {
                DialError::SourceAddress { endpoint, source }
            }
            ConnectError::Own(source) => DialError::Socket { endpoint, source },
        }
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(self.endpoint.name())
    }
}
