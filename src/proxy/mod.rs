//! From a request to its answer: route it, and serve what the route leads to.

mod account;
mod admission;
mod arriving;
pub mod forwarded;
pub mod handshake;
mod opening;
pub mod rejection;
pub mod roster;
mod session;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use http::header::{HeaderValue, LOCATION};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;
use tracing::warn;

use self::admission::Caps;
use self::arriving::Arrivals;
use self::roster::{Roster, Shard};
use crate::backend::{Backend, BackendError};
use crate::config::{self, Limits, Redirect};
use crate::drain::Drain;
use crate::net::{Arrival, Body, empty};
use crate::route::{BadHost, requested_host};
use crate::snapshot::{Snapshot, Target};
use crate::telemetry::{ErrorChain, Metrics, access};
use crate::tunnel::AllTraffic;

pub use self::admission::{Admission, Load, Loads, Permits};
pub use self::arriving::Arriving;
pub use self::rejection::{Limit, Rejection};

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// The configuration at work. Read once a request.
    pub snapshot: ArcSwap<Snapshot>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Asks connections to finish, and what a backend is joined to.
    pub drain: Drain,
    /// Asks sessions.
    pub sessions: Drain,
    /// What flows through sessions.
    pub traffic: AllTraffic,
    /// What each worker serves.
    pub loads: Loads,
    /// Who has come and not been answered yet.
    pub arrivals: Arrivals,
    /// Who they are.
    pub roster: Roster,
    caps: Caps,
    observer: OnceLock<Observer>,
}

/// A session that found its broker, or one of those that ended.
#[derive(Debug, Clone, Copy)]
pub struct SessionEvent<'a> {
    /// Opened, or ended.
    pub opened: bool,
    /// The ClientID, as the client chose it.
    pub client_id: &'a str,
    /// The client's address.
    pub client: SocketAddr,
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// `3.1`, `3.1.1` or `5`.
    pub protocol: &'static str,
}

/// Who is told of sessions, on the worker where it happens: it must be quick.
struct Observer(Box<dyn Fn(&SessionEvent<'_>) + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// One client connection, for each of its requests.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    arrival: Arrival,
    /// Until the first request is answered, or its session has a broker.
    arriving: Mutex<Option<Arriving>>,
    admission: Arc<Admission>,
    listener: Arc<config::Listener>,
    shared: Arc<Shared>,
}

impl Shared {
    /// Put a snapshot to work; `sessions` is what it was built with.
    #[must_use]
    pub fn new(snapshot: Snapshot, metrics: Arc<Metrics>, sessions: Drain) -> Arc<Self> {
        snapshot.go_to_work();
        let caps = Caps::new(&snapshot.config.limits);
        let drain = Drain::of(snapshot.config.runtime.workers);
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics,
            drain,
            sessions,
            traffic: AllTraffic::default(),
            loads: Loads::default(),
            arrivals: Arrivals::default(),
            roster: Roster::default(),
            caps,
            observer: OnceLock::new(),
        })
    }

    /// Tell `observer` of each session from now on. The first observer stays.
    pub fn observe(&self, observer: impl Fn(&SessionEvent<'_>) + Send + Sync + 'static) {
        let _ = self.observer.set(Observer(Box::new(observer)));
    }

    fn tell(&self, event: &SessionEvent<'_>) {
        if let Some(Observer(observer)) = self.observer.get() {
            observer(event);
        }
    }

    /// Whether a peer's PROXY preamble and forwarded headers are believed.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.snapshot.load().config.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// How many connections hold a permit, and how many may.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.caps.permits().connections
    }

    /// How many permits are out, and how many there are.
    #[must_use]
    pub fn permits(&self) -> Permits {
        self.caps.permits()
    }

    /// Other caps from now on. Who is in stays in.
    pub fn change_limits(&self, limits: &Limits) {
        self.caps.change(limits);
    }

    /// Let a connection in; see [`Admission`]. `None` is one too many even to be told so.
    #[must_use]
    pub fn admit(&self, client: IpAddr, load: Load) -> Option<Admission> {
        // A trusted proxy speaks for many clients: the cap of one address is not for it.
        let address = Some(client).filter(|client| !self.trusts(*client));
        self.caps.admit(address, &self.metrics, load)
    }
}

