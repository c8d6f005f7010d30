//! `GET /sessions`: who is here, a page at a time. The roster is looked at in slices, with a turn for others in
//! between, and what is told of a slice is written outside its lock.

pub mod form;

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode, Uri};
use tokio::task::yield_now;
use tokio::time::Instant;

use self::form::Session;
use super::answer::{told, typed};
use super::query::{Refused, bad, no_parameter, pairs};
use crate::net::{Body, full};
use crate::proxy::Shared;
use crate::proxy::roster::{Cursor, Entry, Roster, SessionId};
use crate::telemetry::harmless::to_json;

/// Sessions of a page: where the request does not say, and at most.
const USUAL: usize = 100;
pub(crate) const MOST: usize = 1000;

/// Bytes past which a page ends: a ClientID may be 64 KiB long.
const PAGE: usize = 256 * 1024;

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asks {
    wanted: Wanted,
    limit: Option<usize>,
    from: Cursor,
}

/// Which sessions: each word narrows them down.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    client_id: Option<String>,
    upstream: Option<String>,
    endpoint: Option<String>,
    address: Option<Address>,
}

/// Of one client, or of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address {
    Of(SocketAddr),
    At(IpAddr),
}

/// `GET /sessions`.
pub(super) async fn list(shared: &Shared, uri: &Uri) -> Response<Body> {
    let mut listing = match Listing::begin(uri.query()) {
        Ok(listing) => listing,
        Err(refused) => return told(Err(refused)),
    };
    while listing.step(&shared.roster) {
        yield_now().await;
    }
    typed("application/json", full(listing.finish()))
}

/// A page that is being written; see [`form::Page`].
#[derive(Debug)]
pub struct Listing {
    asks: Asks,
    /// Where it goes on.
    from: Option<Cursor>,
    json: Vec<u8>,
    count: usize,
}

impl Listing {
    /// Nothing is written yet of what a query asks for.
    ///
    /// # Errors
    /// The status, and words for a person, when the query has a mistake.
    pub fn begin(query: Option<&str>) -> Result<Self, (StatusCode, String)> {
        let asks = Asks::read(query)?;
        Ok(Self { from: Some(asks.from), asks, json: b"{\"sessions\":[".to_vec(), count: 0 })
    }

    /// Look at a slice of the roster; whether there is more to look at (`roster-slice-listed`).
    pub fn step(&mut self, roster: &Roster) -> bool {
        let Some(at) = self.from else { return false };
        let limit = self.asks.limit.unwrap_or(USUAL);
        let (found, next) = slice(roster, at, &self.asks.wanted, limit - self.count);
        self.from = next;
        for (id, entry) in found {
            if self.count > 0 {
                self.json.push(b',');
            }
            to_json(&tell(id, &entry), &mut self.json);
            self.count += 1;
            if self.count == limit || self.json.len() >= PAGE {
                self.from = Some(id.next());
                return false;
            }
        }
        true
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut json = self.json;
        json.extend(b"],\"next\":");
        to_json(&self.from.map(|cursor| cursor.to_string()), &mut json);
        json.push(b'}');
        json
    }
}

