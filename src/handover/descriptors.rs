//! Descriptors to and from another process: SCM_RIGHTS (unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::LONGEST;

/// The most that the kernel takes at once (`SCM_MAX_FD`).
pub(super) const AT_ONCE: usize = 253;

/// Bytes read at once.
const READ: usize = 16 * 1024;

/// Send a line, and descriptors with its first byte. At most [`AT_ONCE`] of them.
pub(super) fn send(stream: impl AsFd, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(descriptors).size()];
    let mut sent = 0;
    while sent < line.len() {
        let mut with = SendAncillaryBuffer::new(&mut space);
        if sent == 0 && !descriptors.is_empty() && !with.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many sockets for one message"));
        }
        sent += rustix::io::retry_on_intr(|| {
            sendmsg(&stream, &[IoSlice::new(&line[sent..])], &mut with, SendFlags::NOSIGNAL)
        })?;
    }
    Ok(())
}

/// Read up to the end of a line; `descriptors` takes those that come with it. `read` holds what was read beyond
/// the line, for the next call.
pub(super) fn receive(
    stream: impl AsFd,
    read: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Vec<u8>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let rest = read.split_off(end + 1);
            return Ok(std::mem::replace(read, rest));
        }
        if read.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a word without an end"));
        }
        let mut bytes = [0; READ];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut with, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in with.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = message {
                descriptors.extend(sent);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&bytes[..received.bytes]);
    }
}
