//! What `brokergate status` draws: text, aligned, in as many columns as there are.
//!
//! Names and errors come from the configuration, from DNS and from brokers: nothing of them may steer the
//! terminal.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::super::terminal::{clean, cut, pad, size, span};
use crate::admin::status::form::{Endpoint, State, Status, Upstream};

/// Space left of what belongs to the line above.
const INDENT: &str = "  ";

/// How it is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// How wide a line may be.
    pub(super) columns: usize,
    /// Whether the terminal shows colors, and the person wants them.
    pub(super) color: bool,
}

/// Colors of ECMA-48; each stands beside words that say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Color {
    None,
    Good,
    Wait,
    Bad,
    Quiet,
}

impl Color {
    const fn code(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Good => "\x1b[32m",
            Self::Wait => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
            Self::Quiet => "\x1b[2m",
        }
    }
}

/// The whole of it: what is wrong comes first.
pub(super) fn draw(status: &Status, look: Look) -> String {
    let mut page = Page { look, text: String::new() };
    page.head(status);
    page.troubles(status);
    page.flow(status);
    status.upstreams.iter().for_each(|upstream| page.upstream(upstream, &status.now));
    page.reasons(status);
    page.certificates(status);
    page.foot(status);
    page.text
}

struct Page {
    look: Look,
    text: String,
}

impl Page {
    /// A line, cut where the terminal ends.
    fn line(&mut self, color: Color, words: &str) {
        let words = cut(&clean(words), self.look.columns);
        if self.look.color && color != Color::None {
            let _ = writeln!(self.text, "{}{words}\x1b[0m", color.code());
        } else {
            let _ = writeln!(self.text, "{words}");
        }
    }

