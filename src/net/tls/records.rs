//! TLS records: sealing and opening them, in the caller's buffers (RFC 8446, 5; RFC 5246, 6.2).
//!
//! The handshake is rustls', and so is opening; AEAD is aws-lc's, nonces and additional data are rustls'.
//! What is ours is that a record is sealed where it is sent from: rustls would allocate each.

use aws_lc_rs::aead::{self, LessSafeKey, UnboundKey};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, Nonce, make_tls12_aad,
    make_tls13_aad,
};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, InvalidMessage, ProtocolVersion, SupportedCipherSuite,
};

/// Bytes of a record's header.
pub(super) const HEADER: usize = 5;

/// The most payload of one record.
pub(super) const MAX_PAYLOAD: usize = 16 * 1024;

/// The most that sealing adds to a payload, header included: TLS 1.2's explicit nonce and tag.
pub(super) const MAX_OVERHEAD: usize = HEADER + EXPLICIT_NONCE + TAG;

/// What a record may hold behind its header: TLS 1.2 allows more than TLS 1.3 (RFC 5246, 6.2.3).
pub(super) const MAX_BODY: usize = MAX_PAYLOAD + 2048;

const TAG: usize = 16;

/// The part of a TLS 1.2 GCM nonce that is sent (RFC 5288, 3).
const EXPLICIT_NONCE: usize = 8;

/// A whole record at the beginning of what was received: what its header says, and where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    content_type: ContentType,
    version: ProtocolVersion,
    pub(super) end: usize,
}

/// The first record of `received`, or `None` when more must come first.
///
/// # Errors
/// When it is longer than any record may be, or none of TLS.
pub(super) fn first_record(received: &[u8]) -> Result<Option<Record>, Error> {
    let &[content_type, major, minor, high, low, ..] = received else { return Ok(None) };
    if major != 3 {
        return Err(InvalidMessage::UnknownProtocolVersion.into());
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_BODY {
        return Err(Error::PeerSentOversizedRecord);
    }
    let version = u16::from_be_bytes([major, minor]).into();
    let record = Record { content_type: content_type.into(), version, end: HEADER + length };
    Ok((received.len() >= record.end).then_some(record))
}

/// Opens what the peer sealed.
pub(super) struct Opener {
    decrypter: Box<dyn MessageDecrypter>,
    sequence: u64,
    is_tls13: bool,
}

impl Opener {
    /// From the secrets of one direction, and the number of records it has carried.
    pub(super) fn build(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (_, key, iv) = parts(secrets)?;
        let (decrypter, is_tls13) = match suite {
            SupportedCipherSuite::Tls13(suite) => (suite.aead_alg.decrypter(key, iv), true),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                let fixed = iv.as_ref().get(..fixed).ok_or(Error::EncryptError)?;
                (suite.aead_alg.decrypter(key, fixed), false)
            }
        };
        Ok(Self { decrypter, sequence, is_tls13 })
    }

    /// Open the next record in place: `bytes` is all of it, as [`first_record`] has found it.
    ///
    /// # Errors
    /// When it was not sealed by the peer, in this order.
    pub(super) fn open<'a>(
        &mut self,
        record: Record,
        bytes: &'a mut [u8],
    ) -> Result<InboundPlainMessage<'a>, Error> {
        if self.is_tls13 && record.content_type != ContentType::ApplicationData {
            // Nothing travels in the clear behind a handshake (RFC 8446, 5).
            return Err(super::unexpected(record.content_type));
        }
        let body = bytes.get_mut(HEADER..record.end).unwrap_or_default();
        let message = InboundOpaqueMessage::new(record.content_type, record.version, body);
        let opened = self.decrypter.decrypt(message, self.sequence)?;
        self.sequence += 1;
        Ok(opened)
    }
}

/// Seals what we send.
pub(super) struct Sealer {
    key: LessSafeKey,
    iv: Iv,
    sequence: u64,
    /// Records that one key may seal (RFC 8446, 5.5).
    limit: u64,
    form: Form,
}

