//! The roster: who is here at the moment, to be listed, found, and asked to go.
//!
//! Each worker has a shard of its own, so who comes and goes takes the lock of one core. Whoever looks takes it as
//! well, for a slice of the shard at a time. What is listed is what the session's account needs anyway.

use std::fmt;
use std::net::SocketAddr;
use std::ops::{ControlFlow, Deref};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use slab::Slab;

use super::Admission;
use crate::drain::{Member, Watch, Will};
use crate::mqtt::{Connect, Level};
use crate::tunnel::Meter;
use crate::upstream::Endpoint;

/// How many are looked at under the lock of their shard: some hundredths of a millisecond's work.
const SLICE: usize = 256;

/// All sessions.
#[derive(Debug, Default)]
pub struct Roster(Mutex<Vec<Arc<Shard>>>);

/// Those of one worker.
#[derive(Debug)]
pub struct Shard {
    number: u16,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    entries: Slab<Arc<Entry>>,
    /// How many there ever were. They tell apart who had the same place, one after the other.
    came: u32,
}

/// One session, from its 101 to its ending.
#[derive(Debug)]
pub struct Entry {
    /// Who the client is.
    pub client: SocketAddr,
    /// By its name: a session outlives the configuration it came by.
    pub upstream: Arc<str>,
    /// What flows.
    pub meter: Arc<Meter>,
    introduction: OnceLock<Introduction>,
    endpoint: OnceLock<Arc<Endpoint>>,
    /// Whom to ask to go. There is one while a broker is looked for, and another in the tunnel.
    member: Mutex<Arc<Member>>,
    came: u32,
    /// Whether it writes an access-log line.
    pub(super) is_logged: bool,
}

/// What a CONNECT said.
#[derive(Debug)]
pub struct Introduction {
    /// The ClientID, as the client chose it; may be empty.
    pub client_id: Box<str>,
    /// The username, where the log may have it as well.
    pub username: Option<Box<str>>,
    /// The protocol's version.
    pub level: Level,
    /// Seconds; 0 is none.
    pub keepalive: u16,
}

/// A session's name for who asks: where it stands in the roster, and which of those who stood there it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    shard: u16,
    key: u32,
    came: u32,
}

/// Where a look at the roster goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: u16,
    key: u32,
}

/// A session's place in the roster, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    entry: Arc<Entry>,
    key: u32,
    /// The connection's slots are the session's now; its worker's shard is known there.
    admission: Arc<Admission>,
}

impl Roster {
    /// A shard for one more worker.
    #[must_use]
    pub fn open(&self) -> Arc<Shard> {
        let mut shards = self.shards();
        let shard = Arc::new(Shard { number: shards.len() as u16, present: Mutex::default() });
        shards.push(Arc::clone(&shard));
        shard
    }

    /// Look at some of those who are here, and say where to go on; `None` at the end. Who is here all the time is
    /// seen once. Let others have their turn before the next call.
    pub fn look(
        &self,
        from: Cursor,
        mut each: impl FnMut(SessionId, &Arc<Entry>) -> ControlFlow<()>,
    ) -> Option<Cursor> {
        let shard = self.shards().get(usize::from(from.shard)).cloned()?;
        let present = shard.present();
        let (first, all) = (from.key as usize, present.entries.capacity());
        let end = all.min(first.saturating_add(SLICE));
        for key in first..end {
            let Some(entry) = present.entries.get(key) else { continue };
            let id = SessionId { shard: shard.number, key: key as u32, came: entry.came };
            if each(id, entry).is_break() {
                return Some(Cursor { shard: shard.number, key: key as u32 + 1 });
            }
        }
        Some(match end < all {
            true => Cursor { shard: shard.number, key: end as u32 },
            false => Cursor { shard: shard.number.saturating_add(1), key: 0 },
        })
    }

    /// One session; `None` when it has ended.
    #[must_use]
    pub fn find(&self, id: SessionId) -> Option<Arc<Entry>> {
        let shard = self.shards().get(usize::from(id.shard)).cloned()?;
        let entry = shard.present().entries.get(id.key as usize).cloned();
        entry.filter(|entry| entry.came == id.came)
    }

