//! Handshakes: in pieces, with data right behind them, resumed, refused.

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Client, DATA};
use super::*;

/// Take what `connection` has to send.
fn spoken(connection: &mut rustls::ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[tokio::test]
async fn a_hello_may_come_in_pieces_and_be_large() {
    let server = Server::new();
    for piece in [1, 7, 100, 1000] {
        let mut provider = crate::tls::provider().as_ref().clone();
        provider.kx_groups = vec![kx_group::X25519MLKEM768];
        let config = server.client_with(provider);
        let mut client = rustls::ClientConnection::new(config, name()).unwrap();
        let (mut dialled, accepted) = sockets().await;
        let dialling = Box::pin(async {
            let hello = spoken(&mut client);
            assert!(hello.len() > 1200, "a hello with a post-quantum key is large");
            for bytes in hello.chunks(piece) {
                dialled.write_all(bytes).await.unwrap();
                tokio::task::yield_now().await;
            }
            while client.is_handshaking() {
                let mut answer = Vec::new();
                assert_ne!(dialled.read_buf(&mut answer).await.unwrap(), 0);
                let mut answer = answer.as_slice();
                while !answer.is_empty() {
                    client.read_tls(&mut answer).unwrap();
                    client.process_new_packets().unwrap();
                }
            }
            dialled.write_all(&spoken(&mut client)).await.unwrap();
        });
        let ((), accepted) =
            within("a handshake in pieces", async { tokio::join!(dialling, server.accepts(accepted)) }).await;
        let (_, facts) = accepted.unwrap();
        assert_eq!((facts.version, facts.server_name.as_deref()), ("TLSv1.3", Some(NAME)));
    }
}

/// A hello, cut into records of `piece` bytes, is one hello (RFC 8446, 5.1).
#[tokio::test]
async fn a_hello_may_span_records() {
    let server = Server::new();
    for suite in [tls13(), tls12()] {
        let mut config = server.client(&[suite]).as_ref().clone();
        config.max_fragment_size = Some(64);
        let (mut client, mut ours) = server.pair(&Arc::new(config)).await;
        client.write_all(&text(1000)).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(read_exactly(&mut ours, 1000).await, text(1000));
    }
}

#[tokio::test]
async fn data_in_one_segment_with_the_finished_is_not_lost() {
    let server = Server::new();
    for (suite, updates) in [(tls13(), false), (tls13(), true)] {
        let (dialled, accepted) = sockets().await;
        let client = async {
            let mut client = Client::shake_hands(dialled, server.client(&[suite])).await;
            let mut bytes = client.seal(DATA, b"first, ");
            if updates {
                bytes.extend(client.update_key(true));
            }
            bytes.extend(client.seal(DATA, b"second, "));
            // And a part of what comes next.
            let third = client.seal(DATA, b"third");
            bytes.extend(&third[..9]);
            client.send(&bytes).await;
            (client, third[9..].to_vec())
        };
        let ((mut client, rest), accepted) = tokio::join!(client, server.accepts(accepted));
        let (mut ours, _) = accepted.unwrap();
        assert_eq!(read_exactly(&mut ours, 15).await, b"first, second, ");
        client.send(&rest).await;
        assert_eq!(read_exactly(&mut ours, 5).await, b"third");
        // Where the client asked for a key of ours, it comes before our answer.
        ours.write_all(b"answer").await.unwrap();
        ours.flush().await.unwrap();
        let answer = client.receive_behind_tickets().await;
        let answer = if updates { client.receive().await } else { answer };
        assert_eq!(answer, (DATA, b"answer".to_vec()));
    }
}

#[tokio::test]
async fn tickets_go_with_the_first_answer_and_resume() {
    let server = Server::new();
    for suite in [tls13(), tls12()] {
        let config = server.client(&[suite]);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let (mut client, mut ours) = server.pair(&config).await;
            assert_eq!(client.get_ref().1.handshake_kind(), Some(expected), "{suite:?}");
            ours.write_all(b"hello").await.unwrap();
            ours.flush().await.unwrap();
            let mut greeting = [0; 5];
            within("our first words", client.read_exact(&mut greeting)).await.unwrap();
            assert_eq!(&greeting, b"hello");
        }
    }
}

