//! `brokergate drain` and `brokergate rebalance`: goodbyes by hand, and waiting for their end.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use http::Method;
use tokio::time::{Instant, sleep};

use super::control::{AdminArguments, ControlError, Gateway, query, runtime};
use crate::admin::status::form::{self, State, Status};

/// How often the gateway is asked how far it is.
const EVERY: Duration = Duration::from_millis(200);

/// How often that is told.
const LINE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// The upstream of the endpoint to drain; without one it is the whole gateway.
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    upstream: Option<String>,
    /// The endpoint to drain, by its name in the log and in /status.
    #[arg(long, value_name = "NAME", requires = "upstream")]
    endpoint: Option<String>,
    /// Cancel the drain: who was not asked yet stays.
    #[arg(long, conflicts_with_all = ["wait", "window", "grace", "will"])]
    cancel: bool,
    #[command(flatten)]
    terms: TermsArguments,
}

#[derive(Debug, Args)]
pub(super) struct RebalanceArguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// The upstream.
    upstream: String,
    /// Cancel the rebalance: who was not asked yet stays.
    #[arg(long, conflicts_with_all = ["wait", "window", "grace", "will"])]
    cancel: bool,
    #[command(flatten)]
    terms: TermsArguments,
}

#[derive(Debug, Args)]
struct TermsArguments {
    /// Wait until it is done, and tell how far it is.
    #[arg(long)]
    wait: bool,
    /// Spread the goodbyes over so long, such as 10s; by default `drain.window`.
    #[arg(long, value_name = "DURATION")]
    window: Option<humantime::Duration>,
    /// Cut what is left so long after that; by default `drain.grace`.
    #[arg(long, value_name = "DURATION")]
    grace: Option<humantime::Duration>,
    /// What becomes of Wills: "fire", or "suppress"; by default `drain.will`.
    #[arg(long, value_name = "WHAT", value_parser = ["fire", "suppress"])]
    will: Option<String>,
}

/// Why a wait ended before all had left.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    #[error("the drain was cancelled by somebody else, with {0} sessions left")]
    Cancelled(u64),
    #[error("{0} is not in the gateway's status any more; was it removed by a reload?")]
    Gone(String),
    #[error("the gateway answers something else than a status; is it a brokergate of this version?")]
    NoStatus(#[source] serde_json::Error),
}

/// What is waited for.
enum Of<'a> {
    Gateway,
    Endpoint(&'a str, &'a str),
    Rebalance(&'a str),
}

/// How far it is.
enum Far {
    Left(u64),
    Done,
    Cancelled(u64),
}

pub(super) fn drain(arguments: &DrainArguments) -> anyhow::Result<()> {
    let of = match (&arguments.upstream, &arguments.endpoint) {
        (Some(upstream), Some(endpoint)) => Of::Endpoint(upstream, endpoint),
        _ => Of::Gateway,
    };
    run(&arguments.admin, "/drain", &of, arguments.cancel, &arguments.terms)
}

pub(super) fn rebalance(arguments: &RebalanceArguments) -> anyhow::Result<()> {
    let of = Of::Rebalance(&arguments.upstream);
    run(&arguments.admin, "/rebalance", &of, arguments.cancel, &arguments.terms)
}

fn run(
    admin: &AdminArguments,
    begin: &str,
    of: &Of<'_>,
    cancel: bool,
    terms: &TermsArguments,
) -> anyhow::Result<()> {
    let gateway = Gateway::of(admin)?;
    let path = path(if cancel { "/resume" } else { begin }, of, terms);
    runtime()?.block_on(async {
        let words = gateway.ask(&Method::POST, &path).await?;
        tell(&words)?;
        if terms.wait { wait(&gateway, of).await } else { Ok(()) }
    })
}

fn path(path: &str, of: &Of<'_>, terms: &TermsArguments) -> String {
    let (window, grace) = (terms.window.map(|it| it.to_string()), terms.grace.map(|it| it.to_string()));
    let mut pairs = match of {
        Of::Gateway => vec![],
        Of::Endpoint(upstream, endpoint) => vec![("upstream", *upstream), ("endpoint", *endpoint)],
        Of::Rebalance(upstream) => vec![("upstream", *upstream)],
    };
    pairs.extend(window.as_deref().map(|window| ("window", window)));
    pairs.extend(grace.as_deref().map(|grace| ("grace", grace)));
    pairs.extend(terms.will.as_deref().map(|will| ("will", will)));
    query(path, &pairs)
}

/// Ask again and again, until it is done. A gateway that has ended has no sessions left.
async fn wait(gateway: &Gateway, of: &Of<'_>) -> anyhow::Result<()> {
    let mut told = None;
    loop {
        let answer = match gateway.ask(&Method::GET, "/status").await {
            Ok(answer) => answer,
            Err(ControlError::Unreachable { .. }) => return tell("the gateway has ended\n"),
            // It may have ended just now: the next try tells.
            Err(ControlError::Broken { .. }) => {
                sleep(EVERY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let status: Status = serde_json::from_str(&answer).map_err(NotDone::NoStatus)?;
        match far(&status, of)? {
            Far::Done => return tell("done\n"),
            Far::Cancelled(left) => return Err(NotDone::Cancelled(left).into()),
            Far::Left(left) => {
                if told.is_none_or(|told: Instant| told.elapsed() >= LINE) {
                    tell(&format!("{left} sessions left\n"))?;
                    told = Some(Instant::now());
                }
            }
        }
        sleep(EVERY).await;
    }
}

fn far(status: &Status, of: &Of<'_>) -> Result<Far, NotDone> {
    let upstream = |name: &str| -> Result<&form::Upstream, NotDone> {
        let found = status.upstreams.iter().find(|upstream| upstream.name == name);
        found.ok_or_else(|| NotDone::Gone(name.to_owned()))
    };
    Ok(match of {
        Of::Gateway => match status.stage.as_str() {
            "drained" => Far::Done,
            "draining" => Far::Left(status.left.unwrap_or_default()),
            _ => Far::Cancelled(status.sessions.open),
        },
        Of::Endpoint(name, endpoint) => {
            let found = upstream(name)?.endpoints.iter().find(|other| other.name == *endpoint);
            let found = found.ok_or_else(|| NotDone::Gone((*endpoint).to_owned()))?;
            match found.state {
                State::Drained => Far::Done,
                State::Draining => Far::Left(found.sessions),
                _ => Far::Cancelled(found.sessions),
            }
        }
        Of::Rebalance(name) => match &upstream(name)?.rebalance {
            Some(rebalance) if rebalance.left > 0 => Far::Left(rebalance.left),
            _ => Far::Done,
        },
    })
}

fn tell(words: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(words.as_bytes())?;
    Ok(out.flush()?)
}