impl Inner {
    /// Its arrival, which is over when this is dropped; `None` if it is.
    fn arriving(&self) -> Option<Arriving> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Connection {
    /// A connection whose requests come from `arrival`.
    #[must_use]
    pub fn new(
        arrival: Arrival,
        arriving: Arriving,
        admission: Admission,
        listener: Arc<config::Listener>,
        shared: Arc<Shared>,
    ) -> Self {
        let (arriving, admission) = (Mutex::new(Some(arriving)), Arc::new(admission));
        Self(Arc::new(Inner { arrival, arriving, admission, listener, shared }))
    }
}

/// Answer a request. Never fails: every no is a [`Rejection`], counted and logged here.
pub async fn answer(request: Request<Incoming>, connection: &Connection) -> Response<Body> {
    let began = Instant::now();
    let Connection(inner) = connection;
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let host = requested_host(&request).map(|host| host.map(Box::<str>::from));
    let snapshot = inner.shared.snapshot.load_full();
    let mut to = Target::NONE;
    let asked = host.as_ref().map(Option::as_deref).map_err(|&bad| bad);
    let answered = answer_or_reject(request, asked, inner, &snapshot, &mut to).await;
    // A session has taken it along.
    drop(inner.arriving());
    let (response, rejection) = match answered {
        Ok(response) => (response, None),
        Err(rejection) => {
            inner.shared.metrics.rejected(rejection.label());
            (rejection.response(), Some(rejection.label()))
        }
    };
    inner.shared.metrics.answered(to, class(response.status()));
    // A session has its own line, when it ends.
    if snapshot.config.log.access && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        access::Request {
            client: inner.arrival.client,
            method: method.as_str(),
            host: asked.ok().flatten().unwrap_or_default(),
            path: uri.path(),
            target: to,
            status: response.status().as_u16(),
            rejection,
            duration: began.elapsed(),
        }
        .write();
    }
    response
}

async fn answer_or_reject(
    request: Request<Incoming>,
    host: Result<Option<&str>, BadHost>,
    inner: &Inner,
    snapshot: &Snapshot,
    to: &mut &'static str,
) -> Result<Response<Body>, Rejection> {
    if let Some(limit) = inner.admission.refused() {
        return Err(Rejection::Full(limit));
    }
    if inner.shared.drain.is_asked() {
        return Err(Rejection::Draining);
    }
    let host = host.map_err(Rejection::BadHost)?;
    if let Some(redirect) = inner.listener.redirect {
        *to = "redirect";
        return redirect_to_https(redirect, host, request.uri());
    }
    let Some(target) = snapshot.routes.find(host, request.uri().path()) else {
        return Err(not_found(snapshot, host, handshake::is_upgrade(request.headers())));
    };
    *to = target.label();
    match target {
        Target::Mqtt(route, upstream) => {
            let handshake = handshake::check(&request, route)?;
            let (pool, now) = (&upstream.pool, Instant::now());
            if !pool.is_available(now) && !pool.takes_chance(now) {
                return Err(Rejection::NoEndpoint);
            }
            if pool.is_full(now) {
                return Err(Rejection::Full(Limit::Sessions));
            }
            let identity = forwarded::identify(
                &inner.arrival,
                request.headers(),
                host,
                &snapshot.config.trusted_proxies,
            );
            session::accept(request, handshake, identity, inner, snapshot, upstream)
        }
        // A site has no WebSockets: the client has the wrong path.
        Target::Site(_) if handshake::is_upgrade(request.headers()) => Err(not_found(snapshot, host, true)),
        Target::Site(files) => Ok(files.serve(&request).await),
        Target::Backend(settings, backend) => {
            let identity = forwarded::identify(
                &inner.arrival,
                request.headers(),
                host,
                &snapshot.config.trusted_proxies,
            );
            let headers = forwarded::backend_headers(&identity, &settings.forwarded, request.headers());
            let answer = backend
                .forward(request, headers, inner.shared.drain.watch(), Arc::clone(&inner.admission))
                .await;
            answer.map_err(|error| reject_backend(backend, &error))
        }
        Target::Redirect(redirect) => redirect_to_https(*redirect, host, request.uri()),
    }
}

/// The client learns what happened, the log where and why.
fn reject_backend(backend: &Backend, error: &BackendError) -> Rejection {
    warn!(backend = %backend.name(), error = %ErrorChain(error), "a backend failed");
    error.into()
}

fn not_found(snapshot: &Snapshot, host: Option<&str>, is_upgrade: bool) -> Rejection {
    if !snapshot.routes.knows(host) {
        return Rejection::UnknownHost { host: rejection::shown(host.unwrap_or_default().as_bytes()) };
    }
    let is_mqtt = |target: &Target| matches!(target, Target::Mqtt(..));
    let mqtt_paths = if is_upgrade { snapshot.routes.paths_to(host, is_mqtt) } else { Vec::new() };
    Rejection::NotFound { mqtt_paths }
}

/// 308 keeps the method (RFC 9110, 15.4.9).
fn redirect_to_https(redirect: Redirect, host: Option<&str>, uri: &Uri) -> Result<Response<Body>, Rejection> {
    let host = host.ok_or(Rejection::BadHost(BadHost::Missing))?;
    let name = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(name, _)| name);
    let port = if redirect.port == 443 { String::new() } else { format!(":{}", redirect.port) };
    let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
    let location =
        HeaderValue::try_from(format!("https://{name}{port}{rest}")).map_err(|_| Rejection::BadRequest)?;
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
