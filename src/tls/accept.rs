//! The TLS handshake of a client: rustls says what to send, we read and write.

use std::io;
use std::sync::Arc;

use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{Error, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::net::{TlsFacts, TlsStream};

/// What one read of a handshake asks for, in bytes: more than a client says at once.
const READ: usize = 4 * 1024;

/// The most that may wait to be understood: a handshake message is 64 KiB at most.
const MAX_RECEIVED: usize = 80 * 1024;

/// Why a client did not get TLS.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Its connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It left.
    #[error("the client left")]
    Closed,
    /// What it said.
    #[error("{0}")]
    Tls(#[from] Error),
    /// It speaks plain HTTP; here is its socket, to answer it.
    #[error("plain HTTP")]
    PlainHttp(TcpStream),
}

/// A TLS handshake with a client. What the client sends behind it is kept for the stream, and so is what
/// is last for us to send: session tickets go with the first answer.
///
/// # Errors
/// When the client leaves, breaks TLS, or speaks none.
pub async fn accept(
    mut socket: TcpStream,
    config: &Arc<ServerConfig>,
) -> Result<(TlsStream, TlsFacts), AcceptError> {
    let mut handshake = Handshake::begin(config)?;
    loop {
        read_more(&mut socket, &mut handshake.received).await?;
        // No TLS record begins with a letter.
        if handshake.received[0].is_ascii_uppercase() {
            return Err(AcceptError::PlainHttp(socket));
        }
        let advanced = handshake.advance();
        if matches!(advanced, Ok(true)) {
            return Ok(handshake.finish(socket)?);
        }
        socket.write_all(&handshake.unsent).await?;
        handshake.unsent.clear();
        advanced?;
    }
}

async fn read_more(socket: &mut TcpStream, received: &mut Vec<u8>) -> Result<(), AcceptError> {
    if received.len() > MAX_RECEIVED {
        return Err(Error::PeerSentOversizedRecord.into());
    }
    received.reserve(READ);
    match socket.read_buf(received).await? {
        0 => Err(AcceptError::Closed),
        _ => Ok(()),
    }
}

/// How far a handshake has come. No I/O.
struct Handshake {
    connection: UnbufferedServerConnection,
    /// Reads the server's name, which rustls tells of no connection of this kind.
    hello: Hello,
    /// From the client, not yet understood.
    received: Vec<u8>,
    /// What the client says behind its handshake.
    opened: Vec<u8>,
    /// For the client.
    unsent: Vec<u8>,
}

/// What the next step needs.
enum Next {
    Step,
    Bytes,
    Done,
}

impl Handshake {
    fn begin(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(Arc::clone(config))?,
            hello: Hello::Awaited(Acceptor::default(), 0),
            received: Vec::new(),
            opened: Vec::new(),
            unsent: Vec::new(),
        })
    }

    /// Understand what was received, and prepare the answer, also to what is an error. `true`: it is done.
    fn advance(&mut self) -> Result<bool, AcceptError> {
        self.hello.read(&self.received);
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.received);
            let next = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.unsent)?,
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // It is sent before the client is waited for.
                    data.done();
                    Next::Step
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        self.opened.extend_from_slice(record?.payload);
                    }
                    Next::Step
                }
                Ok(ConnectionState::BlockedHandshake) => Next::Bytes,
                // Also said when we may send, and the client has still to finish.
                Ok(ConnectionState::WriteTraffic(_)) => Next::Done,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => return Err(AcceptError::Closed),
                Ok(_) => return Err(Error::HandshakeNotComplete.into()),
                Err(error) => {
                    self.received.drain(..discard);
                    self.encode_alert();
                    return Err(error.into());
                }
            };
            self.received.drain(..discard);
            match next {
                Next::Step => {}
                Next::Done if !self.connection.is_handshaking() => return Ok(true),
                Next::Done | Next::Bytes => return Ok(false),
            }
        }
    }

    /// The client is told what it did wrong.
    fn encode_alert(&mut self) {
        let status = self.connection.process_tls_records(&mut self.received);
        if let Ok(ConnectionState::EncodeTlsData(data)) = status.state {
            let _ = encode(data, &mut self.unsent);
        }
    }

    fn finish(mut self, socket: TcpStream) -> Result<(TlsStream, TlsFacts), Error> {
        let facts = TlsFacts {
            version: match self.connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: self
                .connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            server_name: self.hello.server_name(),
            client_common_name: None,
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
        };
        // A connection may be silent for months: it keeps what came, and no room for more.
        self.received.shrink_to_fit();
        self.opened.shrink_to_fit();
        let stream = TlsStream::build(socket, self.connection, self.opened, self.received, self.unsent)?;
        Ok((stream, facts))
    }
}

fn encode(
    mut data: EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    into: &mut Vec<u8>,
) -> Result<Next, AcceptError> {
    let from = into.len();
    loop {
        match data.encode(&mut into[from..]) {
            Ok(length) => {
                into.truncate(from + length);
                return Ok(Next::Step);
            }
            Err(EncodeError::InsufficientSize(size)) => into.resize(from + size.required_size, 0),
            Err(EncodeError::AlreadyEncoded) => return Err(Error::HandshakeNotComplete.into()),
        }
    }
}

/// The client's first message.
enum Hello {
    /// With how many bytes of it have been read.
    Awaited(Acceptor, usize),
    Read(Option<Box<str>>),
}

impl Hello {
    /// Look whether it is in `received`, which only grows until it is.
    fn read(&mut self, received: &[u8]) {
        let Self::Awaited(acceptor, read) = self else { return };
        let mut new = received.get(*read..).unwrap_or_default();
        while !new.is_empty() && acceptor.read_tls(&mut new).is_ok_and(|count| count > 0) {}
        *read = received.len() - new.len();
        // What is wrong with it, the connection itself will say.
        if let Ok(Some(accepted)) = acceptor.accept() {
            *self = Self::Read(accepted.client_hello().server_name().map(Box::from));
        }
    }

    fn server_name(self) -> Option<Box<str>> {
        match self {
            Self::Read(name) => name,
            Self::Awaited(..) => None,
        }
    }
}
