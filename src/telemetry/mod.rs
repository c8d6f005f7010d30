//! What we say about ourselves: logs, the access log, and metrics.

pub mod access;
pub(crate) mod harmless;
pub mod log;
mod metrics;
mod tally;

pub use self::log::ErrorChain;
pub use self::metrics::{EndpointMetrics, Metrics, Open};
pub use self::tally::{Counted, Tally};
