//! Clients: an independent WebSocket implementation by default, raw bytes where a test wants to misbehave.

use std::net::SocketAddr;
use std::sync::Arc;

use brokergate::websocket::{Mask, Opcode, frame};
use futures_util::{SinkExt, StreamExt};
use http::Response;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, protocol};

use super::{CERTIFICATES, Gate, within};

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

/// The answer to a handshake.
pub type Handshaken = Response<Option<Vec<u8>>>;

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

    /// Over the plain or the TLS listener of `simple`.
    pub async fn of(gate: &Gate, tls: bool) -> Self {
        if tls { Self::tls(gate.tls()).await } else { Self::plain(gate.plain()).await }
    }

    /// With headers of the test's own: the client and the 101, or the rejection.
    pub async fn open(
        address: SocketAddr,
        tls: bool,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Handshaken), Handshaken> {
        let wire = wire(address, tls).await;
        Self::over(wire, &format!("ws://localhost:{}/mqtt", address.port()), headers).await
    }

    /// Over a stream that the test has made.
    pub async fn over(
        wire: Box<dyn Wire>,
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Handshaken), Handshaken> {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
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

    /// Wait until it is sent away, however long that takes.
    pub async fn sent_away(&mut self) {
        while let Some(Ok(message)) = self.socket.next().await {
            if message.is_close() {
                return;
            }
        }
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

    /// All of MQTT until the close, and the close's code; `None` when there was no close frame.
    pub async fn hear_all(&mut self) -> (Vec<u8>, Option<u16>) {
        let mut heard = Vec::new();
        loop {
            match self.hear().await {
                Message::Mqtt(bytes) => heard.extend(bytes),
                Message::Pong(_) => {}
                Message::Close(code, _) => return (heard, Some(code)),
                Message::Gone => return (heard, None),
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
    if tls { Box::new(secure(stream, CERTIFICATES.client()).await) } else { Box::new(stream) }
}

/// TLS with the name localhost over what is connected.
pub async fn secure(
    stream: TcpStream,
    config: Arc<rustls::ClientConfig>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(config).connect(name, stream);
    within("the TLS handshake", connecting).await.unwrap()
}

/// TCP from a source address of the test's own, such as 127.0.0.2.
pub async fn dial_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// An MQTT 3.1 CONNECT.
pub fn connect_v31(client_id: &str, keepalive: u16) -> Vec<u8> {
    let mut body = b"\0\x06MQIsdp\x03\x02".to_vec();
    body.extend(keepalive.to_be_bytes());
    body.extend(u16::try_from(client_id.len()).unwrap().to_be_bytes());
    body.extend(client_id.as_bytes());
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

/// A PUBLISH of QoS 0 on the topic `t`, with so many bytes of payload.
pub fn publish(level: u8, payload: usize) -> Vec<u8> {
    let mut left = 3 + payload + usize::from(level == 5);
    let mut packet = vec![0x30];
    while left >= 128 {
        packet.push((left % 128) as u8 | 128);
        left /= 128;
    }
    packet.push(left as u8);
    packet.extend(b"\0\x01t");
    if level == 5 {
        packet.push(0);
    }
    packet.extend((0..payload).map(|at| at as u8));
    packet
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
