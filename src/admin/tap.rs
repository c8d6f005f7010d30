//! `POST /tap`: somebody looks on at one session, as JSON lines. It ends with the session, with who asked, and
//! when its time is over; and whoever asks and then does not read is hung up on (`stall.rs`).

pub mod form;
mod tell;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use self::form::Line;
use self::tell::{date, tell};
use super::Served;
use super::answer::{told, typed};
use super::query::{Refused, bad, conflict, no_parameter, pairs};
use super::sessions;
use super::which::{Named, Which};
use crate::mqtt::Level;
use crate::net::Body;
use crate::permit::Permit;
use crate::proxy::roster::{Entry, Roster, SessionId};
use crate::telemetry::harmless::to_json;
use crate::tunnel::{Onlooker, tap};

/// Taps at once.
pub(super) const AT_ONCE: usize = 8;

/// How long one takes where the request does not say, and at most.
const USUAL: Duration = Duration::from_mins(10);
const LONGEST: Duration = Duration::from_hours(1);

/// Lines that wait for the connection.
const WAITING: usize = 16;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asks {
    which: Which,
    payload: bool,
    time: Option<Duration>,
}

/// `POST /tap`. `who` asks.
pub(super) async fn look_on(served: &Served, uri: &Uri, who: &str) -> Response<Body> {
    match begin(served, uri, who).await {
        Ok(lines) => typed("application/x-ndjson", lines),
        Err(refused) => told(Err(refused)),
    }
}

async fn begin(served: &Served, uri: &Uri, who: &str) -> Result<Body, Refused> {
    let asks = Asks::read(uri.query())?;
    let (id, entry) = find(&asks.which, &served.shared.roster).await?;
    let place = served.taps.take();
    let place =
        place.ok_or_else(|| conflict(format!("there are {AT_ONCE} taps already; end one of them")))?;
    let (tap, onlooker) = tap();
    entry.meter.tap(tap).map_err(conflict)?;
    let looking = Looking { entry, who: who.into(), id, _place: place };
    let client_id = looking.entry.introduction().map(|it| &*it.client_id);
    info!(by = %who, session = %id, client_id, payload = asks.payload, "a session is tapped");
    let (lines, taken) = mpsc::channel(WAITING);
    let until = Instant::now() + asks.time.unwrap_or(USUAL);
    let telling = tokio::spawn(looking.tell_all(onlooker, lines, until, asks.payload));
    Ok(Lines { taken, _telling: AbortOnDropHandle::new(telling) }.boxed_unsync())
}

/// The one session that a request is about.
async fn find(which: &Which, roster: &Roster) -> Result<(SessionId, Arc<Entry>), Refused> {
    let (mut count, mut found) = (0_usize, None);
    which.each(roster, |id, entry| (count, found) = (count + 1, Some((id, entry)))).await;
    match found {
        None => Err((StatusCode::NOT_FOUND, "there is no such session".to_owned())),
        Some(only) if count == 1 => Ok(only),
        Some(_) => {
            Err(conflict(format!("{count} sessions have this ClientID; name one of them: session=ID")))
        }
    }
}

/// Somebody looks on, until dropped.
struct Looking {
    entry: Arc<Entry>,
    id: SessionId,
    who: Box<str>,
    _place: Permit,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.entry.meter.untap();
        info!(by = %self.who, session = %self.id, "a tap has ended");
    }
}

impl Looking {
    /// Tell all, from the beginning to the end or until the time is over.
    async fn tell_all(
        self,
        mut onlooker: Onlooker,
        lines: mpsc::Sender<Bytes>,
        until: Instant,
        with_payload: bool,
    ) {
        let told = timeout_at(until, self.tell_session(&mut onlooker, &lines, with_payload)).await;
        let reason = if told.is_ok() { onlooker.ending().unwrap_or_default() } else { "time_is_over" };
        let end = Line::End { time: now(), reason: reason.to_owned() };
        // Where the time is over it is said if that can be done at once.
        let _ = timeout_at(until, lines.send(written(&end))).await;
    }

    /// Who does not take a line in time misses what does not fit into the queue meanwhile. An error where who asked
    /// has left.
    async fn tell_session(
        &self,
        onlooker: &mut Onlooker,
        lines: &mpsc::Sender<Bytes>,
        with_payload: bool,
    ) -> Result<(), SendError<Bytes>> {
        let begin = Line::Begin { time: now(), session: Box::new(sessions::tell(self.id, &self.entry)) };
        lines.send(written(&begin)).await?;
        while let Some(seen) = onlooker.next().await {
            tell_missed(seen.missed, lines).await?;
            let level = self.entry.introduction().map_or(Level::V311, |it| it.level);
            lines.send(written(&Line::Packet(Box::new(tell(&seen, level, with_payload))))).await?;
            tell_missed(onlooker.missed(), lines).await?;
        }
        tell_missed(onlooker.missed(), lines).await
    }
}

async fn tell_missed(packets: u64, lines: &mpsc::Sender<Bytes>) -> Result<(), SendError<Bytes>> {
    if packets == 0 { Ok(()) } else { lines.send(written(&Line::Missed { time: now(), packets })).await }
}

/// What waits for the connection.
struct Lines {
    taken: mpsc::Receiver<Bytes>,
    _telling: AbortOnDropHandle<()>,
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.taken.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

fn now() -> String {
    date(SystemTime::now())
}

fn written(line: &Line) -> Bytes {
    let mut json = Vec::new();
    to_json(line, &mut json);
    json.push(b'\n');
    json.into()
}

impl Asks {
    fn read(query: Option<&str>) -> Result<Self, Refused> {
        let (mut named, mut payload, mut time) = (Named::nothing("/tap"), false, None);
        for pair in pairs(query) {
            let (name, value) = pair?;
            match name {
                "client_id" => named.client_id(value)?,
                "session" => named.session(&value)?,
                "payload" => payload = value.parse().map_err(|_| bad("payload: write true or false"))?,
                "time" => {
                    let asked = humantime::parse_duration(&value).ok().filter(|asked| *asked <= LONGEST);
                    let words = "time: write a duration such as 90s, of an hour at most";
                    time = Some(asked.ok_or_else(|| bad(words))?);
                }
                _ => return Err(no_parameter(name, ["client_id", "session", "payload", "time"])),
            }
        }
        Ok(Self { which: named.which()?, payload, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::query::tells_mistakes;

    #[test]
    fn a_query_is_read_and_a_mistake_says_what_to_write() {
        let asks = Asks::read(Some("client_id=a&payload=true&time=90s")).unwrap();
        assert_eq!((asks.payload, asks.time), (true, Some(Duration::from_secs(90))));
        let mistakes = [
            ("client_id=", "names nobody"),
            ("session=x", "as /sessions shows it"),
            ("payload=yes", "true or false"),
            ("time=2h", "of an hour at most"),
            ("seconds=2", "is no parameter here"),
            ("payload=true", "/tap?client_id=X or /tap?session=ID"),
        ];
        tells_mistakes(Asks::read, &mistakes);
    }
}
