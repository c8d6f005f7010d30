//! A throw-away authority and a server certificate for this machine's loopback names.
//!
//! The authority's key is never written: nobody can sign anything else with it later.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

use super::{DemoError, Folder};

/// The names and addresses the server certificate is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Valid from yesterday, for clocks that differ, and for so long from then.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Where the files are. They go with the folder they were made in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    ca: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Make both certificates and write them, ECDSA P-256, PEM, into `folder`.
    ///
    /// # Errors
    /// [`DemoError::Certificate`] when a key cannot be made, [`DemoError::File`] when a file cannot be written.
    pub fn make(folder: &Folder) -> Result<Self, DemoError> {
        let ca = CertifiedIssuer::self_signed(authority(), KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = server()?.signed_by(&key, &ca)?;
        Ok(Self {
            ca: folder.write("ca.pem", &ca.pem())?,
            chain: folder.write("chain.pem", &leaf.pem())?,
            key: folder.write("key.pem", &key.serialize_pem())?,
        })
    }

    /// The authority's certificate: what clients are told to trust.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// The server's chain: its certificate alone, for the authority signed it itself.
    #[must_use]
    pub fn chain(&self) -> &Path {
        &self.chain
    }

    /// The server's key.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }
}

fn authority() -> CertificateParams {
    let mut params = valid_this_week(named("brokergate demo authority"));
    // It signs servers, never another authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name = named("brokergate demo").distinguished_name;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // OpenSSL's strict mode and RFC 5280 4.2.1.1 want it.
    params.use_authority_key_identifier_extension = true;
    Ok(valid_this_week(params))
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn valid_this_week(mut params: CertificateParams) -> CertificateParams {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(DAY);
    params.not_after = params.not_before + VALIDITY;
    params
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A TLS handshake with a client that trusts `ca` alone and asks for `name`.
    async fn handshake(certificate: &Certificate, ca: &Path, name: &str) -> std::io::Result<()> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = CertificateDer::pem_file_iter(certificate.chain()).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(certificate.key()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();

        let (near, far) = tokio::io::duplex(16 * 1024);
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let server = tokio::spawn(async move { acceptor.accept(far).await.map(drop) });
        let name = ServerName::try_from(name.to_owned()).unwrap();
        // Held until the server is done: it still has tickets to send.
        let _client = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        server.await.unwrap()
    }

    #[tokio::test]
    async fn loopback_names_are_accepted_with_the_authority() {
        let folder = Folder::create().unwrap();
        let certificate = Certificate::make(&folder).unwrap();
        for name in NAMES {
            handshake(&certificate, certificate.ca(), name).await.unwrap();
        }
    }

    #[tokio::test]
    async fn other_names_and_other_authorities_are_not() {
        let (folder, other) = (Folder::create().unwrap(), Folder::create().unwrap());
        let certificate = Certificate::make(&folder).unwrap();
        let stranger = Certificate::make(&other).unwrap();
        handshake(&certificate, certificate.ca(), "example.org").await.unwrap_err();
        handshake(&certificate, stranger.ca(), "localhost").await.unwrap_err();
    }

    #[test]
    fn it_is_valid_from_yesterday_for_thirty_days() {
        let folder = Folder::create().unwrap();
        let certificate = Certificate::make(&folder).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        for path in [certificate.ca(), certificate.chain()] {
            let der = CertificateDer::from_pem_file(path).unwrap();
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
            let (from, to) =
                (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
            assert_eq!(to - from, 30 * 24 * 60 * 60);
            assert!((i64::try_from(now).unwrap() - from - 24 * 60 * 60).abs() < 60);
        }
    }
}