/// How a record lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The true type is sealed behind the payload.
    Tls13,
    /// The type is in the header; with GCM a part of the nonce is sent.
    Tls12 { explicit_nonce: bool },
}

impl Sealer {
    /// From the secrets of one direction, and the number of records it has carried.
    pub(super) fn build(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (algorithm, key, iv) = parts(secrets)?;
        let (common, form) = match suite {
            SupportedCipherSuite::Tls13(suite) => (&suite.common, Form::Tls13),
            SupportedCipherSuite::Tls12(suite) => {
                let explicit_nonce = suite.aead_alg.key_block_shape().explicit_nonce_len > 0;
                (&suite.common, Form::Tls12 { explicit_nonce })
            }
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::EncryptError)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence, limit: common.confidentiality_limit, form })
    }

    #[cfg(test)]
    pub(super) const fn wear(&mut self, records: u64) {
        self.limit = self.sequence + records;
    }

    /// Whether the key has to be followed by another before the next record but one.
    pub(super) const fn is_worn(&self) -> bool {
        self.sequence + 1 >= self.limit
    }

    /// Seal `payload`, at most [`MAX_PAYLOAD`] bytes, into the beginning of `record`, which has room for it
    /// and [`MAX_OVERHEAD`]. Returns the record's length.
    ///
    /// # Errors
    /// When the key is worn out, or there is too little room.
    pub(super) fn seal(
        &mut self,
        content_type: ContentType,
        payload: &[u8],
        record: &mut [u8],
    ) -> Result<usize, Error> {
        // No nonce is used twice, and none more often than the cipher bears.
        if self.sequence >= self.limit {
            return Err(Error::EncryptError);
        }
        let sequence = self.sequence;
        self.sequence += 1;
        let nonce = Nonce::new(&self.iv, sequence).0;
        let (outer_type, skipped, inner_type, aad) = match self.form {
            Form::Tls13 => {
                let aad = make_tls13_aad(payload.len() + 1 + TAG);
                (ContentType::ApplicationData, 0, Some(u8::from(content_type)), Additional::Tls13(aad))
            }
            Form::Tls12 { explicit_nonce } => {
                let (version, length) = (ProtocolVersion::TLSv1_2, payload.len());
                let aad = make_tls12_aad(sequence, content_type, version, length);
                let skipped = if explicit_nonce { EXPLICIT_NONCE } else { 0 };
                (content_type, skipped, None, Additional::Tls12(aad))
            }
        };
        let inner_type = inner_type.as_slice();
        let length = HEADER + skipped + payload.len() + inner_type.len() + TAG;
        let record = record.get_mut(..length).ok_or(Error::EncryptError)?;

        let [high, low] = ((length - HEADER) as u16).to_be_bytes();
        record[..HEADER].copy_from_slice(&[outer_type.into(), 3, 3, high, low]);
        record[HEADER..HEADER + skipped].copy_from_slice(&nonce[nonce.len() - skipped..]);
        let (text, type_and_tag) = record[HEADER + skipped..].split_at_mut(payload.len());
        let (nonce, aad) = (aead::Nonce::assume_unique_for_key(nonce), aead::Aad::from(aad));
        // From one buffer into the other: to copy first would be a pass more over each byte (`bulk256`).
        self.key
            .seal_out_of_place_scatter(nonce, aad, payload, text, inner_type, type_and_tag)
            .map_err(|_| Error::EncryptError)?;
        Ok(length)
    }
}

/// What is authenticated beside the payload.
enum Additional {
    Tls13([u8; 5]),
    Tls12([u8; 13]),
}

impl AsRef<[u8]> for Additional {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Tls13(bytes) => bytes,
            Self::Tls12(bytes) => bytes,
        }
    }
}

/// The parts of one direction's secrets.
fn parts(secrets: ConnectionTrafficSecrets) -> Result<(&'static aead::Algorithm, AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => Ok((&aead::AES_128_GCM, key, iv)),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => Ok((&aead::AES_256_GCM, key, iv)),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((&aead::CHACHA20_POLY1305, key, iv)),
        _ => Err(Error::General("a cipher that the record layer does not know".into())),
    }
}
