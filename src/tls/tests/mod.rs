//! A client's TLS, held against rustls' own client and against one that breaks every rule.

mod client;
mod echo;
mod handshake;
mod hostile;
mod keys;
mod schedule;
mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::{AcceptError, accept, server_tls};
use crate::config::{CertificateFiles, ListenerTls, TlsVersion};
use crate::net::{TlsFacts, TlsStream};

const NAME: &str = "gateway.example.org";

/// A listener's TLS as it is configured, and what its clients trust.
struct Server {
    config: Arc<ServerConfig>,
    root: CertificateDer<'static>,
}

impl Server {
    fn new() -> Self {
        Self::signing_with(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn signing_with(algorithm: &'static SignatureAlgorithm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = CertificateFiles { chain: folder.path().join("chain"), key: folder.path().join("key") };
        std::fs::write(&files.chain, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let tls =
            ListenerTls { certificates: vec![files], min_version: TlsVersion::Tls12, session_tickets: 2 };
        Self { config: server_tls(&tls, None).unwrap().config, root: certificate.der().clone() }
    }

    /// A client of these suites, and so of their versions.
    fn client(&self, suites: &[SupportedCipherSuite]) -> Arc<ClientConfig> {
        let provider = super::provider().as_ref().clone();
        self.client_with(CryptoProvider { cipher_suites: suites.to_vec(), ..provider })
    }

    fn client_with(&self, provider: CryptoProvider) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let suites = provider.cipher_suites.clone();
        let versions: Vec<_> = rustls::ALL_VERSIONS
            .iter()
            .copied()
            .filter(|version| suites.iter().any(|suite| suite.version() == *version))
            .collect();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        Arc::new(config)
    }

    async fn accepts(&self, socket: TcpStream) -> Result<(TlsStream, TlsFacts), AcceptError> {
        Box::pin(within("our handshake", accept(socket, &self.config))).await
    }

    /// rustls' client and our stream, the handshake done.
    async fn pair(
        &self,
        client: &Arc<ClientConfig>,
    ) -> (tokio_rustls::client::TlsStream<TcpStream>, TlsStream) {
        let (dialled, accepted) = sockets().await;
        let connector = TlsConnector::from(Arc::clone(client));
        let client = within("the client's handshake", connector.connect(name(), dialled));
        let (client, ours) = tokio::join!(client, self.accepts(accepted));
        (client.unwrap(), ours.unwrap().0)
    }

    /// A client that obeys nothing, and our stream.
    async fn pair_by_hand(&self, suite: SupportedCipherSuite) -> (client::Client, TlsStream) {
        let (dialled, accepted) = sockets().await;
        let client = Box::pin(async {
            let mut client = client::Client::shake_hands(dialled, self.client(&[suite])).await;
            client.send(&[]).await;
            client
        });
        let (client, ours) = tokio::join!(within("the client's handshake", client), self.accepts(accepted));
        (client, ours.unwrap().0)
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// The client's end, and ours.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap().0);
    dialled.set_nodelay(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    (dialled, accepted)
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} does not come to its end"),
    }
}

/// Bytes of which no piece resembles another.
fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Read once if anything can be read now.
async fn read_ready(stream: &mut TlsStream, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    poll_fn(|cx| {
        let mut into = ReadBuf::new(buffer);
        Poll::Ready(match Pin::new(&mut *stream).poll_read(cx, &mut into) {
            Poll::Ready(read) => Some(read.map(|()| into.filled().len())),
            Poll::Pending => None,
        })
    })
    .await
}

async fn read_exactly(stream: &mut TlsStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    within("the reading", stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

fn suites() -> Vec<SupportedCipherSuite> {
    super::provider().cipher_suites.clone()
}

fn tls13() -> SupportedCipherSuite {
    rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256
}

fn tls12() -> SupportedCipherSuite {
    rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
}

fn tls12_chacha() -> SupportedCipherSuite {
    rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
}