    /// Words that are too long for one line, on more of them.
    fn words(&mut self, color: Color, indent: &str, words: &str) {
        let room = self.look.columns.saturating_sub(indent.len()).max(1);
        let mut line = String::new();
        for word in words.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                self.line(color, &format!("{indent}{line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(color, &format!("{indent}{line}"));
    }

    fn empty(&mut self) {
        self.text.push('\n');
    }

    fn head(&mut self, status: &Status) {
        let left = status.left.map(|left| format!(", {left} sessions left")).unwrap_or_default();
        let (stage, version, pid) = (&status.stage, &status.version, status.pid);
        let up = span(status.uptime_seconds);
        let color = if stage == "ready" { Color::Good } else { Color::Wait };
        self.line(color, &format!("brokergate {version}: {stage}{left}, process {pid}, up for {up}"));
    }

    fn troubles(&mut self, status: &Status) {
        for upstream in status.upstreams.iter().filter(|upstream| !upstream.available) {
            self.words(Color::Bad, "", &format!("! no endpoint of upstream {} is up", upstream.name));
        }
        if let Some(reload) = status.reload.as_ref().filter(|reload| !reload.applied) {
            let ago = ago(&reload.at, &status.now);
            let words =
                format!("! the last reload was refused, {ago}; the configuration from before works on");
            self.words(Color::Bad, "", &words);
            let lines = reload.mistakes.iter().flat_map(|mistake| mistake.lines());
            lines.for_each(|line| self.words(Color::None, INDENT, line));
        }
        if let Some((upgrade, error)) = status.upgrade.as_ref().and_then(|it| Some((it, it.error.as_ref()?)))
        {
            let words = format!(
                "! the last upgrade failed, {}; this process works on",
                ago(&upgrade.at, &status.now)
            );
            self.words(Color::Bad, "", &words);
            error.lines().for_each(|line| self.words(Color::None, INDENT, line));
        }
        for certificate in &status.certificates {
            if let Some(complaint) = &certificate.complaint {
                let words = format!("! {} {}: {complaint}", certificate.kind, certificate.name);
                self.words(Color::Wait, "", &words);
            }
        }
        for warning in &status.warnings {
            self.words(Color::Wait, "", &format!("! {warning}"));
        }
    }

    fn flow(&mut self, status: &Status) {
        let (sessions, rates) = (&status.sessions, &status.rates);
        self.empty();
        self.line(
            Color::None,
            &format!(
                "sessions   {} open, {} opened, {} ended",
                sessions.open, sessions.opened, sessions.ended
            ),
        );
        self.line(Color::None, &format!("connects   {}/s", rate(rates.connects)));
        self.line(
            Color::None,
            &format!(
                "messages   {}/s to brokers, {}/s to clients",
                rate(rates.publish_up),
                rate(rates.publish_down)
            ),
        );
        self.line(
            Color::None,
            &format!(
                "bytes      {}/s to brokers, {}/s to clients",
                size(rates.bytes_up),
                size(rates.bytes_down)
            ),
        );
    }

    fn upstream(&mut self, upstream: &Upstream, now: &str) {
        self.empty();
        let up = upstream.endpoints.iter().filter(|endpoint| endpoint.state == State::Up).count();
        let all = upstream.endpoints.len();
        let (name, balance) = (&upstream.name, &upstream.balance);
        self.line(Color::None, &format!("{name}: {up} of {all} up, {balance}"));
        let heads = ["endpoint", "state", "sessions", "weight", "opened", "probe"].map(str::to_owned);
        let mut rows = vec![(Color::Quiet, heads)];
        rows.extend(upstream.endpoints.iter().map(|endpoint| (color(endpoint.state), cells(endpoint, now))));
        let widths = widths(&rows, self.look.columns);
        for (place, (color, cells)) in rows.iter().enumerate() {
            let line: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| pad(cell, width)).collect();
            self.line(*color, format!("{INDENT}{}", line.join("  ")).trim_end());
            let endpoint = place.checked_sub(1).and_then(|place| upstream.endpoints.get(place));
            if let Some(words) = endpoint.and_then(|endpoint| why(endpoint, now)) {
                self.words(Color::Quiet, &INDENT.repeat(2), &words);
            }
        }
    }

    fn reasons(&mut self, status: &Status) {
        let some = |what: &str, reasons: Vec<(String, u64, u64)>, page: &mut Self| {
            if reasons.is_empty() {
                return;
            }
            page.empty();
            page.line(Color::None, what);
            let width = reasons.iter().map(|(reason, ..)| reason.chars().count()).max().unwrap_or(0);
            for (reason, minute, total) in reasons {
                let color = if minute == 0 { Color::Quiet } else { Color::None };
                page.line(color, &format!("{INDENT}{}  {minute:>8}  {total:>10}", pad(&reason, width)));
            }
        };
        let endings = status.endings.iter();
        let endings = endings.map(|it| (format!("{} (by {})", it.reason, it.by), it.minute, it.total));
        some("sessions ended: last minute, in all", endings.collect(), self);
        let rejections = status.rejections.iter().map(|it| (it.reason.clone(), it.minute, it.total));
        some("turned away: last minute, in all", rejections.collect(), self);
    }

    fn certificates(&mut self, status: &Status) {
        if !status.certificates.is_empty() {
            self.empty();
            self.line(Color::None, "certificates");
        }
        for it in &status.certificates {
            let left =
                if it.days_left < 0 { "ended".to_owned() } else { format!("{} days left", it.days_left) };
            let color = if it.complaint.is_some() { Color::Wait } else { Color::None };
            self.line(color, &format!("{INDENT}{left}: {} ({} {})", it.chain, it.kind, it.name));
        }
    }

    fn foot(&mut self, status: &Status) {
        let of = |used: u64, limit: Option<u64>| match limit {
            Some(limit) => format!("{used} of {limit}"),
            None => used.to_string(),
        };
        let (process, connections) = (&status.process, &status.connections);
        self.empty();
        let mut parts = vec![format!("connections {}", of(connections.held, Some(connections.limit)))];
        if let Some(memory) = process.memory_bytes {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            parts.push(format!("memory {}", size(memory as f64)));
        }
        if let Some(descriptors) = process.descriptors {
            parts.push(format!("open files {}", of(descriptors, process.descriptors_limit)));
        }
        self.line(Color::Quiet, &parts.join(", "));
        let reload = match &status.reload {
            Some(it) if it.applied => format!("reloaded {} ({})", ago(&it.at, &status.now), it.cause),
            Some(it) => format!("a reload was refused {} ({})", ago(&it.at, &status.now), it.cause),
            None => "not reloaded since the start".to_owned(),
        };
        self.line(Color::Quiet, &format!("{}: {reload}", status.config));
    }
}

const fn color(state: State) -> Color {
    match state {
        State::Up => Color::None,
        State::Avoided | State::Down => Color::Bad,
        State::TrialDue | State::Trial | State::Draining | State::Drained | State::Unknown => Color::Wait,
    }
}

fn cells(endpoint: &Endpoint, now: &str) -> [String; 6] {
    let state = match (&endpoint.since, endpoint.state) {
        (Some(since), state) if state != State::Up => {
            format!("{} for {}", state.words(), since_then(since, now))
        }
        (_, state) => state.words().to_owned(),
    };
    let share =
        if endpoint.share_percent < 100 { format!(" ({} %)", endpoint.share_percent) } else { String::new() };
    let sessions = match endpoint.max_sessions {
        Some(max) => format!("{}/{max}", endpoint.sessions),
        None => endpoint.sessions.to_string(),
    };
    let probe = endpoint.probe.as_ref().map_or_else(String::new, |probe| {
        let went = if probe.passed { "passed" } else { "failed" };
        format!("{went} {}, {} ms", ago(&probe.at, now), probe.milliseconds)
    });
    let backup = if endpoint.backup { " (backup)" } else { "" };
    let name = clean(&endpoint.name) + backup;
    [name, state, sessions, format!("{}{share}", endpoint.weight), endpoint.opened.to_string(), probe]
}

/// What went wrong, where the endpoint is not up.
fn why(endpoint: &Endpoint, now: &str) -> Option<String> {
    // The name stands there already.
    let name = format!("endpoint {}: ", endpoint.name);
    let short = |words: &str| words.strip_prefix(&name).unwrap_or(words).to_owned();
    let probe = || endpoint.probe.as_ref().and_then(|probe| probe.error.as_deref()).map(short);
    let dial =
        || endpoint.error.as_ref().map(|error| format!("{}: {}", ago(&error.at, now), short(&error.words)));
    match endpoint.state {
        State::Up | State::Draining | State::Drained => None,
        State::Down => probe(),
        _ => dial(),
    }
}

/// How wide each column is. Where they are too wide together, the names give way.
fn widths(rows: &[(Color, [String; 6])], columns: usize) -> [usize; 6] {
    let mut widths = [0; 6];
    for (_, cells) in rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let others: usize = widths[1..].iter().map(|width| width + 2).sum();
    widths[0] = widths[0].min(columns.saturating_sub(others + INDENT.len()).max(12));
    widths
}

fn ago(then: &str, now: &str) -> String {
    match since_then(then, now) {
        passed if passed == "0 s" => "now".to_owned(),
        passed => format!("{passed} ago"),
    }
}

/// Between two times of one `/status`.
fn since_then(then: &str, now: &str) -> String {
    let time = |text: &str| humantime::parse_rfc3339(text).unwrap_or(SystemTime::UNIX_EPOCH);
    let passed = time(now).duration_since(time(then)).unwrap_or(Duration::ZERO);
    span(passed.as_secs())
}

fn rate(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests;
