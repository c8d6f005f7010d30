//! One broker address at work: its sessions and its health, which outlive a reload.

use std::fmt;
use std::mem::discriminant;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::balance::stable_hash;
use super::health::{Change, Event, Health, Streak, slow_start};
use super::history::History;
use crate::config;
use crate::drain::{Drain, Progress, Terms};

/// A broker address of a pool.
pub struct Endpoint {
    config: Arc<config::Endpoint>,
    /// Verified in its certificate; `None` where it speaks no TLS.
    pub(super) server_name: Option<ServerName<'static>>,
    /// The hash of its name: its part in rendezvous hashing.
    pub(super) seed: u64,
    /// Whether probes have a say.
    probed: bool,
    record: Arc<Record>,
}

/// What we know of an address, whatever the configuration at work.
#[derive(Debug, Default)]
struct Record {
    sessions: AtomicUsize,
    beliefs: Mutex<Beliefs>,
    history: History,
    /// Who asks the sessions that it has, once there was one.
    drain: Mutex<Option<Drain>>,
    /// The drain of those that it lost when it went down.
    lost: Mutex<Option<Drain>>,
    /// Nobody is sent there, because somebody drained it.
    is_closed: AtomicBool,
}

/// What dials and probes have told.
#[derive(Debug, Clone, Copy, Default)]
struct Beliefs {
    dials: Health,
    probes: Streak,
}

impl Endpoint {
    /// An endpoint that nobody knew; up `since` then, if it joins others that are at work.
    pub(super) fn new(
        config: &Arc<config::Endpoint>,
        server_name: Option<ServerName<'static>>,
        probed: bool,
        since: Option<Instant>,
    ) -> Self {
        let dials = since.map(|since| Health::Returned { since }).unwrap_or_default();
        let beliefs = Mutex::new(Beliefs { dials, ..Beliefs::default() });
        Self {
            config: Arc::clone(config),
            server_name,
            seed: stable_hash(config.name.as_bytes()),
            probed,
            record: Arc::new(Record { beliefs, ..Record::default() }),
        }
    }

    /// An endpoint that goes on where `old`, of the same address, stands.
    pub(super) fn of(
        old: &Self,
        config: &Arc<config::Endpoint>,
        server_name: Option<ServerName<'static>>,
        probed: bool,
    ) -> Self {
        Self { record: Arc::clone(&old.record), ..Self::new(config, server_name, probed, None) }
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// As configured.
    #[must_use]
    pub fn config(&self) -> &config::Endpoint {
        &self.config
    }

    /// Sessions it carries, and dials under way.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.record.sessions.load(Ordering::Relaxed)
    }

    /// What its dials made us believe.
    #[must_use]
    pub fn health(&self) -> Health {
        self.beliefs().dials
    }

