//! One direction of a session: read, follow the headers, write; hold a buffer only in between.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::Instant;

use super::buffer::{self, Buffer};
use super::course::{Boundary, Course, Violation};
use super::ledger::Ledger;
use super::window::Window;
use crate::mqtt::PacketStart;
use crate::net::{Rest, Stream};

/// What a session reads at first: one full TLS record (RFC 8446, 5.1).
const ROOM: usize = 16 * 1024;

/// Reads of one direction before other sessions have their turn: half a millisecond's work at most.
const READS_A_TURN: usize = 8;

/// How far a direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Bytes flow.
    Flowing,
    /// Bytes flow until our own last words can be inserted; then the direction finishes.
    Leaving,
    /// The same, but the direction discards then.
    Parting,
    /// What waits is written, the sink's write side closed, and what still comes thrown away until the
    /// source ends: a stream dropped with bytes unread is reset, and takes our last words with it.
    Discarding,
    /// Nothing more is read; what waits is written, and then the sink's write side is closed.
    Finishing,
    /// The sink's write side is closed.
    Shut,
}

/// What must come before there is anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// Nothing: it was told to change its ways since it was last polled.
    Nothing,
    /// Its source must have something to read. Until then a poll would find nothing.
    Source,
    /// Whatever the last poll has asked to be woken for.
    Waking,
}

/// One direction, from its source to its sink.
#[derive(Debug)]
pub(super) struct Pump {
    course: Course,
    /// Bytes of the source that were read before the tunnel began.
    early: Rest,
    window: Option<Window>,
    /// Bytes of our own, written as soon as the course allows.
    insert: Vec<u8>,
    stage: Stage,
    /// See [`Pump::finish_at_close`].
    finishes_at_close: bool,
    awaits: Awaits,
    /// Whether the sink may hold bytes that it has taken but not sent.
    unflushed: bool,
    /// Since when the sink has taken nothing of what waits.
    stalled: Option<Instant>,
    /// How much the next read may bring: it follows what flows, and falls when the sink stalls.
    room: usize,
}

/// How a direction came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The source has closed its side, and all it sent is written. Said once: the caller decides between
    /// [`Pump::finish`] and [`Pump::leave`].
    SourceEnded,
    /// The sink's write side is closed, or the direction was abandoned.
    Shut,
}

/// What stopped a direction before its source ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// The source's connection broke.
    Source,
    /// The sink's connection broke.
    Sink,
    /// The source broke its protocol.
    Violation(Violation),
}

impl Pump {
    pub(super) fn new(course: Course, early: Vec<u8>) -> Self {
        Self {
            course,
            early: early.into(),
            window: None,
            insert: Vec::new(),
            stage: Stage::Flowing,
            finishes_at_close: false,
            awaits: Awaits::Waking,
            unflushed: false,
            stalled: None,
            room: ROOM,
        }
    }

