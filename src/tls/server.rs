//! TLS toward clients: certificates by SNI, resumption by stateless tickets, ALPN `http/1.1`.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{self, CertificateError};
use crate::config::{ListenerTls, TlsVersion};

/// A listener's TLS, ready to accept.
///
/// # Errors
/// When a certificate or key does not load, or the provider can't make tickets.
pub fn server_config(config: &ListenerTls) -> Result<Arc<ServerConfig>, ServerError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match config.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let mut server = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates::load(config)?));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets hold the session on the client's side: a stateful store costs 1.4 KiB a connection.
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = config.session_tickets;
    // Behind the handshake a stream of ours takes over, with its keys.
    server.enable_secret_extraction = true;
    Ok(Arc::new(server))
}

/// Why a listener has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A certificate or its key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The provider.
    #[error("TLS can't be set up")]
    Tls(#[from] rustls::Error),
}

/// A listener's certificates.
#[derive(Debug)]
struct Certificates {
    /// By name in lower case; `*.example.org` under `.example.org`.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name none, or one that no certificate is for.
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn load(config: &ListenerTls) -> Result<Self, CertificateError> {
        let mut certificates = Self { by_name: HashMap::new(), default: None };
        for files in &config.certificates {
            let loaded = certificate::load(files)?;
            for name in &loaded.names {
                let name = name.to_ascii_lowercase();
                let key = name.strip_prefix('*').map_or(name.as_str(), |suffix| suffix);
                certificates.by_name.entry(key.to_owned()).or_insert_with(|| Arc::clone(&loaded.certified));
            }
            certificates.default.get_or_insert(loaded.certified);
        }
        Ok(certificates)
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let parent = name.find('.').map(|dot| &name[dot..]);
        self.by_name.get(&name).or_else(|| self.by_name.get(parent?))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.server_name().and_then(|name| self.find(name)).or(self.default.as_ref()).cloned()
    }
}
