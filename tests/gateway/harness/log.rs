//! The access log of all gateways of this process, and what is said of brokers.

use std::io;
use std::sync::{LazyLock, Mutex};

use super::until;

static LINES: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(|| {
    let made = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter("access=info,brokergate::snapshot=info,brokergate::admin=info")
        .with_writer(|| Lines)
        .try_init();
    assert!(made.is_ok(), "the log was begun by somebody else");
    Mutex::default()
});

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begin to keep what is logged.
pub fn keep() {
    LazyLock::force(&LINES);
}

/// The one line that has all of `words`.
pub async fn line(words: &[&str]) -> String {
    let found = || {
        let lines = String::from_utf8(LINES.lock().unwrap().clone()).unwrap();
        let mut lines = lines.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        let first = lines.next()?.to_owned();
        assert!(lines.next().is_none(), "one line with {words:?}");
        Some(first)
    };
    until("a line of the log", || found().is_some()).await;
    found().unwrap()
}
