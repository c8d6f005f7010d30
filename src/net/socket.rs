//! Socket options, and which accept errors pass by themselves.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

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
                let probes = TcpKeepalive::new().with_time(idle).with_interval(idle / 4).with_retries(4);
                socket.set_tcp_keepalive(&probes)?;
            }
            None => socket.set_keepalive(false)?,
        }
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(self.user_timeout)?;
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
