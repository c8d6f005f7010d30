//! A connection to the admin listener: its requests, one after the other, until it is over or is to end.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::stall::Hurried;
use super::{Served, request};
use crate::net::Stream;

/// How long a request's head, and an idle connection, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serve `who` is at the other end of `stream`.
pub(super) async fn serve(stream: Stream, who: &str, served: &Served) -> hyper::Result<()> {
    let has_asked = Notify::new();
    let service = service_fn(|request| {
        has_asked.notify_one();
        async move { Ok::<_, Infallible>(request::answer(&request, served, who).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(Hurried::new(stream)), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        // Another process answers from now on. Who came here is still answered here.
        () = served.life.ends(&has_asked) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
