//! TLS toward clients: certificates by SNI, resumption by stateless tickets, ALPN `http/1.1`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{self, CertificateError};
use super::validity::Dated;
use crate::config::{ListenerTls, TlsVersion};

/// The keys of resumption tickets: new ones every 6 hours, the ones before are good for 6 more.
///
/// They may outlive a change of certificates. A ticket resumes a session whose handshake was whole, for the
/// same server name only, and what the client proved then (nothing) has not changed. Whoever lets clients
/// prove something makes new keys when that changes.
#[derive(Debug, Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New keys: no ticket made before is good.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn make() -> Result<Self, rustls::Error> {
        rustls::crypto::aws_lc_rs::Ticketer::new().map(Self)
    }
}

/// A listener's TLS, ready to accept.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// What it makes tickets with.
    pub tickets: Tickets,
    /// When its certificates end, in the file's order.
    pub certificates: Vec<Dated>,
}

/// Put a listener's TLS to work. Clients whose tickets were made with `tickets` resume.
///
/// # Errors
/// When a certificate or key does not load, or the provider can't make tickets.
pub fn server_tls(config: &ListenerTls, tickets: Option<Tickets>) -> Result<ServerTls, ServerError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match config.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let (resolver, certificates) = Certificates::load(config)?;
    let tickets = tickets.map_or_else(Tickets::make, Ok)?;
    let mut server = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets hold the session on the client's side: a stateful store costs 1.4 KiB a connection.
    server.ticketer = Arc::clone(&tickets.0);
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = config.session_tickets;
    // Behind the handshake a stream of ours takes over, with its keys.
    server.enable_secret_extraction = true;
    Ok(ServerTls { config: Arc::new(server), tickets, certificates })
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

thread_local! {
    /// The SNI of the hello that rustls read last: of connections as we drive them it tells nobody else.
    static ASKED_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The SNI of the hello that this thread has just read.
pub(super) fn take_asked_name() -> Option<Box<str>> {
    ASKED_NAME.take()
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
    fn load(config: &ListenerTls) -> Result<(Self, Vec<Dated>), CertificateError> {
        let mut certificates = Self { by_name: HashMap::new(), default: None };
        let mut dates = Vec::new();
        for files in &config.certificates {
            let loaded = certificate::load(files)?;
            dates.push(Dated::of(files, &loaded));
            for name in &loaded.names {
                let name = name.to_ascii_lowercase();
                let key = name.strip_prefix('*').map_or(name.as_str(), |suffix| suffix);
                certificates.by_name.entry(key.to_owned()).or_insert_with(|| Arc::clone(&loaded.certified));
            }
            certificates.default.get_or_insert(loaded.certified);
        }
        Ok((certificates, dates))
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let parent = name.find('.').map(|dot| &name[dot..]);
        self.by_name.get(&name).or_else(|| self.by_name.get(parent?))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        ASKED_NAME.set(name.map(Box::from));
        name.and_then(|name| self.find(name)).or(self.default.as_ref()).cloned()
    }
}
