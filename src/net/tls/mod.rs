//! A client's TLS connection behind its handshake: an idle one holds its keys and no buffer.
//!
//! rustls' own connection keeps a read buffer of 4 KiB and reads no more at once, and allocates every
//! record twice. Here records are opened and sealed in buffers that the thread lends; what is left over
//! between two calls, and only that, is kept.

mod open;
mod records;
mod seal;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, ContentType, Error, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::records::{HEADER, MAX_BODY, MAX_OVERHEAD, MAX_PAYLOAD, Opener, Sealer};
use super::{Rest, Wire};

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
///
/// What bytes toward the client look at lies here, and so in the session itself, in the order of a write. All else is
/// boxed: each line of memory that lies elsewhere is one more to wait for (`fan-out`).
#[repr(C)]
pub struct TlsStream {
    wire: Wire,
    /// Nothing more is written: we said goodbye, or something broke.
    closed: bool,
    /// The client asked for new keys of ours; they go before our next bytes (RFC 8446, 4.6.3).
    owes_update: bool,
    /// Sealed by us and not yet taken by the socket.
    unsent: Rest,
    sealer: Sealer,
    inbound: Box<Inbound>,
}

/// What bytes from the client need, and what makes the next keys of either side.
struct Inbound {
    opener: Opener,
    /// Makes the next keys.
    keys: KernelConnection<ServerConnectionData>,
    /// Sealed by the client and not yet opened: seldom more than a part of a record.
    sealed: Vec<u8>,
    /// Opened and not yet taken by the caller: a record that was larger than the caller's room.
    opened: Rest,
    /// The client has closed its side, and how.
    ended: Option<End>,
    /// Records in a row that brought no data.
    fruitless: u8,
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
        wire: Wire,
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
            wire,
            sealer: Sealer::build(suite, secrets.tx)?,
            unsent: unsent.into(),
            owes_update: false,
            closed: false,
            inbound: Box::new(Inbound {
                opener: Opener::build(suite, secrets.rx)?,
                keys,
                sealed,
                opened: Rest::default(),
                ended: None,
                fruitless: 0,
            }),
        })
    }

    /// What is below.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Whether the client has closed its side, and all that came before is taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.inbound.ended.is_some() && self.inbound.opened.is_empty()
    }

    /// Write what is the last: where all of it is taken, the goodbye (close_notify; RFC 8446, 6.1) goes along.
    pub fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_and(cx, bytes, true)
    }

    /// Send what was kept back, as far as nothing else would: see [`Wire::poll_catch_up`].
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_catch_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        self.wire.poll_catch_up(cx)
    }

    fn is_tls13(&self) -> bool {
        self.inbound.keys.protocol_version() == ProtocolVersion::TLSv1_3
    }
}

/// What tests ask.
#[cfg(test)]
impl TlsStream {
    /// Bytes of memory that it holds for records.
    pub fn kept(&self) -> usize {
        self.inbound.sealed.capacity() + self.inbound.opened.capacity() + self.unsent.capacity()
    }

    /// Bytes that wait to be opened, and that wait for the caller.
    pub fn opened(&self) -> (usize, usize) {
        (self.inbound.sealed.len(), self.inbound.opened.bytes().len())
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
        let ready = this.inbound.opened.first(into.remaining());
        into.put_slice(ready);
        let count = ready.len();
        this.inbound.opened.advance(count);
        while into.filled().len() == before && into.remaining() > 0 {
            match &this.inbound.ended {
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
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.say(1, AlertDescription::CloseNotify);
        }
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are nobody's business.
        f.debug_struct("TlsStream").field("socket", self.wire.socket()).finish_non_exhaustive()
    }
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn unexpected(got_type: ContentType) -> Error {
    Error::InappropriateMessage { expect_types: vec![ContentType::ApplicationData], got_type }
}
