//! `brokergate sessions`: who is connected, in columns or as JSON.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use http::Method;

use super::control::{AdminArguments, Gateway, query, runtime};
use super::terminal::{cut, pad, size, size_of_terminal, span};
use crate::admin::sessions::MOST;
use crate::admin::sessions::form::{Page, Session};
use crate::telemetry::harmless::{shown, to_json};

/// What the columns hold.
const HEADS: [&str; 9] = ["session", "client", "address", "endpoint", "mqtt", "age", "idle", "up", "down"];

/// The column that gives way where all are too wide, and how far. Where there is no terminal whoever needs more
/// than `WIDEST` has it whole: a ClientID may have 64 KiB, and would make every other line as long.
const CLIENT: usize = 1;
const NARROWEST: usize = 12;
const WIDEST: usize = 64;

/// Between two columns.
const GAP: &str = "  ";

#[derive(Debug, Args)]
pub(super) struct SessionsArguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// Those of this ClientID.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Those of this upstream.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Those at this endpoint, by its name in the log and in /status.
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Those from this address, or address and port.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// So many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Print what /sessions answers, for programs.
    #[arg(long)]
    json: bool,
}

/// Why there is no list to show.
#[derive(Debug, thiserror::Error)]
#[error("{gateway} answers something else than a list of sessions; is it a brokergate of this version?")]
struct NoList {
    gateway: String,
    source: serde_json::Error,
}

pub(super) fn run(arguments: &SessionsArguments) -> anyhow::Result<()> {
    let gateway = Gateway::of(&arguments.admin)?;
    let pairs = [
        ("client_id", &arguments.client_id),
        ("upstream", &arguments.upstream),
        ("endpoint", &arguments.endpoint),
        ("address", &arguments.address),
    ];
    let wanted: Vec<_> = pairs.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let page = runtime()?.block_on(fetch(&gateway, &wanted, arguments.limit))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        let mut json = Vec::new();
        to_json(&page, &mut json);
        json.push(b'\n');
        out.write_all(&json)?;
    } else {
        let columns = size_of_terminal().map_or(usize::MAX, |(columns, _)| columns);
        out.write_all(draw(&page, columns).as_bytes())?;
    }
    Ok(out.flush()?)
}

/// Up to `limit` sessions of those that are wanted, in as many pages as it takes.
pub(super) async fn fetch(gateway: &Gateway, wanted: &[(&str, &str)], limit: usize) -> anyhow::Result<Page> {
    let mut all = Page::default();
    loop {
        let most = (limit - all.sessions.len()).min(MOST).to_string();
        let mut pairs = [wanted, &[("limit", &*most)]].concat();
        pairs.extend(all.next.as_deref().map(|next| ("cursor", next)));
        let answer = gateway.ask(&Method::GET, &query("/sessions", &pairs)).await?;
        let page: Page = serde_json::from_str(&answer)
            .map_err(|source| NoList { gateway: gateway.to_string(), source })?;
        all.sessions.extend(page.sessions);
        all.next = page.next;
        if all.next.is_none() || all.sessions.len() >= limit {
            return Ok(all);
        }
    }
}

