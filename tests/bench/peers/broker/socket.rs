//! Non-blocking sockets, which of them are ready (epoll, edge-triggered), and the clocks. Linux.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Bytes that a peer has not taken; past them it is not reading at all.
const MOST_PENDING: usize = 64 << 20;

/// How long one stays awake once nothing comes any more, in nanoseconds: longer than messages are apart.
const AWAKE: u64 = 3_000_000;
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share.
pub(crate) fn now() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds of CPU this process has used.
pub(crate) fn cpu() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Which sockets are ready.
pub(crate) struct Readiness {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    /// See [`AWAKE`]; 0 where one sleeps at once.
    awake: u64,
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) to_read: bool,
    pub(crate) to_write: bool,
    /// The peer has closed: read until the end.
    pub(crate) is_over: bool,
}

impl Readiness {
    /// `stays_awake`: between messages it looks again and again instead of sleeping. To wake a core costs both sides
    /// as much as a message does, on a virtual machine far more, and is not what is measured.
    pub(crate) fn new(stays_awake: bool) -> io::Result<Self> {
        // Otherwise the kernel may wake us 50 us late.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let awake = if stays_awake { AWAKE } else { 0 };
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(1024), awake })
    }

    /// Tell each change of `socket`, once.
    pub(crate) fn watch_changes(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        self.add(socket, token, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET)
    }

    /// Tell as long as there is something to read or accept.
    pub(crate) fn watch_input(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        self.add(socket, token, EventFlags::IN)
    }

    /// Tell nothing more of it.
    pub(crate) fn forget(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    fn add(&self, socket: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// Wait until a socket is ready, or the clock shows `until`.
    pub(crate) fn wait(&mut self, until: Option<u64>) -> io::Result<()> {
        let mut time = now();
        let sleep = time + self.awake;
        while time < sleep && until.is_none_or(|until| time < until) {
            if self.look(Some(NO_TIME))? > 0 {
                return Ok(());
            }
            // Clients and brokers share a core.
            thread::yield_now();
            time = now();
        }
        let left = until.map(|until| until.saturating_sub(time));
        self.look(left.map(|left| Timespec {
            tv_sec: (left / 1_000_000_000) as i64,
            tv_nsec: (left % 1_000_000_000) as i64,
        }))?;
        Ok(())
    }

    /// How many sockets are ready within `timeout`.
    fn look(&mut self, timeout: Option<Timespec>) -> io::Result<usize> {
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// How many the last `wait` found.
    pub(crate) fn count(&self) -> usize {
        self.events.len()
    }

    /// One of them.
    pub(crate) fn ready(&self, at: usize) -> Ready {
        let event = self.events[at];
        let flags = event.flags;
        let over = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        Ready {
            token: event.data.u64(),
            to_read: flags.intersects(EventFlags::IN | over),
            to_write: flags.intersects(EventFlags::OUT | over),
            is_over: flags.intersects(over),
        }
    }
}

/// A TCP socket that never blocks, and what its peer has not taken yet.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    pending: Vec<u8>,
    taken: usize,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, pending: Vec::new(), taken: 0 }
    }

    /// Listen on `address`. What is accepted inherits TCP_NODELAY.
    pub(crate) fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
        let fd = stream(address)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        rustix::net::bind(&fd, &address)?;
        rustix::net::listen(&fd, 4096)?;
        Ok(fd)
    }

    /// Accept one, if one is there.
    pub(crate) fn accept(listener: &OwnedFd) -> io::Result<Option<Self>> {
        match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => Ok(Some(Self::new(fd))),
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Begin to connect from `source` to `target`: connected when it can be written.
    pub(crate) fn connect(source: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let fd = stream(target)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        // A port for each pair of addresses, not one for all.
        nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
        rustix::net::bind(&fd, &source)?;
        match rustix::net::connect(&fd, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Self::new(fd)),
            Err(error) => Err(error.into()),
        }
    }

    /// Read once. `None`: there is nothing now. Zero: the peer has closed.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Write once, and keep what the peer doesn't take for `flush`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = if self.pending.is_empty() { write(&self.fd, bytes)? } else { 0 };
        self.keep(&bytes[taken..])
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.pending.len() + bytes.len() > MOST_PENDING {
            return Err(io::Error::other("the peer does not read"));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// The same for bytes that lie apart.
    pub(crate) fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut left = 0;
        if self.pending.is_empty() {
            left = match rustix::io::writev(&self.fd, slices) {
                Ok(taken) => taken,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(error) => return Err(error.into()),
            };
        }
        for slice in slices {
            let skip = left.min(slice.len());
            self.keep(&slice[skip..])?;
            left -= skip;
        }
        Ok(())
    }

    /// Write what is left.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let taken = write(&self.fd, &self.pending[self.taken..])?;
            self.taken += taken;
            if self.taken == self.pending.len() {
                self.pending = Vec::new();
                self.taken = 0;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Why connecting failed.
    pub(crate) fn error(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(&self.fd)??)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn stream(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

fn write(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    match rustix::io::write(fd, bytes) {
        Ok(taken) => Ok(taken),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
