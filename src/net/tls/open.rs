//! What the client says: records are opened where they were received, and what is no TLS is refused.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{AlertDescription, ContentType, Error, InvalidMessage, PeerMisbehaved};
use tokio::io::{AsyncRead, ReadBuf};

use super::records::{MAX_OVERHEAD, Opener, Record, first_record};
use super::{End, LENT, MAX_FRUITLESS, SMALL_READ, TlsStream, unexpected};

impl TlsStream {
    /// Open what has come, into `into` as long as there is room.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        LENT.with_borrow_mut(|lent| {
            let kept = self.inbound.sealed.len();
            lent[..kept].copy_from_slice(&self.inbound.sealed);
            let mut end = kept;
            if matches!(first_record(&lent[..kept]), Ok(None)) {
                // No more than fits: what is opened then need not be kept.
                let room = (into.remaining() + MAX_OVERHEAD).max(SMALL_READ).min(lent.len() - kept);
                let mut read = ReadBuf::new(&mut lent[kept..kept + room]);
                ready!(Pin::new(&mut self.wire).poll_read(cx, &mut read))?;
                let count = read.filled().len();
                if count == 0 {
                    self.inbound.ended = Some(End::Cut);
                }
                end += count;
            }
            match self.open_all(&mut lent[..end], into) {
                Ok(0) => self.inbound.sealed.extend_from_slice(&lent[kept..end]),
                Ok(used) => self.inbound.sealed = lent[used..end].to_vec(),
                Err(error) => self.refuse(error),
            }
            if self.inbound.ended.is_some() {
                // What comes behind the end is ignored (RFC 8446, 6.1).
                self.inbound.sealed = Vec::new();
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Open whole records until there are no more, or no more room. Returns how many bytes they were.
    fn open_all(&mut self, received: &mut [u8], into: &mut ReadBuf<'_>) -> Result<usize, Error> {
        let mut at = 0;
        while self.inbound.ended.is_none() && self.inbound.opened.is_empty() && into.remaining() > 0 {
            let Some(record) = first_record(&received[at..])? else { break };
            let end = at + record.end;
            self.open(record, &mut received[at..end], into)?;
            at = end;
        }
        Ok(at)
    }

    fn open(&mut self, record: Record, bytes: &mut [u8], into: &mut ReadBuf<'_>) -> Result<(), Error> {
        let message = self.inbound.opener.open(record, bytes)?;
        let is_fruitful = message.typ == ContentType::ApplicationData && !message.payload.is_empty();
        self.inbound.fruitless = if is_fruitful { 0 } else { self.inbound.fruitless + 1 };
        if self.inbound.fruitless > MAX_FRUITLESS {
            return Err(Error::General("too many records in a row that bring no data".into()));
        }
        match (message.typ, message.payload) {
            (ContentType::ApplicationData, payload) => {
                let (now, later) = payload.split_at(payload.len().min(into.remaining()));
                into.put_slice(now);
                self.inbound.opened = later.to_vec().into();
            }
            (ContentType::Alert, &[level, description]) => match description.into() {
                AlertDescription::CloseNotify => self.inbound.ended = Some(End::Clean),
                // It only says that the user is about to leave (RFC 8446, 6.1).
                AlertDescription::UserCanceled if self.is_tls13() => {}
                // A warning (RFC 5246, 7.2); TLS 1.3 has no other than those above.
                _ if level == 1 && !self.is_tls13() => {}
                description => return Err(Error::AlertReceived(description)),
            },
            // All that a client may still say of keys: here is my next one, and perhaps, give me yours
            // (RFC 8446, 4.6.3). Nothing may follow it in its record.
            (ContentType::Handshake, &[24, 0, 0, 1, asks]) if self.is_tls13() => {
                if asks > 1 {
                    return Err(InvalidMessage::InvalidKeyUpdate.into());
                }
                self.owes_update |= asks == 1;
                let keys = &mut self.inbound.keys;
                self.inbound.opener =
                    Opener::build(keys.negotiated_cipher_suite(), keys.update_rx_secret()?)?;
            }
            // A hello: renegotiation (RFC 5746).
            (ContentType::Handshake, [1, ..]) if !self.is_tls13() => {
                return Err(PeerMisbehaved::TooManyRenegotiationRequests.into());
            }
            (got_type, _) => return Err(unexpected(got_type)),
        }
        Ok(())
    }

    /// The client broke TLS: nothing of it is believed any more, and it is told why.
    fn refuse(&mut self, error: Error) {
        let description = match error {
            Error::AlertReceived(_) => None,
            Error::DecryptError => Some(AlertDescription::BadRecordMac),
            Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
            Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => {
                Some(AlertDescription::IllegalParameter)
            }
            Error::InvalidMessage(_) => Some(AlertDescription::DecodeError),
            Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests) => {
                Some(AlertDescription::NoRenegotiation)
            }
            _ => Some(AlertDescription::UnexpectedMessage),
        };
        self.inbound.ended = Some(End::Broken(Box::new(error)));
        if let Some(description) = description.filter(|_| !self.closed) {
            self.say(2, description);
        }
        self.closed = true;
        // As far as it goes now. The one who waits to write may be another task, and keeps its place.
        while let Ok(sent @ 1..) = self.wire.try_write(self.unsent.bytes()) {
            self.unsent.advance(sent);
        }
    }
}