/// In columns.
pub(super) fn draw(page: &Page, columns: usize) -> String {
    if page.sessions.is_empty() {
        return "no such session\n".to_owned();
    }
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(page.sessions.iter().map(cells));
    let mut widths = [0; HEADS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let others: usize = widths.iter().sum::<usize>() - widths[CLIENT] + GAP.len() * (HEADS.len() - 1);
    let is_terminal = columns < usize::MAX;
    let room = if is_terminal { columns.saturating_sub(others).max(NARROWEST) } else { WIDEST };
    widths[CLIENT] = widths[CLIENT].min(room);
    let mut text = String::new();
    for row in &rows {
        let line = row.iter().zip(widths).map(|(cell, width)| match is_terminal {
            true => pad(cell, width),
            false => format!("{cell:<width$}"),
        });
        let _ = writeln!(text, "{}", cut(line.collect::<Vec<_>>().join(GAP).trim_end(), columns));
    }
    if page.next.is_some() {
        text.push_str("there may be more: narrow it down, or raise --limit\n");
    }
    text
}

fn cells(session: &Session) -> [String; HEADS.len()] {
    let client = match session.client_id.as_deref() {
        None => "(none yet)".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(client_id) => shown(client_id),
    };
    let user = session.username.as_deref().map_or_else(String::new, |name| format!(" ({})", shown(name)));
    let tapped = if session.tapped { ", tapped" } else { "" };
    let endpoint = match session.endpoint.as_deref() {
        Some(endpoint) if session.state == "open" => shown(endpoint),
        Some(endpoint) => format!("{} ({})", shown(endpoint), session.state),
        None => format!("({})", session.state),
    };
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let moved = |packets: u64, bytes: u64| format!("{packets} ({})", size(bytes as f64));
    [
        session.id.clone(),
        client + &user,
        session.address.clone(),
        format!("{endpoint}{tapped}"),
        session.protocol.clone().unwrap_or_default(),
        span(session.age_seconds as u64),
        span(session.idle_seconds as u64),
        moved(session.packets_up, session.bytes_up),
        moved(session.packets_down, session.bytes_down),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(client_id: Option<&str>) -> Session {
        Session {
            id: "0-37-12".into(),
            client_id: client_id.map(str::to_owned),
            address: "192.0.2.1:50312".into(),
            endpoint: Some("emqx-1".into()),
            protocol: Some("3.1.1".into()),
            state: "open".into(),
            age_seconds: 7500.25,
            idle_seconds: 12.5,
            packets_up: 345,
            bytes_up: 2048,
            ..Session::default()
        }
    }

    #[test]
    fn sessions_are_drawn_in_columns() {
        let opening = Session { state: "opening".into(), endpoint: None, ..session(None) };
        let sessions = vec![session(Some("sensor-7")), opening];
        let drawn = draw(&Page { sessions, next: Some("0-38".into()) }, usize::MAX);
        let expected = "\
session  client      address          endpoint   mqtt   age        idle  up             down
0-37-12  sensor-7    192.0.2.1:50312  emqx-1     3.1.1  2 h 5 min  12 s  345 (2.0 KiB)  0 (0 B)
0-37-12  (none yet)  192.0.2.1:50312  (opening)  3.1.1  2 h 5 min  12 s  345 (2.0 KiB)  0 (0 B)
there may be more: narrow it down, or raise --limit
";
        assert_eq!(drawn, expected);
        assert_eq!(draw(&Page::default(), 80), "no such session\n");
    }

    #[test]
    fn nothing_a_client_chose_steers_the_terminal_or_is_wider_than_it() {
        let mut hostile = session(Some("\x1b]0;title\x07\x1b[2J\u{202e}\r\nevil\u{85}\u{9b}31m"));
        hostile.username = Some("\x1b[31m\u{2066}root".into());
        for columns in [20, 80, 120, usize::MAX] {
            let drawn = draw(&Page { sessions: vec![hostile.clone()], next: None }, columns);
            assert!(drawn.chars().all(|sign| sign == '\n' || !crate::telemetry::harmless::steers(sign)));
            assert_eq!(drawn.lines().count(), 2);
            assert!(drawn.lines().all(|line| line.chars().count() <= columns));
        }
    }

    #[test]
    fn one_endless_name_makes_one_line_long() {
        let endless = "\x01".repeat(60_000);
        let sessions = vec![session(Some("sensor-7")), session(Some(&endless)), session(Some("sensor-8"))];
        let drawn = draw(&Page { sessions, next: None }, usize::MAX);
        let lengths: Vec<_> = drawn.lines().map(str::len).collect();
        assert!(lengths[1] < 250 && lengths[3] < 250, "{lengths:?}");
        assert!(drawn.contains(&shown(&endless)), "whoever pipes it has it whole");
    }
}
