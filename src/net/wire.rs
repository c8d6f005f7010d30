//! A client's socket whose small writes are sent at the end of the worker's turn, along with those of other sessions.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::{Rest, outbox, socket};

/// A connected TCP socket. What is written counts as taken while it waits in the thread's outbox; what the socket does
/// not take then is kept, and goes before all else. Clones are the same one.
///
/// Where a socket takes less than an outbox has for it, or breaks, whoever wrote is woken, and has to
/// [catch up](Wire::poll_catch_up). To flush is to send at once.
#[derive(Debug, Clone)]
pub struct Wire(Arc<Shared>);

/// What the outbox and the session share.
#[derive(Debug)]
struct Shared {
    socket: TcpStream,
    /// Made when the socket takes less for the first time.
    behind: OnceLock<Box<Behind>>,
}

// It is touched at each message, and lies by itself: what makes it larger costs what an outbox saves (`fan-out`).
const _: () = assert!(size_of::<Shared>() <= size_of::<TcpStream>() + 2 * size_of::<usize>());

/// What an outbox could not send.
#[derive(Debug, Default)]
struct Behind {
    /// Whether there is anything.
    is_some: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Bytes that the wire had taken; what a wire that is behind refuses, its caller keeps.
    unsent: Rest,
    /// Why nothing more is ever sent: what came behind would be understood by nobody.
    broken: Option<io::ErrorKind>,
}

impl From<TcpStream> for Wire {
    fn from(socket: TcpStream) -> Self {
        Self(Arc::new(Shared { socket, behind: OnceLock::new() }))
    }
}

impl Wire {
    /// The socket, for what is not said on it.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.0.socket
    }

    /// Whether its socket took less than an outbox had for it, and has to [catch up](Wire::poll_catch_up).
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind().is_some()
    }

    /// Send what an outbox could not. What waits in the outbox is on its way.
    ///
    /// # Errors
    /// Those of the socket, also of what was sent before.
    pub fn poll_catch_up(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(behind) = self.behind() else { return Poll::Ready(Ok(())) };
        let mut kept = behind.lock();
        while kept.broken.is_none() && !kept.unsent.is_empty() {
            match ready!(self.poll_send(cx, kept.unsent.bytes())) {
                Ok(0) => kept.broken = Some(io::ErrorKind::WriteZero),
                Ok(sent) => kept.unsent.advance(sent),
                Err(error) => kept.broken = Some(error.kind()),
            }
        }
        if let Some(kind) = kept.broken {
            return Poll::Ready(Err(kind.into()));
        }
        behind.is_some.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }

    /// Write what the socket takes now, behind all that waits in the thread's outbox; nobody is woken for the rest.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing; the socket's.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        outbox::send_now();
        match self.is_behind() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.socket().try_write(bytes),
        }
    }

    /// Whether both are the same one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Send what an outbox has, behind all before. Where the socket takes less, `writer` is woken.
    pub(super) fn send(&self, bytes: &[u8], flags: SendFlags, writer: &Waker) {
        // Whether tokio believes that it takes something is not asked: that lies in a line of its own.
        let sent = match self.behind() {
            Some(_) => Ok(0),
            None => send(self.socket(), bytes, SendFlags::NOSIGNAL | flags),
        };
        if sent != Ok(bytes.len()) {
            self.fall_behind(bytes, sent);
            writer.wake_by_ref();
        }
    }

    #[cold]
    fn fall_behind(&self, bytes: &[u8], sent: Result<usize, Errno>) {
        let behind = self.0.behind.get_or_init(Box::default);
        let mut kept = behind.lock();
        match sent {
            Ok(sent) => kept.unsent.extend(&bytes[sent..]),
            Err(Errno::AGAIN | Errno::INTR) => kept.unsent.extend(bytes),
            Err(error) => kept.broken = Some(io::Error::from(error).kind()),
        }
        behind.is_some.store(true, Ordering::Release);
    }

    fn behind(&self) -> Option<&Behind> {
        self.0.behind.get().map(Box::as_ref).filter(|behind| behind.is_some.load(Ordering::Acquire))
    }

    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        socket::poll_send(self.socket(), cx, bytes, SendFlags::empty())
    }

    /// One `recv`, as tokio's own, which wants the socket for itself: less than there is room for is all there is, and
    /// by `WouldBlock` tokio learns not to ask again before the socket's next event (epoll(7), edge-triggered).
    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        let looked = self.socket().try_io(Interest::READABLE, || {
            (count, _) = recv(self.socket(), &mut *room, RecvFlags::empty())?;
            if 0 < count && count < room.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match looked {
            Err(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }
}

impl Behind {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket().poll_read_ready(cx))?;
            match self.receive(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => {
                    into.advance(received?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_catch_up(cx))?;
        if outbox::take(&self, bytes, cx.waker()) {
            return Poll::Ready(Ok(bytes.len()));
        }
        // What waits there may be ours.
        ready!(self.as_mut().poll_flush(cx))?;
        self.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        outbox::send_now();
        self.poll_catch_up(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        outbox::send_before_end(&self);
        ready!(self.poll_catch_up(cx))?;
        Poll::Ready(match SockRef::from(self.socket()).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        })
    }
}

#[cfg(test)]
mod tests;
