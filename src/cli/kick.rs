//! `brokergate kick`: ask a client to go, by its ClientID or one session by its id.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use http::Method;

use super::control::{AdminArguments, Gateway, query, runtime};
use super::sessions::{draw, fetch};
use super::terminal::size_of_terminal;

/// Sessions that are counted before one is asked for; there is hardly one client with more.
const MOST: usize = 10_000;

#[derive(Debug, Args)]
pub(super) struct KickArguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    which: WhichArguments,
    /// What becomes of its Will: "fire", or "suppress"; by default `drain.will`.
    #[arg(long, value_name = "WHAT", value_parser = ["fire", "suppress"])]
    will: Option<String>,
    /// Do not ask before more than one session goes.
    #[arg(long)]
    yes: bool,
}

/// Which session.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct WhichArguments {
    /// The client, by its ClientID.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// One session, by its id in `brokergate sessions`.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

/// Why nobody was kicked.
#[derive(Debug, thiserror::Error)]
enum NotKicked {
    #[error("{0} sessions have this ClientID; name one by --session, or say --yes to mean all")]
    Many(usize),
    #[error("nobody was kicked")]
    Declined,
}

impl WhichArguments {
    /// As the query names it.
    pub(super) fn pairs(&self) -> Vec<(&'static str, &str)> {
        let client = self.client_id.as_deref().map(|id| ("client_id", id));
        let session = self.session.as_deref().map(|id| ("session", id));
        client.into_iter().chain(session).collect()
    }
}

pub(super) fn run(arguments: &KickArguments) -> anyhow::Result<()> {
    let gateway = Gateway::of(&arguments.admin)?;
    let mut pairs = arguments.which.pairs();
    pairs.extend(arguments.will.as_deref().map(|will| ("will", will)));
    runtime()?.block_on(async {
        if let Some(client_id) =
            arguments.which.client_id.as_deref().filter(|id| !arguments.yes && !id.is_empty())
        {
            confirm(&gateway, client_id).await?;
        }
        let words = gateway.ask(&Method::POST, &query("/kick", &pairs)).await?;
        Ok(io::stdout().write_all(words.as_bytes())?)
    })
}

/// Where more than one would go, ask the person first.
async fn confirm(gateway: &Gateway, client_id: &str) -> anyhow::Result<()> {
    let page = fetch(gateway, &[("client_id", client_id)], MOST).await?;
    let count = page.sessions.len();
    if count <= 1 {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(NotKicked::Many(count).into());
    }
    let columns = size_of_terminal().map_or(usize::MAX, |(columns, _)| columns);
    let mut out = io::stdout().lock();
    write!(out, "{}kick all {count}? [y/N] ", draw(&page, columns))?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if is_yes(&answer) { Ok(()) } else { Err(NotKicked::Declined.into()) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", "Y", "yes\r\n", " YES "].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "no", "yes please", "ja"].into_iter().any(is_yes));
    }
}
