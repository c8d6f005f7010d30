//! One stream type for clients and brokers, so that the tunnel is written once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client;

use super::TlsStream;
use super::socket::{self, MORE};

/// A connected byte stream. TLS toward brokers is boxed: its state is a kilobyte, and an enum is as large as its
/// largest variant.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TLS toward a client.
    Tls(TlsStream),
    /// TLS toward a broker.
    BrokerTls(Box<client::TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<TlsStream> for Stream {
    fn from(stream: TlsStream) -> Self {
        Self::Tls(stream)
    }
}

impl From<client::TlsStream<TcpStream>> for Stream {
    fn from(stream: client::TlsStream<TcpStream>) -> Self {
        Self::BrokerTls(Box::new(stream))
    }
}

impl Stream {
    /// Whether a read may find something, after one that found nothing: a look at what its socket's last event said,
    /// with no system call. Whoever that read has promised to wake, is still woken.
    #[must_use]
    pub fn may_read(&self) -> bool {
        let (readable, yes) = (Interest::READABLE, || Ok(()));
        let looked = match self {
            Self::Tcp(stream) => stream.try_io(readable, yes),
            Self::Tls(stream) => stream.wire().socket().try_io(readable, yes),
            Self::BrokerTls(stream) => stream.get_ref().0.try_io(readable, yes),
            Self::Unix(stream) => stream.try_io(readable, yes),
        };
        looked.is_ok()
    }

    /// Whether it has to catch up, though it did before: at the end of a turn its socket took less than waited for it.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.wire().is_behind())
    }

    /// Send what is kept back. As `poll_flush`, but what the worker sends at the end of its turn is left to it.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn poll_catch_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(stream) => stream.poll_catch_up(cx),
            stream => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Whether the other side has closed it, and a read says so at once, behind what it has sent. Other streams than a
    /// client's TLS are asked by a read alone.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.has_ended())
    }

    /// As `poll_write`, of what is followed at once, by more or by `poll_shutdown`: TCP sends both in one segment.
    pub fn poll_write_more(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => socket::poll_send(stream, cx, bytes, MORE),
            stream => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// The same, of what is the last before `poll_shutdown`: TLS toward a client says its goodbye along with it, in
    /// one system call less.
    pub fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tls(stream) => stream.poll_write_last(cx, bytes),
            stream => stream.poll_write_more(cx, bytes),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::BrokerTls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::BrokerTls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // A socket has nothing to flush.
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::BrokerTls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::BrokerTls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_read_is_worth_it_once_something_came() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut near = Stream::from(near);
        let mut room = [0; 8];
        poll_fn(|cx| {
            let found = Pin::new(&mut near).poll_read(cx, &mut ReadBuf::new(&mut room));
            assert!(found.is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(!near.may_read());
        far.write_all(b"bytes").await.unwrap();
        until_it_may_read(&near).await;
        assert_eq!(near.read(&mut room).await.unwrap(), 5);
        drop(far);
        until_it_may_read(&near).await;
        assert_eq!(near.read(&mut room).await.unwrap(), 0, "an end is to be read as well");
    }

    /// The runtime has to see first what came.
    async fn until_it_may_read(stream: &Stream) {
        let seen = async {
            while !stream.may_read() {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), seen).await.expect("nothing came");
    }
}
