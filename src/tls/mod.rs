//! TLS of both sides: what we prove to clients, and what brokers prove to us.

mod accept;
mod certificate;
mod client;
mod server;
mod validity;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use accept::{AcceptError, accept};
pub use certificate::{CertificateError, LoadedCertificate, load, load_roots};
pub use client::{BrokerConnector, BrokerTlsError, Speaks};
pub use server::{ServerError, ServerTls, Tickets, server_tls};
pub use validity::{Complaint, Dated};

/// The one provider we use. Named wherever a TLS configuration is built: dependencies bring others along.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
