//! stub
mod hop_by_hop;
pub use hop_by_hop::*;
use std::sync::Arc;
#[derive(Debug)]
pub struct Backend(Arc<crate::config::Backend>);
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("x")]
    Timeout { x: u8 },
    #[error("x")]
    Other,
}
impl BackendError { pub fn hint(&self) -> String { String::new() } }
impl Backend {
    pub fn build(c: &Arc<crate::config::Backend>, _: crate::net::SocketOptions) -> Self { Self(c.clone()) }
    pub fn config(&self) -> &crate::config::Backend { &self.0 }
    pub async fn forward<B>(&self, _: http::Request<B>, _: http::HeaderMap, _: crate::drain::Watch) -> Result<http::Response<crate::net::Body>, BackendError> { Err(BackendError::Other) }
}
