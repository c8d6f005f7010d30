//! `POST /upgrade`: start the next process and hand over to it.

use http::Response;

use super::Served;
use super::query::{answer, conflict};
use crate::drain::Order;
use crate::net::Body;

/// 200 when another process serves, 409 when this one works on. The body says which, and why.
pub(super) async fn upgrade(served: &Served) -> Response<Body> {
    answer(served.orders.give(Order::Upgrade).await.map_err(conflict))
}
