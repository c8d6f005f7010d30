//! One client's connection: PROXY preamble, TLS, HTTP; all that arrives, arrives under one deadline.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::{debug, info};

use super::preamble::{self, PreambleError};
use super::{Accepted, Listener, Socket};
use crate::drain::Watch;
use crate::net::clock::{HttpTimer, sleep_until, timeout_at};
use crate::net::{Arrival, Stream, TlsFacts};
use crate::proxy::{self, Arriving, Connection, Load, Rejection, Shared};
use crate::telemetry::Metrics;
use crate::tls::{self, AcceptError};

/// A client on its way to the worker that serves it. A drain counts it from here on: none that was accepted is
/// forgotten between two threads.
#[derive(Debug)]
pub struct Handed {
    accepted: Accepted,
    watch: Watch,
    arriving: Arriving,
}

impl Handed {
    /// A client that was just accepted.
    #[must_use]
    pub fn new(accepted: Accepted, shared: &Shared) -> Self {
        Self { accepted, watch: shared.drain.watch(), arriving: shared.arrivals.begin() }
    }
}

/// Serve a client until its HTTP connection ends. A session that it opens lives on by itself.
pub async fn serve(handed: Handed, shared: Arc<Shared>, load: Load) {
    let Handed { accepted, watch, arriving } = handed;
    let Accepted { listener, socket, peer } = accepted;
    // Pinned where it is made: it is large, and a branch of select! would be moved there.
    let served = pin!(async {
        let stream = match socket {
            Socket::Here(stream) => stream,
            Socket::Anywhere(stream) => TcpStream::from_std(stream).map_err(Failure::Socket)?,
        };
        arrive(stream, peer, &listener, &shared, &watch, arriving, load).await
    });
    let failure = tokio::select! {
        served = served => served.err(),
        () = watch.cut() => None,
    };
    let Some(failure) = failure else { return };
    let (listener, reason) = (&listener.config.name, failure.label());
    shared.metrics.arrival_failed(reason);
    if failure.is_setting() {
        info!(client = %peer, %listener, reason, error = %failure, "no request arrived");
    } else {
        debug!(client = %peer, %listener, reason, error = %failure, "no request arrived");
    }
}

/// Every reason for which a connection never becomes a request.
pub const REASONS: &[&str] = &Failure::LABELS;

/// Why a connection never became a request.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the socket is gone already")]
    Socket(#[source] std::io::Error),
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] rustls::Error),
    #[error("plain HTTP on a TLS port; the client should use https or wss")]
    HttpOnTls,
    #[error("TLS on a plain port; the client should use http or ws, or the listener needs `tls`")]
    TlsOnPlain,
    #[error("it did not arrive within limits.arrival_timeout")]
    Timeout,
    #[error("the client left before its request")]
    Closed,
    #[error("its request head is over limits.max_head_size or limits.max_headers; is it a large Cookie?")]
    HeadTooLarge,
    #[error("what arrived is no HTTP request: {0}")]
    Http(#[source] hyper::Error),
    #[error("over limits.connections by too many to be told so")]
    Flood,
}

impl Failure {
    /// Every [`label`](Self::label), so that each series exists from the start.
    const LABELS: [&'static str; 10] = [
        "socket",
        "preamble",
        "tls",
        "http_on_tls",
        "tls_on_plain",
        "timeout",
        "closed",
        "head_too_large",
        "http",
        "flood",
    ];

    /// Whether somebody has to change a setting, of a client or a proxy: not the usual noise of a port.
    const fn is_setting(&self) -> bool {
        matches!(
            self,
            Self::Preamble(PreambleError::Malformed(_) | PreambleError::TooLong)
                | Self::HttpOnTls
                | Self::TlsOnPlain
                | Self::HeadTooLarge
        )
    }

    const fn label(&self) -> &'static str {
        match self {
            Self::Socket(_) => "socket",
            Self::Preamble(_) => "preamble",
            Self::Tls(_) => "tls",
            Self::HttpOnTls => "http_on_tls",
            Self::TlsOnPlain => "tls_on_plain",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::HeadTooLarge => "head_too_large",
            Self::Http(_) => "http",
            Self::Flood => "flood",
        }
    }
}

