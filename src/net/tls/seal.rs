//! What the client is told: records are sealed in a lent buffer, and what the socket does not take is kept.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{AlertDescription, ContentType, Error};
use tokio::io::AsyncWrite;

use super::records::{MAX_OVERHEAD, MAX_PAYLOAD, Sealer};
use super::{JOINED, LENT, RECORDS_A_WRITE, TlsStream, broken};

impl TlsStream {
    /// Write, and say goodbye where that is all.
    pub(super) fn poll_write_and(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        is_last: bool,
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.unsent.bytes().len() > JOINED {
            ready!(self.poll_unsent(cx))?;
        }
        self.poll_seal(cx, bytes, is_last)
    }

    /// Seal as much of `bytes` as one write takes, and give it to the socket. What the socket does not take
    /// is kept, and counts as written.
    fn poll_seal(&mut self, cx: &mut Context<'_>, bytes: &[u8], is_last: bool) -> Poll<io::Result<usize>> {
        LENT.with_borrow_mut(|lent| {
            // A little that waits goes along: the handshake's tickets with the first answer.
            let mut end = self.unsent.bytes().len();
            lent[..end].copy_from_slice(self.unsent.bytes());
            let mut taken = 0;
            for payload in bytes.chunks(MAX_PAYLOAD).take(RECORDS_A_WRITE) {
                match self.seal_data(payload, &mut lent[end..]) {
                    Ok(length) => end += length,
                    // What is sealed goes out; the next write says why it is the last.
                    Err(_) if taken > 0 => break,
                    Err(error) => return Poll::Ready(Err(broken(error))),
                }
                taken += payload.len();
            }
            if is_last && taken == bytes.len() {
                end += self.seal_alert(1, AlertDescription::CloseNotify, &mut lent[end..]);
            }
            self.poll_send(cx, &lent[..end]).map_ok(|()| taken)
        })
    }

    fn seal_data(&mut self, payload: &[u8], records: &mut [u8]) -> Result<usize, Error> {
        if self.sealer.is_worn() && !self.is_tls13() {
            // The last record of a key is the goodbye.
            return Err(Error::General(
                "TLS 1.2 has no key after this one: the client must reconnect".into(),
            ));
        }
        let update = self.renew_key(records)?;
        let records = records.get_mut(update..).unwrap_or_default();
        Ok(update + self.sealer.seal(ContentType::ApplicationData, payload, records)?)
    }

    /// Change our key where the client asked for it or the old one is worn out, and say so in `record`.
    fn renew_key(&mut self, record: &mut [u8]) -> Result<usize, Error> {
        if !self.owes_update && !self.sealer.is_worn() || !self.is_tls13() {
            return Ok(0);
        }
        // KeyUpdate, update_not_requested.
        let length = self.sealer.seal(ContentType::Handshake, &[24, 0, 0, 1, 0], record)?;
        let keys = &mut self.inbound.keys;
        self.sealer = Sealer::build(keys.negotiated_cipher_suite(), keys.update_tx_secret()?)?;
        self.owes_update = false;
        Ok(length)
    }

    /// Give sealed bytes to the socket, what was unsent before them, and keep what it does not take.
    fn poll_send(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> Poll<io::Result<()>> {
        let sent = match Pin::new(&mut self.wire).poll_write(cx, sealed) {
            Poll::Ready(Ok(sent)) => sent,
            Poll::Ready(Err(error)) => {
                // What was sealed is lost: the client could open nothing that came behind it.
                self.closed = true;
                return Poll::Ready(Err(error));
            }
            Poll::Pending => 0,
        };
        self.unsent = sealed[sent..].to_vec().into();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.wire).poll_write(cx, self.unsent.bytes()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Seal an alert behind what is unsent.
    pub(super) fn say(&mut self, level: u8, description: AlertDescription) {
        let mut record = [0; 2 + MAX_OVERHEAD];
        let length = self.seal_alert(level, description, &mut record);
        self.unsent.extend(&record[..length]);
    }

    /// Seal an alert after which nothing is said. Returns its record's length.
    fn seal_alert(&mut self, level: u8, description: AlertDescription, record: &mut [u8]) -> usize {
        self.closed = true;
        // A worn-out key says nothing more; the socket's end has to do.
        self.sealer.seal(ContentType::Alert, &[level, description.into()], record).unwrap_or(0)
    }
}
