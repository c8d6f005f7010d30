//! The TLS handshake of a client: rustls says what to send, we read and write.

use std::io;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{AlertDescription, Error, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server;
use crate::net::{TlsFacts, TlsStream};

/// What one read of a handshake asks for, in bytes: more than a client says at once.
const READ: usize = 4 * 1024;

/// The most that may wait to be understood: a handshake message is 64 KiB at most.
const MAX_RECEIVED: usize = 72 * 1024;

/// Bytes of a record's header (RFC 8446, 5.1).
const HEADER: usize = 5;

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

impl AcceptError {
    /// Every [`label`](Self::label), and [`TIMEOUT`](Self::TIMEOUT).
    pub const LABELS: [&'static str; 9] = [
        "broken",
        "closed",
        "plain_http",
        "certificate_refused",
        "alert",
        "incompatible",
        "no_tls",
        "violation",
        Self::TIMEOUT,
    ];

    /// The label of a handshake that its caller did not wait for any longer.
    pub const TIMEOUT: &'static str = "timeout";

    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Io(_) => "broken",
            Self::Closed => "closed",
            Self::PlainHttp(_) => "plain_http",
            // What a client says to a certificate that it does not trust (RFC 8446, 6.2).
            Self::Tls(Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA,
            )) => "certificate_refused",
            Self::Tls(Error::AlertReceived(_)) => "alert",
            // No version, suite, group or protocol that both speak.
            Self::Tls(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => "incompatible",
            Self::Tls(Error::InvalidMessage(_)) => "no_tls",
            Self::Tls(_) => "violation",
        }
    }
}

/// A TLS handshake with a client. What the client sends behind it is kept for the stream, and so are the
/// session tickets of TLS 1.3: they go with the first answer.
///
/// # Errors
/// When the client leaves, breaks TLS, or speaks none.
pub async fn accept(
    mut socket: TcpStream,
    config: &Arc<ServerConfig>,
) -> Result<(TlsStream, TlsFacts), AcceptError> {
    let mut handshake = Handshake::begin(config)?;
    read_more(&mut socket, &mut handshake.received).await?;
    // No TLS record begins with a letter.
    if handshake.received.first().is_some_and(u8::is_ascii_uppercase) {
        return Err(AcceptError::PlainHttp(socket));
    }
    loop {
        let advanced = handshake.advance();
        if matches!(advanced, Ok(true)) && handshake.is_tls13() {
            return Ok(handshake.finish(socket)?);
        }
        let sent = socket.write_all(&handshake.unsent).await;
        handshake.unsent.clear();
        let is_done = advanced?;
        sent?;
        if is_done {
            return Ok(handshake.finish(socket)?);
        }
        read_more(&mut socket, &mut handshake.received).await?;
    }
}

async fn read_more(socket: &mut TcpStream, received: &mut Vec<u8>) -> Result<(), AcceptError> {
    if received.len() > MAX_RECEIVED {
        return Err(Error::PeerSentOversizedRecord.into());
    }
    received.reserve(READ);
    match socket.take(READ as u64).read_buf(received).await? {
        0 => Err(AcceptError::Closed),
        _ => Ok(()),
    }
}

/// How far a handshake has come. No I/O.
struct Handshake {
    connection: UnbufferedServerConnection,
    /// What the client asked for (SNI).
    server_name: Option<Box<str>>,
    /// From the client, not yet understood.
    received: Vec<u8>,
    /// How much of it rustls is shown: it must not see what comes behind the handshake, for it would answer a
    /// new key with one of its own, and the stream would never know.
    shown: usize,
    /// How much of that is whole records.
    whole: usize,
    /// For the client.
    unsent: Vec<u8>,
}

/// What the next step needs.
enum Next {
    Step,
    Record,
    Refusal(Error),
}

impl Handshake {
    fn begin(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(Arc::clone(config))?,
            server_name: None,
            received: Vec::new(),
            shown: 0,
            whole: 0,
            unsent: Vec::new(),
        })
    }

    /// Understand what was received, and prepare the answer, also to what is an error. `true`: it is done.
    fn advance(&mut self) -> Result<bool, AcceptError> {
        loop {
            let shown = self.received.get_mut(..self.shown).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(shown);
            let next = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.unsent)?,
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // It is sent before the client is waited for.
                    data.done();
                    Next::Step
                }
                // The latter is also said when we may send, and the client has still to finish.
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Next::Record,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => return Err(AcceptError::Closed),
                Ok(_) => return Err(Error::HandshakeNotComplete.into()),
                Err(error) => Next::Refusal(error),
            };
            self.server_name = self.server_name.take().or_else(server::take_asked_name);
            self.received.drain(..discard);
            self.shown = self.shown.saturating_sub(discard);
            self.whole = self.whole.saturating_sub(discard);
            match next {
                Next::Step => {}
                Next::Record if !self.connection.is_handshaking() => return Ok(true),
                Next::Record if self.show_more() => {}
                Next::Record => return Ok(false),
                Next::Refusal(error) => {
                    self.encode_alert();
                    return Err(error.into());
                }
            }
        }
    }

    /// Show the next record, or what there is of it: a bad header is known at once. `false`: nothing is new.
    fn show_more(&mut self) -> bool {
        let header = self.received.get(self.whole..self.whole + HEADER);
        let Some(&[_, _, _, high, low]) = header else { return false };
        let end = self.whole + HEADER + usize::from(u16::from_be_bytes([high, low]));
        let before = std::mem::replace(&mut self.shown, end.min(self.received.len()));
        if self.shown == end {
            self.whole = end;
        }
        self.shown > before
    }

    /// The client is told what it did wrong. rustls is asked only while it has something to say: it takes
    /// what it was shown for still being there, and panics where it is not.
    fn encode_alert(&mut self) {
        while self.connection.wants_write() {
            let shown = self.received.get_mut(..self.shown).unwrap_or_default();
            let Ok(ConnectionState::EncodeTlsData(data)) = self.connection.process_tls_records(shown).state
            else {
                return;
            };
            if encode(data, &mut self.unsent).is_err() {
                return;
            }
        }
    }

    fn is_tls13(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
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
            server_name: self.server_name,
            client_common_name: None,
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
        };
        // A connection may be silent for months: it keeps what came, and no room for more.
        self.received.shrink_to_fit();
        let stream = TlsStream::build(socket.into(), self.connection, self.received, self.unsent)?;
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