async fn arrive(
    mut stream: TcpStream,
    peer: SocketAddr,
    listener: &Arc<Listener>,
    shared: &Arc<Shared>,
    watch: &Watch,
    arriving: Arriving,
    load: Load,
) -> Result<(), Failure> {
    let snapshot = shared.snapshot.load_full();
    let limits = &snapshot.config.limits;
    let deadline = Instant::now() + limits.arrival_timeout;
    let local = stream.local_addr().map_err(Failure::Socket)?;
    let mut arrival =
        Arrival { peer: canonical(peer), client: canonical(peer), local: canonical(local), tls: None };
    if listener.config.proxy_protocol && shared.trusts(arrival.peer.ip()) {
        let preamble =
            timeout_at(deadline, preamble::read(&mut stream)).await.map_err(|_| Failure::Timeout)??;
        if let Some(preamble) = preamble {
            arrival.client = canonical(preamble.client);
            arrival.local = canonical(preamble.local);
        }
    }
    // Held by the connection, then by its session.
    let admission = shared.admit(arrival.client.ip(), load).ok_or(Failure::Flood)?;

    let secured = tokio::select! {
        secured = timeout_at(deadline, secure(stream, listener, &shared.metrics, deadline)) => secured,
        // Browsers connect ahead of need: a drain does not wait for what may never come.
        _ = watch.asked() => return Ok(()),
    };
    if secured.is_err() && listener.tls.is_some() {
        shared.metrics.tls_failed(AcceptError::TIMEOUT);
    }
    let secured = secured.map_err(|_| Failure::Timeout)?;
    if matches!(secured, Err(Failure::HttpOnTls)) {
        shared.metrics.rejected(Rejection::HttpOnTls.label());
    }
    let (stream, facts) = secured?;
    if let Some(facts) = &facts {
        shared.metrics.tls_handshake(facts.version, facts.resumed);
    }
    arrival.tls = facts;
    drop(snapshot);
    let connection =
        Connection::new(arrival, arriving, admission, Arc::clone(&listener.config), Arc::clone(shared));
    Box::pin(serve_http(stream, connection, shared, watch, deadline)).await
}

/// The client's stream as its listener has it: behind a TLS handshake, or plain.
async fn secure(
    stream: TcpStream,
    listener: &Listener,
    metrics: &Metrics,
    deadline: Instant,
) -> Result<(Stream, Option<TlsFacts>), Failure> {
    let count = |error: &AcceptError| metrics.tls_failed(error.label());
    match &listener.tls {
        Some(config) => match tls::accept(stream, config).await.inspect_err(count) {
            Ok((stream, facts)) => Ok((stream.into(), Some(facts))),
            Err(AcceptError::PlainHttp(stream)) => {
                // Whether the client reads it is its own affair.
                let _ = timeout_at(deadline, answer_plain_http(stream)).await;
                Err(Failure::HttpOnTls)
            }
            Err(AcceptError::Io(error)) => Err(Failure::Socket(error)),
            Err(AcceptError::Closed) => Err(Failure::Closed),
            Err(AcceptError::Tls(error)) => Err(Failure::Tls(error)),
        },
        None if first_byte(&stream).await? == HANDSHAKE_RECORD => Err(Failure::TlsOnPlain),
        None => Ok((stream.into(), None)),
    }
}

/// The first byte of a TLS record that holds a ClientHello (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

async fn first_byte(stream: &TcpStream) -> Result<u8, Failure> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) => Err(Failure::Closed),
        Ok(_) => Ok(first[0]),
        Err(error) => Err(Failure::Socket(error)),
    }
}

/// Say that this is a TLS port, in the words of the one who asked.
async fn answer_plain_http(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(&Rejection::HttpOnTls.bytes()).await?;
    stream.shutdown().await?;
    // A socket dropped with bytes unread is reset, and our answer with it.
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

async fn serve_http(
    stream: Stream,
    connection: Connection,
    shared: &Arc<Shared>,
    watch: &Watch,
    deadline: Instant,
) -> Result<(), Failure> {
    let limits = shared.snapshot.load().config.limits.clone();
    let arrived = AtomicBool::new(false);
    let service = service_fn(|request| {
        arrived.store(true, Ordering::Relaxed);
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(proxy::answer(request, &connection).await) }
    });
    let has_arrived = || arrived.load(Ordering::Relaxed);
    let mut http = pin!(
        http1::Builder::new()
            .timer(HttpTimer::default())
            // Also how long a kept-alive connection may idle between two requests.
            .header_read_timeout(limits.idle_request_timeout)
            .max_buf_size(limits.max_head_size)
            .max_headers(limits.max_headers)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let mut asked = pin!(watch.asked());
    let mut is_asked = false;
    loop {
        tokio::select! {
            served = http.as_mut() => {
                return match served {
                    Err(error) if error.is_parse_too_large() => Err(Failure::HeadTooLarge),
                    Err(error) if !has_arrived() && error.is_incomplete_message() => Err(Failure::Closed),
                    Err(error) if !has_arrived() => Err(Failure::Http(error)),
                    Ok(()) if !has_arrived() => Err(Failure::Closed),
                    // A client that leaves inside a later request is nobody's concern.
                    _ => Ok(()),
                };
            }
            () = sleep_until(deadline), if !has_arrived() => {
                // It may have arrived since the wait began.
                if !has_arrived() {
                    return Err(Failure::Timeout);
                }
            }
            _ = asked.as_mut(), if !is_asked => {
                is_asked = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
}

/// IPv4 clients of an IPv6 socket are IPv4 clients.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
