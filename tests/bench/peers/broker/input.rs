//! Commands, one a line, from standard input.

use std::io;

use super::socket::Readiness;

/// Standard input's token among the sockets.
pub(crate) const TOKEN: u64 = u64::MAX;

/// Lines that came and were not obeyed yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Input {
    /// Wait for standard input among the sockets of `readiness`.
    pub(crate) fn watch(readiness: &Readiness) -> io::Result<Self> {
        readiness.watch_input(io::stdin(), TOKEN).map_err(|_| {
            io::Error::other("standard input is neither a pipe nor a terminal: start this role with a pipe")
        })?;
        Ok(Self::default())
    }

    /// Read what is there.
    pub(crate) fn read(&mut self, readiness: &Readiness) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let count = rustix::io::read(io::stdin(), &mut bytes)?;
        self.bytes.extend_from_slice(&bytes[..count]);
        if count == 0 {
            self.has_ended = true;
            readiness.forget(io::stdin())?;
        }
        Ok(())
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> Option<String> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        Some(String::from_utf8_lossy(line.trim_ascii()).into_owned())
    }

    /// Whether nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.has_ended && !self.bytes.contains(&b'\n')
    }
}
