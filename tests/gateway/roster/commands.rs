//! `brokergate sessions`, `kick` and `tap`, from the terminal's side.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::super::harness::{Gate, Kind, Session, connect_v3, connect_v5, log, until, within};
use super::{join_all, present, start};

fn command(gate: &Gate, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brokergate"));
    command.args(arguments).args(["--admin", &gate.admin().to_string()]).stdin(Stdio::null());
    command
}

/// The exit code, and what it says.
async fn run(gate: &Gate, arguments: &[&str]) -> (Option<i32>, String) {
    let output = within("the command", command(gate, arguments).output()).await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test]
async fn sessions_are_listed_for_people_and_for_programs() {
    let (gate, broker) = start(Kind::Mqtt, "").await;
    let connects = [connect_v3("sensor-7", 60), connect_v5("\x1b[2J\u{202e}evil\n", 60)];
    let _joined = join_all(&gate, &broker, Kind::Mqtt, &connects).await;
    let (code, text) = run(&gate, &["sessions"]).await;
    assert_eq!((code, text.lines().count()), (Some(0), 3), "{text}");
    assert!(text.contains("sensor-7") && text.contains(r"\u{1b}[2J\u{202e}evil\u{a}"), "{text}");
    assert!(!text.chars().any(|sign| sign == '\u{202e}' || (sign.is_control() && sign != '\n')), "{text:?}");
    let (_, text) =
        run(&gate, &["sessions", "--client-id", "sensor-7", "--upstream", "brokers", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(json["sessions"][0]["client_id"], "sensor-7");
    let (_, text) = run(&gate, &["sessions", "--limit", "1"]).await;
    assert!(text.contains("raise --limit"), "{text}");
    assert_eq!(
        run(&gate, &["sessions", "--client-id", "other"]).await,
        (Some(0), "no such session\n".into())
    );
}

#[tokio::test]
async fn more_than_one_is_kicked_only_if_that_is_meant() {
    log::keep();
    let (gate, broker) = start(Kind::Mqtt, "").await;
    let names = ["same", "same", "other"].map(|name| connect_v3(name, 60));
    let joined = join_all(&gate, &broker, Kind::Mqtt, &names).await;
    let (code, text) = run(&gate, &["kick", "--client-id", "same"]).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("2 sessions have this ClientID"), "{text}");
    assert_eq!(present(&gate), 3);
    let done = run(&gate, &["kick", "--client-id", "same", "--yes", "--will", "suppress"]).await;
    assert_eq!(done, (Some(0), "2 sessions are asked to go\n".to_owned()));
    let line = log::line(&["kicked by hand", "\"kicked\":2"]).await;
    assert!(line.contains("\"by\":\"127.0.0.1:") && line.contains("\"client_id\":\"same\""), "{line}");
    let done = run(&gate, &["kick", "--client-id", "other"]).await;
    assert_eq!(done, (Some(0), "1 session is asked to go\n".to_owned()));
    drop(joined);
    until("leaving", || present(&gate) == 0).await;
    assert_eq!(run(&gate, &["kick", "--client-id", "other"]).await.0, Some(1));
    let (code, text) = run(&gate, &["kick", "--client-id", &"a".repeat(66_000)]).await;
    assert_eq!((code, text.contains("by its id")), (Some(1), true), "{text}");
    assert_eq!(run(&gate, &["kick"]).await.0, Some(2));
    assert_eq!(run(&gate, &["kick", "--client-id", "a", "--session", "0-0-1"]).await.0, Some(2));
}

#[tokio::test]
async fn a_tap_prints_a_line_a_packet() {
    let Session { gate, broker: _broker, mut client, mut visit } =
        Session::open(Kind::Ws, &connect_v3("one", 60), "").await;
    let mut tap = command(&gate, &["tap", "--client-id", "one", "--payload"]);
    let mut tap = tap.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tap.stdout.take().unwrap()).lines();
    let mut line = async || within("a line", lines.next_line()).await.unwrap().unwrap_or_default();
    let begin = line().await;
    assert!(begin.contains(": one from 127.0.0.1:"), "{begin}");
    client.say(b"\x30\x06\0\x01thi\x1b").await;
    visit.hear(8).await;
    let publish = line().await;
    assert!(publish.ends_with(r"  up    PUBLISH  qos 0  t  3 B  hi\u{1b}"), "{publish}");
    client.say(&[0xE0, 0]).await;
    assert!(line().await.ends_with("  up    DISCONNECT  (2 B)"));
    drop((client, visit));
    assert!(line().await.ends_with("the session has ended: client_closed"));
    assert!(within("its end", tap.wait()).await.unwrap().success());
    let (code, text) = run(&gate, &["tap", "--client-id", "one"]).await;
    assert_eq!((code, text.as_str()), (Some(1), "there is no such session\n"));
}
