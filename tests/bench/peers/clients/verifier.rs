//! Whom we believe: a chain is checked once, as always; when the very same certificate comes again for the
//! same name, that is remembered. Its signature of the handshake is checked each time.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// A check that remembers the last certificate it let pass.
#[derive(Debug)]
pub(super) struct Verifier {
    check: Arc<WebPkiServerVerifier>,
    passed: Mutex<Option<(CertificateDer<'static>, ServerName<'static>)>>,
}

impl Verifier {
    pub(super) fn new(check: Arc<WebPkiServerVerifier>) -> Self {
        Self { check, passed: Mutex::new(None) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.as_ref().is_some_and(|(known, of)| known == certificate && of == name) {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.check.verify_server_cert(certificate, intermediates, name, ocsp_response, now)?;
        *passed = Some((certificate.clone().into_owned(), name.to_owned()));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.check.supported_verify_schemes()
    }
}
