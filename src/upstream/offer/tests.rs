//! First packets: whole, in pieces, behind rubbish, and none at all.

use tokio::net::UnixStream;

use super::*;

const CONNECT: &[u8] = b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03one";
const ACCEPTED: &[u8] = &[0x20, 2, 0, 0];
const PATIENCE: Duration = Duration::from_secs(5);

/// Offer to a broker that has sent `says` and then closes.
async fn answer(framing: Framing, level: Level, says: &[u8]) -> Result<Answer, OfferError> {
    let (mut broker, stream) = UnixStream::pair().unwrap();
    broker.write_all(says).await.unwrap();
    broker.shutdown().await.unwrap();
    let answer = offer(stream.into(), Vec::new(), framing, level, CONNECT, PATIENCE).await;
    drop(broker);
    answer
}

fn framed(packet: &[u8]) -> Vec<u8> {
    websocket::frame(Opcode::Binary, packet, None)
}

fn connack(code: u8) -> First {
    First::Connack(Connack::parse(Level::V311, &[0x20, 2, 0, code]).unwrap().unwrap())
}

#[tokio::test]
async fn a_connack_is_taken_with_what_comes_behind_it() {
    let publish = b"\x30\x03\0\x01a";
    for code in [0, 5] {
        let connack_bytes = [0x20, 2, 0, code];
        let raw = [&connack_bytes[..], publish].concat();
        let taken = answer(Framing::Raw, Level::V311, &raw).await.unwrap();
        assert_eq!((taken.first, taken.read), (connack(code), raw));
        let fragments = [&[0x02, 1, 0x20][..], &[0x89, 1, b'?'], &[0x00, 0], &[0x80, 3, 2, 0, code]].concat();
        for said in [
            [framed(&connack_bytes), framed(publish)].concat(),
            framed(&[&connack_bytes[..], publish].concat()),
            // A broker that refuses hangs up at once.
            [framed(&connack_bytes), websocket::close_frame(websocket::CloseCode::Normal, "")].concat(),
            // Who broke what comes later is the tunnel's affair.
            [framed(&connack_bytes), vec![0xFF]].concat(),
            fragments,
        ] {
            let taken = answer(Framing::WebSocket, Level::V311, &said).await.unwrap();
            assert_eq!((taken.first, taken.read), (connack(code), said));
        }
    }
}

#[tokio::test]
async fn a_connack_may_have_come_with_the_101() {
    let (_broker, stream) = UnixStream::pair().unwrap();
    let early = framed(ACCEPTED);
    let taken = offer(stream.into(), early.clone(), Framing::WebSocket, Level::V311, CONNECT, PATIENCE).await;
    assert_eq!(taken.unwrap().read, early);
}

#[tokio::test]
async fn the_connect_is_said_once_and_masked_for_a_websocket_broker() {
    for framing in [Framing::Raw, Framing::WebSocket] {
        let (mut broker, stream) = UnixStream::pair().unwrap();
        let answer = if framing == Framing::Raw { ACCEPTED.to_vec() } else { framed(ACCEPTED) };
        let (taken, ()) =
            tokio::join!(offer(stream.into(), Vec::new(), framing, Level::V311, CONNECT, PATIENCE), async {
                // One byte at a time.
                for byte in answer {
                    broker.write_all(&[byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
        drop(taken.unwrap());
        let mut heard = Vec::new();
        broker.read_to_end(&mut heard).await.unwrap();
        if framing == Framing::WebSocket {
            assert_eq!(heard[..2], [0x82, 0x80 | CONNECT.len() as u8]);
            let key = [heard[2], heard[3], heard[4], heard[5]];
            heard.drain(..6);
            Mask::new(key).apply(&mut heard);
        }
        assert_eq!(heard, CONNECT);
    }
}

#[tokio::test]
async fn answers_that_are_none() {
    let text = websocket::frame(Opcode::Text, ACCEPTED, None);
    let masked = websocket::frame(Opcode::Binary, ACCEPTED, Some(Mask::new([1; 4])));
    let table: &[(Framing, Level, &[u8], &str)] = &[
        (Framing::Raw, Level::V311, b"", "closed_before_connack"),
        (Framing::Raw, Level::V311, &ACCEPTED[..3], "closed_before_connack"),
        (Framing::WebSocket, Level::V311, b"\x88\0", "closed_before_connack"),
        (Framing::WebSocket, Level::V311, &framed(&ACCEPTED[..3]), "closed_before_connack"),
        (Framing::WebSocket, Level::V311, &text, "broker_frame"),
        (Framing::WebSocket, Level::V311, &masked, "broker_frame"),
        (Framing::Raw, Level::V311, b"HTTP/1.1 400 Bad Request\r\n\r\n", "broker_packet"),
        (Framing::Raw, Level::V311, b"\x30\x03\0\x01a", "no_connack"),
        (Framing::Raw, Level::V311, b"\xF0\0", "no_connack"),
        (Framing::Raw, Level::V5, b"\x20\xFF\xFF\x7F", "broker_packet"),
        (Framing::Raw, Level::V311, b"\x20\x02\0\x03", "elsewhere"),
        (Framing::Raw, Level::V5, b"\x20\x03\0\x88\0", "elsewhere"),
        (Framing::Raw, Level::V5, b"\x20\x03\0\x9C\0", "elsewhere"),
    ];
    for (framing, level, says, label) in table {
        let error = answer(*framing, *level, says).await.unwrap_err();
        assert_eq!(error.label(), *label, "{says:02x?}: {error}");
    }
    assert_eq!(answer(Framing::Raw, Level::V5, b"\xF0\0").await.unwrap().first, First::Auth);
}

#[tokio::test]
async fn a_broker_that_never_comes_to_the_point_is_given_up() {
    let (broker, stream) = UnixStream::pair().unwrap();
    let patience = Duration::from_millis(50);
    let taken = offer(stream.into(), Vec::new(), Framing::Raw, Level::V311, CONNECT, patience).await;
    assert_eq!(taken.unwrap_err().label(), "connack_timeout");
    drop(broker);

    // Pings are no answer, and are kept for the client: not all of them.
    let (mut broker, stream) = UnixStream::pair().unwrap();
    let pings = tokio::spawn(async move {
        let pings = b"\x89\x02hi".repeat(8 << 20);
        broker.write_all(&pings).await
    });
    let taken = offer(stream.into(), Vec::new(), Framing::WebSocket, Level::V311, CONNECT, PATIENCE).await;
    assert_eq!(taken.unwrap_err().label(), "no_connack");
    assert!(pings.await.unwrap().is_err(), "all was taken");
}
