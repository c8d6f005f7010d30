//! A session's machinery: two pumps between client and broker until one of the three is done.
//!
//! One future polls both directions, so both streams stay whole and nothing is locked or split. A
//! session that is silent holds two streams, two small pumps and one timer.

mod bell;
mod buffer;
mod course;
mod ending;
mod ledger;
mod meter;
mod pump;
mod tap;
mod traffic;
mod vigil;
mod window;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

pub use self::buffer::Held;
pub use self::ending::{By, Ending};
pub use self::meter::{Meter, Moved, NoTap};
pub use self::tap::{COPIED, Direction, Onlooker, Seen, Tap, tap};
pub use self::traffic::{AllTraffic, Flow, Traffic};
pub use self::vigil::stay_awake;

use self::course::{Boundary, Course, Violation};
use self::ledger::Ledger;
use self::pump::{Fault, Progress, Pump};
use self::vigil::Vigil;
use crate::drain::{Asked, Will};
use crate::mqtt::{self, Level};
use crate::net::{Stream, clock};
use crate::websocket::{self, Opcode, Side};

/// Longer than any session waits for anything.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a broker takes MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Inside WebSocket: frames pass unchanged.
    WebSocket,
    /// Right on the stream: frames are unwrapped one way and wrapped the other.
    Raw,
}

/// A client and a broker to be joined.
#[derive(Debug)]
pub struct Ends {
    /// The client's stream, behind its 101.
    pub client: Stream,
    /// The broker's stream, behind the CONNECT we sent.
    pub broker: Stream,
    /// How the broker takes MQTT.
    pub framing: Framing,
    /// What the client sent behind its CONNECT, from a frame's first byte on.
    pub from_client: Vec<u8>,
    /// Whether the client's next data frame continues a message whose beginning was the CONNECT.
    pub begins_message: bool,
    /// What the broker has sent so far.
    pub from_broker: Vec<u8>,
    /// The client's protocol.
    pub level: Level,
    /// The broker's CONNACK was a no.
    pub was_refused: bool,
}

/// When a session has had enough.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Silence of the client; `None` is for ever.
    pub idle: Option<Duration>,
    /// A side that takes none of our bytes.
    pub stall: Duration,
    /// What is left of a session after its ending is known: goodbyes, the other direction's last bytes.
    pub farewell: Duration,
    /// Bytes of one packet, in either direction.
    pub max_packet_size: usize,
}

/// A client and a broker, joined.
#[derive(Debug)]
pub struct Tunnel {
    client: Stream,
    broker: Stream,
    up: Pump,
    down: Pump,
    vigil: Vigil,
    level: Level,
    was_refused: bool,
    /// Milliseconds from the session's beginning until it was joined: a client's silence while it waited for its
    /// CONNACK is not held against it.
    joined: u32,
    patience: Patience,
    /// Fires when a limit may have been reached; re-armed then, not at each message.
    timer: Pin<Box<Sleep>>,
    /// When the farewell is over.
    deadline: Option<Instant>,
    ending: Option<Ending>,
}

impl Tunnel {
    /// Join two streams. Nothing moves before [`Tunnel::run`].
    #[must_use]
    pub fn new(ends: Ends, patience: Patience) -> Self {
        let limit = patience.max_packet_size;
        let (up, down) = match ends.framing {
            Framing::WebSocket => (Course::pass(Side::Client, limit), Course::pass(Side::Broker, limit)),
            Framing::Raw => (Course::unwrap(limit), Course::wrap(limit)),
        };
        let now = Instant::now();
        Self {
            client: ends.client,
            broker: ends.broker,
            up: Pump::new(up.begin_message(ends.begins_message), ends.from_client),
            down: Pump::new(down, ends.from_broker),
            vigil: Vigil::default(),
            level: ends.level,
            was_refused: ends.was_refused,
            joined: 0,
            patience,
            timer: Box::pin(clock::sleep_until(now + patience.idle.unwrap_or(FOR_EVER))),
            deadline: None,
            ending: None,
        }
    }

