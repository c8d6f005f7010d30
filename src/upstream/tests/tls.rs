//! TLS toward brokers: names, CAs, client certificates, resumption.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::config::{BrokerTls, CertificateFiles, ProxyVersion};
use crate::tunnel::Framing;

/// A CA in a folder, as its operator would hand it out.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        Self::named("Example CA")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key), der: certificate.der().clone() }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn issue(&self, name: &str) -> (CertificateDer<'static>, KeyPair, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key, certificate.pem())
    }

    fn client_certificate(&self) -> CertificateFiles {
        let (_, key, pem) = self.issue("gateway.example.org");
        let [chain, path] = ["gateway.pem", "gateway.key"].map(|name| self.folder.path().join(name));
        std::fs::write(&chain, pem).unwrap();
        std::fs::write(&path, key.serialize_pem()).unwrap();
        CertificateFiles { chain, key: path }
    }

    /// A broker with a certificate for `name`, which asks for one of ours if `mutual`.
    async fn broker(&self, name: &str, mutual: bool) -> Broker {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(self.der.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key, _) = self.issue(name);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Broker { listener, acceptor: Arc::new(config).into() }
    }
}

struct Broker {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Broker {
    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    async fn accept(&self) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
        let (stream, _) = self.listener.accept().await?;
        self.acceptor.accept(stream).await
    }
}

fn mqtts(address: SocketAddr, server_name: Option<&str>) -> config::Endpoint {
    config::Endpoint { tls: true, server_name: server_name.map(Into::into), ..mqtt(at(address)) }
}

fn trusting(tls: BrokerTls, endpoint: config::Endpoint) -> Pool {
    pool(Upstream { tls, ..upstream([endpoint]) })
}

fn ca(authority: &Authority) -> BrokerTls {
    BrokerTls { ca: Some(authority.ca()), client_certificate: None }
}

#[tokio::test]
async fn a_broker_proves_itself_by_name_or_address() {
    let authority = Authority::new();
    for (certificate, server_name) in
        [("broker.example.org", Some("broker.example.org")), ("127.0.0.1", None)]
    {
        let broker = authority.broker(certificate, false).await;
        let pool = trusting(ca(&authority), mqtts(broker.address(), server_name));
        let (dialled, accepted) = tokio::join!(super::dial(&pool), broker.accept());
        let (mut ours, mut theirs) = (dialled.unwrap().stream, accepted.unwrap());
        assert_eq!(theirs.get_ref().1.server_name(), server_name);
        assert_eq!(theirs.get_ref().1.alpn_protocol(), None, "MQTT names no ALPN");
        ours.write_all(b"CONNECT").await.unwrap();
        ours.flush().await.unwrap();
        let mut bytes = [0; 7];
        theirs.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"CONNECT");
    }
}

#[tokio::test]
async fn a_broker_that_does_not_prove_itself_is_not_believed() {
    let (known, made_anew, unknown) = (Authority::new(), Authority::new(), Authority::named("Other CA"));
    for (authority, certificate, hint) in [
        (&known, "other.example.org", "set server_name"),
        (&made_anew, "broker.example.org", "set tls.ca"),
        (&unknown, "broker.example.org", "set tls.ca"),
    ] {
        let broker = authority.broker(certificate, false).await;
        let pool = trusting(ca(&known), mqtts(broker.address(), Some("broker.example.org")));
        let (outcome, accepted) = tokio::join!(super::dial(&pool), broker.accept());
        let error = outcome.unwrap_err();
        assert_eq!((error.label(), error.counts_against_health()), ("tls", true));
        assert!(error.to_string().contains(hint), "{error}");
        assert!(accepted.is_err());
    }
}

#[tokio::test]
async fn a_plain_port_is_told_from_a_tls_one() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = trusting(ca(&authority), mqtts(listener.local_addr().unwrap(), None));
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (outcome, _stream) = tokio::join!(super::dial(&pool), plain);
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("the answer is no TLS"), "{error}");
}

#[tokio::test]
async fn a_tls_port_is_told_from_a_plain_one() {
    let authority = Authority::new();
    let broker = authority.broker("127.0.0.1", false).await;
    let pool = pool(upstream([ws(at(broker.address()))]));
    let (outcome, _) = tokio::join!(super::dial(&pool), broker.accept());
    let error = outcome.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("use wss://"), "{error:?}");
}

#[tokio::test]
async fn we_prove_ourselves_where_the_broker_asks() {
    let authority = Authority::new();
    let broker = authority.broker("127.0.0.1", true).await;
    let tls = BrokerTls { client_certificate: Some(authority.client_certificate()), ..ca(&authority) };
    let pool = trusting(tls, mqtts(broker.address(), None));
    let (dialled, accepted) = tokio::join!(super::dial(&pool), broker.accept());
    assert!(dialled.is_ok());
    assert_eq!(accepted.unwrap().get_ref().1.peer_certificates().unwrap().len(), 1);
}

#[tokio::test]
async fn sessions_are_resumed() {
    let authority = Authority::new();
    let broker = authority.broker("127.0.0.1", false).await;
    let pool = trusting(ca(&authority), mqtts(broker.address(), None));
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (dialled, accepted) = tokio::join!(super::dial(&pool), broker.accept());
        let (mut ours, mut theirs) = (dialled.unwrap().stream, accepted.unwrap());
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(expected));
        // The tickets come with the first bytes we read.
        theirs.write_all(b"x").await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn wss_chooses_http_1_and_the_preamble_comes_before_tls() {
    let authority = Authority::new();
    let broker = authority.broker("127.0.0.1", false).await;
    let endpoint =
        config::Endpoint { tls: true, proxy_protocol: Some(ProxyVersion::V1), ..ws(at(broker.address())) };
    let pool = trusting(ca(&authority), endpoint);
    let serving = async {
        let (mut stream, _) = broker.listener.accept().await.unwrap();
        let mut preamble = vec![0; b"PROXY TCP4 198.51.100.1 192.0.2.9 50000 443\r\n".len()];
        stream.read_exact(&mut preamble).await.unwrap();
        assert_eq!(preamble, b"PROXY TCP4 198.51.100.1 192.0.2.9 50000 443\r\n");
        let stream = broker.acceptor.accept(stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        Box::pin(tokio_tungstenite::accept_async(stream)).await.unwrap()
    };
    let (dialled, _socket) = tokio::join!(super::dial(&pool), serving);
    assert_eq!(dialled.unwrap().framing, Framing::WebSocket);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let missing = authority.folder.path().join("missing.pem");
    let empty = authority.folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let files = authority.client_certificate();
    let (_, other_key, _) = authority.issue("other.example.org");
    let mismatched = CertificateFiles { key: authority.folder.path().join("other.key"), ..files.clone() };
    std::fs::write(&mismatched.key, other_key.serialize_pem()).unwrap();
    let with =
        |client_certificate| BrokerTls { client_certificate: Some(client_certificate), ..ca(&authority) };
    for (tls, expected) in [
        (BrokerTls { ca: Some(missing.clone()), client_certificate: None }, "tls.ca"),
        (BrokerTls { ca: Some(empty), client_certificate: None }, "tls.ca"),
        (with(CertificateFiles { chain: missing, ..files }), "tls.client_certificate"),
        (with(mismatched), "tls.client_certificate"),
    ] {
        let config = Upstream { tls, ..upstream([mqtts(([127, 0, 0, 1], 8883).into(), None)]) };
        let error = Pool::build(&Arc::new(config), OPTIONS, &Resolver::default(), None).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(expected), "{cause}");
    }
}
