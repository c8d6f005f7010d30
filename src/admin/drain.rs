//! Goodbyes by hand: `POST /drain`, `/resume` and `/rebalance`, of the gateway, an endpoint or an upstream.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode, Uri};
use tokio::time::Instant;
use tracing::info;

use super::answer::told;
use super::query::{Refused, bad, conflict, no_parameter, pairs, will};
use super::{Served, Stage};
use crate::config::did_you_mean;
use crate::drain::{Order, Terms, Will};
use crate::net::Body;
use crate::snapshot::UpstreamAtWork;
use crate::upstream::Endpoint;

/// The longest window and grace that can be asked for.
const LONGEST: Duration = Duration::from_hours(24);

/// What a request names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asks {
    upstream: Option<String>,
    endpoint: Option<String>,
    window: Option<Duration>,
    grace: Option<Duration>,
    will: Option<Will>,
}

/// `POST /drain`: of the gateway, or of an endpoint.
pub(super) async fn drain(served: &Served, uri: &Uri) -> Response<Body> {
    told(begin(served, uri).await)
}

/// `POST /resume`: cancel the drain of the gateway or of an endpoint, or the rebalance of an upstream.
pub(super) async fn resume(served: &Served, uri: &Uri) -> Response<Body> {
    told(end(served, uri).await)
}

/// `POST /rebalance`, of an upstream.
pub(super) async fn rebalance(served: &Served, uri: &Uri) -> Response<Body> {
    told(even(served, uri).await)
}

async fn begin(served: &Served, uri: &Uri) -> Result<String, Refused> {
    let asks = Asks::read(uri.query())?;
    let terms = asks.terms(served);
    let Some(upstream) = &asks.upstream else {
        asks.no_endpoint()?;
        return served.orders.give(Order::Drain(terms)).await.map_err(conflict);
    };
    let upstream = find_upstream(served, upstream)?;
    let Some(endpoint) = &asks.endpoint else {
        let words = "name the endpoint too: /drain?upstream=U&endpoint=E; /drain alone is the whole gateway";
        return Err(bad(words));
    };
    let endpoint = find_endpoint(&upstream, endpoint)?;
    serves(served)?;
    if endpoint.is_closed() {
        return Ok(format!("{} drains already: {} sessions left", endpoint.name(), endpoint.sessions()));
    }
    let sessions = endpoint.sessions();
    endpoint.close(&served.shared.sessions, terms);
    info!(upstream = %upstream.pool.name(), endpoint = %endpoint.name(), sessions, "an endpoint is drained by hand");
    Ok(format!("{} drains: {sessions} sessions", endpoint.name()))
}

async fn end(served: &Served, uri: &Uri) -> Result<String, Refused> {
    let asks = Asks::read(uri.query())?;
    let Some(upstream) = &asks.upstream else {
        asks.no_endpoint()?;
        return served.orders.give(Order::Resume).await.map_err(conflict);
    };
    let upstream = find_upstream(served, upstream)?;
    let Some(endpoint) = &asks.endpoint else {
        return Ok(if upstream.pool.cancel_rebalance() {
            info!(upstream = %upstream.pool.name(), "a rebalance is cancelled");
            format!("the rebalance of {} is cancelled", upstream.pool.name())
        } else {
            format!("{} is not being rebalanced", upstream.pool.name())
        });
    };
    let endpoint = find_endpoint(&upstream, endpoint)?;
    Ok(if endpoint.reopen(Instant::now()) {
        info!(upstream = %upstream.pool.name(), endpoint = %endpoint.name(), "an endpoint is put back to work by hand");
        format!("{} is back at work", endpoint.name())
    } else {
        format!("{} is at work", endpoint.name())
    })
}

async fn even(served: &Served, uri: &Uri) -> Result<String, Refused> {
    let asks = Asks::read(uri.query())?;
    let Some(upstream) = &asks.upstream else { return Err(bad("name the upstream: /rebalance?upstream=U")) };
    asks.no_endpoint()?;
    let upstream = find_upstream(served, upstream)?;
    serves(served)?;
    let begun = upstream.pool.rebalance(&served.shared.sessions, asks.terms(served)).await;
    let moving = begun.map_err(|error| conflict(format!("upstream {}: {error}", upstream.pool.name())))?;
    info!(upstream = %upstream.pool.name(), sessions = moving, "a rebalance begins");
    Ok(format!("{}: {moving} sessions are asked to move", upstream.pool.name()))
}

