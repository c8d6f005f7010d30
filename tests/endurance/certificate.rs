//! An authority, and server certificates of it: one at the start, and each renewal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// The name that certificates are for, and that clients ask for.
pub(crate) const NAME: &str = "gateway.test";

/// Signs certificates; its files lie in the scenario's folder.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    made: usize,
}

/// One that it signed.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    /// The listener's `tls` table.
    pub(crate) toml: String,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        Ok(Self { issuer, folder: folder.to_owned(), made: 0 })
    }

    /// Sign one with a key of its own, in files of its own.
    pub(crate) fn sign(&mut self) -> Result<Certificate> {
        self.made += 1;
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &self.issuer)?;
        let file = |kind: &str| self.folder.join(format!("tls-{}.{kind}", self.made));
        fs::write(file("crt"), leaf.pem())?;
        fs::write(file("key"), key.serialize_pem())?;
        let toml = format!("{{ certificates = [{{ chain = {:?}, key = {:?} }}] }}", file("crt"), file("key"));
        Ok(Certificate { der: leaf.der().clone(), toml })
    }

    /// How a client speaks TLS that trusts it. Each handshake is a full one.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let mut config = ClientConfig::builder_with_provider(brokergate::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}
