//! Clients: an independent WebSocket implementation by default, raw bytes where a test wants to misbehave.

use std::net::SocketAddr;

use brokergate::websocket::{Mask, Opcode, frame};
use futures_util::{SinkExt, StreamExt};
use http::Response;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, protocol};

use super::{CERTIFICATES, within};

/// Any stream, so that one client type serves both listeners.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// What a client hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// MQTT's bytes, of one message.
    Mqtt(Vec<u8>),
    /// A pong's payload.
    Pong(Vec<u8>),
    /// A close frame's code and reason.
    Close(u16, String),
    /// The stream ended, or broke, without a close frame.
    Gone,
}

/// A client that has its 101.
pub struct Client {
    socket: WebSocketStream<Box<dyn Wire>>,
}

impl Client {
    /// Over a plain listener, at `/mqtt`, with the subprotocol `mqtt`.
    pub async fn plain(address: SocketAddr) -> Self {
        Self::open(address, false, &[("sec-websocket-protocol", "mqtt")]).await.unwrap().0
    }

    /// Over a TLS listener, the same.
    pub async fn tls(address: SocketAddr) -> Self {
        Self::open(address, true, &[("sec-websocket-protocol", "mqtt")]).await.unwrap().0
    }

    /// With headers of the test's own: the client and the 101, or the rejection.
    pub async fn open(
        address: SocketAddr,
        tls: bool,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response<Option<Vec<u8>>>), Response<Option<Vec<u8>>>> {
        let mut request = format!("ws://localhost:{}/mqtt", address.port()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let wire = wire(address, tls).await;
        match within("the handshake", tokio_tungstenite::client_async(request, wire)).await {
            Ok((socket, response)) => Ok((Self { socket }, response)),
            Err(tungstenite::Error::Http(response)) => Err(*response),
            Err(error) => panic!("{error}"),
        }
    }

    /// Say MQTT in one binary message.
    pub async fn say(&mut self, packet: &[u8]) {
        self.send(tungstenite::Message::binary(packet.to_vec())).await;
    }

    pub async fn send(&mut self, message: tungstenite::Message) {
        within("saying", self.socket.send(message)).await.unwrap();
    }

    /// Say bytes as they are, below WebSocket.
    pub async fn say_raw(&mut self, bytes: &[u8]) {
        let wire = self.socket.get_mut();
        within("saying", wire.write_all(bytes)).await.unwrap();
        wire.flush().await.unwrap();
    }

    /// Say MQTT in one frame of the test's own making.
    pub async fn say_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        self.say_raw(&frame(opcode, payload, Some(Mask::new([1, 2, 3, 4])))).await;
    }

    /// The next message.
    pub async fn hear(&mut self) -> Message {
        loop {
            return match within("a message", self.socket.next()).await {
                Some(Ok(tungstenite::Message::Binary(bytes))) => Message::Mqtt(bytes.to_vec()),
                Some(Ok(tungstenite::Message::Pong(payload))) => Message::Pong(payload.to_vec()),
                Some(Ok(tungstenite::Message::Close(Some(protocol::CloseFrame { code, reason })))) => {
                    Message::Close(code.into(), reason.to_string())
                }
                Some(Ok(tungstenite::Message::Close(None))) => Message::Close(1005, String::new()),
                Some(Ok(tungstenite::Message::Ping(_) | tungstenite::Message::Frame(_))) => continue,
                Some(Ok(tungstenite::Message::Text(text))) => panic!("a text message: {text}"),
                Some(Err(_)) | None => Message::Gone,
            };
        }
    }

    /// The next `count` bytes of MQTT, in however many messages.
    pub async fn hear_mqtt(&mut self, count: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < count {
            match self.hear().await {
                Message::Mqtt(bytes) => heard.extend(bytes),
                other => panic!("{other:?} after {} bytes", heard.len()),
            }
        }
        assert_eq!(heard.len(), count, "a message ended elsewhere");
        heard
    }

    /// Everything until the close: its code, or `None` when there was no close frame.
    pub async fn hear_close(&mut self) -> Option<u16> {
        loop {
            match self.hear().await {
                Message::Close(code, _) => return Some(code),
                Message::Gone => return None,
                Message::Mqtt(_) | Message::Pong(_) => {}
            }
        }
    }

    /// The wire below.
    pub fn wire(&mut self) -> &mut Box<dyn Wire> {
        self.socket.get_mut()
    }
}

async fn wire(address: SocketAddr, tls: bool) -> Box<dyn Wire> {
    let stream = TcpStream::connect(address).await.unwrap();
    if !tls {
        return Box::new(stream);
    }
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(CERTIFICATES.client()).connect(name, stream);
    Box::new(within("the TLS handshake", connecting).await.unwrap())
}

/// An MQTT 3.1.1 CONNECT: clean session, keepalive in seconds.
pub fn connect_v3(client_id: &str, keepalive: u16) -> Vec<u8> {
    connect(4, client_id, keepalive)
}

/// An MQTT 5 CONNECT: clean start, no properties.
pub fn connect_v5(client_id: &str, keepalive: u16) -> Vec<u8> {
    connect(5, client_id, keepalive)
}

fn connect(level: u8, client_id: &str, keepalive: u16) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend([level, 0x02]);
    body.extend(keepalive.to_be_bytes());
    if level == 5 {
        body.push(0);
    }
    body.extend(u16::try_from(client_id.len()).unwrap().to_be_bytes());
    body.extend(client_id.as_bytes());
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}
