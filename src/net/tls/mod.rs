//! A client's TLS connection behind its handshake: an idle one holds its keys and no buffer.
//!
//! rustls' own connection keeps a read buffer of 4 KiB and reads no more at once, and allocates every
//! record twice. Here records are opened and sealed in buffers that the thread lends; what is left over
//! between two calls, and only that, is kept.

mod records;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, ContentType, Error, InvalidMessage, PeerMisbehaved, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use self::records::{HEADER, MAX_BODY, MAX_OVERHEAD, MAX_PAYLOAD, Opener, Record, Sealer, first_record};
use super::Rest;

/// Records that one write seals at most: the more, the fewer system calls a large message takes.
const RECORDS_A_WRITE: usize = 4;

/// What may wait and still be sent together with the next write, in bytes.
const JOINED: usize = 2 * 1024;

/// What a read asks for at least: the caller's room may be smaller than one record.
const SMALL_READ: usize = 4 * 1024;

/// Room for a record that is not whole yet, and for what a caller with the largest buffer reads behind it.
const SCRATCH: usize = HEADER + MAX_BODY + RECORDS_A_WRITE * (MAX_PAYLOAD + MAX_OVERHEAD);

/// Records in a row that may bring no data, as key updates and empty ones: they cost us more than the client.
const MAX_FRUITLESS: u8 = 32;

