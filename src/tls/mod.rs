//! TLS toward clients and brokers.

mod certificate;

pub use certificate::{CertificateError, LoadedCertificate, load, load_roots};
