//! Open connections to a backend, under one deadline each.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::BackendAddress;
use crate::net::{SocketOptions, Stream};

/// What hyper's pool calls when it has no idle connection.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    address: Arc<BackendAddress>,
    deadline: Duration,
    socket: SocketOptions,
}

impl Dialer {
    pub(super) fn new(address: BackendAddress, deadline: Duration, socket: SocketOptions) -> Self {
        Self { address: Arc::new(address), deadline, socket }
    }

    async fn dial(self) -> io::Result<Stream> {
        let deadline = Instant::now() + self.deadline;
        match &*self.address {
            BackendAddress::Ip(address) => tcp([*address].into_iter(), deadline, self.socket).await,
            BackendAddress::Name { host, port } => {
                let found = timeout_at(deadline, lookup_host((&**host, *port))).await??;
                let addresses: Vec<_> = found.collect();
                tcp(addresses.into_iter(), deadline, self.socket).await
            }
            BackendAddress::Unix(path) => Ok(timeout_at(deadline, UnixStream::connect(path)).await??.into()),
        }
    }
}

/// The backend's own `Host`, for requests that bring none or are not to show theirs.
pub(super) fn authority(address: &BackendAddress) -> HeaderValue {
    let text = match address {
        BackendAddress::Ip(address) if address.port() == 80 => match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        },
        BackendAddress::Ip(address) => address.to_string(),
        BackendAddress::Name { host, port: 80 } => host.to_string(),
        BackendAddress::Name { host, port } => format!("{host}:{port}"),
        BackendAddress::Unix(_) => "localhost".to_owned(),
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("localhost"))
}

/// The first of a name's addresses that answers. Each gets an even share of the time that is left, so that
/// one that swallows packets does not keep us from the next.
async fn tcp(
    addresses: impl ExactSizeIterator<Item = SocketAddr>,
    deadline: Instant,
    socket: SocketOptions,
) -> io::Result<Stream> {
    let count = addresses.len();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    for (tried, address) in addresses.enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(count - tried).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                socket.apply(&stream)?;
                return Ok(stream.into());
            }
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial().await.map(TokioIo::new) })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backends_own_host_is_as_in_its_url() {
        let name = |host: &str, port| BackendAddress::Name { host: host.into(), port };
        let ip = |address: &str| BackendAddress::Ip(address.parse().unwrap());
        for (address, expected) in [
            (name("app", 80), "app"),
            (name("app", 3000), "app:3000"),
            (ip("192.0.2.1:80"), "192.0.2.1"),
            (ip("[2001:db8::1]:80"), "[2001:db8::1]"),
            (ip("[2001:db8::1]:3000"), "[2001:db8::1]:3000"),
            (BackendAddress::Unix("/run/app.sock".into()), "localhost"),
        ] {
            assert_eq!(authority(&address), expected);
        }
    }
}