thread_local! {
    /// Where this thread opens and seals records. Nobody holds it across an await.
    static LENT: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// TLS toward a client, its handshake done.
pub struct TlsStream {
    socket: TcpStream,
    opener: Opener,
    sealer: Sealer,
    /// Makes the next keys.
    keys: KernelConnection<ServerConnectionData>,
    /// Sealed by the client and not yet opened: seldom more than a part of a record.
    sealed: Vec<u8>,
    /// Opened and not yet taken by the caller: a record that was larger than the caller's room.
    opened: Rest,
    /// Sealed by us and not yet taken by the socket.
    unsent: Rest,
    /// The client has closed its side, and how.
    ended: Option<End>,
    /// The client asked for new keys of ours; they go before our next bytes (RFC 8446, 4.6.3).
    owes_update: bool,
    /// Records in a row that brought no data.
    fruitless: u8,
    /// Nothing more is written: we said goodbye, or something broke.
    closed: bool,
}

#[derive(Debug)]
enum End {
    /// With close_notify: nothing was cut off.
    Clean,
    /// Without.
    Cut,
    /// It broke TLS, or says that we did.
    Broken(Box<Error>),
}

impl TlsStream {
    /// Take over from a handshake that is done. `sealed` is what came behind it and rustls has not seen,
    /// `unsent` is the handshake's own that the socket has not had yet.
    ///
    /// # Errors
    /// When the handshake is not done, its configuration keeps the secrets to itself, or more came behind it
    /// than a stream keeps.
    pub fn build(
        socket: TcpStream,
        connection: UnbufferedServerConnection,
        sealed: Vec<u8>,
        unsent: Vec<u8>,
    ) -> Result<Self, Error> {
        if sealed.len() > SCRATCH {
            return Err(Error::PeerSentOversizedRecord);
        }
        let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
        let suite = keys.negotiated_cipher_suite();
        Ok(Self {
            socket,
            opener: Opener::build(suite, secrets.rx)?,
            sealer: Sealer::build(suite, secrets.tx)?,
            keys,
            sealed,
            opened: Rest::default(),
            unsent: unsent.into(),
            ended: None,
            owes_update: false,
            fruitless: 0,
            closed: false,
        })
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Write what is the last: where all of it is taken, the goodbye (close_notify; RFC 8446, 6.1) goes along.
    pub fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_and(cx, bytes, true)
    }

    /// Open what has come, into `into` as long as there is room.
    fn poll_open(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        LENT.with_borrow_mut(|lent| {
            let kept = self.sealed.len();
            lent[..kept].copy_from_slice(&self.sealed);
            let mut end = kept;
            if matches!(first_record(&lent[..kept]), Ok(None)) {
                // No more than fits: what is opened then need not be kept.
                let room = (into.remaining() + MAX_OVERHEAD).max(SMALL_READ).min(lent.len() - kept);
                let mut read = ReadBuf::new(&mut lent[kept..kept + room]);
                ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
                let count = read.filled().len();
                if count == 0 {
                    self.ended = Some(End::Cut);
                }
                end += count;
            }
            match self.open_all(&mut lent[..end], into) {
                Ok(0) => self.sealed.extend_from_slice(&lent[kept..end]),
                Ok(used) => self.sealed = lent[used..end].to_vec(),
                Err(error) => self.refuse(error),
            }
            if self.ended.is_some() {
                // What comes behind the end is ignored (RFC 8446, 6.1).
                self.sealed = Vec::new();
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Open whole records until there are no more, or no more room. Returns how many bytes they were.
    fn open_all(&mut self, received: &mut [u8], into: &mut ReadBuf<'_>) -> Result<usize, Error> {
        let mut at = 0;
        while self.ended.is_none() && self.opened.is_empty() && into.remaining() > 0 {
            let Some(record) = first_record(&received[at..])? else { break };
            let end = at + record.end;
            self.open(record, &mut received[at..end], into)?;
            at = end;
        }
        Ok(at)
    }

    fn open(&mut self, record: Record, bytes: &mut [u8], into: &mut ReadBuf<'_>) -> Result<(), Error> {
        let message = self.opener.open(record, bytes)?;
        let is_fruitful = message.typ == ContentType::ApplicationData && !message.payload.is_empty();
        self.fruitless = if is_fruitful { 0 } else { self.fruitless + 1 };
        if self.fruitless > MAX_FRUITLESS {
            return Err(Error::General("too many records in a row that bring no data".into()));
        }
        match (message.typ, message.payload) {
            (ContentType::ApplicationData, payload) => {
                let (now, later) = payload.split_at(payload.len().min(into.remaining()));
                into.put_slice(now);
                self.opened = later.to_vec().into();
            }
            (ContentType::Alert, &[level, description]) => match description.into() {
                AlertDescription::CloseNotify => self.ended = Some(End::Clean),
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
                self.opener =
                    Opener::build(self.keys.negotiated_cipher_suite(), self.keys.update_rx_secret()?)?;
            }
            // A hello: renegotiation (RFC 5746).
            (ContentType::Handshake, [1, ..]) if !self.is_tls13() => {
                return Err(PeerMisbehaved::TooManyRenegotiationRequests.into());
            }
            (got_type, _) => return Err(unexpected(got_type)),
        }
        Ok(())
    }

    fn is_tls13(&self) -> bool {
        self.keys.protocol_version() == ProtocolVersion::TLSv1_3
    }

    /// Write, and say goodbye where that is all.
    fn poll_write_and(
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
        self.sealer = Sealer::build(self.keys.negotiated_cipher_suite(), self.keys.update_tx_secret()?)?;
        self.owes_update = false;
        Ok(length)
    }

    /// Give sealed bytes to the socket, what was unsent before them, and keep what it does not take.
    fn poll_send(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> Poll<io::Result<()>> {
        let sent = match Pin::new(&mut self.socket).poll_write(cx, sealed) {
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

    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, self.unsent.bytes()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        Poll::Ready(Ok(()))
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
        self.ended = Some(End::Broken(Box::new(error)));
        if let Some(description) = description.filter(|_| !self.closed) {
            self.say(2, description);
        }
        self.closed = true;
        // As far as it goes now. The one who waits to write may be another task, and keeps its place.
        while let Ok(sent @ 1..) = self.socket.try_write(self.unsent.bytes()) {
            self.unsent.advance(sent);
        }
    }

    /// Seal an alert behind what is unsent.
    fn say(&mut self, level: u8, description: AlertDescription) {
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

/// What tests ask.
#[cfg(test)]
impl TlsStream {
    /// Bytes of memory that it holds for records.
    pub fn kept(&self) -> usize {
        self.sealed.capacity() + self.opened.capacity() + self.unsent.capacity()
    }

    /// Bytes that wait to be opened, and that wait for the caller.
    pub fn opened(&self) -> (usize, usize) {
        (self.sealed.len(), self.opened.bytes().len())
    }

    /// Let its key seal so many records more.
    pub fn wear_key(&mut self, records: u64) {
        self.sealer.wear(records);
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let ready = this.opened.first(into.remaining());
        into.put_slice(ready);
        let count = ready.len();
        this.opened.advance(count);
        while into.filled().len() == before && into.remaining() > 0 {
            match &this.ended {
                None => ready!(this.poll_open(cx, into))?,
                Some(End::Clean) => break,
                Some(End::Cut) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Some(End::Broken(error)) => return Poll::Ready(Err(broken(error.as_ref().clone()))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_and(cx, bytes, false)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.say(1, AlertDescription::CloseNotify);
        }
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are nobody's business.
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn unexpected(got_type: ContentType) -> Error {
    Error::InappropriateMessage { expect_types: vec![ContentType::ApplicationData], got_type }
}
