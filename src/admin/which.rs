//! Which sessions `/kick` and `/tap` are about: all of one ClientID, or one by its id.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::task::yield_now;

use super::query::{Refused, bad};
use super::sessions::{Wanted, slice};
use crate::proxy::roster::{Cursor, Entry, Roster, SessionId};

/// The sessions that a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All of one ClientID.
    Client(String),
    /// One by its id.
    Session(SessionId),
}

/// What the query of a request to `path` has named so far.
#[derive(Debug)]
pub(super) struct Named {
    path: &'static str,
    client_id: Option<String>,
    session: Option<SessionId>,
}

impl Named {
    /// Its query is not read yet.
    pub(super) const fn nothing(path: &'static str) -> Self {
        Self { path, client_id: None, session: None }
    }

    /// The value of `client_id`.
    pub(super) fn client_id(&mut self, value: Cow<'_, str>) -> Result<(), Refused> {
        if value.is_empty() {
            // It would be everybody who has none.
            let path = self.path;
            return Err(bad(format!("an empty ClientID names nobody; name the session: {path}?session=ID")));
        }
        self.client_id = Some(value.into_owned());
        Ok(())
    }

    /// The value of `session`.
    pub(super) fn session(&mut self, value: &str) -> Result<(), Refused> {
        let words = "session: write its id as /sessions shows it, such as 0-37-5021";
        self.session = Some(value.parse().map_err(|_| bad(words))?);
        Ok(())
    }

    /// One of the two, and not both.
    pub(super) fn which(self) -> Result<Which, Refused> {
        let path = self.path;
        match (self.client_id, self.session) {
            (Some(client_id), None) => Ok(Which::Client(client_id)),
            (None, Some(id)) => Ok(Which::Session(id)),
            _ => Err(bad(format!("name the client or the session: {path}?client_id=X or {path}?session=ID"))),
        }
    }
}

impl Which {
    /// Look at each that is open. For all of a client the roster is looked at in slices, with a turn for others in
    /// between.
    pub(super) async fn each(&self, roster: &Roster, mut look: impl FnMut(SessionId, Arc<Entry>)) {
        match self {
            Self::Client(client_id) => {
                let (wanted, mut from) = (Wanted::client(client_id), Some(Cursor::default()));
                while let Some(at) = from {
                    let found;
                    (found, from) = slice(roster, at, &wanted, usize::MAX);
                    found.into_iter().for_each(|(id, entry)| look(id, entry));
                    yield_now().await;
                }
            }
            Self::Session(id) => {
                if let Some(entry) = roster.find(*id) {
                    look(*id, entry);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_client_or_a_session() {
        let which = |client_id: Option<&str>, session: Option<&str>| {
            let mut named = Named::nothing("/kick");
            client_id.map_or(Ok(()), |value| named.client_id(value.into()))?;
            session.map_or(Ok(()), |value| named.session(value))?;
            named.which()
        };
        assert_eq!(which(Some("a"), None), Ok(Which::Client("a".to_owned())));
        assert_eq!(which(None, Some("0-37-5021")), Ok(Which::Session("0-37-5021".parse().unwrap())));
        let told = |client_id, session| which(client_id, session).unwrap_err().1;
        let words = "an empty ClientID names nobody; name the session: /kick?session=ID";
        assert_eq!(told(Some(""), None), words);
        let words = "session: write its id as /sessions shows it, such as 0-37-5021";
        assert_eq!(told(None, Some("7")), words);
        let words = "name the client or the session: /kick?client_id=X or /kick?session=ID";
        assert_eq!(told(None, None), words);
        assert_eq!(told(Some("a"), Some("0-37-5021")), words);
    }
}
