//! `brokergate tap`: look on at one session, a line a packet.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use http::Method;

use super::control::{AdminArguments, Gateway, query, runtime};
use super::kick::WhichArguments;
use crate::admin::tap::form::{Line, Packet};
use crate::telemetry::harmless::shown;

#[derive(Debug, Args)]
pub(super) struct TapArguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    which: WhichArguments,
    /// Show the beginning of payloads too.
    #[arg(long)]
    payload: bool,
    /// Look on for so long, an hour at most.
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    time: humantime::Duration,
    /// Print the lines as the gateway tells them, in JSON.
    #[arg(long)]
    json: bool,
}

/// Why a line is not shown.
#[derive(Debug, thiserror::Error)]
#[error("the gateway tells something else than packets; is it a brokergate of this version?")]
struct NoLine(#[source] serde_json::Error);

pub(super) fn run(arguments: &TapArguments) -> anyhow::Result<()> {
    let gateway = Gateway::of(&arguments.admin)?;
    let time = arguments.time.to_string();
    let mut pairs = arguments.which.pairs();
    pairs.push(("time", &time));
    if arguments.payload {
        pairs.push(("payload", "true"));
    }
    let path = query("/tap", &pairs);
    let told = |line: &[u8]| {
        let mut out = io::stdout().lock();
        if arguments.json {
            out.write_all(line)?;
            out.write_all(b"\n")?;
        } else {
            let line: Line = serde_json::from_slice(line).map_err(NoLine)?;
            writeln!(out, "{}", draw(&line))?;
        }
        Ok(out.flush()?)
    };
    match runtime()?.block_on(gateway.follow(&Method::POST, &path, told)) {
        // Whoever read it has seen enough: `brokergate tap … | head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// One line for people. What it shows of a client is escaped.
fn draw(line: &Line) -> String {
    match line {
        Line::Begin { time, session } => {
            let client = session.client_id.as_deref().map_or_else(|| "a client".to_owned(), shown);
            let endpoint = session.endpoint.as_deref().map_or_else(|| "no endpoint yet".to_owned(), shown);
            let (id, address) = (&session.id, &session.address);
            format!("{}  session {id}: {client} from {address}, at {endpoint}", clock(time))
        }
        Line::Packet(packet) => draw_packet(packet),
        Line::Missed { time, packets } => format!("{}  {packets} packets missed", clock(time)),
        Line::End { time, reason } if reason == "time_is_over" => {
            format!("{}  the time is over", clock(time))
        }
        Line::End { time, reason } => format!("{}  the session has ended: {}", clock(time), shown(reason)),
    }
}

fn draw_packet(packet: &Packet) -> String {
    let Packet { direction, packet_type, size, .. } = packet;
    let mut line = format!("{}  {direction:<4}  {}", clock(&packet.time), shown(packet_type).to_uppercase());
    let mut add = |words: String| {
        let _ = write!(line, "  {words}");
    };
    if let Some(qos) = packet.qos {
        let flag = |is_set: Option<bool>, word| if is_set == Some(true) { word } else { "" };
        add(format!("qos {qos}{}{}", flag(packet.dup, " dup"), flag(packet.retain, " retain")));
    }
    if let Some(id) = packet.packet_id {
        add(format!("id {id}"));
    }
    if let Some(topic) = &packet.topic {
        add(shown(topic));
    }
    if let Some(alias) = packet.topic_alias {
        add(format!("alias {alias}"));
    }
    for filter in &packet.filters {
        let qos = filter.qos.map_or_else(String::new, |qos| format!(" qos {qos}"));
        add(shown(&filter.filter) + &qos);
    }
    for code in &packet.codes {
        add(format!("{code:#04x}"));
    }
    if packet.session_present == Some(true) {
        add("session present".to_owned());
    }
    if let Some(reason) = &packet.reason {
        add(format!("\"{}\"", shown(reason)));
    }
    if packet.cut {
        add("…".to_owned());
    }
    match packet.payload_size {
        Some(payload) => add(format!("{payload} B")),
        None => add(format!("({size} B)")),
    }
    if let Some(text) = &packet.payload {
        add(shown(text));
    } else if let Some(base64) = &packet.payload_base64 {
        add(format!("base64 {}", shown(base64)));
    }
    line
}

/// The time of day, in UTC, of a time in RFC 3339.
fn clock(time: &str) -> String {
    let of_day = time.split_once('T').map_or(time, |(_, of_day)| of_day);
    shown(of_day.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::sessions::form::Session;
    use crate::admin::tap::form::Filter;
    use crate::telemetry::harmless::steers;

    fn packet(packet_type: &str) -> Packet {
        let time = "2026-03-01T12:00:00.123Z".to_owned();
        Packet { time, direction: "up".into(), packet_type: packet_type.into(), size: 9, ..Packet::default() }
    }

    #[test]
    fn a_packet_is_a_line() {
        let publish = Packet {
            qos: Some(1),
            dup: Some(true),
            retain: Some(false),
            packet_id: Some(7),
            topic: Some("sensors/1".into()),
            payload_size: Some(3),
            payload: Some("hey".into()),
            ..packet("publish")
        };
        let subscribe = Packet {
            packet_id: Some(2),
            filters: vec![Filter { filter: "a/#".into(), qos: Some(1) }],
            ..packet("subscribe")
        };
        let disconnect = Packet {
            direction: "down".into(),
            codes: vec![0x8B],
            reason: Some("bye".into()),
            ..packet("disconnect")
        };
        for (packet, line) in [
            (publish, "12:00:00.123  up    PUBLISH  qos 1 dup  id 7  sensors/1  3 B  hey"),
            (subscribe, "12:00:00.123  up    SUBSCRIBE  id 2  a/# qos 1  (9 B)"),
            (disconnect, "12:00:00.123  down  DISCONNECT  0x8b  \"bye\"  (9 B)"),
            (packet("pingreq"), "12:00:00.123  up    PINGREQ  (9 B)"),
        ] {
            assert_eq!(draw(&Line::Packet(Box::new(packet))), line);
        }
        let time = "2026-03-01T12:00:00.123Z".to_owned();
        let end = Line::End { time: time.clone(), reason: "kicked".into() };
        assert_eq!(draw(&end), "12:00:00.123  the session has ended: kicked");
        assert_eq!(draw(&Line::Missed { time, packets: 12 }), "12:00:00.123  12 packets missed");
    }

    #[test]
    fn nothing_a_client_chose_steers_the_terminal() {
        let evil = "\x1b[2J\u{202e}\r\n\u{9b}31m".to_owned();
        let session =
            Session { client_id: Some(evil.clone()), endpoint: Some(evil.clone()), ..Session::default() };
        let publish = Packet {
            topic: Some(evil.clone()),
            payload: Some(evil.clone()),
            reason: Some(evil.clone()),
            filters: vec![Filter { filter: evil.clone(), qos: None }],
            packet_type: evil.clone(),
            ..packet("")
        };
        for line in [
            Line::Begin { time: evil.clone(), session: Box::new(session) },
            Line::Packet(Box::new(publish)),
            Line::End { time: evil.clone(), reason: evil },
        ] {
            assert!(!draw(&line).chars().any(steers), "{line:?}");
        }
    }
}
