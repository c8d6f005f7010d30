//! Brokers that a test leads by the hand: they take a connection, and say and hear what the test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use brokergate::websocket::{FrameSkim, Opcode, Segment, Side, frame};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::within;

/// How a broker takes MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ws,
    Mqtt,
}

/// Both kinds, for what must hold on either.
pub const KINDS: [Kind; 2] = [Kind::Ws, Kind::Mqtt];

/// A listening broker.
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
}

/// One session of the gateway with a broker, in MQTT's bytes whatever the framing.
pub struct Visit {
    stream: TcpStream,
    /// The headers of the handshake; empty for a TCP broker.
    pub headers: HeaderMap,
    frames: Option<FrameSkim>,
    heard: Vec<u8>,
    close: Option<Vec<u8>>,
}

impl Broker {
    pub async fn listen() -> Self {
        Self::listen_on("127.0.0.1:0").await
    }

    pub async fn listen_on(address: &str) -> Self {
        Self::try_listen_on(address).await.unwrap()
    }

    pub async fn try_listen_on(address: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint's table for a WebSocket broker.
    pub fn ws(&self) -> String {
        format!("{{ url = \"ws://{}/mqtt\" }}", self.address)
    }

    /// The endpoint's table for a TCP broker.
    pub fn mqtt(&self) -> String {
        format!("{{ url = \"mqtt://{}\" }}", self.address)
    }

    /// The endpoint's table for a broker of this kind.
    pub fn endpoint(&self, kind: Kind) -> String {
        match kind {
            Kind::Ws => self.ws(),
            Kind::Mqtt => self.mqtt(),
        }
    }

    /// The next dial of an endpoint of this kind.
    pub async fn visit(&self, kind: Kind) -> Visit {
        match kind {
            Kind::Ws => self.visit_ws().await,
            Kind::Mqtt => self.visit_mqtt().await,
        }
    }

    /// Answer the next dial's handshake with this head, and hang up.
    pub async fn answer(&self, head: &str) {
        let mut stream = self.accept().await;
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert!(within("a handshake", stream.read_buf(&mut asked)).await.unwrap() > 0);
        }
        within("saying", stream.write_all(format!("{head}\r\n\r\n").as_bytes())).await.unwrap();
    }

    /// The next dial, as bytes.
    pub async fn accept(&self) -> TcpStream {
        within("a dial", self.listener.accept()).await.unwrap().0
    }

    /// The next dial of a `mqtt://` endpoint, however late.
    pub async fn accept_any(&self) -> std::io::Result<Visit> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Visit { stream, headers: HeaderMap::new(), frames: None, heard: Vec::new(), close: None })
    }

    /// The next dial of a `mqtt://` endpoint.
    pub async fn visit_mqtt(&self) -> Visit {
        Visit {
            stream: self.accept().await,
            headers: HeaderMap::new(),
            frames: None,
            heard: Vec::new(),
            close: None,
        }
    }

    /// The next dial of a `ws://` endpoint, its handshake answered by an independent implementation.
    pub async fn visit_ws(&self) -> Visit {
        let stream = self.accept().await;
        let headers = Arc::new(Mutex::new(HeaderMap::new()));
        let seen = Arc::clone(&headers);
        #[expect(clippy::result_large_err, reason = "the callback's type is the crate's")]
        let answer = move |request: &Request, mut response: Response| {
            *seen.lock().unwrap() = request.headers().clone();
            if let Some(subprotocol) = request.headers().get("sec-websocket-protocol") {
                response.headers_mut().insert("sec-websocket-protocol", subprotocol.clone());
            }
            Ok(response)
        };
        let websocket = within("the handshake", accept_hdr_async(stream, answer)).await.unwrap();
        let headers = std::mem::take(&mut *headers.lock().unwrap());
        let frames = Some(FrameSkim::new(Side::Client));
        Visit { stream: websocket.into_inner(), headers, frames, heard: Vec::new(), close: None }
    }
}

impl Visit {
    /// The next `count` bytes of MQTT.
    pub async fn hear(&mut self, count: usize) -> Vec<u8> {
        while self.heard.len() < count {
            assert!(self.read().await, "the gateway hung up after {:?}", self.heard);
        }
        self.heard.drain(..count).collect()
    }

    /// Read what comes; `false` at the end, which includes a close frame and a reset.
    pub async fn read(&mut self) -> bool {
        let mut bytes = vec![0; 64 * 1024];
        let count = within("bytes", self.stream.read(&mut bytes)).await.unwrap_or(0);
        let bytes = &bytes[..count];
        let Some(frames) = &mut self.frames else {
            self.heard.extend_from_slice(bytes);
            return count > 0;
        };
        let mut at = 0;
        while at < bytes.len() {
            let (used, segment) = frames.next(&bytes[at..]).unwrap();
            let mut piece = bytes[at..at + used].to_vec();
            match segment {
                Segment::Data { mask } => {
                    mask.apply(&mut piece);
                    self.heard.extend_from_slice(&piece);
                }
                Segment::Control { opcode: Opcode::Close, mask, .. } => {
                    mask.apply(&mut piece);
                    self.close.get_or_insert_default().extend_from_slice(&piece);
                }
                _ => {}
            }
            at += used;
        }
        count > 0 && !frames.closed()
    }

    /// Wait for more, however long, and forget it; `false` at the end.
    pub async fn read_patiently(&mut self) -> bool {
        self.stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0)
    }

    /// Everything until the gateway hangs up, says close, or resets.
    pub async fn hear_all(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.heard)
    }

    /// Say MQTT: in one binary frame where the broker speaks WebSocket.
    pub async fn say(&mut self, packet: &[u8]) {
        if self.frames.is_some() {
            self.say_raw(&frame(Opcode::Binary, packet, None)).await;
        } else {
            self.say_raw(packet).await;
        }
    }

    /// Say bytes as they are.
    pub async fn say_raw(&mut self, bytes: &[u8]) {
        within("saying", self.stream.write_all(bytes)).await.unwrap();
    }

    /// The payload of the close frame that has come.
    pub fn close(&self) -> Option<&[u8]> {
        self.close.as_deref()
    }

    /// What has come and was not heard.
    pub fn unheard(&self) -> &[u8] {
        &self.heard
    }

    /// Say no more, but go on to listen.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Take the CONNECT, which is `connect`, and accept it.
    pub async fn welcome(&mut self, connect: &[u8]) {
        self.welcome_by(connect, accepted(connect)).await;
    }

    /// Take the CONNECT, which is `connect` and all there is, and answer it.
    pub async fn welcome_by(&mut self, connect: &[u8], connack: &[u8]) {
        assert_eq!(self.hear(connect.len()).await, connect, "the CONNECT");
        assert!(self.heard.is_empty(), "nothing follows the CONNECT before its answer: {:?}", self.heard);
        self.say(connack).await;
    }

    /// Reset the connection.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// The CONNACK that accepts `connect`.
pub fn accepted(connect: &[u8]) -> &'static [u8] {
    if connect.starts_with(b"\x10") && connect[2..].starts_with(b"\0\x04MQTT\x05") {
        &[0x20, 3, 0, 0, 0]
    } else {
        &[0x20, 2, 0, 0]
    }
}