/// The gateway's drain asks everybody; there is nothing to do beside it.
fn serves(served: &Served) -> Result<(), Refused> {
    match *served.stage.borrow() {
        Stage::Draining | Stage::Drained => Err(conflict("the gateway itself drains")),
        Stage::Starting | Stage::Ready => Ok(()),
    }
}

fn find_upstream(served: &Served, name: &str) -> Result<Arc<UpstreamAtWork>, Refused> {
    let snapshot = served.shared.snapshot.load();
    snapshot
        .pools
        .get(name)
        .cloned()
        .ok_or_else(|| unknown("upstream", name, snapshot.pools.keys().map(AsRef::as_ref)))
}

fn find_endpoint(upstream: &UpstreamAtWork, name: &str) -> Result<Arc<Endpoint>, Refused> {
    let endpoints = upstream.pool.endpoints();
    let found = endpoints.iter().find(|endpoint| &**endpoint.name() == name).cloned();
    found.ok_or_else(|| {
        let of = format!("endpoint of {}", upstream.pool.name());
        unknown(&of, name, endpoints.iter().map(|endpoint| &**endpoint.name()))
    })
}

/// As many names as a person reads.
const NAMES: usize = 10;

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Refused {
    let near = did_you_mean(name, known.clone());
    let names: Vec<_> = known.take(NAMES).collect();
    let words = format!("there is no {what} `{}`{near}; there is {}", name.escape_debug(), names.join(", "));
    (StatusCode::NOT_FOUND, words)
}

impl Asks {
    fn read(query: Option<&str>) -> Result<Self, Refused> {
        let mut asks = Self::default();
        for pair in pairs(query) {
            let (name, value) = pair?;
            match name {
                "upstream" => asks.upstream = Some(value.into_owned()),
                "endpoint" => asks.endpoint = Some(value.into_owned()),
                "window" => asks.window = Some(duration(name, &value)?),
                "grace" => asks.grace = Some(duration(name, &value)?),
                "will" => asks.will = Some(will(&value)?),
                _ => return Err(no_parameter(name, ["upstream", "endpoint", "window", "grace", "will"])),
            }
        }
        Ok(asks)
    }

    /// What was asked for, or else as configured.
    fn terms(&self, served: &Served) -> Terms {
        let configured = served.shared.snapshot.load().config.drain.terms();
        Terms {
            window: self.window.unwrap_or(configured.window),
            grace: self.grace.unwrap_or(configured.grace),
            will: self.will.unwrap_or(configured.will),
        }
    }

    fn no_endpoint(&self) -> Result<(), Refused> {
        match (&self.endpoint, &self.upstream) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(bad("name the endpoint's upstream too")),
            (Some(_), Some(_)) => Err(bad("a rebalance is of a whole upstream; leave the endpoint out")),
        }
    }
}

fn duration(name: &str, value: &str) -> Result<Duration, Refused> {
    let parsed = humantime::parse_duration(value).ok().filter(|duration| *duration <= LONGEST);
    parsed.ok_or_else(|| bad(format!("{name}: write a duration such as 10s, of a day at most")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::query::tells_mistakes;

    #[test]
    fn a_query_is_read() {
        let asks = Asks::read(Some(
            "upstream=emqx&endpoint=ws%3A%2F%2F192.0.2.1%3A8083%2Fmqtt&window=90s&will=suppress",
        ));
        let asks = asks.unwrap();
        assert_eq!(asks.endpoint.as_deref(), Some("ws://192.0.2.1:8083/mqtt"));
        assert_eq!(
            (asks.window, asks.grace, asks.will),
            (Some(Duration::from_secs(90)), None, Some(Will::Suppress))
        );
        assert_eq!(Asks::read(None).unwrap(), Asks::default());
    }

    #[test]
    fn a_mistake_says_what_to_write() {
        let mistakes = [
            ("window=ten", "window: write a duration such as 10s"),
            ("grace=48h", "of a day at most"),
            ("will=maybe", "fire or suppress"),
            ("endpiont=a", "did you mean `endpoint`?"),
            ("upstream=%ff", "not UTF-8"),
        ];
        tells_mistakes(Asks::read, &mistakes);
    }
}
