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
use rustls::{AlertDescription, ContentType, Error, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use self::records::{HEADER, MAX_BODY, MAX_OVERHEAD, MAX_PAYLOAD, Opener, Record, Sealer, first_record};

/// Records that one write seals at most: the more, the fewer system calls a large message takes.
const RECORDS_A_WRITE: usize = 4;

/// What a read asks for at least: the caller's room may be smaller than one record.
const SMALL_READ: usize = 4 * 1024;

/// Room for a record that is not whole yet, and for what a caller with the largest buffer reads behind it.
const SCRATCH: usize = HEADER + MAX_BODY + RECORDS_A_WRITE * (MAX_PAYLOAD + MAX_OVERHEAD);

/// Key updates a peer may ask for before it sends anything: each costs us more than it costs the peer.
const IDLE_UPDATES: u8 = 32;

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
    opened: Opened,
    /// Sealed by us and not yet taken by the socket.
    unsent: Unsent,
    /// The client has closed its side, and how.
    ended: Option<End>,
    /// The client asked for new keys of ours; they go before our next bytes (RFC 8446, 4.6.3).
    owes_update: bool,
    idle_updates: u8,
    said_close: bool,
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
    /// Take over from a handshake that is done. `opened` and `sealed` are what came behind it, `unsent` is
    /// the handshake's own that the socket has not had yet.
    ///
    /// # Errors
    /// When the handshake is not done, or its configuration keeps the secrets to itself.
    pub fn build(
        socket: TcpStream,
        connection: UnbufferedServerConnection,
        opened: Vec<u8>,
        sealed: Vec<u8>,
        unsent: Vec<u8>,
    ) -> Result<Self, Error> {
        let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
        let suite = keys.negotiated_cipher_suite();
        Ok(Self {
            socket,
            opener: Opener::build(suite, secrets.rx)?,
            sealer: Sealer::build(suite, secrets.tx)?,
            keys,
            sealed,
            opened: Opened { bytes: opened, taken: 0 },
            unsent: Unsent { bytes: unsent, sent: 0 },
            ended: None,
            owes_update: false,
            idle_updates: 0,
            said_close: false,
        })
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Open what has come, into `into` as long as there is room.
    fn poll_open(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        LENT.with_borrow_mut(|lent| {
            let kept = self.sealed.len();
            lent[..kept].copy_from_slice(&self.sealed);
            let mut end = kept;
            if first_record(&lent[..kept]).map_err(broken)?.is_none() {
                // No more than fits: what is opened then need not be kept.
                let room = (into.remaining() + MAX_OVERHEAD).max(SMALL_READ).min(lent.len() - kept);
                let mut read = ReadBuf::new(&mut lent[kept..kept + room]);
                ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
                let count = read.filled().len();
                if count == 0 {
                    self.ended = Some(End::Cut);
                    return Poll::Ready(Ok(()));
                }
                end += count;
            }
            let used = self.open_all(&mut lent[..end], into);
            self.sealed.clear();
            match used {
                Ok(used) => self.sealed.extend_from_slice(&lent[used..end]),
                Err(error) => {
                    self.refuse(error);
                    // Whether the client reads why changes nothing.
                    let _ = self.poll_unsent(cx);
                }
            }
            if self.sealed.is_empty() {
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
        match (message.typ, message.payload) {
            (ContentType::ApplicationData, payload) => {
                let (now, later) = payload.split_at(payload.len().min(into.remaining()));
                into.put_slice(now);
                self.opened = Opened { bytes: later.to_vec(), taken: 0 };
                if !payload.is_empty() {
                    self.idle_updates = 0;
                }
            }
            (ContentType::Alert, &[level, description]) => match description.into() {
                AlertDescription::CloseNotify => self.ended = Some(End::Clean),
                // It only says that the user is about to leave (RFC 8446, 6.1).
                AlertDescription::UserCanceled => {}
                // A warning (RFC 5246, 7.2); TLS 1.3 has no other than those above.
                _ if level == 1 && !self.is_tls13() => {}
                description => return Err(Error::AlertReceived(description)),
            },
            // All that a client may still say of keys: here is my next one, and perhaps, give me yours
            // (RFC 8446, 4.6.3). Nothing may follow it in its record.
            (ContentType::Handshake, &[24, 0, 0, 1, asks @ (0 | 1)]) if self.is_tls13() => {
                if self.idle_updates == IDLE_UPDATES {
                    return Err(Error::General("more key updates than anybody needs".into()));
                }
                self.idle_updates += 1;
                self.owes_update |= asks == 1;
                self.opener =
                    Opener::build(self.keys.negotiated_cipher_suite(), self.keys.update_rx_secret()?)?;
            }
            (got_type, _) => {
                return Err(Error::InappropriateMessage {
                    expect_types: vec![ContentType::ApplicationData],
                    got_type,
                });
            }
        }
        Ok(())
    }

    fn is_tls13(&self) -> bool {
        self.keys.protocol_version() == ProtocolVersion::TLSv1_3
    }

    /// Seal as much of `bytes` as one write takes, and give it to the socket. What the socket does not take
    /// is kept, and counts as written.
    fn poll_seal(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        LENT.with_borrow_mut(|lent| {
            let mut end = 0;
            let mut taken = 0;
            for payload in bytes.chunks(MAX_PAYLOAD).take(RECORDS_A_WRITE) {
                end += self.renew_key(&mut lent[end..]).map_err(broken)?;
                end += self
                    .sealer
                    .seal(ContentType::ApplicationData, payload, &mut lent[end..])
                    .map_err(broken)?;
                taken += payload.len();
            }
            self.poll_send(cx, &lent[..end]).map_ok(|()| taken)
        })
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

    /// Give sealed bytes to the socket, and keep what it does not take. Nothing may be unsent.
    fn poll_send(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> Poll<io::Result<()>> {
        let sent = match Pin::new(&mut self.socket).poll_write(cx, sealed) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        self.unsent = Unsent { bytes: sealed[sent..].to_vec(), sent: 0 };
        Poll::Ready(Ok(()))
    }

    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.rest().is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, self.unsent.rest()))?;
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
            _ => Some(AlertDescription::UnexpectedMessage),
        };
        self.ended = Some(End::Broken(Box::new(error)));
        if let Some(description) = description {
            self.say(2, description);
        }
    }

    /// Seal an alert behind what is unsent.
    fn say(&mut self, level: u8, description: AlertDescription) {
        let mut record = [0; 2 + MAX_OVERHEAD];
        let sealed = self.sealer.seal(ContentType::Alert, &[level, description.into()], &mut record);
        // A worn-out key says nothing more; the socket's end has to do.
        self.unsent.bytes.extend_from_slice(&record[..sealed.unwrap_or(0)]);
        self.said_close = true;
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        this.opened.deliver(into);
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
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        if this.said_close {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.poll_seal(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.said_close {
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

/// Plaintext that waits for the caller. Empty, it holds no memory.
#[derive(Debug, Default)]
struct Opened {
    bytes: Vec<u8>,
    taken: usize,
}

impl Opened {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn deliver(&mut self, into: &mut ReadBuf<'_>) {
        let waiting = &self.bytes[self.taken..];
        let count = waiting.len().min(into.remaining());
        into.put_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// Sealed records that wait for the socket. Empty, they hold no memory.
#[derive(Debug, Default)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn advance(&mut self, sent: usize) {
        self.sent += sent;
        if self.sent == self.bytes.len() {
            *self = Self::default();
        }
    }
}
