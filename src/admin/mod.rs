//! The admin listener: is it alive, is it ready, what has it counted, how are things; and what it is asked to do.

mod at_work;
pub mod control;
mod drain;
mod guard;
mod kick;
mod metrics;
pub(crate) mod page;
mod process;
mod query;
mod rates;
pub mod sessions;
mod socket;
mod stall;
pub mod status;
pub mod tap;
mod upgrade;
mod which;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use self::at_work::Life;
use self::guard::Reach;
use self::rates::Rates;
use self::socket::Socket;
use self::stall::Hurried;
use crate::config;
use crate::drain::Orders;
use crate::handover::{Inherited, Journal, Role};
use crate::net::{Body, Stream, full};
use crate::permit::Cap;
use crate::proxy::Shared;
use crate::reload::Asker;

pub use self::at_work::AtWork;
pub use self::socket::AdminError;

/// How long a request's head, and an idle connection, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long accept rests after an error.
const REST: Duration = Duration::from_millis(100);

/// How far the gateway's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bound, not serving.
    Starting,
    /// Serving.
    Ready,
    /// Serving what is left.
    Draining,
    /// Nothing is left: waiting to be stopped, or put back to work.
    Drained,
}

impl Stage {
    /// Every [`label`](Self::label).
    pub const LABELS: [&'static str; 4] = ["starting", "ready", "draining", "drained"];

    /// The word for it in `/ready` and `/status`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// A bound admin listener.
#[derive(Debug)]
pub struct Admin {
    socket: Socket,
    /// The same socket, for a process that takes over.
    copy: (Role, OwnedFd),
    served: Served,
}

/// What requests are answered from.
#[derive(Debug, Clone)]
struct Served {
    shared: Arc<Shared>,
    stage: watch::Receiver<Stage>,
    asker: Asker,
    orders: Orders,
    upgrades: Journal,
    life: Life,
    /// As it was bound. What a reload says of the address takes a restart.
    config: config::Admin,
    reach: Reach,
    started: (SystemTime, Instant),
    rates: Rates,
    taps: Arc<Cap>,
}

/// Bind the admin listener, within a runtime, unless its socket is inherited.
///
/// # Errors
/// When the address is taken or not allowed.
pub fn bind(
    config: &config::Admin,
    shared: Arc<Shared>,
    stage: watch::Receiver<Stage>,
    asker: Asker,
    orders: Orders,
    upgrades: Journal,
    inherited: &mut Inherited,
) -> Result<Admin, AdminError> {
    let (socket, copy) = Socket::bind(&config.address, inherited)?;
    let reach = Reach::of(&config.address);
    let started = (SystemTime::now(), Instant::now());
    let (config, rates, life) = (config.clone(), Rates::default(), Life::default());
    let taps = Cap::new(tap::AT_ONCE);
    let served = Served { shared, stage, asker, orders, upgrades, life, config, reach, started, rates, taps };
    Ok(Admin { socket, copy, served })
}

impl Admin {
    /// Where it listens, if on TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.tcp_address()
    }

    /// Serve until told otherwise.
    #[must_use]
    pub fn start(self) -> AtWork {
        let Self { socket, copy, served } = self;
        AtWork::new(copy, served.life.clone(), accept_all(socket, served))
    }
}

/// Accept for ever.
async fn accept_all(socket: Socket, served: Served) {
    // Ends with us.
    let _sampler =
        AbortOnDropHandle::new(tokio::spawn(served.rates.clone().follow(Arc::clone(&served.shared))));
    match &socket {
        Socket::Tcp(listener) => info!(address = ?listener.local_addr().ok(), "admin listening"),
        Socket::Unix(listener) => info!(address = ?listener.local_addr().ok(), "admin listening"),
    }
    loop {
        match socket.accept().await {
            Ok((stream, who)) => serve_one(stream, who, &served),
            Err(error) => {
                debug!(%error, "the admin listener can't accept for now");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Serve `who` is at the other end of `stream`.
fn serve_one(stream: Stream, who: String, served: &Served) {
    let (served, stream) = (served.clone(), Hurried::new(stream));
    served.life.clone().spawn(async move {
        let has_asked = Notify::new();
        let service = service_fn(|request| {
            has_asked.notify_one();
            let (served, who) = (&served, &who);
            async move { Ok::<_, Infallible>(careful(answer(&request, served, who).await)) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            // Another process answers from now on. Who came here is still answered here.
            () = served.life.ends(&has_asked) => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "an admin connection broke");
        }
    });
}

async fn answer(request: &Request<Incoming>, served: &Served, who: &str) -> Response<Body> {
    let stage = *served.stage.borrow();
    if let Some(refusal) = served.refuse(request) {
        return refusal;
    }
    match (request.uri().path(), request.method()) {
        ("/reload", &Method::POST) => control::reload(&served.asker).await,
        ("/drain", &Method::POST) => drain::drain(served, request.uri()).await,
        ("/resume", &Method::POST) => drain::resume(served, request.uri()).await,
        ("/rebalance", &Method::POST) => {
            let (served, uri) = (served.clone(), request.uri().clone());
            to_the_end(async move { drain::rebalance(&served, &uri).await }).await
        }
        ("/kick", &Method::POST) => {
            let (served, uri, who) = (served.clone(), request.uri().clone(), who.to_owned());
            to_the_end(async move { kick::kick(&served, &uri, &who).await }).await
        }
        ("/tap", &Method::POST) => tap::look_on(served, request.uri(), who).await,
        ("/upgrade", &Method::POST) => upgrade::upgrade(served).await,
        ("/reload" | "/drain" | "/resume" | "/rebalance" | "/kick" | "/tap" | "/upgrade", _) => {
            not_allowed("POST")
        }
        (_, method) if method != Method::GET && method != Method::HEAD => not_allowed("GET, HEAD"),
        ("/live", _) => text(StatusCode::OK, "live\n"),
        ("/ready", _) => match stage {
            Stage::Ready => ready(&served.shared),
            Stage::Starting | Stage::Draining | Stage::Drained => {
                text(StatusCode::SERVICE_UNAVAILABLE, stage.label().to_owned() + "\n")
            }
        },
        ("/metrics", _) => metrics::answer(Arc::clone(&served.shared), stage).await,
        ("/status", _) => status::answer(served),
        ("/sessions", _) => sessions::list(&served.shared, request.uri()).await,
        (path, _) => page::file(path).unwrap_or_else(|| {
            let words = "there is /, /live, /ready, /metrics, /status, /sessions, and POST /reload, /drain, \
                         /resume, /rebalance, /kick, /tap, /upgrade\n";
            text(StatusCode::NOT_FOUND, words)
        }),
    }
}

/// Carry out what takes turns, whether or not whoever asked waits for the answer: half done, it would be neither
/// undone nor in the log.
async fn to_the_end(order: impl Future<Output = Response<Body>> + Send + 'static) -> Response<Body> {
    let broken = |_| text(StatusCode::INTERNAL_SERVER_ERROR, "this broke; look at the gateway's log\n");
    tokio::spawn(order).await.unwrap_or_else(broken)
}

impl Served {
    /// Why a request is not answered. The token is that of the configuration at work; where that has switched
    /// the admin listener off, which takes a restart, it is the one of before.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let snapshot = self.shared.snapshot.load();
        let config = snapshot.config.admin.as_ref().unwrap_or(&self.config);
        let (path, headers) = (request.uri().path(), request.headers());
        guard::refuse(request.method(), path, headers, config.token.as_ref(), self.reach)
    }
}

/// An answer that a browser neither keeps, guesses at, frames, nor takes for more than it is.
fn careful(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    response
}

/// Serving, and each upstream that is `required` has an endpoint up.
fn ready(shared: &Shared) -> Response<Body> {
    let now = Instant::now();
    let snapshot = shared.snapshot.load();
    let mut pools = snapshot.pools.values().map(|upstream| &upstream.pool);
    match pools.find(|pool| pool.config().required && !pool.is_available(now)) {
        None => text(StatusCode::OK, "ready\n"),
        Some(pool) => {
            let missing = format!("no endpoint of upstream {} is up\n", pool.name());
            text(StatusCode::SERVICE_UNAVAILABLE, missing)
        }
    }
}

fn not_allowed(methods: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {methods}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
