//! TLS: toward brokers.

mod certificate;
mod client;

pub use certificate::{CertificateError, load_certified_key, load_roots};
pub use client::{BrokerConnector, BrokerTlsError, Speaks};
