//! Our WebSocket handshake toward a broker (RFC 6455 section 4.1), in one write and, as a rule, one read.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use http::{HeaderName, HeaderValue, header};
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
    pub(super) headers: &'a [(HeaderName, HeaderValue)],
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
        into.reserve(512);
        let host = self.headers.iter().find(|(name, _)| name == header::HOST);
        let host = host.map_or(self.host.as_bytes(), |(_, host)| host.as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::net::UnixStream;

    /// A broker's good answer, with `{accept}` to be filled in.
    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, \
                        Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

    fn request(headers: &[(HeaderName, HeaderValue)]) -> Request<'_> {
        Request { path: "/mqtt?a=b", host: "broker.example.org:8083", subprotocol: "mqtt", headers }
    }

    /// Shake hands with a broker that answers with `answer`, `chunk` bytes at a time, and hangs up.
    async fn shake_hands(answer: &[u8], chunk: usize) -> Result<Vec<u8>, UpgradeError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let broker = async {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                theirs.read_buf(&mut asked).await.unwrap();
            }
            let asked = String::from_utf8(asked).unwrap();
            let (_, key) = asked.split_once("Sec-WebSocket-Key: ").unwrap();
            let accept = derive_accept_key(key.lines().next().unwrap().as_bytes());
            let answer = match std::str::from_utf8(answer) {
                Ok(text) => text.replace("{accept}", &accept).into_bytes(),
                Err(_) => answer.to_vec(),
            };
            for bytes in answer.chunks(chunk) {
                // The gateway may have seen enough.
                if theirs.write_all(bytes).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(theirs);
        };
        let mut stream = Stream::from(ours);
        let request = request(&[]);
        let (outcome, ()) = tokio::join!(
            async {
                let outcome = upgrade(&mut stream, Vec::new(), &request).await;
                drop(stream);
                outcome
            },
            broker
        );
        outcome
    }

    #[tokio::test]
    async fn a_good_answer_is_taken_in_any_chunks_and_what_follows_is_kept() {
        let frames = "\u{2}\u{4}frames\r\n\r\n";
        for chunk in [1, 2, 3, 7, 4096] {
            let read = shake_hands(format!("{GOOD}{frames}").as_bytes(), chunk).await.unwrap();
            // Bytes that came later are still in the socket: only those that were read are returned.
            assert!(frames.as_bytes().starts_with(&read), "{read:?}");
        }
        assert_eq!(shake_hands(format!("{GOOD}{frames}").as_bytes(), 4096).await.unwrap(), frames.as_bytes());
        let without = GOOD.replace("Sec-WebSocket-Protocol: mqtt\r\n", "");
        assert_eq!(shake_hands(without.as_bytes(), 4096).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn bad_answers_are_told_apart() {
        let huge = format!("HTTP/1.1 101 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        let endless = "HTTP/1.1 101 ".repeat(4000);
        let crowded = format!("HTTP/1.1 101 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        let table: Vec<(String, &str)> = vec![
            (GOOD.replace("{accept}", "dGhlIHdyb25nIG9uZSE="), r#"Header("Sec-WebSocket-Accept")"#),
            (GOOD.replace("Sec-WebSocket-Accept", "X-Accept"), r#"Header("Sec-WebSocket-Accept")"#),
            (GOOD.replace("upgrade: WebSocket\r\n", ""), r#"Header("Upgrade")"#),
            (GOOD.replace("keep-alive, Upgrade", "keep-alive"), r#"Header("Connection")"#),
            (GOOD.replace(": mqtt\r\n", ": mqttv3.1\r\n"), r#"Subprotocol("mqttv3.1")"#),
            (
                GOOD.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
                "Extensions",
            ),
            (
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into(),
                "Status { status: 401, location: None }",
            ),
            (
                "HTTP/1.1 302 Found\r\nLocation: https://example.org/\r\n\r\n".into(),
                r#"Status { status: 302, location: Some("https://example.org/") }"#,
            ),
            (huge, "HeadTooLarge"),
            (endless, "HeadTooLarge"),
            (crowded, "HeadTooLarge"),
            ("HTTP/1.1 101 OK\r\nno colon\r\n\r\n".into(), "Malformed(HeaderName)"),
            ("SSH-2.0-broker\r\n".into(), "NotHttp { tls: false }"),
            ("\u{15}\u{3}\u{3}\0\u{2}\u{2}F".into(), "NotHttp { tls: true }"),
            ("HTTP/1.1 101 Switch".into(), "HungUp"),
            (String::new(), "HungUp"),
        ];
        for (answer, expected) in table {
            for chunk in [1, 4096] {
                let error = shake_hands(answer.as_bytes(), chunk).await.unwrap_err();
                assert_eq!(format!("{error:?}"), expected, "{:.80}", answer);
            }
        }
    }

    #[test]
    fn the_request_is_ours_then_what_is_forwarded() {
        let headers = [
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("connection", "close"),
            ("sec-websocket-key", "another"),
            ("content-length", "5"),
        ]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut bytes = b"preamble".to_vec();
        request(&headers).write("a2V5", &mut bytes);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "preambleGET /mqtt?a=b HTTP/1.1\r\nHost: broker.example.org:8083\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: mqtt\r\nx-real-ip: 192.0.2.1\r\nx-forwarded-for: 192.0.2.1\r\n\r\n"
        );

        let headers = [(header::HOST, HeaderValue::from_static("set.example.org"))];
        let mut bytes = Vec::new();
        request(&headers).write("a2V5", &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches("\r\nHost: set.example.org\r\n").count(), 1);
        assert_eq!(text.to_lowercase().matches("host:").count(), 1);
    }

    proptest! {
        #[test]
        fn no_answer_does_harm(
            status in prop::sample::select(vec!["", "HTTP/1.1 101 OK\r\n", "HTTP/1.1 302 Found\r\nLocation: "]),
            bytes: Vec<u8>,
        ) {
            let mut head = [status.as_bytes(), &bytes].concat();
            let _ = (must_be_http(&head), head_end(&head, head.len() / 2));
            head.extend_from_slice(b"\r\n\r\n");
            prop_assert!(judge(&head, "a2V5", "mqtt").is_err(), "no key can be guessed");
        }
    }

    #[test]
    fn a_key_is_16_bytes_and_another_each_time() {
        let (first, second) = (new_key(), new_key());
        assert_eq!(STANDARD.decode(&first).unwrap().len(), 16);
        assert_ne!(first, second);
    }
}