    /// Pump until the session has ended and the goodbyes are said. `asked` is the drain's question, `cut` the order
    /// to stop where we stand. What flows is counted in `traffic`, of the worker, and in `meter`, of the session.
    /// Dropping the future cuts the session as well.
    pub async fn run(
        &mut self,
        asked: impl Future<Output = Asked>,
        cut: impl Future<Output = ()>,
        traffic: &Traffic,
        meter: &Arc<Meter>,
    ) -> Ending {
        self.joined = meter.began().elapsed().as_millis() as u32;
        let (mut asked, mut cut) = (pin!(asked), pin!(cut));
        // What seldom wakes us rings the meter's bell.
        let (meter, bell) = (meter.as_ref(), Waker::from(Arc::clone(meter)));
        poll_fn(|cx| {
            let rang = meter.bell().take_rung(cx);
            let mut seldom = Context::from_waker(&bell);
            if rang && cut.as_mut().poll(&mut seldom).is_ready() {
                return Poll::Ready(Ending::Cut);
            }
            // First what is there already: who asks before the tunnel runs does not take the CONNACK away.
            let mut ended = self.poll(cx, &mut seldom, rang, traffic, meter);
            if rang
                && ended.is_pending()
                && self.ending.is_none()
                && let Poll::Ready(asked) = asked.as_mut().poll(&mut seldom)
            {
                self.part_as_asked(asked);
                ended = self.poll(cx, &mut seldom, rang, traffic, meter);
            }
            if ended.is_ready() || self.ending.is_some() {
                meter.leave();
            } else {
                self.vigil.keep(cx);
            }
            ended
        })
        .await
    }

