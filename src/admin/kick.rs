//! `POST /kick`: sessions are asked to go, by their ClientID or one by its id.

use http::{Response, StatusCode, Uri};
use tokio::task::yield_now;
use tracing::info;

use super::Served;
use super::query::{Refused, answer, bad, no_parameter, pairs, session, will};
use super::sessions::{Wanted, slice};
use crate::drain::Will;
use crate::net::Body;
use crate::proxy::roster::{Cursor, Roster, SessionId};

/// What a request names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asks {
    client_id: Option<String>,
    session: Option<SessionId>,
    will: Option<Will>,
}

/// `POST /kick`. `who` asks.
pub(super) async fn kick(served: &Served, uri: &Uri, who: &str) -> Response<Body> {
    answer(carry_out(served, uri, who).await)
}

async fn carry_out(served: &Served, uri: &Uri, who: &str) -> Result<String, Refused> {
    let asks = Asks::read(uri.query())?;
    let roster = &served.shared.roster;
    let will = asks.will.unwrap_or_else(|| served.shared.snapshot.load().config.drain.terms().will);
    let kicked = match (&asks.client_id, asks.session) {
        (Some(client_id), None) => kick_all(roster, &Wanted::client(client_id), will).await,
        (None, Some(id)) => usize::from(roster.find(id).is_some_and(|entry| entry.kick(will))),
        _ => return Err(bad("name the client or the session: /kick?client_id=X or /kick?session=ID")),
    };
    let session = asks.session.map(|id| id.to_string());
    info!(
        by = %who,
        client_id = asks.client_id.as_deref(),
        session,
        will = will.label(),
        kicked,
        "sessions are kicked by hand"
    );
    match kicked {
        0 => Err((StatusCode::NOT_FOUND, "there is no such session, or it is on its way already".to_owned())),
        1 => Ok("1 session is asked to go".to_owned()),
        many => Ok(format!("{many} sessions are asked to go")),
    }
}

async fn kick_all(roster: &Roster, wanted: &Wanted, will: Will) -> usize {
    let (mut kicked, mut from) = (0, Some(Cursor::default()));
    while let Some(at) = from {
        let found;
        (found, from) = slice(roster, at, wanted, usize::MAX);
        kicked += found.into_iter().filter(|(_, entry)| entry.kick(will)).count();
        yield_now().await;
    }
    kicked
}

impl Asks {
    fn read(query: Option<&str>) -> Result<Self, Refused> {
        let mut asks = Self::default();
        for pair in pairs(query) {
            let (name, value) = pair?;
            match name {
                // It would be everybody who has none.
                "client_id" if value.is_empty() => {
                    return Err(bad("an empty ClientID names nobody; name the session: /kick?session=ID"));
                }
                "client_id" => asks.client_id = Some(value.into_owned()),
                "session" => asks.session = Some(session(&value)?),
                "will" => asks.will = Some(will(&value)?),
                _ => return Err(no_parameter(name, ["client_id", "session", "will"])),
            }
        }
        Ok(asks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::query::tells_mistakes;

    #[test]
    fn a_mistake_says_what_to_write() {
        let mistakes = [
            ("client_id=", "names nobody"),
            ("session=7", "as /sessions shows it"),
            ("will=maybe", "fire or suppress"),
            ("client=a", "is no parameter here"),
        ];
        tells_mistakes(Asks::read, &mistakes);
        let asks = Asks::read(Some("session=0-37-5021&will=suppress")).unwrap();
        assert_eq!((asks.session, asks.will), (Some("0-37-5021".parse().unwrap()), Some(Will::Suppress)));
    }
}