    fn shards(&self) -> MutexGuard<'_, Vec<Arc<Shard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// List a session: its entry, and its key here.
    pub fn enter(&self, mut entry: Entry) -> (Arc<Entry>, u32) {
        let mut present = self.present();
        present.came = present.came.wrapping_add(1);
        entry.came = present.came;
        let entry = Arc::new(entry);
        let key = present.entries.insert(Arc::clone(&entry));
        (entry, key as u32)
    }

    fn leave(&self, key: u32) {
        // What it held is freed behind the lock.
        let left = self.present().entries.try_remove(key as usize);
        drop(left);
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Of a session that begins now, and is asked to go by `watch`.
    #[must_use]
    pub fn new(client: SocketAddr, upstream: &Arc<str>, watch: &Watch, is_logged: bool) -> Self {
        Self {
            client,
            upstream: Arc::clone(upstream),
            meter: Arc::default(),
            introduction: OnceLock::new(),
            endpoint: OnceLock::new(),
            member: Mutex::new(Arc::clone(watch.member())),
            came: 0,
            is_logged,
        }
    }

    /// What the client said of itself; `None` before its CONNECT.
    #[must_use]
    pub fn introduction(&self) -> Option<&Introduction> {
        self.introduction.get()
    }

    /// Who answered its CONNECT; `None` before.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.endpoint.get()
    }

    /// Ask it to go. Says whether it goes for that: one that is on its way already does not.
    pub fn kick(&self, will: Will) -> bool {
        !self.meter.is_leaving() && self.member().kick(will)
    }

    /// The client has said who it is.
    pub fn introduce(&self, connect: &Connect) {
        let introduction = Introduction {
            client_id: connect.client_id.clone(),
            username: connect.username.clone().filter(|_| self.is_logged),
            level: connect.level,
            keepalive: connect.keepalive,
        };
        let _ = self.introduction.set(introduction);
    }

    /// A broker has answered.
    pub(super) fn commit(&self, endpoint: &Arc<Endpoint>) {
        let _ = self.endpoint.set(Arc::clone(endpoint));
    }

    /// Whoever is to go is asked by another watch from now on, also where it was asked just now.
    pub(super) fn follow(&self, watch: &Watch) {
        let before = std::mem::replace(&mut *self.member(), Arc::clone(watch.member()));
        if let Some(will) = before.kicked() {
            watch.member().kick(will);
        }
    }

    fn member(&self) -> MutexGuard<'_, Arc<Member>> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn take(entry: Entry, admission: &Arc<Admission>) -> Self {
        let (entry, key) = admission.shard().enter(entry);
        Self { entry, key, admission: Arc::clone(admission) }
    }

    pub(super) const fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    pub(super) fn admission(&self) -> &Admission {
        &self.admission
    }
}

impl Deref for Place {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.shard().leave(self.key);
    }
}

/// How a name or a place is written is of no meaning to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write it as it was shown")]
pub struct NotShown;

/// The numbers of `N-N-N`.
fn numbers<const N: usize>(text: &str) -> Result<[u32; N], NotShown> {
    let mut numbers = [0; N];
    let mut parts = text.split('-');
    for number in &mut numbers {
        let part = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        *number = part.and_then(|part| part.parse().ok()).ok_or(NotShown)?;
    }
    if parts.next().is_some() { Err(NotShown) } else { Ok(numbers) }
}

impl SessionId {
    /// Where a look goes on behind it.
    #[must_use]
    pub const fn next(self) -> Cursor {
        Cursor { shard: self.shard, key: self.key.saturating_add(1) }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.key, self.came)
    }
}

impl FromStr for SessionId {
    type Err = NotShown;

    fn from_str(text: &str) -> Result<Self, NotShown> {
        let [shard, key, came] = numbers(text)?;
        Ok(Self { shard: u16::try_from(shard).map_err(|_| NotShown)?, key, came })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.key)
    }
}

impl FromStr for Cursor {
    type Err = NotShown;

    fn from_str(text: &str) -> Result<Self, NotShown> {
        let [shard, key] = numbers(text)?;
        Ok(Self { shard: u16::try_from(shard).map_err(|_| NotShown)?, key })
    }
}

#[cfg(test)]
mod tests;
