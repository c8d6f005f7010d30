//! One plain HTTP application server beside MQTT: requests and upgrades go on to it, no more.
//!
//! Bodies are streamed both ways and may not fall silent; connections are kept and used again. A client
//! that leaves takes its request with it: the future or the body is dropped, and hyper ends the exchange.

mod body;
mod dial;
mod hop_by_hop;
mod tunnel;

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use self::body::{Turn, Upload, Watched};
use self::dial::Dialer;
use crate::config;
use crate::drain::Watch;
use crate::net::{Body, SocketOptions, empty};

pub use hop_by_hop::remove_hop_by_hop;

/// How long an idle connection is kept. Node.js closes its side after 5 s: whoever is later loses requests.
const KEPT_IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept.
const MAX_IDLE: usize = 64;

/// The pool wants an authority in each URL; the dialer knows where to go without it.
const ANY_AUTHORITY: &str = "backend";

const UPGRADE_OPTION: HeaderValue = HeaderValue::from_static("upgrade");

/// An application server at work.
#[derive(Debug, Clone)]
pub struct Backend {
    name: Arc<str>,
    client: Client<Dialer, Watched>,
    authority: HeaderValue,
    dial_timeout: Duration,
    response_timeout: Duration,
}

/// Why there is no answer of the backend's.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// It could not be reached.
    #[error("the backend cannot be reached; check that it runs, and its address")]
    Dial(#[source] legacy::Error),
    /// Nothing answered the dial.
    #[error("the backend did not take the connection within {}", humantime::format_duration(*.0))]
    DialTimeout(Duration),
    /// The connection ended, or what came was no HTTP.
    #[error("the backend broke off the exchange, or did not speak HTTP/1.1")]
    Exchange(#[source] legacy::Error),
    /// Its answer did not begin in time.
    #[error("the backend did not begin its answer within {}", humantime::format_duration(*.0))]
    ResponseTimeout(Duration),
    /// The client stopped sending in the middle of its request.
    #[error("the client sent nothing of its request's body for {}", humantime::format_duration(*.0))]
    ClientSilent(Duration),
    /// A 101 that nobody asked for.
    #[error("the backend switched protocols unasked")]
    UnaskedUpgrade,
    /// `CONNECT` would open a tunnel to anywhere.
    #[error("CONNECT is not forwarded")]
    ConnectMethod,
}

impl Backend {
    /// A backend as configured. Nothing is dialled until the first request.
    #[must_use]
    pub fn build(backend: &config::Backend, socket: SocketOptions) -> Self {
        let dialer = Dialer::new(backend.address.clone(), backend.dial_timeout, socket);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .set_host(false)
            .build(dialer);
        Self {
            name: Arc::clone(&backend.name),
            client,
            authority: dial::authority(&backend.address),
            dial_timeout: backend.dial_timeout,
            response_timeout: backend.response_timeout,
        }
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Send a request on, and bring the answer back.
    ///
    /// `headers` is the whole head to be sent, without hop-by-hop headers (those of the request itself are
    /// read here for what they ask of us). Without a `Host` it gets the backend's own. After a 101 the
    /// tunnel runs on by itself; it holds `drain` and ends when that is cut, and `held` (the connection's
    /// permits) until then.
    ///
    /// # Errors
    /// [`BackendError`]
    pub async fn forward(
        &self,
        mut request: Request<Incoming>,
        headers: HeaderMap,
        drain: Watch,
        held: impl Send + 'static,
    ) -> Result<Response<Body>, BackendError> {
        if request.method() == Method::CONNECT {
            return Err(BackendError::ConnectMethod);
        }
        let protocols =
            hop_by_hop::upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11);
        let client_side = protocols.is_some().then(|| hyper::upgrade::on(&mut request));
        let (request, upload) = self.outgoing(request, headers, protocols);
        let mut response = self.exchange(request, &upload).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self.incoming(response));
        }
        let (Some(client_side), Some(protocol)) = (client_side, response.headers().get(UPGRADE).cloned())
        else {
            return Err(BackendError::UnaskedUpgrade);
        };
        let backend_side = hyper::upgrade::on(&mut response);
        let patience = self.response_timeout;
        tokio::spawn(async move {
            tunnel::run(client_side, backend_side, patience, drain).await;
            drop(held);
        });
        Ok(switched(response, protocol))
    }

    fn outgoing(
        &self,
        request: Request<Incoming>,
        mut headers: HeaderMap,
        protocols: Option<HeaderValue>,
    ) -> (Request<Watched>, Arc<Upload>) {
        let (head, body) = request.into_parts();
        headers.entry(HOST).or_insert_with(|| self.authority.clone());
        // hyper says 100 to the client as soon as the body is wanted, which is once there is a connection.
        headers.remove(EXPECT);
        if let Some(protocols) = protocols {
            headers.insert(UPGRADE, protocols);
            headers.insert(CONNECTION, UPGRADE_OPTION);
        } else if hop_by_hop::takes_trailers(&head.headers) {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        // hyper would send a GET of unknown length without its body.
        if !body.is_end_stream() && body.size_hint().exact().is_none() {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let upload = Arc::new(Upload::new());
        let body = Watched::upload(body, self.response_timeout, Arc::clone(&upload));
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = absolute(head.uri);
        *request.headers_mut() = headers;
        (request, upload)
    }

    /// The answer's head. The dialer has its own deadline; from then on the backend has
    /// `response_timeout` after each piece of the request's body that it took.
    async fn exchange(
        &self,
        mut request: Request<Watched>,
        upload: &Upload,
    ) -> Result<Response<Incoming>, BackendError> {
        let mut connection = capture_connection(&mut request);
        let mut answer = self.client.request(request);
        tokio::select! {
            answer = &mut answer => return answer.map_err(|error| self.failed(error, upload)),
            _ = connection.wait_for_connection_metadata() => upload.opened(),
        }
        loop {
            let deadline = upload.moved_at() + self.response_timeout;
            if let Ok(answer) = tokio::time::timeout_at(deadline, &mut answer).await {
                return answer.map_err(|error| self.failed(error, upload));
            }
            if upload.moved_at() + self.response_timeout > deadline {
                continue;
            }
            return Err(match upload.turn() {
                Turn::Backend => BackendError::ResponseTimeout(self.response_timeout),
                Turn::Client | Turn::Forfeited => BackendError::ClientSilent(self.response_timeout),
            });
        }
    }

    fn failed(&self, error: legacy::Error, upload: &Upload) -> BackendError {
        if upload.turn() == Turn::Forfeited {
            return BackendError::ClientSilent(self.response_timeout);
        }
        if !error.is_connect() {
            return BackendError::Exchange(error);
        }
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut) {
            return BackendError::DialTimeout(self.dial_timeout);
        }
        BackendError::Dial(error)
    }

    fn incoming(&self, response: Response<Incoming>) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        let mut answer = Response::new(Body::new(Watched::download(body, self.response_timeout)));
        *answer.status_mut() = head.status;
        *answer.headers_mut() = head.headers;
        answer
    }
}

/// The URL the pool wants; the path and query go on as they came.
fn absolute(uri: Uri) -> Uri {
    let mut parts = uri.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static(ANY_AUTHORITY));
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
}

/// Our 101, with the backend's words.
fn switched(response: Response<Incoming>, protocol: HeaderValue) -> Response<Body> {
    let (mut head, _) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    head.headers.insert(CONNECTION, UPGRADE_OPTION);
    head.headers.insert(UPGRADE, protocol);
    let mut answer = Response::new(empty());
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    answer
}

#[cfg(test)]
mod tests;
