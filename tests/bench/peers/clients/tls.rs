//! The client's side of TLS 1.3, with rustls' unbuffered connection: records are decrypted where they were
//! read, in a buffer that all sessions share, and a session keeps only a record's unfinished beginning.

use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, version};

use super::failure::Failure;
use super::verifier::Verifier;

/// Plaintext of a record (RFC 8446, 5.1), and what encryption adds at most.
const RECORD: usize = 16 << 10;
const RECORD_OVERHEAD: usize = 64;

/// Whom we trust, and what we offer: AES-128-GCM and X25519 alone, so that all peers do the same work.
pub(super) fn configuration(ca: &Path, resumption: Resumption) -> Result<Arc<ClientConfig>, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", ca.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let provider = Arc::new(provider);
    let check = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| wrong(&error))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| wrong(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(check)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = resumption;
    Ok(Arc::new(config))
}

/// What was agreed on.
#[derive(Debug, Clone)]
pub(super) struct Agreed {
    pub(super) version: String,
    pub(super) suite: String,
    pub(super) group: String,
}

/// Records on their way out. Its memory is kept, and never cleared.
#[derive(Default)]
pub(super) struct Records {
    memory: Vec<u8>,
    len: usize,
}

impl Records {
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    /// Let `write` append up to `most` bytes; it says how many.
    fn append<E: std::fmt::Display>(
        &mut self,
        most: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), Failure> {
        if self.memory.len() < self.len + most {
            self.memory.resize(self.len + most, 0);
        }
        self.len += write(&mut self.memory[self.len..]).map_err(Failure::new)?;
        Ok(())
    }
}

/// One session's TLS.
pub(super) struct Tls {
    connection: UnbufferedClientConnection,
    /// The beginning of a record, or of a handshake message, whose end has not come.
    partial: Vec<u8>,
}

impl Tls {
    pub(super) fn new(config: &Arc<ClientConfig>, name: &ServerName<'static>) -> Result<Self, Failure> {
        let connection = UnbufferedClientConnection::new(config.clone(), name.clone())?;
        Ok(Self { connection, partial: Vec::new() })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(super) fn agreed(&self) -> Agreed {
        let suite = self.connection.negotiated_cipher_suite();
        let group = self.connection.negotiated_key_exchange_group();
        Agreed {
            version: self.connection.protocol_version().map(|it| format!("{it:?}")).unwrap_or_default(),
            suite: suite.map(|it| format!("{:?}", it.suite())).unwrap_or_default(),
            group: group.map(|it| format!("{:?}", it.name())).unwrap_or_default(),
        }
    }

    /// Put what was kept back before what is about to be read. How many bytes that is.
    pub(super) fn put_back(&mut self, buffer: &mut [u8]) -> usize {
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        kept
    }

    /// Take records: plaintext goes to `sink`, what TLS itself has to say to `out`. Whether the peer has
    /// said that it closes.
    pub(super) fn open(
        &mut self,
        records: &mut [u8],
        out: &mut Records,
        mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut start = 0;
        let mut has_closed = false;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut records[start..]);
            let goes_on = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        sink(record.payload)?;
                    }
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    out.append(RECORD + RECORD_OVERHEAD, |space| data.encode(space))?;
                    true
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    true
                }
                ConnectionState::PeerClosed => {
                    has_closed = true;
                    true
                }
                _ => false,
            };
            start += discard;
            if !goes_on {
                break;
            }
        }
        self.partial.extend_from_slice(&records[start..]);
        Ok(has_closed)
    }

    /// Encrypt `plain` to the end of `out`.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Records) -> Result<(), Failure> {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        let ConnectionState::WriteTraffic(mut traffic) = state? else {
            return Err(Failure::new("TLS is not ready to send"));
        };
        let most = plain.len() + (plain.len() / RECORD + 1) * RECORD_OVERHEAD;
        out.append(most, |space| traffic.encrypt(plain, space))
    }

    /// Say that we close (RFC 8446, 6.1).
    pub(super) fn say_goodbye(&mut self, out: &mut Records) -> Result<(), Failure> {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        match state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                out.append(RECORD_OVERHEAD, |space| traffic.queue_close_notify(space))
            }
            _ => Ok(()),
        }
    }
}
