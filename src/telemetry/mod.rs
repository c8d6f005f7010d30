//! What we say about ourselves: logs, the access log, and metrics.

pub mod access;
pub mod log;
mod metrics;
mod recorder;
mod tally;

pub use self::log::ErrorChain;
pub use self::metrics::{EndpointMetrics, Flowed, Labels, LookUps, Metrics, Open, Scraped, UpstreamMetrics};
pub use self::recorder::Closed;
pub(crate) use self::recorder::{number, whether};
pub use self::tally::{Counted, Tally};
