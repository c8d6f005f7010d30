//! Our WebSocket handshake toward a broker (RFC 6455 section 4.1), in one write and, as a rule, one read.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use http::{HeaderMap, HeaderName, header};
use hyper_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::UpgradeError;
use crate::net::Stream;

/// The largest head of an answer, with what was read behind it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// A `Location` is shown up to here.
const MAX_LOCATION: usize = 256;

/// What we ask a broker for.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Path and query.
    pub(super) path: &'a str,
    /// `Host`, unless `headers` has one.
    pub(super) host: &'a str,
    /// The one subprotocol offered.
    pub(super) subprotocol: &'a str,
    /// Sent as they are, but for those of the handshake itself.
    pub(super) headers: &'a HeaderMap,
}

/// Write `opening` and the handshake, and read the answer. Returns what came behind its head.
pub(super) async fn upgrade(
    stream: &mut Stream,
    mut opening: Vec<u8>,
    request: &Request<'_>,
) -> Result<Vec<u8>, UpgradeError> {
    let key = new_key();
    request.write(&key, &mut opening);
    stream.write_all(&opening).await.map_err(UpgradeError::Broken)?;
    stream.flush().await.map_err(UpgradeError::Broken)?;
    drop(opening);

    let (mut answer, head) = read_head(stream).await?;
    judge(answer.get(..head).unwrap_or_default(), &key, request.subprotocol)?;
    Ok(answer.split_off(head))
}

/// 16 random bytes in base64. They are no secret: they only show that the answer is to us.
fn new_key() -> String {
    STANDARD.encode(fastrand::u128(..).to_ne_bytes())
}

impl Request<'_> {
    fn write(&self, key: &str, into: &mut Vec<u8>) {
        let host = self.headers.get(header::HOST).map_or(self.host.as_bytes(), |host| host.as_bytes());
        for piece in [
            b"GET ",
            self.path.as_bytes(),
            b" HTTP/1.1\r\nHost: ",
            host,
            b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ",
            key.as_bytes(),
            b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ",
            self.subprotocol.as_bytes(),
            b"\r\n",
        ] {
            into.extend_from_slice(piece);
        }
        for (name, value) in self.headers.iter().filter(|(name, _)| !belongs_to_handshake(name)) {
            for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                into.extend_from_slice(piece);
            }
        }
        into.extend_from_slice(b"\r\n");
    }
}

/// Headers of which a second one would make another request of ours.
fn belongs_to_handshake(name: &HeaderName) -> bool {
    [header::HOST, header::UPGRADE, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// Read until the head's end. Returns all that was read, and where the head ends.
async fn read_head(stream: &mut Stream) -> Result<(Vec<u8>, usize), UpgradeError> {
    let mut read = Vec::with_capacity(1024);
    loop {
        let before = read.len();
        let room = MAX_HEAD - before;
        if room == 0 {
            return Err(UpgradeError::HeadTooLarge);
        }
        match stream.read_buf(&mut (&mut read).limit(room)).await {
            Ok(0) => return Err(UpgradeError::HungUp),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(UpgradeError::HungUp),
            Err(error) => return Err(UpgradeError::Broken(error)),
        }
        must_be_http(&read)?;
        if let Some(end) = head_end(&read, before) {
            return Ok((read, end));
        }
    }
}

/// Whatever begins otherwise would keep us waiting for a head that never ends.
fn must_be_http(read: &[u8]) -> Result<(), UpgradeError> {
    const BEGIN: &[u8] = b"HTTP/1.";
    if read.iter().zip(BEGIN).all(|(byte, expected)| byte == expected) {
        return Ok(());
    }
    // A TLS record of type alert or handshake (RFC 8446 section 5.1).
    Err(UpgradeError::NotHttp { tls: matches!(read, [0x15 | 0x16, ..]) })
}

/// Where the head ends: behind an empty line. The bytes before `searched` were searched before.
fn head_end(read: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let behind = |end: &[u8]| {
        read.get(from..)?.windows(end.len()).position(|window| window == end).map(|at| from + at + end.len())
    };
    behind(b"\n\r\n").into_iter().chain(behind(b"\n\n")).min()
}

/// Whether the head says yes to our handshake (RFC 6455 section 4.1, the client's list of checks).
fn judge(head: &[u8], key: &str, offered: &str) -> Result<(), UpgradeError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(UpgradeError::Malformed(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => return Err(UpgradeError::HeadTooLarge),
        Err(error) => return Err(UpgradeError::Malformed(error)),
    }
    let values = |name: &'static str| {
        let named = answer.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii())
    };
    let status = answer.code.unwrap_or_default();
    if status != 101 {
        return Err(UpgradeError::Status { status, location: values("location").next().map(shown) });
    }
    let has_token = |name, token: &str| {
        values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    if !has_token("upgrade", "websocket") {
        return Err(UpgradeError::Header("Upgrade"));
    }
    if !has_token("connection", "upgrade") {
        return Err(UpgradeError::Header("Connection"));
    }
    let accept = derive_accept_key(key.as_bytes());
    if !values("sec-websocket-accept").eq([accept.as_bytes()]) {
        return Err(UpgradeError::Header("Sec-WebSocket-Accept"));
    }
    if let Some(other) = values("sec-websocket-protocol").find(|value| *value != offered.as_bytes()) {
        return Err(UpgradeError::Subprotocol(shown(other)));
    }
    if values("sec-websocket-extensions").any(|value| !value.is_empty()) {
        return Err(UpgradeError::Extensions);
    }
    Ok(())
}

/// A broker's words for an error's text, which escapes them.
fn shown(value: &[u8]) -> Box<str> {
    String::from_utf8_lossy(value.get(..MAX_LOCATION).unwrap_or(value)).into()
}
