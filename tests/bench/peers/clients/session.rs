//! One client: socket, TLS, and the talk above them.

use std::os::fd::{AsFd, BorrowedFd};

use super::failure::Failure;
use super::talk::{Desk, Talk};
use super::target::Target;
use super::tls::{Agreed, Records, Tls};
use crate::broker::socket::{Ready, Socket, now};
use crate::broker::wire::packet;

/// What one read takes at most. Before it there is room for a record that was cut.
const MOST_READ: usize = 256 << 10;
const ROOM: usize = 64 << 10;

/// What all sessions use in turn.
pub(super) struct Buffers {
    read: Vec<u8>,
    /// What is to be said.
    pub(super) plain: Vec<u8>,
    sealed: Records,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self { read: vec![0; ROOM + MOST_READ], plain: Vec::new(), sealed: Records::default() }
    }
}

/// A client that connects, or has.
pub(super) struct Session {
    socket: Socket,
    tls: Option<Tls>,
    pub(super) talk: Talk,
    /// The TCP connection stands.
    is_connected: bool,
    /// TCP, and TLS where there is any, stand: the WebSocket request is said.
    is_greeted: bool,
    /// When connecting began.
    pub(super) since: u64,
}

impl Session {
    /// Begin to connect.
    pub(super) fn connect(id: u32, target: &Target) -> Result<Self, Failure> {
        let socket = Socket::connect(target.source(id), target.address)?;
        let tls = match &target.tls {
            Some(tls) => Some(Tls::new(tls.config(), &tls.name)?),
            None => None,
        };
        let since = now();
        Ok(Self { socket, tls, talk: Talk::new(id), is_connected: false, is_greeted: false, since })
    }

    pub(super) fn agreed(&self) -> Option<Agreed> {
        self.tls.as_ref().map(Tls::agreed)
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_resumed)
    }

    /// Do what the socket is ready for. Whether the session goes on.
    pub(super) fn turn(
        &mut self,
        ready: Ready,
        buffers: &mut Buffers,
        desk: &mut Desk<'_>,
    ) -> Result<bool, Failure> {
        if ready.to_write {
            if self.is_connected {
                self.socket.flush()?;
            } else {
                self.socket.error()?;
                self.is_connected = true;
                self.take(0, 0, buffers, desk)?;
            }
        }
        if !ready.to_read {
            return Ok(true);
        }
        loop {
            let start = self.tls.as_mut().map_or(0, |tls| tls.put_back(&mut buffers.read));
            let end = (start + MOST_READ).min(buffers.read.len());
            let count = self.socket.read(&mut buffers.read[start..end])?;
            desk.now = now();
            let goes_on = self.take(start, count.unwrap_or_default(), buffers, desk)?;
            if count == Some(0) || !goes_on || self.talk.is_closed() {
                return Ok(false);
            }
            // What did not fill the buffer was all there was; a peer that has closed is read to its end.
            if count.is_none_or(|count| start + count < end && !ready.is_over) {
                return Ok(true);
            }
        }
    }

    /// Take `count` bytes at `start`, behind what was kept back; say what follows. False: the peer closes.
    fn take(
        &mut self,
        start: usize,
        count: usize,
        buffers: &mut Buffers,
        desk: &mut Desk<'_>,
    ) -> Result<bool, Failure> {
        let Buffers { read, plain, sealed } = buffers;
        let bytes = &mut read[..start + count];
        plain.clear();
        sealed.clear();
        let mut has_closed = false;
        if let Some(tls) = &mut self.tls {
            has_closed = tls.open(bytes, sealed, |bytes| self.talk.take(bytes, plain, desk))?;
        } else if count > 0 {
            self.talk.take(bytes, plain, desk)?;
        }
        if !self.is_greeted && self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking()) {
            self.is_greeted = true;
            plain.extend_from_slice(&desk.target.request);
        }
        self.transmit(buffers)?;
        Ok(!has_closed)
    }

    /// Say what is in `plain`.
    pub(super) fn say(&mut self, buffers: &mut Buffers) -> Result<(), Failure> {
        buffers.sealed.clear();
        self.transmit(buffers)
    }

    /// Send `plain`, behind what TLS itself has to send.
    fn transmit(&mut self, buffers: &mut Buffers) -> Result<(), Failure> {
        let Buffers { plain, sealed, .. } = buffers;
        let bytes = match &mut self.tls {
            Some(tls) => {
                if !plain.is_empty() {
                    tls.seal(plain, sealed)?;
                }
                sealed.bytes()
            }
            None => plain.as_slice(),
        };
        if !bytes.is_empty() {
            self.socket.write(bytes)?;
        }
        Ok(())
    }

    /// Say DISCONNECT and close, on every layer. The peer may then close.
    pub(super) fn say_goodbye(&mut self, buffers: &mut Buffers) -> Result<(), Failure> {
        buffers.plain.clear();
        buffers.sealed.clear();
        self.talk.say_packet(packet::DISCONNECT, &[], &mut buffers.plain);
        self.talk.say_close(&mut buffers.plain);
        if let Some(tls) = &mut self.tls {
            tls.seal(&buffers.plain, &mut buffers.sealed)?;
            buffers.plain.clear();
            tls.say_goodbye(&mut buffers.sealed)?;
        }
        self.transmit(buffers)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
