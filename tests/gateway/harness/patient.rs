//! Brokers that are probed: over any transport they take a CONNECT, answer it, and remember who asked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use brokergate::mqtt::Connect;
use futures_util::{SinkExt, StreamExt};
use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::{CERTIFICATES, Wire};

/// How a patient is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    pub unix: bool,
    pub tls: bool,
    pub websocket: bool,
    /// Whether a PROXY preamble comes first.
    pub preamble: bool,
}

/// Who asked, and how.
#[derive(Debug, Clone)]
pub struct Examination {
    pub client_id: String,
    pub username: Option<String>,
    /// The CONNECT's flags and its last field, which is the password where there is one.
    pub flags: u8,
    pub last_field: String,
    /// Whether a DISCONNECT came behind the CONNACK.
    pub said_goodbye: bool,
    /// Whether the preamble named nobody.
    pub spoke_for_itself: bool,
}

/// A broker that is probed, until dropped.
pub struct Patient {
    pub endpoint: String,
    pub name: String,
    examinations: Arc<Mutex<Vec<Examination>>>,
    code: Arc<AtomicU8>,
    serving: JoinHandle<()>,
    _folder: Option<tempfile::TempDir>,
}

impl Patient {
    pub async fn serve(name: &str, manner: Manner) -> Self {
        let examinations = Arc::<Mutex<Vec<Examination>>>::default();
        let code = Arc::<AtomicU8>::default();
        let room = Room { manner, examinations: Arc::clone(&examinations), code: Arc::clone(&code) };
        let preamble = if manner.preamble { ", proxy_protocol = \"v2\"" } else { "" };
        let (url, folder, serving) = if manner.unix {
            let folder = tempfile::tempdir().unwrap();
            let path: PathBuf = folder.path().join("broker.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let speaks = if manner.websocket { "\", transport = \"ws" } else { "" };
            let serving = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(room.clone().receive(stream));
                }
            });
            (format!("unix:{}{speaks}", path.display()), Some(folder), serving)
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let url = match (manner.websocket, manner.tls) {
                (true, true) => format!("wss://{address}/mqtt"),
                (true, false) => format!("ws://{address}/mqtt"),
                (false, true) => format!("mqtts://{address}"),
                (false, false) => format!("mqtt://{address}"),
            };
            let serving = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(room.clone().receive(stream));
                }
            });
            (url, None, serving)
        };
        let endpoint = format!("{{ url = \"{url}\", name = \"{name}\"{preamble} }}");
        Self { endpoint, name: name.to_owned(), examinations, code, serving, _folder: folder }
    }

    /// Answer CONNECTs by this return code from now on.
    pub fn answer(&self, code: u8) {
        self.code.store(code, Ordering::Relaxed);
    }

    pub fn examinations(&self) -> Vec<Examination> {
        self.examinations.lock().unwrap().clone()
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Room {
    manner: Manner,
    examinations: Arc<Mutex<Vec<Examination>>>,
    code: Arc<AtomicU8>,
}

impl Room {
    /// Whoever hangs up too early is forgotten.
    async fn receive(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let _ = self.try_receive(Box::new(stream)).await;
    }

    async fn try_receive(self, mut stream: Box<dyn Wire>) -> Option<()> {
        let spoke_for_itself = if self.manner.preamble {
            let mut head = [0; 16];
            stream.read_exact(&mut head).await.ok()?;
            let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
            stream.read_exact(&mut rest).await.ok()?;
            let preamble = [&head[..], &rest].concat();
            let (header, _) = ProxyHeader::parse(&preamble, ParseConfig::default()).unwrap();
            header.proxied_address().is_none()
        } else {
            false
        };
        if self.manner.tls {
            stream = Box::new(acceptor().accept(stream).await.ok()?);
        }
        let (connect, said_goodbye) =
            if self.manner.websocket { self.websocket(stream).await? } else { self.raw(stream).await? };
        let read = Connect::parse(&connect, connect.len()).unwrap().unwrap();
        let last = (0..connect.len()).find(|at| {
            connect.get(*at..at + 2).is_some_and(|length| {
                usize::from(u16::from_be_bytes([length[0], length[1]])) == connect.len() - at - 2
            }) && *at > 10
        })?;
        self.examinations.lock().unwrap().push(Examination {
            client_id: read.client_id.to_string(),
            username: read.username.as_deref().map(str::to_owned),
            flags: connect[9],
            last_field: String::from_utf8_lossy(&connect[last + 2..]).into_owned(),
            said_goodbye,
            spoke_for_itself,
        });
        Some(())
    }

    async fn raw(&self, mut stream: Box<dyn Wire>) -> Option<(Vec<u8>, bool)> {
        let mut connect = vec![0; 2];
        stream.read_exact(&mut connect).await.ok()?;
        let mut rest = vec![0; usize::from(connect[1])];
        stream.read_exact(&mut rest).await.ok()?;
        connect.extend(rest);
        stream.write_all(&self.connack()).await.ok()?;
        stream.flush().await.ok()?;
        let mut left = Vec::new();
        let _ = stream.read_to_end(&mut left).await;
        Some((connect, left == [0xE0, 0]))
    }

    async fn websocket(&self, stream: Box<dyn Wire>) -> Option<(Vec<u8>, bool)> {
        #[expect(clippy::result_large_err, reason = "the callback's type is the crate's")]
        let answer = |request: &Request, mut response: Response| {
            let subprotocol = request.headers()["sec-websocket-protocol"].clone();
            response.headers_mut().insert("sec-websocket-protocol", subprotocol);
            Ok(response)
        };
        let mut messages = tokio_tungstenite::accept_hdr_async(stream, answer).await.ok()?;
        let connect = messages.next().await?.ok()?.into_data().to_vec();
        messages.send(Message::binary(self.connack())).await.ok()?;
        let goodbye = messages.next().await?.ok()?;
        let close = messages.next().await?.ok()?;
        Some((connect, goodbye.into_data()[..] == [0xE0, 0] && close.is_close()))
    }

    fn connack(&self) -> Vec<u8> {
        vec![0x20, 2, 0, self.code.load(Ordering::Relaxed)]
    }
}

fn acceptor() -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let pem = |name: &str| CERTIFICATES.path(name);
    let read = |path: &Path| CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect();
    let config = rustls::ServerConfig::builder_with_provider(brokergate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(read(&pem("chain.pem")), PrivateKeyDer::from_pem_file(pem("key.pem")).unwrap())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
