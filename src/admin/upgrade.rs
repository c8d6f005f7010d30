//! `POST /upgrade`: start the next process and hand over to it.

use http::{Response, StatusCode};

use super::{Served, text};
use crate::drain::Order;
use crate::net::Body;

/// 200 when another process serves, 409 when this one works on. The body says which, and why.
pub(super) async fn upgrade(served: &Served) -> Response<Body> {
    let (status, words) = match served.orders.give(Order::Upgrade).await {
        Ok(words) => (StatusCode::OK, words),
        Err(words) => (StatusCode::CONFLICT, words),
    };
    text(status, words + "\n")
}
