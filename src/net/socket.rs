//! Socket options, and which accept errors pass by themselves.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SendFlags, send};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Probes of a silent peer, a quarter of the silence apart: keepalive takes twice the silence in all.
const PROBES: u32 = 4;

/// What every TCP socket of ours gets, toward clients and brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Silence after which the kernel probes the peer.
    pub keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`, Linux).
    pub user_timeout: Option<Duration>,
}

impl SocketOptions {
    /// Set the options, and `TCP_NODELAY`: MQTT's packets are small and waited for. Sockets that a listening one
    /// accepts inherit them.
    ///
    /// # Errors
    /// The kernel's, when the peer is already gone.
    pub fn apply(self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        match self.keepalive {
            Some(idle) => {
                let probes = TcpKeepalive::new().with_time(idle);
                let probes = probes.with_interval(idle / PROBES).with_retries(PROBES);
                socket.set_tcp_keepalive(&probes)?;
            }
            None => socket.set_keepalive(false)?,
        }
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(self.user_timeout())?;
        Ok(())
    }

    /// What the kernel is told. It ends a silent connection by this too (tcp(7)), so it is no shorter than keepalive
    /// takes: else the first probe that is lost would be the last.
    #[cfg(target_os = "linux")]
    fn user_timeout(self) -> Option<Duration> {
        let probed = self.keepalive.unwrap_or_default() * 2;
        self.user_timeout.map(|timeout| timeout.max(probed))
    }
}

/// Says that something follows at once, which may travel in the same segment: more bytes, or the end of all
/// (send(2), `MSG_MORE`). Where nothing follows, Linux sends after 200 ms what it has kept back.
#[cfg(target_os = "linux")]
pub(super) const MORE: SendFlags = SendFlags::MORE;
#[cfg(not(target_os = "linux"))]
pub(super) const MORE: SendFlags = SendFlags::empty();

/// As `poll_write`, with flags as send(2) has them.
pub(super) fn poll_send(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
    flags: SendFlags,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let sent = || Ok(send(socket, bytes, SendFlags::NOSIGNAL | flags)?);
        match socket.try_io(Interest::WRITABLE, sent) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// Whether accept failed because of one client (it left before we came, accept(2)), so that the next
/// accept may follow at once. Other errors, such as EMFILE, need a pause.
#[must_use]
pub fn is_passing_accept_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().await.unwrap().0, peer)
    }

    #[tokio::test]
    async fn the_last_bytes_wait_for_the_end() {
        let (mut socket, mut peer) = pair().await;
        let sent = poll_fn(|cx| poll_send(&socket, cx, b"last", MORE)).await.unwrap();
        assert_eq!(sent, 4);

        // On loopback all that was sent is there.
        peer.set_nonblocking(true).unwrap();
        let early = peer.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(early, Err(io::ErrorKind::WouldBlock));
        socket.shutdown().await.unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"last");
    }

    #[tokio::test]
    async fn what_a_full_socket_took_arrives_without_an_end() {
        let (socket, mut peer) = pair().await;
        let mut sent = 0;
        loop {
            let written = poll_fn(|cx| Poll::Ready(poll_send(&socket, cx, &[7; 50_001], MORE))).await;
            let Poll::Ready(written) = written else { break };
            sent += written.unwrap();
            assert!(sent < 64 << 20, "it takes everything");
        }
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer.read_exact(&mut vec![0; sent]).unwrap();
    }

    #[test]
    fn one_lost_probe_ends_nothing() {
        let seconds = Duration::from_secs;
        for (keepalive, user_timeout, told) in [
            (Some(60), Some(60), Some(120)),
            (Some(60), Some(300), Some(300)),
            (Some(60), None, None),
            (None, Some(10), Some(10)),
        ] {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let (keepalive, user_timeout) = (keepalive.map(seconds), user_timeout.map(seconds));
            SocketOptions { keepalive, user_timeout }.apply(&socket).unwrap();
            assert_eq!(SockRef::from(&socket).tcp_user_timeout().unwrap(), told.map(seconds));
        }
    }
}
