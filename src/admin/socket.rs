//! The socket that the admin listener accepts on, TCP or Unix: bound or inherited, and who comes to it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::AdminAddress;
use crate::handover::{Inherited, Role};
use crate::net::Stream;

/// A bound socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
#[error(
    "the admin listener can't listen on {address}: choose another `admin.address`, or switch it off with `admin.enabled = false`"
)]
pub struct AdminError {
    address: String,
    source: io::Error,
}

impl Socket {
    /// Bind, within a runtime, unless it is inherited; with a copy for a process that takes over.
    pub(super) fn bind(
        address: &AdminAddress,
        inherited: &mut Inherited,
    ) -> Result<(Self, (Role, OwnedFd)), AdminError> {
        match address {
            AdminAddress::Tcp(address) => bind_tcp(*address, inherited)
                .map_err(|source| AdminError { address: address.to_string(), source }),
            AdminAddress::Unix(path) => bind_unix(path, inherited)
                .map_err(|source| AdminError { address: path.display().to_string(), source }),
        }
    }

    /// Where it is bound, if on TCP.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The next who comes, and who that is, for the log.
    pub(super) async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((stream.into(), peer.to_string()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let who = user(&stream);
                Ok((stream.into(), who))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr, inherited: &mut Inherited) -> io::Result<(Socket, (Role, OwnedFd))> {
    let role = Role::Admin(address);
    let listener = match inherited.take_tcp(&role, address) {
        Some(listener) => listener,
        None => std::net::TcpListener::bind(address)?,
    };
    listener.set_nonblocking(true)?;
    let copy = listener.try_clone()?.into();
    Ok((Socket::Tcp(TcpListener::from_std(listener)?), (role, copy)))
}

fn bind_unix(path: &Path, inherited: &mut Inherited) -> io::Result<(Socket, (Role, OwnedFd))> {
    let role = Role::AdminUnix(path.into());
    let listener = match inherited.take_unix(&role, path) {
        Some(listener) => listener,
        None => {
            remove_stale(path)?;
            std::os::unix::net::UnixListener::bind(path)?
        }
    };
    listener.set_nonblocking(true)?;
    let copy = listener.try_clone()?.into();
    Ok((Socket::Unix(UnixListener::from_std(listener)?), (role, copy)))
}

/// A socket file that nobody listens on any more is a process's that was killed. Any other answer than that comes of
/// one that is in use.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(is_refused) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Who is at the other end of a Unix socket, for the log.
fn user(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(user) => match user.pid() {
            Some(process) => format!("user {}, process {process}", user.uid()),
            None => format!("user {}", user.uid()),
        },
        Err(_) => "unix".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::remove_stale;

    #[test]
    fn a_socket_file_is_removed_only_where_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let _listens = UnixListener::bind(path("listens")).unwrap();
        drop(UnixListener::bind(path("killed")).unwrap());
        // It does not take streams, and is in use.
        let _other = UnixDatagram::bind(path("other")).unwrap();
        std::fs::write(path("file"), "").unwrap();
        for (name, stays) in [("listens", true), ("killed", false), ("other", true), ("file", true)] {
            remove_stale(&path(name)).unwrap();
            assert_eq!(path(name).exists(), stays, "{name}");
        }
    }
}