    /// What happened at it, for people.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.record.history
    }

    /// Remember why a dial failed or a CONNECT was not taken.
    pub fn failed(&self, words: String) {
        self.record.history.failed(words);
        self.settled();
    }

    /// Remember how a probe went: how long it took, and why it failed.
    pub fn probed(&self, took: Duration, error: Option<String>) {
        self.record.history.probed(took, error);
        self.settled();
    }

    /// Remember since when it is not well, if it is not.
    pub fn settled(&self) {
        let is_well = || self.health().avoided_until().is_none() && !self.is_down_by_probe();
        self.record.history.settle(is_well);
    }

    /// Whether probes have a say.
    #[must_use]
    pub const fn is_probed(&self) -> bool {
        self.probed
    }

    /// Whether its probes say that it is down.
    #[must_use]
    pub fn is_down_by_probe(&self) -> bool {
        self.probed && self.beliefs().probes.is_down()
    }

    /// Who asks its sessions to finish: part of the gateway's drain, which asks them too.
    #[must_use]
    pub fn drain(&self, gateway: &Drain) -> Drain {
        self.own_drain().get_or_insert_with(|| gateway.part()).clone()
    }

    /// The same, of the sessions that it has: those to come have another, and are not asked with them. `None`
    /// when there never were any.
    #[must_use]
    pub fn take_drain(&self) -> Option<Drain> {
        let drain = self.own_drain().take();
        if drain.is_some() {
            self.lost().clone_from(&drain);
        }
        drain
    }

    /// Take it out of work by hand, and say goodbye to its sessions on a task of its own: within a runtime.
    /// Whoever dials it now tries the next, or is asked with the others.
    pub fn close(&self, gateway: &Drain, terms: Terms) {
        self.record.is_closed.store(true, Ordering::Release);
        let drain = self.drain(gateway);
        let round = drain.begin(terms);
        tokio::spawn(async move { drain.carry_out(&round).await });
    }

    /// Put it back to work: who was not asked yet stays. It starts slowly, as after any return. Whether it was
    /// out of work.
    pub fn reopen(&self, now: Instant) -> bool {
        if let Some(drain) = &*self.own_drain() {
            drain.cancel();
        }
        let mut beliefs = self.beliefs();
        if beliefs.dials.avoided_until().is_none() {
            beliefs.dials = Health::Returned { since: now };
        }
        self.record.is_closed.swap(false, Ordering::AcqRel)
    }

    /// Whether it was taken out of work by hand.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.record.is_closed.load(Ordering::Acquire)
    }

    /// How far its drain is; `None` while none is under way.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        let own = self.own_drain().as_ref().and_then(Drain::progress);
        let own = own.map(|progress| Progress { left: self.sessions(), ..progress });
        own.or_else(|| self.lost().as_ref().and_then(Drain::progress).filter(|progress| progress.left > 0))
    }

    /// Whether it is picked: it was not taken out of work, its probes do not say that it is down, and it is not
    /// avoided, or a trial is due.
    #[must_use]
    pub fn is_up(&self, now: Instant) -> bool {
        let Beliefs { dials, probes } = *self.beliefs();
        dials.is_open(now) && !(self.probed && probes.is_down()) && !self.is_closed()
    }

    /// How much of its weight counts, in percent: less than all for a while after its return.
    #[must_use]
    pub fn share(&self, slow_start: Duration, now: Instant) -> u32 {
        // Off as a rule: then nothing is locked for it.
        let since = if slow_start.is_zero() { None } else { self.health().returned_since() };
        match since {
            Some(since) => slow_start::share(now.saturating_duration_since(since), slow_start),
            None => slow_start::WHOLE,
        }
    }

    /// Whether it is at its cap of sessions.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.sessions() >= self.max_sessions()
    }

    /// Whether nothing about it would change.
    pub(super) fn is_same(&self, config: &config::Endpoint, probed: bool) -> bool {
        *self.config == *config && self.probed == probed
    }

    /// Whether `other` is the same broker: its health and sessions are ours.
    pub(super) fn is_same_broker(&self, other: &config::Endpoint) -> bool {
        let own = &*self.config;
        own.address == other.address
            && own.tls == other.tls
            && discriminant(&own.transport) == discriminant(&other.transport)
    }

    /// Whether we go on where `old` stood.
    pub(super) fn is_heir_of(&self, old: &Self) -> bool {
        Arc::ptr_eq(&self.record, &old.record)
    }

    /// A session's place; `None` at the cap.
    pub(super) fn take_slot(self: &Arc<Self>) -> Option<Slot> {
        let max = self.max_sessions();
        self.record
            .sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < max).then_some(held + 1))
            .ok()
            .map(|_| Slot { endpoint: Arc::clone(self) })
    }

    /// Leave to dial it; `None` when it is avoided, or somebody else has its trial.
    pub(super) fn admit(self: &Arc<Self>, now: Instant) -> Option<Leave> {
        let mut beliefs = self.beliefs();
        if !beliefs.dials.is_trial_due(now) {
            return beliefs.dials.is_open(now).then_some(Leave::Up);
        }
        beliefs.dials = beliefs.dials.after(Event::TrialTaken, Duration::ZERO, now);
        Some(Leave::Trial(Trial { endpoint: Arc::clone(self), is_open: AtomicBool::new(true) }))
    }

    /// Let the health follow from what happened. Whether that brought the endpoint back.
    pub(super) fn tell(&self, event: Event, avoid: Duration, now: Instant) -> bool {
        let mut beliefs = self.beliefs();
        let before = beliefs.dials;
        beliefs.dials = before.after(event, avoid, now);
        before.avoided_until().is_some() && beliefs.dials.avoided_until().is_none()
    }

    /// Let the health follow from a probe. An endpoint that its probes bring back is tried at once,
    /// whatever its dials said of the time before.
    pub(super) fn tell_probe(&self, passed: bool, rise: u32, fall: u32, now: Instant) -> Option<Change> {
        let mut beliefs = self.beliefs();
        let (probes, change) = beliefs.probes.after(passed, rise, fall);
        beliefs.probes = probes;
        if change == Some(Change::Rose) {
            beliefs.dials = Health::Returned { since: now };
        }
        change
    }

    fn own_drain(&self) -> MutexGuard<'_, Option<Drain>> {
        self.record.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, Option<Drain>> {
        self.record.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beliefs(&self) -> MutexGuard<'_, Beliefs> {
        self.record.beliefs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn max_sessions(&self) -> usize {
        self.config.max_sessions.unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Endpoint")
            .field("name", self.name())
            .field("sessions", &self.sessions())
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// A session's place at an endpoint; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Slot {
    endpoint: Arc<Endpoint>,
}

impl Slot {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.endpoint.record.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Leave to dial an endpoint.
#[derive(Debug)]
pub(super) enum Leave {
    /// It is up.
    Up,
    /// It was avoided, and this is its one trial.
    Trial(Trial),
}

/// An endpoint's one trial. Dropped before it [ends](Self::end), the next session gets it.
#[derive(Debug)]
pub(super) struct Trial {
    endpoint: Arc<Endpoint>,
    is_open: AtomicBool,
}

impl Trial {
    /// Its dial has said how it went.
    pub(super) fn end(&self) {
        self.is_open.store(false, Ordering::Relaxed);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if *self.is_open.get_mut() {
            self.endpoint.tell(Event::TrialReleased, Duration::ZERO, Instant::now());
        }
    }
}