    /// Move what can be moved.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        ledger: &Ledger<'_>,
    ) -> Poll<Result<Progress, Fault>> {
        self.awaits = Awaits::Waking;
        let mut reads = 0;
        loop {
            if self.stage == Stage::Shut {
                return Poll::Ready(Ok(Progress::Shut));
            }
            ready!(self.poll_write(cx, source, sink)).map_err(|_| Fault::Sink)?;
            match self.stage {
                Stage::Leaving if self.insert.is_empty() => self.stage = Stage::Finishing,
                Stage::Parting if self.insert.is_empty() => self.stage = Stage::Discarding,
                Stage::Finishing => {
                    ready!(self.poll_shutdown(cx, sink)).map_err(|_| Fault::Sink)?;
                }
                Stage::Discarding => ready!(self.poll_discard(cx, source, sink)),
                _ if reads == READS_A_TURN => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                _ => match self.poll_read(cx, source, ledger) {
                    Poll::Ready(read) => {
                        reads += 1;
                        if read? == 0 {
                            return Poll::Ready(Ok(Progress::SourceEnded));
                        }
                    }
                    Poll::Pending => {
                        // Only now: while more comes, the sink's own buffer may gather it.
                        ready!(self.poll_flush(cx, sink)).map_err(|_| Fault::Sink)?;
                        // To a task that has used up its turn a read says nothing: nobody has looked.
                        if coop::has_budget_remaining() {
                            self.awaits = Awaits::Source;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Read nothing more; write what waits and close the sink's write side.
    pub(super) fn finish(&mut self) {
        if matches!(self.stage, Stage::Flowing | Stage::Leaving | Stage::Parting) {
            self.enter(Stage::Finishing);
        }
    }

    /// Go on to the next boundary, say `last`, and finish.
    pub(super) fn leave(&mut self, last: Vec<u8>, boundary: Boundary) {
        if self.stage == Stage::Flowing {
            self.enter(Stage::Leaving);
            self.insert = last;
            self.course.stop_at(boundary);
        }
    }

    /// Go on to the end of the source's packet, say `last` in its place, close the sink's write side, and throw
    /// away what still comes.
    pub(super) fn leave_then_discard(&mut self, last: Vec<u8>) {
        if self.stage == Stage::Flowing {
            self.enter(Stage::Parting);
            self.insert = last;
            self.course.stop_at(Boundary::Packet);
        }
    }

    /// Finish with the source's close frame, or now if it was said: nothing counts behind it, and who has seen
    /// both close frames hangs up (RFC 6455, 7.1.1).
    pub(super) fn finish_at_close(&mut self) {
        self.finishes_at_close = true;
        if self.course.said_close() {
            self.finish();
        }
    }

    /// Write what waits, close the sink's write side, and throw away what still comes.
    pub(super) fn discard_rest(&mut self) {
        if self.stage != Stage::Shut {
            self.enter(Stage::Discarding);
            self.early = Rest::default();
        }
    }

    /// Close the sink's write side, and throw away what waits and what still comes.
    pub(super) fn discard(&mut self) {
        self.discard_rest();
        self.window = None;
        self.stalled = None;
    }

    /// Write nothing more, and never look at either stream again.
    pub(super) fn abandon(&mut self) {
        self.stage = Stage::Shut;
        self.window = None;
        self.stalled = None;
    }

    /// Insert bytes of our own, at most [`buffer::SIZE`], as soon as a frame may begin. What waits for that
    /// is replaced: only the latest ping needs its pong (RFC 6455, 5.5.3). After our last words there is
    /// nothing to say.
    pub(super) fn insert(&mut self, bytes: Vec<u8>) {
        if self.stage == Stage::Flowing {
            self.insert = bytes;
            self.awaits = Awaits::Nothing;
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.awaits = Awaits::Nothing;
    }

    /// Whether it must be polled again before the session may sleep.
    pub(super) fn is_told(&self) -> bool {
        self.awaits == Awaits::Nothing
    }

    /// Whether there is nothing to do and nothing has come. The direction that is silent costs the other no more
    /// than this at a wake-up (`fan-out`).
    pub(super) fn rests(&self, source: &Stream, sink: &Stream) -> bool {
        self.awaits == Awaits::Source && !source.may_read() && !sink.is_behind()
    }

    pub(super) fn course(&self) -> &Course {
        &self.course
    }

    pub(super) fn course_mut(&mut self) -> &mut Course {
        &mut self.course
    }

    pub(super) fn is_shut(&self) -> bool {
        self.stage == Stage::Shut
    }

    /// Since when the sink has taken nothing.
    pub(super) fn stalled(&self) -> Option<Instant> {
        self.stalled
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        source: &Stream,
        sink: &mut Stream,
    ) -> Poll<io::Result<()>> {
        loop {
            let Some(window) = &mut self.window else {
                if self.insert.is_empty() || !self.course.may_insert() {
                    return Poll::Ready(Ok(()));
                }
                // From here on it is written whole, whatever we would like to insert next.
                self.window = Some(Window::of(&std::mem::take(&mut self.insert)));
                continue;
            };
            let is_last = matches!(self.stage, Stage::Finishing | Stage::Leaving) && self.insert.is_empty();
            let written = if is_last {
                sink.poll_write_last(cx, window.waiting())
            } else if source.has_ended() {
                // Its end is passed on at once (`resumed`).
                sink.poll_write_more(cx, window.waiting())
            } else {
                Pin::new(&mut *sink).poll_write(cx, window.waiting())
            };
            let Poll::Ready(written) = written else {
                self.stalled.get_or_insert_with(Instant::now);
                self.room = ROOM;
                window.shrink();
                return Poll::Pending;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.stalled = None;
            self.unflushed = true;
            if window.advance(written) {
                self.window = None;
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, sink: &mut Stream) -> Poll<io::Result<()>> {
        if self.unflushed || sink.is_behind() {
            match sink.poll_catch_up(cx) {
                Poll::Ready(result) => {
                    self.unflushed = false;
                    self.stalled = None;
                    return Poll::Ready(result);
                }
                Poll::Pending => {
                    self.stalled.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>, sink: &mut Stream) -> Poll<io::Result<()>> {
        if Pin::new(sink).poll_shutdown(cx)?.is_pending() {
            self.stalled.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        self.stalled = None;
        self.stage = Stage::Shut;
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        ledger: &Ledger<'_>,
    ) -> Poll<Result<usize, Fault>> {
        // Borrowed for the read alone: when nothing has come it goes back at once.
        let mut buffer = Buffer::borrow();
        let room = self.course.room(self.room);
        let count = if self.early.is_empty() {
            let mut read = ReadBuf::new(&mut buffer[room.clone()]);
            match ready!(Pin::new(source).poll_read(cx, &mut read)) {
                Ok(()) => read.filled().len(),
                // TLS cut without close_notify: the peer is gone as with FIN.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(_) => return Poll::Ready(Err(Fault::Source)),
            }
        } else {
            self.early.take(&mut buffer[room.clone()])
        };
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        ledger.add_bytes(count);
        let read = room.start..room.start + count;
        if read.end == room.end {
            self.room = (2 * self.room).min(buffer::SIZE);
        }
        let ready = if ledger.is_tapped() {
            ledger.follow_tapped(&mut self.course, &mut buffer, read)
        } else {
            self.course.follow(&mut buffer, read, |packet: PacketStart| ledger.add_packet(packet))
        };
        let ready = ready.map_err(Fault::Violation)?;
        if !ready.is_empty() {
            self.window = Some(Window::new(buffer, ready));
        }
        if self.finishes_at_close {
            self.finish_at_close();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>, source: &mut Stream, sink: &mut Stream) -> Poll<()> {
        // Whether it closes well is of no interest any more.
        let _ = Pin::new(sink).poll_shutdown(cx);
        let mut buffer = Buffer::borrow();
        let mut read = ReadBuf::new(&mut buffer);
        let result = ready!(Pin::new(source).poll_read(cx, &mut read));
        if result.is_err() || read.filled().is_empty() {
            self.stage = Stage::Shut;
        }
        Poll::Ready(())
    }
}
