//! A client that holds its own keys, and so can seal and send what no TLS library would.

use std::sync::Arc;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::cipher;
use rustls::kernel::KernelConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ConnectionTrafficSecrets, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{name, within};

pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

pub(super) struct Client {
    pub(super) socket: TcpStream,
    keys: KernelConnection<ClientConnectionData>,
    ours: Key,
    theirs: Key,
    /// The end of the handshake, if it has not been sent.
    unsent: Vec<u8>,
}

struct Key {
    key: LessSafeKey,
    iv: cipher::Iv,
    sequence: u64,
}

impl Key {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => panic!("a cipher that these tests do not know"),
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
        Self { key, iv, sequence }
    }

    fn nonce(&self) -> [u8; 12] {
        cipher::Nonce::new(&self.iv, self.sequence).0
    }
}

impl Client {
    /// Shake hands, and keep the last of it for what is sent next.
    pub(super) async fn shake_hands(mut socket: TcpStream, config: Arc<ClientConfig>) -> Self {
        let mut connection = UnbufferedClientConnection::new(config, name()).unwrap();
        let (mut received, mut unsent) = (Vec::new(), Vec::new());
        loop {
            let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut received);
            let mut blocked = false;
            match state.unwrap() {
                ConnectionState::EncodeTlsData(mut data) => {
                    let from = unsent.len();
                    unsent.resize(from + 20_000, 0);
                    let length = data.encode(&mut unsent[from..]).unwrap();
                    unsent.truncate(from + length);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(_) => break,
                _ => blocked = true,
            }
            received.drain(..discard);
            if blocked {
                socket.write_all(&unsent).await.unwrap();
                unsent.clear();
                assert_ne!(socket.read_buf(&mut received).await.unwrap(), 0, "the server hung up");
            }
        }
        let (secrets, keys) = connection.dangerous_into_kernel_connection().unwrap();
        Self { socket, keys, ours: Key::new(secrets.tx), theirs: Key::new(secrets.rx), unsent }
    }

    pub(super) fn is_tls13(&self) -> bool {
        self.keys.protocol_version() == ProtocolVersion::TLSv1_3
    }

    /// A record as it should be.
    pub(super) fn seal(&mut self, content_type: u8, payload: &[u8]) -> Vec<u8> {
        self.seal_padded(content_type, payload, 0)
    }

    /// A record with so many zeros behind the payload; only TLS 1.3 has them.
    pub(super) fn seal_padded(&mut self, content_type: u8, payload: &[u8], padding: usize) -> Vec<u8> {
        let nonce = self.ours.nonce();
        let mut text = payload.to_vec();
        let mut explicit = &[][..];
        let (outer, aad) = if self.is_tls13() {
            text.push(content_type);
            text.resize(text.len() + padding, 0);
            (DATA, cipher::make_tls13_aad(text.len() + 16).to_vec())
        } else {
            if self.ours.key.algorithm() != &aead::CHACHA20_POLY1305 {
                explicit = &nonce[4..];
            }
            let (sequence, version) = (self.ours.sequence, ProtocolVersion::TLSv1_2);
            let aad = cipher::make_tls12_aad(sequence, content_type.into(), version, text.len());
            (content_type, aad.to_vec())
        };
        let once = Nonce::assume_unique_for_key(nonce);
        self.ours.key.seal_in_place_append_tag(once, Aad::from(aad), &mut text).unwrap();
        self.ours.sequence += 1;
        let mut record = vec![outer, 3, 3];
        record.extend_from_slice(&((explicit.len() + text.len()) as u16).to_be_bytes());
        record.extend_from_slice(explicit);
        record.append(&mut text);
        record
    }

    /// A KeyUpdate, and the next key behind it.
    pub(super) fn update_key(&mut self, asks: bool) -> Vec<u8> {
        let record = self.seal(HANDSHAKE, &[24, 0, 0, 1, u8::from(asks)]);
        self.ours = Key::new(self.keys.update_tx_secret().unwrap());
        record
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.unsent);
        all.extend_from_slice(bytes);
        self.socket.write_all(&all).await.unwrap();
    }

    /// The next record: its type and payload. After a KeyUpdate, the next key is taken.
    pub(super) async fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 5];
        within("a record", self.socket.read_exact(&mut header)).await.unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        within("its body", self.socket.read_exact(&mut body)).await.unwrap();
        assert_eq!(header[1..3], [3, 3]);
        let mut nonce = self.theirs.nonce();
        let (mut skipped, mut aad) = (0, header.to_vec());
        if !self.is_tls13() {
            if self.theirs.key.algorithm() != &aead::CHACHA20_POLY1305 {
                nonce[4..].copy_from_slice(&body[..8]);
                skipped = 8;
            }
            let (sequence, version) = (self.theirs.sequence, ProtocolVersion::TLSv1_2);
            let length = body.len() - skipped - 16;
            aad = cipher::make_tls12_aad(sequence, header[0].into(), version, length).to_vec();
        }
        let once = Nonce::assume_unique_for_key(nonce);
        let opened = self.theirs.key.open_in_place(once, Aad::from(aad), &mut body[skipped..]);
        let mut text = opened.expect("a record that the server sealed, in its order").to_vec();
        self.theirs.sequence += 1;
        let content_type = if self.is_tls13() { text.pop().unwrap() } else { header[0] };
        if content_type == HANDSHAKE && text.first() == Some(&24) {
            assert_eq!(text, [24, 0, 0, 1, 0], "a KeyUpdate that asks for none");
            self.theirs = Key::new(self.keys.update_rx_secret().unwrap());
        }
        (content_type, text)
    }

    /// The next record that is no ticket.
    pub(super) async fn receive_behind_tickets(&mut self) -> (u8, Vec<u8>) {
        loop {
            let (content_type, text) = self.receive().await;
            if !(content_type == HANDSHAKE && text[0] == 4) {
                return (content_type, text);
            }
        }
    }

    /// That nothing comes but the end of the stream.
    pub(super) async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        within("the end", self.socket.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "{} bytes more", rest.len());
    }
}
