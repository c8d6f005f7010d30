//! Brokers of a few words, some of them wrong.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use brokergate::websocket::{FrameHeader, Opcode, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::mutation::mutate;

/// How a broker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    WebSocket,
    Raw,
}

/// Start one, and give its endpoint's table.
pub(super) async fn listen(framing: Framing) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if framing == Framing::WebSocket { "ws" } else { "mqtt" };
    let endpoint = format!("{{ url = \"{scheme}://{}\" }}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, framing));
        }
    });
    endpoint
}

async fn serve(mut stream: TcpStream, framing: Framing) -> io::Result<()> {
    if framing == Framing::WebSocket {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let mut random = random_by(&head);
        let mut answer = accept(&String::from_utf8_lossy(&head)).into_bytes();
        // Seldom: it takes the broker out of the pool for a while.
        if random.u8(..64) == 0 {
            mutate(&mut answer, &mut random);
        }
        stream.write_all(&answer).await?;
    }
    let mut heard = Vec::new();
    if stream.read_buf(&mut heard).await? == 0 {
        return Ok(());
    }
    if framing == Framing::WebSocket {
        unmask(&mut heard);
    }
    // What it does follows from the CONNECT, so that a seed tells it too.
    let mut random = random_by(&heard);
    let connack: &[u8] = if heard.get(8) == Some(&5) { b"\x20\x03\0\0\0" } else { b"\x20\x02\0\0" };
    say(&mut stream, framing, connack, &mut random).await?;
    loop {
        heard.clear();
        if stream.read_buf(&mut heard).await? == 0 {
            return Ok(());
        }
        match random.u8(..32) {
            0 => return Ok(()),
            1 => return stream.set_zero_linger(),
            _ => say(&mut stream, framing, b"\x30\x08\0\x03a/bhey", &mut random).await?,
        }
    }
}

async fn say(
    stream: &mut TcpStream,
    framing: Framing,
    packet: &[u8],
    random: &mut fastrand::Rng,
) -> io::Result<()> {
    let mut bytes = match framing {
        Framing::WebSocket => frame(Opcode::Binary, packet, None),
        Framing::Raw => packet.to_vec(),
    };
    if random.u8(..8) == 0 {
        mutate(&mut bytes, random);
    }
    stream.write_all(&bytes).await
}

/// Leave a frame's payload.
fn unmask(frame: &mut Vec<u8>) {
    let Ok(Some((header, start))) = FrameHeader::decode(frame) else { return };
    frame.drain(..start);
    header.mask.unwrap().apply(frame);
}

fn accept(head: &str) -> String {
    let key = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-key").then_some(value))
        .unwrap_or_default();
    let key = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
}

fn random_by(bytes: &[u8]) -> fastrand::Rng {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    fastrand::Rng::with_seed(hasher.finish())
}
