//! The words of these tests: application servers of all kinds, and a gateway before one, on real sockets.

mod exchange;
mod failure;
mod upgrade;

use std::convert::Infallible;
use std::net::SocketAddr;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{BackendAddress, ForwardedOptions};
use crate::drain::Drain;
use crate::net::full;

const LONG: Duration = Duration::from_secs(20);
/// Long enough for a busy machine to move bytes in, short enough to wait for.
const SHORT: Duration = Duration::from_millis(250);
const SOCKET: SocketOptions = SocketOptions { keepalive: None, user_timeout: None };

/// A gateway of one backend: what it cannot forward it answers 502, and why.
struct Gateway {
    address: SocketAddr,
    drain: Drain,
}

impl Gateway {
    async fn start(backend: BackendAddress) -> Self {
        Self::with_timeouts(backend, LONG, LONG).await
    }

    async fn with_timeouts(
        address: BackendAddress,
        dial_timeout: Duration,
        response_timeout: Duration,
    ) -> Self {
        let forwarded = ForwardedOptions::default();
        let config =
            config::Backend { name: "app".into(), address, dial_timeout, response_timeout, forwarded };
        let backend = Backend::build(&config, SOCKET);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self { address: listener.local_addr().unwrap(), drain: Drain::new() };
        let drain = gateway.drain.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (backend, drain) = (backend.clone(), drain.clone());
                let service = service_fn(move |request| {
                    let (backend, watch) = (backend.clone(), drain.watch());
                    async move { Ok::<_, Infallible>(answer(&backend, request, watch).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                // A client that leaves is an error here, and the subject of a test.
                tokio::spawn(async { drop(connection.await) });
            }
        });
        gateway
    }

    async fn connect(&self) -> Peer<TcpStream> {
        Peer::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request of its own connection; the whole answer.
    async fn ask(&self, head: &str) -> String {
        let mut client = self.connect().await;
        client.send(&format!("{head}\r\nhost: app.example.org\r\nconnection: close\r\n\r\n")).await;
        client.rest().await
    }
}

async fn answer(backend: &Backend, request: Request<Incoming>, watch: Watch) -> Response<Body> {
    let mut headers = request.headers().clone();
    remove_hop_by_hop(&mut headers);
    backend.forward(request, headers, watch, ()).await.unwrap_or_else(|error| {
        let mut response = Response::new(full(error.to_string()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

/// One end of a connection, in the words of a test.
struct Peer<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// A head, in lower case, up to its empty line; empty when the connection is closed instead.
    async fn head(&mut self) -> String {
        let mut head = String::new();
        while self.0.read_line(&mut head).await.unwrap() > 0 && !head.ends_with("\r\n\r\n") {}
        head.to_ascii_lowercase()
    }

    async fn bytes(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await.unwrap();
        rest
    }

    /// Closed in whatever way.
    async fn is_gone(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 64]).await, Ok(0) | Err(_))
    }
}

/// A backend that the test plays itself, byte by byte.
struct Script(TcpListener);

impl Script {
    async fn listen() -> (Self, BackendAddress) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = BackendAddress::Ip(listener.local_addr().unwrap());
        (Self(listener), address)
    }

    async fn accept(&self) -> Peer<TcpStream> {
        Peer::new(self.0.accept().await.unwrap().0)
    }
}
