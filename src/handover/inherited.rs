//! Sockets that listened before this process began: its predecessor's, or those of systemd.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::Role;

/// Sockets that wait to be taken. Those that nobody takes are closed with it.
#[derive(Debug, Default)]
pub struct Inherited {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    /// What it was for in the process before; systemd does not say.
    role: Option<String>,
    socket: Socket,
}

/// What kinds there are.
#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why a socket that was passed does not do.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// It is of another kind.
    #[error(
        "{place} is no stream socket that listens, on TCP or Unix; in a systemd socket unit write \
         ListenStream= and leave Accept= at its default, no"
    )]
    Kind {
        /// Which one.
        place: String,
    },
    /// It can't be looked at.
    #[error("{place} can't be used")]
    Socket {
        /// Which one.
        place: String,
        /// The kernel's no.
        source: io::Error,
    },
}

impl Inherited {
    /// The sockets that systemd listens on for us (sd_listen_fds(3)). To be called before there are threads,
    /// and once: it takes `LISTEN_FDS` out of the environment.
    ///
    /// # Errors
    /// When one of them is nothing that clients could arrive on.
    pub fn of_systemd() -> Result<Self, InheritedError> {
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..passed.len() {
            let place = format!("socket {} of those that systemd passes", index + 1);
            let socket = match passed.take_tcp_listener(index) {
                Ok(Some(listener)) => listener.into(),
                _ => match passed.take_unix_listener(index) {
                    Ok(Some(listener)) => listener.into(),
                    _ => return Err(InheritedError::Kind { place }),
                },
            };
            inherited.add(None, socket, place)?;
        }
        Ok(inherited)
    }

    /// One more, which was in this role in the process before.
    pub(super) fn add(
        &mut self,
        role: Option<String>,
        socket: OwnedFd,
        place: String,
    ) -> Result<(), InheritedError> {
        let failed =
            |place: &String, source: io::Error| InheritedError::Socket { place: place.clone(), source };
        let looked = || Ok((sockopt::socket_domain(&socket)?, is_listening(&socket)?));
        let (domain, listens) = looked().map_err(|source| failed(&place, source))?;
        let socket = match domain {
            AddressFamily::INET | AddressFamily::INET6 if listens => Socket::Tcp(socket.into()),
            AddressFamily::UNIX if listens => Socket::Unix(socket.into()),
            _ => return Err(InheritedError::Kind { place }),
        };
        let set = match &socket {
            Socket::Tcp(listener) => listener.set_nonblocking(true),
            Socket::Unix(listener) => listener.set_nonblocking(true),
        };
        set.map_err(|source| failed(&place, source))?;
        self.held.push(Held { role, socket });
        Ok(())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The socket on `address` that was in this role before, or else any on that very address.
    pub fn take_tcp(&mut self, role: &Role, address: SocketAddr) -> Option<TcpListener> {
        let is_there = |held: &Held| held.tcp_address() == Some(address);
        let place =
            self.find(role, |held| held.tcp_address().is_some()).or_else(|| self.position(is_there))?;
        match self.held.remove(place).socket {
            Socket::Tcp(listener) => Some(listener),
            Socket::Unix(_) => None,
        }
    }

    /// The same for a Unix socket. One whose file is gone reaches nobody.
    pub fn take_unix(&mut self, role: &Role, path: &Path) -> Option<UnixListener> {
        if !path.exists() {
            return None;
        }
        let is_there = |held: &Held| held.is_at(path);
        let place = self
            .find(role, |held| matches!(held.socket, Socket::Unix(_)))
            .or_else(|| self.position(is_there))?;
        match self.held.remove(place).socket {
            Socket::Unix(listener) => Some(listener),
            Socket::Tcp(_) => None,
        }
    }

    /// What nobody has taken, in words.
    pub fn left(&self) -> impl Iterator<Item = String> {
        self.held.iter().map(Held::describe)
    }

    /// The TCP addresses that nobody has taken.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.held.iter().filter_map(Held::tcp_address)
    }

    fn find(&self, role: &Role, fits: impl Fn(&Held) -> bool) -> Option<usize> {
        let role = role.to_string();
        self.position(|held| held.role.as_deref() == Some(role.as_str()) && fits(held))
    }

    fn position(&self, fits: impl Fn(&Held) -> bool) -> Option<usize> {
        self.held.iter().position(fits)
    }
}

impl Held {
    fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    fn is_at(&self, path: &Path) -> bool {
        match &self.socket {
            Socket::Tcp(_) => false,
            Socket::Unix(listener) => {
                listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path))
            }
        }
    }

    fn describe(&self) -> String {
        match &self.socket {
            Socket::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "?".into(), |address| address.to_string())
            }
            Socket::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "unix:?".into(), |path| format!("unix:{}", path.display()))
            }
        }
    }
}

fn is_listening(socket: impl AsFd) -> rustix::io::Result<bool> {
    Ok(sockopt::socket_type(&socket)? == SocketType::STREAM && sockopt::socket_acceptconn(&socket)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn a_socket_is_found_by_its_role_and_else_by_its_address() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (one, two, other) = (tcp(), tcp(), tcp());
        let (at_one, at_two, at_other) = (one.1, two.1, other.1);
        let mut inherited = Inherited::default();
        let clients = Role::Clients(any);
        for (listener, role) in [(one.0, &clients), (two.0, &clients), (other.0, &Role::Admin(any))] {
            inherited.add(Some(role.to_string()), listener.into(), String::new()).unwrap();
        }
        let taken = |listener: Option<TcpListener>| listener.map(|listener| listener.local_addr().unwrap());
        assert_eq!(taken(inherited.take_tcp(&Role::Admin(any), any)), Some(at_other));
        assert_eq!(taken(inherited.take_tcp(&clients, any)), Some(at_one), "in their order");
        assert_eq!(taken(inherited.take_tcp(&Role::Clients(at_two), at_two)), Some(at_two));
        assert!(inherited.take_tcp(&clients, any).is_none() && inherited.is_empty());
    }

    #[test]
    fn a_unix_socket_is_found_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let mut inherited = Inherited::default();
        inherited.add(None, UnixListener::bind(&path).unwrap().into(), String::new()).unwrap();
        assert_eq!(inherited.left().collect::<Vec<_>>(), [format!("unix:{}", path.display())]);
        let role = |path: &Path| Role::AdminUnix(path.into());
        let elsewhere = folder.path().join("other.sock");
        assert!(inherited.take_unix(&role(&elsewhere), &elsewhere).is_none());
        assert!(inherited.take_unix(&role(&path), &path).is_some());
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let (listener, address) = tcp();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut inherited = Inherited::default();
        for socket in [client.into(), one.into(), datagrams.into(), file.into()] {
            let refused = inherited.add(None, socket, "socket 1".into()).unwrap_err().to_string();
            assert!(refused.contains("socket 1"), "{refused}");
        }
        assert!(inherited.is_empty());
        drop(listener);
    }
}
