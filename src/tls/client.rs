//! TLS toward brokers (`wss`, `mqtts`): whom we believe, and how we prove ourselves.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{self, CertificateError};
use super::validity::Dated;
use crate::config::BrokerTls;

/// What a session's stream may queue for sending, bytes; rustls' own limit is 64 KiB.
const SEND_QUEUE: usize = 16 * 1024;

/// Why TLS toward brokers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BrokerTlsError {
    /// The file of CAs.
    #[error("tls.ca")]
    Roots(#[source] CertificateError),
    /// The system has no roots we can use.
    #[error("the system's root certificates cannot be used: install them, or set tls.ca")]
    SystemRoots(#[source] rustls::Error),
    /// Our own certificate or key.
    #[error("tls.client_certificate")]
    ClientCertificate(#[source] CertificateError),
    /// The cryptography at work lacks something.
    #[error("TLS 1.2 and 1.3 are not available")]
    Versions(#[source] rustls::Error),
}

/// What is spoken inside TLS, for ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// WebSocket, which begins as HTTP/1.1: ALPN says so, lest a broker's front chooses HTTP/2.
    WebSocket,
    /// MQTT: no ALPN, for most brokers know none.
    Mqtt,
}

/// Opens TLS to the brokers of one pool. Sessions are resumed.
#[derive(Clone)]
pub struct BrokerConnector {
    websocket: TlsConnector,
    mqtt: TlsConnector,
    certificate: Option<Dated>,
}

impl BrokerConnector {
    /// Read the files and set up TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// When a file cannot be used, or the system has no roots.
    pub fn build(settings: &BrokerTls) -> Result<Self, BrokerTlsError> {
        let (mqtt, certificate) = client_config(settings)?;
        let mut websocket = mqtt.clone();
        websocket.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { websocket: Arc::new(websocket).into(), mqtt: Arc::new(mqtt).into(), certificate })
    }

    /// Our own certificate, where brokers ask for one.
    #[must_use]
    pub fn certificate(&self) -> Option<&Dated> {
        self.certificate.as_ref()
    }

    /// TLS on `stream`, to a broker that proves to be `name`.
    ///
    /// # Errors
    /// The handshake's; a [`rustls::Error`] is inside where TLS itself failed.
    pub async fn connect(
        &self,
        name: ServerName<'static>,
        speaks: Speaks,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let connector = match speaks {
            Speaks::WebSocket => &self.websocket,
            Speaks::Mqtt => &self.mqtt,
        };
        let mut stream = connector.connect(name, stream).await?;
        stream.get_mut().1.set_buffer_limit(Some(SEND_QUEUE));
        Ok(stream)
    }
}

impl fmt::Debug for BrokerConnector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BrokerConnector").finish_non_exhaustive()
    }
}

fn client_config(settings: &BrokerTls) -> Result<(ClientConfig, Option<Dated>), BrokerTlsError> {
    let builder = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(BrokerTlsError::Versions)?;
    let builder = match &settings.ca {
        Some(path) => {
            builder.with_root_certificates(certificate::load_roots(path).map_err(BrokerTlsError::Roots)?)
        }
        None => builder.with_platform_verifier().map_err(BrokerTlsError::SystemRoots)?,
    };
    match &settings.client_certificate {
        Some(files) => {
            let loaded = certificate::load(files).map_err(BrokerTlsError::ClientCertificate)?;
            let dated = Dated::of(files, &loaded);
            let resolver = rustls::sign::SingleCertAndKey::from(loaded.certified);
            Ok((builder.with_client_cert_resolver(Arc::new(resolver)), Some(dated)))
        }
        None => Ok((builder.with_no_client_auth(), None)),
    }
}
