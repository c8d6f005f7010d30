//! The sessions that are held, and their turns.

use super::failure::Failure;
use super::meter::Meter;
use super::session::{Buffers, Session};
use super::talk::{Desk, Heard, Talk};
use super::target::Target;
use crate::broker::input::{self, Input};
use crate::broker::payload::Filling;
use crate::broker::socket::Readiness;

/// All sessions, by slot.
pub(super) struct Fleet {
    pub(super) target: Target,
    pub(super) filling: Filling,
    pub(super) meter: Meter,
    pub(super) buffers: Buffers,
    /// Of the payloads under way, in bytes.
    pub(super) size: usize,
    pub(super) input: Input,
    readiness: Readiness,
    slots: Vec<Option<Box<Session>>>,
    free: Vec<usize>,
    /// One more with each session, for its ClientID and its source address.
    next_id: u32,
}

/// What happened to a session.
pub(super) enum Event {
    Heard(Heard),
    /// It is no more.
    Ended(Option<Failure>),
}

impl Fleet {
    pub(super) fn new(target: Target, stays_awake: bool) -> Result<Self, Failure> {
        let readiness = Readiness::new(stays_awake)?;
        Ok(Self {
            target,
            filling: Filling::new(),
            meter: Meter::new()?,
            buffers: Buffers::new(),
            size: 0,
            input: Input::watch(&readiness)?,
            readiness,
            slots: Vec::new(),
            free: Vec::new(),
            next_id: 0,
        })
    }

    /// Begin one more session. Its slot.
    pub(super) fn begin(&mut self) -> Result<usize, Failure> {
        let session = Box::new(Session::connect(self.next_id, &self.target)?);
        self.next_id = self.next_id.wrapping_add(1);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.readiness.watch_changes(&*session, slot as u64)?;
        self.slots[slot] = Some(session);
        Ok(slot)
    }

    /// Let a session go.
    pub(super) fn end(&mut self, slot: usize) {
        if self.slots[slot].take().is_some() {
            self.free.push(slot);
        }
    }

    pub(super) fn session(&self, slot: usize) -> Option<&Session> {
        self.slots.get(slot)?.as_deref()
    }

    pub(super) fn session_mut(&mut self, slot: usize) -> Option<&mut Session> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    /// Slots, of sessions or free.
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// The slots of all sessions that fit.
    pub(super) fn slots(&self, fits: impl Fn(&Session) -> bool) -> Vec<usize> {
        let all = self.slots.iter().enumerate();
        all.filter(|(_, it)| it.as_deref().is_some_and(&fits)).map(|(slot, _)| slot).collect()
    }

    /// The slots of the sessions that are open.
    pub(super) fn held(&self) -> Vec<usize> {
        self.slots(|session| session.talk.is_open())
    }

    /// Let a session say what `write` appends. A session that fails is ended.
    pub(super) fn say(
        &mut self,
        slot: usize,
        write: impl FnOnce(&mut Talk, &Filling, &mut Vec<u8>),
    ) -> Result<(), Failure> {
        let Some(session) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return Ok(()) };
        self.buffers.plain.clear();
        write(&mut session.talk, &self.filling, &mut self.buffers.plain);
        self.meter.bytes += self.buffers.plain.len() as u64;
        let said = session.say(&mut self.buffers);
        if said.is_err() {
            self.end(slot);
        }
        said
    }

    /// Let a session say goodbye; it ends when the peer has closed. A session that fails is ended.
    pub(super) fn say_goodbye(&mut self, slot: usize) -> Result<(), Failure> {
        let Some(session) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return Ok(()) };
        let said = session.say_goodbye(&mut self.buffers);
        if said.is_err() {
            self.end(slot);
        }
        said
    }

    /// Wait until sessions are ready, or the clock shows `until`. How many are ready.
    pub(super) fn wait(&mut self, until: Option<u64>) -> Result<usize, Failure> {
        self.readiness.wait(until)?;
        Ok(self.readiness.count())
    }

    /// Serve the `at`th that is ready. Its slot, and what happened.
    pub(super) fn turn(&mut self, at: usize) -> Result<Option<(usize, Event)>, Failure> {
        let ready = self.readiness.ready(at);
        if ready.token == input::TOKEN {
            self.input.read(&self.readiness)?;
            return Ok(None);
        }
        let slot = ready.token as usize;
        let Some(session) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return Ok(None) };
        let mut desk = Desk {
            target: &self.target,
            filling: &self.filling,
            meter: &mut self.meter,
            size: self.size,
            now: 0,
            heard: Heard::default(),
        };
        let why = match session.turn(ready, &mut self.buffers, &mut desk) {
            Ok(true) => return Ok(Some((slot, Event::Heard(desk.heard)))),
            Ok(false) => None,
            Err(failure) => Some(failure),
        };
        self.end(slot);
        Ok(Some((slot, Event::Ended(why))))
    }
}