/// Those of a slice of the roster that are wanted, `most` at most, and where the next begins.
pub(super) fn slice(
    roster: &Roster,
    from: Cursor,
    wanted: &Wanted,
    most: usize,
) -> (Vec<(SessionId, Arc<Entry>)>, Option<Cursor>) {
    let mut found = Vec::new();
    let next = roster.look(from, |id, entry| {
        if wanted.is(entry) {
            found.push((id, Arc::clone(entry)));
        }
        if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    (found, next)
}

/// What is told of a session.
pub(super) fn tell(id: SessionId, entry: &Entry) -> Session {
    let (now, meter) = (Instant::now(), &entry.meter);
    let (introduction, endpoint) = (entry.introduction(), entry.endpoint());
    let (up, down) = (meter.up(), meter.down());
    let state = match endpoint {
        _ if meter.is_leaving() => "leaving",
        Some(_) => "open",
        None => "opening",
    };
    Session {
        id: id.to_string(),
        client_id: introduction.map(|it| it.client_id.to_string()),
        username: introduction.and_then(|it| it.username.as_deref()).map(str::to_owned),
        address: entry.client.to_string(),
        upstream: entry.upstream.to_string(),
        endpoint: endpoint.map(|endpoint| endpoint.name().to_string()),
        protocol: introduction.map(|it| it.level.label().to_owned()),
        keepalive: introduction.map_or(0, |it| it.keepalive),
        state: state.to_owned(),
        age_seconds: seconds(now.saturating_duration_since(meter.began())),
        idle_seconds: seconds(now.saturating_duration_since(meter.heard())),
        bytes_up: up.bytes,
        bytes_down: down.bytes,
        packets_up: up.packets,
        packets_down: down.packets,
        tapped: meter.is_tapped(),
    }
}

/// To the millisecond.
fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

impl Asks {
    fn read(query: Option<&str>) -> Result<Self, Refused> {
        let mut asks = Self::default();
        for pair in pairs(query) {
            let (name, value) = pair?;
            match name {
                "client_id" => asks.wanted.client_id = Some(value.into_owned()),
                "upstream" => asks.wanted.upstream = Some(value.into_owned()),
                "endpoint" => asks.wanted.endpoint = Some(value.into_owned()),
                "address" => asks.wanted.address = Some(value.parse()?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    let words = "limit: write a number from 1 to 1000; `cursor` goes on from there";
                    asks.limit = Some(limit.ok_or_else(|| bad(words))?);
                }
                "cursor" => {
                    let words = "cursor: write what the page before has as `next`";
                    asks.from = value.parse().map_err(|_| bad(words))?;
                }
                _ => {
                    let known = ["client_id", "upstream", "endpoint", "address", "limit", "cursor"];
                    return Err(no_parameter(name, known));
                }
            }
        }
        Ok(asks)
    }
}

impl Wanted {
    /// All of one ClientID.
    pub(super) fn client(client_id: &str) -> Self {
        Self { client_id: Some(client_id.to_owned()), ..Self::default() }
    }

    fn is(&self, entry: &Entry) -> bool {
        let Self { client_id, upstream, endpoint, address } = self;
        let is =
            |wanted: &Option<String>, has: Option<&str>| wanted.as_deref().is_none_or(|it| has == Some(it));
        is(client_id, entry.introduction().map(|it| &*it.client_id))
            && is(upstream, Some(&entry.upstream))
            && is(endpoint, entry.endpoint().map(|endpoint| &**endpoint.name()))
            && address.is_none_or(|address| address.is(entry.client))
    }
}

impl Address {
    fn is(self, client: SocketAddr) -> bool {
        match self {
            Self::Of(address) => {
                address.port() == client.port() && address.ip().to_canonical() == client.ip().to_canonical()
            }
            Self::At(address) => address.to_canonical() == client.ip().to_canonical(),
        }
    }
}

impl FromStr for Address {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let one = text.parse().map(Self::Of);
        let at = || text.trim_matches(['[', ']']).parse().map(Self::At);
        one.or_else(|_| at()).map_err(|_| bad("address: write an IP address, with or without a port"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::query::tells_mistakes;

    #[test]
    fn a_query_is_read() {
        let asks = Asks::read(Some("client_id=a%00%20b&limit=7&cursor=1-512&address=%3A%3Affff%3A192.0.2.1"));
        let asks = asks.unwrap();
        assert_eq!(asks.wanted.client_id.as_deref(), Some("a\0 b"));
        assert_eq!((asks.limit, asks.from.to_string().as_str()), (Some(7), "1-512"));
        let address = asks.wanted.address.unwrap();
        assert!(address.is("192.0.2.1:7".parse().unwrap()) && !address.is("192.0.2.2:7".parse().unwrap()));
        let address = "[2001:db8::1]:7".parse::<Address>().unwrap();
        assert!(address.is("[2001:db8::1]:7".parse().unwrap()));
        assert!(!address.is("[2001:db8::1]:8".parse().unwrap()));
        // One without a ClientID can be looked for as well.
        assert_eq!(Asks::read(Some("client_id=")).unwrap().wanted.client_id.as_deref(), Some(""));
        assert_eq!(Asks::read(None).unwrap(), Asks::default());
    }

    #[test]
    fn a_mistake_says_what_to_write() {
        let mistakes = [
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("cursor=next", "has as `next`"),
            ("address=example.org", "an IP address"),
            ("clientid=a", "did you mean `client_id`?"),
            ("client_id=%ff", "not UTF-8"),
            ("client_id=a&limit=7&client_id=b", "`client_id` is there twice"),
        ];
        tells_mistakes(Asks::read, &mistakes);
    }
}
