//! What we say about ourselves: logs, the access log, and metrics.

pub mod access;
pub mod log;
mod metrics;

pub use self::log::ErrorChain;
pub use self::metrics::{EndpointMetrics, Metrics, Open};
