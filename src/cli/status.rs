//! `brokergate status`: how the running gateway is, once or again and again.

mod view;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use http::Method;
use tokio::time::{MissedTickBehavior, interval};

use self::view::{Look, draw};
use super::control::{AdminArguments, ControlError, Gateway, runtime};
use super::terminal::{clean, size_of_terminal};
use crate::admin::status::form::Status;

/// How often it is drawn anew.
const EVERY: Duration = Duration::from_secs(1);

/// Where there is no terminal to ask.
const COLUMNS: usize = 100;

/// Terminal sequences (ECMA-48): a screen of its own without a cursor, and back; to its start; the rest of a
/// line, and of the screen, empty.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const START: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K\n";
const REST_OF_SCREEN: &str = "\x1b[K\x1b[J";

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// Draw it anew each second, until Ctrl-C.
    #[arg(short, long, conflicts_with = "json")]
    watch: bool,
    /// Print what /status answers, for programs.
    #[arg(long)]
    json: bool,
}

/// Why there is no status to show.
#[derive(Debug, thiserror::Error)]
#[error("{gateway} answers something else than a status; is it a brokergate of this version?")]
struct NoStatus {
    gateway: String,
    source: serde_json::Error,
}

pub(super) fn run(arguments: &StatusArguments) -> anyhow::Result<()> {
    let gateway = Gateway::of(&arguments.admin)?;
    let runtime = runtime()?;
    if arguments.watch {
        return runtime.block_on(watch(&gateway));
    }
    let answer = runtime.block_on(gateway.ask(&Method::GET, "/status"))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", answer.trim_end())?;
    } else {
        let (look, _) = look();
        write!(out, "{}", draw(&read(&gateway, &answer)?, look))?;
    }
    Ok(())
}

fn read(gateway: &Gateway, answer: &str) -> Result<Status, NoStatus> {
    serde_json::from_str(answer).map_err(|source| NoStatus { gateway: gateway.to_string(), source })
}

/// Draw again and again. A gateway that does not answer is said to be so, and asked again.
async fn watch(gateway: &Gateway) -> anyhow::Result<()> {
    let is_terminal = io::stdout().is_terminal();
    let _screen = is_terminal.then(Screen::enter);
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_reached = false;
    let stop = tokio::signal::ctrl_c();
    let mut stop = std::pin::pin!(stop);
    loop {
        let drawn = async {
            interval.tick().await;
            gateway.ask(&Method::GET, "/status").await
        };
        let answer = tokio::select! {
            stopped = stop.as_mut() => return Ok(stopped?),
            answer = drawn => answer,
        };
        let (look, rows) = look();
        let text = match answer {
            Ok(answer) => draw(&read(gateway, &answer)?, look),
            // Who was never there is a mistake of the command line.
            Err(error) if !was_reached || matches!(error, ControlError::Refused { .. }) => {
                return Err(error.into());
            }
            Err(error) => format!("{}\n", clean(&format!("no answer: {error}"))),
        };
        was_reached = true;
        let mut out = io::stdout().lock();
        out.write_all(if is_terminal { frame(&text, rows) } else { text + "\n" }.as_bytes())?;
        out.flush()?;
    }
}

/// How it is to look here, and how many rows there are.
fn look() -> (Look, usize) {
    let is_terminal = io::stdout().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    let (columns, rows) = size_of_terminal().unwrap_or((COLUMNS, usize::MAX));
    (Look { columns, color: is_terminal && !no_color && !is_dumb }, rows)
}

/// The text in place of what is on the screen: written over it, so that nothing flickers.
fn frame(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().take(rows).collect();
    START.to_owned() + &lines.join(REST_OF_LINE) + REST_OF_SCREEN
}

/// A screen of its own; dropped, the one before is there again.
struct Screen;

impl Screen {
    fn enter() -> Self {
        write_out(ENTER);
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write_out(LEAVE);
    }
}

fn write_out(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_no_longer_than_the_screen() {
        assert_eq!(frame("one\ntwo\nthree\n", 2), "\x1b[Hone\x1b[K\ntwo\x1b[K\x1b[J");
        assert_eq!(frame("", 5), "\x1b[H\x1b[K\x1b[J");
    }
}