#[tokio::test]
async fn tickets_reach_a_client_that_hears_nothing_else() {
    let server = Server::new();
    for closes in [false, true] {
        let (mut client, mut ours) = server.pair(&server.client(&[tls13()])).await;
        if closes {
            ours.shutdown().await.unwrap();
        } else {
            ours.flush().await.unwrap();
            drop(ours);
        }
        let end = within("the end", client.read(&mut [0])).await;
        assert_eq!(end.is_ok(), closes, "only a shutdown says close_notify");
        assert_eq!(client.get_ref().1.tls13_tickets_received(), 2);
    }
}

/// The alert that answers `bytes`, and our error.
async fn refusal(server: &Server, bytes: &[u8]) -> (Vec<u8>, String) {
    let (mut dialled, accepted) = sockets().await;
    dialled.write_all(bytes).await.unwrap();
    let Err(error) = server.accepts(accepted).await else { panic!("a handshake of rubbish") };
    let mut answer = Vec::new();
    within("the alert", dialled.read_to_end(&mut answer)).await.unwrap();
    (answer, error.to_string())
}

#[tokio::test]
async fn rubbish_is_told_so() {
    let server = Server::new();
    let alert = |description| vec![21, 3, 3, 0, 2, 2, description];
    // A type that there is not, a length that no record has, data before keys, an empty hello.
    for (bytes, description) in [
        (&[99, 3, 1, 0, 1, 0][..], 50),
        (&[22, 3, 1, 0xff, 0xff, 0], 50),
        (&[23, 3, 3, 0, 1, 0], 10),
        (&[22, 3, 1, 0, 4, 1, 0, 0, 0], 50),
    ] {
        let (answer, error) = refusal(&server, bytes).await;
        assert_eq!(answer, alert(description), "{bytes:?}: {error}");
    }
}

/// Records of any kind, behind a hello or not, whole or in fragments, with bytes changed: an error of ours,
/// and never a panic of anybody's.
#[test]
fn rubbish_of_any_kind_is_an_error() {
    let server = Server::new();
    let hello = spoken(&mut rustls::ClientConnection::new(server.client(&[tls13()]), name()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handshake = (prop_oneof![Just(1_u8), Just(2), Just(11), Just(20), Just(24)], 0..70_000_u32);
    let message = (handshake, 0..20_000_usize).prop_map(|((kind, claims), length)| {
        let mut message = claims.to_be_bytes().to_vec();
        message[0] = kind;
        message.resize(4 + length, 0);
        message
    });
    let payload =
        prop_oneof![prop::collection::vec(any::<u8>(), 0..40), message, Just(vec![1]), Just(vec![1, 0])];
    let record = (prop_oneof![20..24_u8, Just(22)], payload);
    let strategy = (
        prop_oneof![1 => Just(None), 3 => (1..600_usize).prop_map(Some)],
        prop::collection::vec(record, 1..6),
        prop::collection::vec((any::<usize>(), 1..=255_u8), 0..2),
    );
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((fragment, records, changes) in strategy)| {
        let fragments = hello[5..].chunks(fragment.unwrap_or(1)).map(|piece| (22, piece.to_vec()));
        let fragments = fragments.take(if fragment.is_some() { usize::MAX } else { 0 });
        let mut bytes = Vec::new();
        for (content_type, payload) in fragments.chain(records) {
            for piece in payload.chunks(16_384) {
                bytes.extend([content_type, 3, 3]);
                bytes.extend((piece.len() as u16).to_be_bytes());
                bytes.extend_from_slice(piece);
            }
        }
        for (at, change) in changes {
            let at = at % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= change;
            }
        }
        runtime.block_on(async {
            let (mut dialled, accepted) = sockets().await;
            let speaking = async {
                // We may have hung up already.
                let _ = dialled.write_all(&bytes).await;
                let _ = dialled.shutdown().await;
            };
            let ((), accepted) = tokio::join!(speaking, server.accepts(accepted));
            assert!(accepted.is_err());
        });
    });
}

