//! Seen from the new process: who was there before, and what it hands over.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{HandoverError, Inherited, InheritedError, PATIENCE, PREDECESSOR, PROMPT, Word, descriptors};

/// The process that started this one to be its successor. All copies are one.
#[derive(Debug, Clone)]
pub struct Predecessor {
    stream: Arc<UnixStream>,
    pid: u32,
    version: String,
}

/// Why its sockets can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The stream.
    #[error("the process that started this one does not hand its sockets over")]
    Stream(#[from] io::Error),
    /// It is another process than the one that started this one.
    #[error(
        "process {0} hands over, but is gone, or did not start this one: a script in the place of the program must \
         `exec` it"
    )]
    NotOurParent(u32),
    /// One of them.
    #[error(transparent)]
    Socket(#[from] InheritedError),
}

impl Predecessor {
    /// The process that hands over to this one, and its sockets; `None` where nobody does. To be called once, before
    /// anything is read from the standard input.
    ///
    /// # Errors
    /// When it does not say what it should within 45 seconds.
    pub fn find() -> Result<Option<(Self, Inherited)>, TakeError> {
        let Some(pid) = std::env::var(PREDECESSOR).ok().and_then(|value| value.parse().ok()) else {
            return Ok(None);
        };
        let peer = getsockopt(&io::stdin(), PeerCredentials);
        let is_at_our_stdin = peer.is_ok_and(|peer| u32::try_from(peer.pid()) == Ok(pid));
        match (parent_id() == pid, is_at_our_stdin) {
            (true, _) => {}
            // To serve all the same would be a gateway that nobody has ordered.
            (false, true) => return Err(TakeError::NotOurParent(pid)),
            // What is left in the environment of whoever was started by a successor is another's number.
            (false, false) => return Ok(None),
        }
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // The descriptor 0 stays taken, or the next thing that is opened would be our standard input.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
        Self::listen_to(stream, pid, PATIENCE).map(Some)
    }

    fn listen_to(stream: UnixStream, pid: u32, patience: Duration) -> Result<(Self, Inherited), TakeError> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(PROMPT))?;
        let (mut inherited, mut read) = (Inherited::default(), Vec::new());
        loop {
            let mut with: Vec<OwnedFd> = Vec::new();
            let line = descriptors::receive(&stream, &mut read, &mut with)?;
            let Word::Take { version, sockets, more } = Word::read(&line)? else {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            };
            if sockets.len() != with.len() {
                let words = format!("{} sockets were named and {} came", sockets.len(), with.len());
                return Err(io::Error::new(io::ErrorKind::InvalidData, words).into());
            }
            for (role, socket) in sockets.into_iter().zip(with) {
                let place = format!("the socket for {role} of the process before");
                inherited.add(Some(role), socket, place)?;
            }
            if !more {
                return Ok((Self { stream: Arc::new(stream), pid, version }, inherited));
            }
        }
    }

    /// Its process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tell it why this process can't begin. It works on.
    pub fn fail(&self, why: &str) {
        // Whoever does not hear it learns that we have ended.
        let _ = (&*self.stream).write_all(&Word::Failed { why: why.to_owned() }.line());
    }

    /// Tell it that all is bound and built, and wait until it says to begin; within a runtime.
    ///
    /// # Errors
    /// When it ends or changes its mind.
    pub async fn ready(&self) -> Result<Begin, HandoverError> {
        let spoken = async {
            let stream = self.stream.try_clone()?;
            stream.set_nonblocking(true)?;
            let mut stream = tokio::net::UnixStream::from_std(stream)?;
            let version = env!("CARGO_PKG_VERSION").to_owned();
            stream.write_all(&Word::Ready { version }.line()).await?;
            // One word of a known length: nothing is read beyond it.
            let mut word = vec![0; Word::Serve.line().len()];
            timeout(PATIENCE, stream.read_exact(&mut word)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            match Word::read(&word)? {
                Word::Serve => Ok(Begin { stream }),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        };
        spoken.await.map_err(HandoverError::Abandoned)
    }
}

/// It was said that we begin.
#[derive(Debug)]
pub struct Begin {
    stream: tokio::net::UnixStream,
}

impl Begin {
    /// Tell it that we have begun, and wait until it has stepped back: until then it is the one that speaks to a
    /// service manager.
    pub async fn serving(mut self) {
        // Whatever becomes of it, we serve.
        let _ = self.stream.write_all(&Word::Serving.line()).await;
        let _ = self.stream.read(&mut [0]).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::Role;
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    #[test]
    fn more_sockets_than_fit_at_once_arrive_in_their_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for (index, listener) in listeners.iter().enumerate() {
            let role = Role::Clients("127.0.0.1:0".parse().unwrap()).to_string();
            let word = Word::Take { version: "9.9".into(), sockets: vec![role], more: index < 2 };
            descriptors::send(&ours, &word.line(), &[listener.as_fd()]).unwrap();
        }
        let (predecessor, mut inherited) = Predecessor::listen_to(theirs, 7, SHORT).unwrap();
        assert_eq!((predecessor.pid(), predecessor.version()), (7, "9.9"));
        let any = "127.0.0.1:0".parse().unwrap();
        for listener in &listeners {
            let taken = inherited.take_tcp(&Role::Clients(any), any).unwrap();
            assert_eq!(taken.local_addr().unwrap(), listener.local_addr().unwrap());
        }
    }

    #[test]
    fn who_says_nothing_or_nonsense_hands_nothing_over() {
        let (_silent, theirs) = UnixStream::pair().unwrap();
        assert!(Predecessor::listen_to(theirs, 7, SHORT).is_err());
        let (gone, theirs) = UnixStream::pair().unwrap();
        drop(gone);
        assert!(Predecessor::listen_to(theirs, 7, SHORT).is_err());
        for nonsense in [
            "rubbish\n",
            "{\"word\":\"serve\"}\n",
            "{\"word\":\"take\",\"version\":\"1\",\"sockets\":[\"clients 127.0.0.1:1\"],\"more\":false}\n",
        ] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(nonsense.as_bytes()).unwrap();
            assert!(Predecessor::listen_to(theirs, 7, SHORT).is_err(), "{nonsense}");
        }
    }
}
