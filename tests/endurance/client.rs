//! One client: wss, then MQTT, by WebSocket and TLS of other hands than the gateway's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::certificate::NAME;
use super::packet::{self, Packet, Version, kind};

/// A connect that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// So many connect at once.
const AT_ONCE: usize = 64;

/// Nobody's silence shall end a session here: in seconds.
const KEEPALIVE: u16 = 600;

/// Where clients go.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
}

/// A client whose CONNECT was taken.
pub(crate) struct Client {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    pub(crate) version: Version,
    bytes: BytesMut,
}

/// What a client hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Packet(Packet),
    /// A close frame, with its code; 1005 stands for none (RFC 6455, 7.4.1).
    Close(u16),
    /// The stream ended without one: how.
    Gone(String),
}

/// Connect so many, `client-0` and so on; the half speak MQTT 5.
pub(crate) async fn gather(door: &Door, count: usize) -> Result<Vec<(usize, Client)>> {
    let (mut arriving, mut clients) = (JoinSet::new(), Vec::with_capacity(count));
    for number in 0..count {
        if arriving.len() >= AT_ONCE {
            clients.extend(arriving.join_next().await.transpose()?.transpose()?);
        }
        let door = door.clone();
        arriving.spawn(async move {
            let client = Client::connect(&door, &format!("client-{number}"), Version::of(number)).await;
            anyhow::Ok((number, client.with_context(|| format!("client {number}"))?))
        });
    }
    while let Some(arrived) = arriving.join_next().await {
        clients.push(arrived??);
    }
    Ok(clients)
}

impl Heard {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Packet(packet) => format!("packet type {} {:02x?}", packet.kind(), &packet.body[..]),
            Self::Close(code) => format!("close {code}"),
            Self::Gone(how) => how.clone(),
        }
    }
}

impl Client {
    /// TCP, TLS, the WebSocket handshake, CONNECT and a CONNACK that says yes.
    pub(crate) async fn connect(door: &Door, client_id: &str, version: Version) -> Result<Self> {
        match timeout(PATIENCE, Box::pin(Self::try_connect(door, client_id, version))).await {
            Ok(connected) => connected,
            Err(_) => Err(anyhow!("connecting took longer than {PATIENCE:?}")),
        }
    }

    async fn try_connect(door: &Door, client_id: &str, version: Version) -> Result<Self> {
        let stream = TcpStream::connect(door.address).await.context("TCP")?;
        stream.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::clone(&door.tls));
        let stream = tls.connect(ServerName::try_from(NAME)?, stream).await.context("TLS")?;
        let mut request = format!("wss://{NAME}:{}/mqtt", door.address.port()).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "mqtt".parse()?);
        let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
        let handshake = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (socket, _) = Box::pin(handshake).await.map_err(|error| match error {
            Error::Http(response) => {
                let body = response.body().as_deref().unwrap_or_default();
                anyhow!("the handshake was answered {}: {}", response.status(), String::from_utf8_lossy(body))
            }
            error => anyhow!(error).context("the handshake"),
        })?;
        let mut client = Self { socket, version, bytes: BytesMut::new() };
        client.say(packet::connect(version, client_id, KEEPALIVE)).await.context("CONNECT")?;
        let connack = client.hear_kind(kind::CONNACK).await.context("instead of a CONNACK")?;
        let code = connack.body.get(1).copied().context("a CONNACK that ends early")?;
        ensure!(code == 0, "CONNACK 0x{code:02x}");
        Ok(client)
    }

    /// Subscribe to `topic` at QoS 1.
    pub(crate) async fn subscribe(&mut self, topic: &str) -> Result<()> {
        self.say(packet::subscribe(self.version, 1, topic)).await?;
        timeout(PATIENCE, self.hear_kind(kind::SUBACK)).await.context("no SUBACK came")??;
        Ok(())
    }

    async fn hear_kind(&mut self, kind: u8) -> Result<Packet> {
        match self.hear().await {
            Heard::Packet(packet) if packet.kind() == kind => Ok(packet),
            other => bail!("{}", other.words()),
        }
    }

    pub(crate) async fn say(&mut self, packet: Vec<u8>) -> Result<()> {
        Ok(self.socket.send(Message::binary(packet)).await?)
    }

    /// The next thing heard. Nothing is lost when it is not waited for to its end.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            match Packet::take(&mut self.bytes) {
                Ok(Some(packet)) => return Heard::Packet(packet),
                Ok(None) => {}
                Err(error) => return Heard::Gone(error.to_string()),
            }
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => self.bytes.extend_from_slice(&bytes),
                Some(Ok(Message::Close(frame))) => {
                    return Heard::Close(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => return Heard::Gone("a text frame".to_owned()),
                Some(Err(error)) => return Heard::Gone(error.to_string()),
                None => return Heard::Gone("the end of the stream".to_owned()),
            }
        }
    }

    /// The server's certificate.
    pub(crate) fn certificate(&self) -> Option<CertificateDer<'static>> {
        let (_, tls) = self.socket.get_ref().get_ref();
        Some(tls.peer_certificates()?.first()?.clone().into_owned())
    }

    /// DISCONNECT, close, and the answer to that.
    pub(crate) async fn leave(mut self) {
        let left = async {
            self.say(packet::DISCONNECT.to_vec()).await?;
            self.socket.close(None).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            anyhow::Ok(())
        };
        // Whoever leaves may find that the other side was faster.
        let _ = timeout(PATIENCE, left).await;
    }

    /// Answer a close, and wait for the end of the stream.
    pub(crate) async fn follow_close(mut self) {
        let _ = timeout(PATIENCE, async { while let Some(Ok(_)) = self.socket.next().await {} }).await;
    }
}
