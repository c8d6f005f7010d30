//! The PROXY protocol's preamble, which a trusted proxy sends before anything else.
//!
//! Bytes are peeked first and taken only when they belong to the preamble, so that what follows (TLS or
//! HTTP) is left in the socket, and a preamble that drips in is not looked at twice.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest preamble we take, in bytes: version 2 with a few hundred bytes of TLVs (HAProxy's own
/// limit is of this size; version 1 is at most 107).
const MAX: usize = 2048;

/// Whom a preamble says the connection is from, and which address it reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preamble {
    /// The client.
    pub(super) client: SocketAddr,
    /// The address the client reached.
    pub(super) local: SocketAddr,
}

/// Why there is no preamble.
#[derive(Debug, thiserror::Error)]
pub(super) enum PreambleError {
    /// The proxy left.
    #[error("the proxy closed the connection inside its PROXY preamble")]
    Closed,
    /// It broke.
    #[error("the connection broke inside the PROXY preamble")]
    Io(#[from] io::Error),
    /// It is none.
    #[error(
        "no PROXY preamble came, although this listener expects one from this address: {0}; configure the proxy to send it, or take the address out of `trusted_proxies`"
    )]
    Malformed(#[source] proxy_header::Error),
    /// It does not end.
    #[error("the PROXY preamble is longer than {MAX} bytes")]
    TooLong,
}

/// Read one preamble, and not a byte more. `None` is one without addresses (LOCAL, UNKNOWN): a proxy's own
/// health check.
///
/// # Errors
/// When what comes is no preamble, or the proxy leaves.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<Preamble>, PreambleError> {
    let mut taken = Vec::new();
    loop {
        let mut ahead = [0; MAX];
        let seen = stream.peek(&mut ahead).await?;
        if seen == 0 {
            return Err(PreambleError::Closed);
        }
        let before = taken.len();
        taken.extend_from_slice(&ahead[..seen]);
        let parsed =
            ProxyHeader::parse(&taken, ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true });
        match parsed {
            Ok((header, length)) => {
                let preamble = header
                    .proxied_address()
                    .map(|address| Preamble { client: address.source, local: address.destination });
                stream.read_exact(&mut ahead[..length - before]).await?;
                return Ok(preamble);
            }
            // All of what is there belongs to the preamble.
            Err(proxy_header::Error::BufferTooShort) if taken.len() < MAX => {
                stream.read_exact(&mut ahead[..seen]).await?;
            }
            Err(proxy_header::Error::BufferTooShort) => return Err(PreambleError::TooLong),
            Err(error) => return Err(PreambleError::Malformed(error)),
        }
    }
}