#[tokio::test]
async fn a_client_of_another_version_or_suite_is_told_so() {
    let server = Server::new();
    let mut config = ServerConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&server.config.cert_resolver));
    config.enable_secret_extraction = true;
    let server = Server { config: Arc::new(config), root: server.root };
    let connector = TlsConnector::from(server.client(&[tls12()]));
    let (dialled, accepted) = sockets().await;
    let accepted = async { server.accepts(accepted).await.map(|_| ()).unwrap_err().to_string() };
    let (dialled, accepted) = tokio::join!(connector.connect(name(), dialled), accepted);
    let told = dialled.unwrap_err().to_string();
    assert!(told.contains("ProtocolVersion"), "the client is told: {told}");
    assert!(accepted.contains("Tls12NotOffered"), "we say: {accepted}");
}

#[tokio::test]
async fn a_message_without_end_is_not_kept() {
    let server = Server::new();
    let (mut dialled, accepted) = sockets().await;
    // A hello of 16 MiB, in records of 16 KiB.
    let flood = async {
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.resize(5 + 16_384, 0);
        record[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
        for _ in 0..64 {
            if dialled.write_all(&record).await.is_err() {
                break;
            }
        }
        dialled
    };
    let (_dialled, accepted) = tokio::join!(flood, server.accepts(accepted));
    assert!(matches!(accepted, Err(AcceptError::Tls(_))));
}

#[tokio::test]
async fn a_client_that_leaves_is_no_error_of_tls() {
    let server = Server::new();
    let (dialled, accepted) = sockets().await;
    drop(dialled);
    assert!(matches!(server.accepts(accepted).await, Err(AcceptError::Closed)));
}

#[tokio::test]
async fn plain_http_is_known_by_its_first_letter_only() {
    let server = Server::new();
    let (mut dialled, accepted) = sockets().await;
    dialled.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(server.accepts(accepted).await, Err(AcceptError::PlainHttp(_))));

    // Behind a hello, a letter is rubbish.
    let mut client = rustls::ClientConnection::new(server.client(&[tls13()]), name()).unwrap();
    let (mut dialled, accepted) = sockets().await;
    let speak = async {
        dialled.write_all(&spoken(&mut client)).await.unwrap();
        assert_ne!(dialled.read(&mut [0; 4096]).await.unwrap(), 0);
        dialled.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        dialled
    };
    let (_dialled, accepted) = tokio::join!(speak, server.accepts(accepted));
    assert!(matches!(accepted, Err(AcceptError::Tls(_))));
}

#[tokio::test]
async fn the_facts_of_a_connection_are_told() {
    let server = Server::new();
    for (suite, version) in [(tls13(), ProtocolVersion::TLSv1_3), (tls12(), ProtocolVersion::TLSv1_2)] {
        let (dialled, accepted) = sockets().await;
        let connector = TlsConnector::from(server.client(&[suite]));
        let (client, ours) = tokio::join!(connector.connect(name(), dialled), server.accepts(accepted));
        let (client, (_, facts)) = (client.unwrap(), ours.unwrap());
        assert_eq!(client.get_ref().1.protocol_version(), Some(version));
        assert_eq!(facts.version.replace(['v', '.'], "_"), version.as_str().unwrap().replace('v', "_"));
        assert_eq!(Some(facts.cipher), suite.suite().as_str());
        assert_eq!(facts.server_name.as_deref(), Some(NAME));
        assert!(!facts.resumed);
    }
}