    /// Move what can be moved, and look at the timer where it may be due: the bell `rang`, which is what `seldom` wakes.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        seldom: &mut Context<'_>,
        mut rang: bool,
        traffic: &Traffic,
        meter: &Meter,
    ) -> Poll<Ending> {
        loop {
            self.poll_up(cx, &Ledger::new(Direction::Up, traffic, meter));
            self.poll_down(cx, &Ledger::new(Direction::Down, traffic, meter));
            if self.up.is_told() || self.down.is_told() {
                // Nothing else would wake us for what it has to do now.
                continue;
            }
            if self.up.is_shut() && self.down.is_shut() {
                return Poll::Ready(self.ending.clone().unwrap_or(Ending::BrokerVanished));
            }
            rang |= self.hasten_timer();
            if !rang || self.timer.as_mut().poll(seldom).is_pending() {
                return Poll::Pending;
            }
            self.check_time(Instant::now(), meter);
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>, ledger: &Ledger<'_>) {
        if self.up.rests(&self.client, &self.broker) {
            return;
        }
        let before = ledger.bytes();
        while let Poll::Ready(progress) = self.up.poll(cx, &mut self.client, &mut self.broker, ledger) {
            match progress {
                Ok(Progress::Shut) => break,
                // Half-close is passed on; without a DISCONNECT, so that a vanished client's Will fires.
                Ok(Progress::SourceEnded) => {
                    self.end(self.client_left());
                    self.up.finish();
                }
                Err(Fault::Source) => {
                    self.end(self.client_left());
                    self.up.finish();
                    self.down.abandon();
                }
                // What the broker said before it left is still to be read.
                Err(Fault::Sink) => {
                    self.up.discard();
                    self.hurry();
                }
                Err(Fault::Violation(Violation::Frame(error))) => self.part(Ending::ClientFrame(error)),
                Err(Fault::Violation(Violation::Packet(error))) => self.part(Ending::ClientPacket(error)),
            }
        }
        if ledger.bytes() != before {
            ledger.hear(Instant::now());
            self.vigil.begin();
        }
        let answer = self.up.course_mut().take_answer();
        if self.up.course().said_close() && self.ending.is_none() {
            self.end(self.client_left());
            if answer.is_empty() {
                // The broker answers it.
                self.down.finish_at_close();
            } else {
                // The last packets may have come with the close frame.
                self.up.discard_rest();
                self.down.leave(answer, Boundary::Frame);
            }
        } else if !answer.is_empty() {
            self.down.insert(answer);
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>, ledger: &Ledger<'_>) {
        if self.down.rests(&self.broker, &self.client) {
            return;
        }
        self.vigil.end();
        while let Poll::Ready(progress) = self.down.poll(cx, &mut self.broker, &mut self.client, ledger) {
            match progress {
                Ok(Progress::Shut) => break,
                Ok(Progress::SourceEnded) => self.lose_broker(Ending::BrokerClosed),
                Err(Fault::Source) => self.lose_broker(Ending::BrokerVanished),
                Err(Fault::Violation(Violation::Frame(error))) => {
                    self.lose_broker(Ending::BrokerFrame(error))
                }
                Err(Fault::Violation(Violation::Packet(error))) => {
                    self.lose_broker(Ending::BrokerPacket(error))
                }
                // What the client said before it left still goes to the broker.
                Err(Fault::Sink) => {
                    self.end(self.client_left());
                    self.down.abandon();
                }
            }
        }
    }

    /// The client is gone: who had said goodbye first, if anybody.
    fn client_left(&self) -> Ending {
        let (up, down) = (self.up.course(), self.down.course());
        if self.was_refused {
            Ending::BrokerRefused
        } else if up.said_disconnect() {
            Ending::ClientClosed
        } else if down.said_goodbye() {
            // The client only answered the broker's close frame, or did as its DISCONNECT asked.
            Ending::BrokerClosed
        } else if up.said_close() {
            Ending::ClientClosed
        } else {
            Ending::ClientVanished
        }
    }

    /// The broker is gone, for `ending` unless the client had said goodbye: tell the client.
    fn lose_broker(&mut self, ending: Ending) {
        let ending = match ending {
            _ if self.was_refused => Ending::BrokerRefused,
            _ if self.up.course().said_goodbye() => Ending::ClientClosed,
            ending => ending,
        };
        self.up.discard();
        if self.down.course().may_insert() && !self.down.course().said_close() {
            self.down.leave(close_frame(&ending), Boundary::Frame);
        } else {
            self.down.finish();
        }
        self.end(ending);
    }

    /// We end the session: the client gets a goodbye at the next boundary, the broker none.
    fn part(&mut self, ending: Ending) {
        self.up.discard();
        self.say_goodbye(ending);
    }

    /// The same, because somebody asked. Where its Will is not to fire, the broker gets a DISCONNECT in the
    /// client's place, once the client's packet is whole: a client that stops within one has its Will fired.
    fn part_as_asked(&mut self, asked: Asked) {
        let (ending, will) = Ending::asked(asked);
        if will == Will::Suppress && !self.up.course().said_goodbye() {
            let disconnect = self.up.course().frame_packet(&mqtt::DISCONNECT);
            self.up.leave_then_discard(disconnect);
        } else {
            self.up.discard();
        }
        self.say_goodbye(ending);
    }

    fn say_goodbye(&mut self, ending: Ending) {
        match self.disconnect(&ending) {
            Some(mut goodbye) => {
                goodbye.extend(close_frame(&ending));
                self.down.leave(goodbye, Boundary::Packet);
            }
            None => self.down.leave(close_frame(&ending), Boundary::Frame),
        }
        self.end(ending);
    }

    /// The DISCONNECT that a client may be sent: MQTT 5 alone has one from the server.
    fn disconnect(&self, ending: &Ending) -> Option<Vec<u8>> {
        let reason = ending.disconnect_reason()?;
        let may = self.level == Level::V5 && !self.down.course().said_goodbye();
        may.then(|| websocket::frame(Opcode::Binary, &mqtt::disconnect_v5(reason), None))
    }

    /// Keep the first reason, and let what follows take only so long.
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        self.hurry();
    }

    fn hurry(&mut self) {
        self.deadline.get_or_insert_with(|| Instant::now() + self.patience.farewell);
    }

    /// Limits that began since the timer was armed may be reached sooner than it fires: then it is armed anew, and
    /// is to be asked.
    fn hasten_timer(&mut self) -> bool {
        let stalls = [self.up.stalled(), self.down.stalled()];
        let stall = stalls.into_iter().flatten().min().map(|since| since + self.patience.stall);
        let soonest = stall.into_iter().chain(self.deadline).min();
        let soonest = soonest.filter(|soonest| *soonest < self.timer.deadline());
        if let Some(soonest) = soonest {
            self.timer.as_mut().reset(soonest);
        }
        soonest.is_some()
    }

    /// The timer fired: act on the limits that are reached, and arm it for the next.
    fn check_time(&mut self, now: Instant, meter: &Meter) {
        let stalled = |since: Option<Instant>| since.is_some_and(|since| since + self.patience.stall <= now);
        // A client whose bytes we can't take because the broker stalls is not silent.
        let silent_since = meter.heard().max(meter.began() + Duration::from_millis(self.joined.into()));
        let silent_at =
            self.patience.idle.filter(|_| self.up.stalled().is_none()).map(|idle| silent_since + idle);
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.up.abandon();
            self.down.abandon();
        } else if stalled(self.down.stalled()) {
            // It takes nothing: a goodbye would not reach it either.
            self.end(Ending::ClientStalled);
            self.up.abandon();
            self.down.abandon();
        } else if stalled(self.up.stalled()) {
            // Where the ending is known already, the client still gets its goodbye.
            match self.ending {
                None => self.part(Ending::BrokerStalled),
                Some(_) => self.up.discard(),
            }
        } else if self.ending.is_none() && silent_at.is_some_and(|at| at <= now) {
            self.part(Ending::ClientIdle);
        }
        // A stall may be over before the timer fires again: it must not be the last thing we wait for.
        let next = silent_at.filter(|at| *at > now);
        let next = next.unwrap_or_else(|| now + self.patience.idle.unwrap_or(FOR_EVER));
        self.timer.as_mut().reset(next);
    }
}

fn close_frame(ending: &Ending) -> Vec<u8> {
    websocket::close_frame(ending.close_code(), &ending.close_reason()).to_vec()
}
