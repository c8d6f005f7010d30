//! Socket options, and which accept errors pass by themselves.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// What every TCP socket of ours gets, toward clients and brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Silence after which the kernel probes the peer.
    pub keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`, Linux).
    pub user_timeout: Option<Duration>,
}

impl SocketOptions {
    /// Set the options, and `TCP_NODELAY`: MQTT's packets are small and waited for.
    ///
    /// # Errors
    /// The kernel's, when the peer is already gone.
    pub fn apply(self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        if let Some(idle) = self.keepalive {
            let probes = TcpKeepalive::new().with_time(idle).with_interval(idle / 4).with_retries(4);
            socket.set_tcp_keepalive(&probes)?;
        }
        #[cfg(target_os = "linux")]
        if let Some(timeout) = self.user_timeout {
            socket.set_tcp_user_timeout(Some(timeout))?;
        }
        Ok(())
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
