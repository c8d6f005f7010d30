//! The demo in words: the gateway's configuration, the banner, and commands to copy.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::{Demo, MQTT_PATH, port};

/// A command a person can paste into a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Command {
    /// The tool.
    tool: &'static str,
    /// Which way it goes, and why.
    about: &'static str,
    /// The commands, one a line.
    lines: Vec<String>,
}

pub(super) fn configuration(demo: &Demo) -> String {
    let addresses: Vec<String> =
        port::loopback(demo.port).iter().map(|address| quoted(&address.to_string())).collect();
    let addresses = addresses.join(", ");
    let chain = quoted_path(demo.certificate.chain());
    let key = quoted_path(demo.certificate.key());
    let site = quoted_path(&demo.site);
    let mut endpoints = String::new();
    for endpoint in &demo.endpoints {
        let (name, url) = (quoted(endpoint.name), quoted(&endpoint.url));
        let _ = writeln!(endpoints, "  {{ name = {name}, url = {url}, weight = {} }},", endpoint.weight);
    }
    format!(
        r#"# brokergate demo: one TLS address, one broker behind it, two ways to reach the broker.

[limits]
connections = 1000

[admin]
enabled = false

[[listeners]]
addresses = [{addresses}]
tls.certificates = [{{ chain = {chain}, key = {key} }}]

[[routes]]
path = "{MQTT_PATH}"
upstream = "demo"

[[routes]]
path = "/"
site = {{ root = {site}, index = "index.html", cache_control = "no-cache" }}

[upstreams.demo]
balance = "weighted"
endpoints = [
{endpoints}]
"#
    )
}

pub(super) fn banner(demo: &Demo) -> String {
    let port = demo.port;
    let mut text = format!(
        "brokergate demo: an MQTT broker behind a TLS gateway, on this machine only

  Page       https://localhost:{port}/
             The browser does not know the throw-away certificate: accept it once.
  WebSocket  wss://localhost:{port}{MQTT_PATH}
  CA         {}
  Broker     ",
        demo.certificate.ca().display()
    );
    let ways: Vec<String> = demo
        .endpoints
        .iter()
        .map(|endpoint| format!("{:<9}  weight {}  {}\n", endpoint.name, endpoint.weight, endpoint.url))
        .collect();
    text.push_str(&ways.join("             "));
    for command in commands(demo) {
        let _ = write!(text, "\n{}\n  # {}\n", command.tool, command.about);
        for line in command.lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    text.push_str("\nCtrl-C ends the demo and removes its certificate.\n");
    text
}

pub(super) fn commands(demo: &Demo) -> Vec<Command> {
    let ca = demo.certificate.ca().display().to_string();
    let gateway = format!("-C wss -h localhost -p {} --path {MQTT_PATH} --ca {}", demo.port, shell_word(&ca));
    let broker = demo.broker.tcp();
    let broker = format!("-h {} -p {}", broker.ip(), broker.port());
    vec![
        Command {
            tool: "MQTT.js",
            about: "Through the gateway, over WebSocket and TLS. npx fetches the tool the first time.",
            lines: vec![
                format!("npx mqtt sub {gateway} -v -t 'demo/#'"),
                format!("npx mqtt pub {gateway} -t demo/hello -m 'Hello from MQTT.js'"),
            ],
        },
        Command {
            tool: "Mosquitto",
            about: "Past the gateway: its 2.0 clients speak no WebSocket. They go to the broker's own port, and meet the others there.",
            lines: vec![
                format!("mosquitto_sub {broker} -v -t 'demo/#'"),
                format!("mosquitto_pub {broker} -t demo/hello -m 'Hello from Mosquitto'"),
            ],
        },
    ]
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// `text` as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(shell_word("/tmp/brokergate-demo-1/ca.pem"), "/tmp/brokergate-demo-1/ca.pem");
        assert_eq!(shell_word("/tmp/my files/ca.pem"), "'/tmp/my files/ca.pem'");
        assert_eq!(shell_word("/tmp/it's"), r"'/tmp/it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn a_path_stays_one_string() {
        for path in ["/tmp/a\"b\\c", "/tmp/it's", "/tmp/new\nline"] {
            let parsed: toml::Table = format!("path = {}", quoted(path)).parse().unwrap();
            assert_eq!(parsed["path"].as_str(), Some(path));
        }
    }
}
