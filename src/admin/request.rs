//! A request to its answer: whether whoever asks may, and what answers it.

use std::sync::Arc;

use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::{careful, text};
use super::{Served, Stage, control, drain, guard, kick, metrics, page, sessions, status, tap, upgrade};
use crate::net::Body;
use crate::proxy::Shared;

/// Answer what `who` asks.
pub(super) async fn answer(request: &Request<Incoming>, served: &Served, who: &str) -> Response<Body> {
    careful(match refuse(request, served) {
        Some(refusal) => refusal,
        None => carry_out(request, served, who).await,
    })
}

/// Why a request is not answered. The token is that of the configuration at work; where that has switched
/// the admin listener off, which takes a restart, it is the one of before.
fn refuse(request: &Request<Incoming>, served: &Served) -> Option<Response<Body>> {
    let snapshot = served.shared.snapshot.load();
    let config = snapshot.config.admin.as_ref().unwrap_or(&served.config);
    let (path, headers) = (request.uri().path(), request.headers());
    guard::refuse(request.method(), path, headers, config.token.as_ref(), served.reach)
}

async fn carry_out(request: &Request<Incoming>, served: &Served, who: &str) -> Response<Body> {
    let stage = *served.stage.borrow();
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
