//! `POST /upgrade`: start the next process and hand over to it.

use http::Response;

use super::Served;
use super::answer::told;
use super::query::conflict;
use crate::drain::Order;
use crate::net::Body;

/// 200 when another process serves, 409 when this one works on. The body says which, and why.
pub(super) async fn upgrade(served: &Served) -> Response<Body> {
    told(served.orders.give(Order::Upgrade).await.map_err(conflict))
}
