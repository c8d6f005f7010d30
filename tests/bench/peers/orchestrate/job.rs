//! Whether a proxy did the job: no number of one that did not is believed.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::contestant::Kind;

/// What each broker is due of six sessions.
const WEIGHTS: [f64; 3] = [3.0, 2.0, 1.0];
/// From so many sessions on, shares are looked at.
const MANY: u64 = 60;
/// How far a share may be from what is due.
const TOLERANCE: f64 = 0.05;

/// Sees from the clients' `connected` and the brokers' `stats` that all `sessions` stand, over TLS 1.3, spread
/// by weight, with the client's address told. Returns what was negotiated.
pub(super) fn check(kind: Kind, sessions: u64, connected: &Value, stats: &Value) -> Result<String> {
    let held = connected["sessions"].as_u64().context("the clients do not say how many sessions stand")?;
    let failed = connected["failed"].as_u64().unwrap_or(0);
    ensure!(failed == 0, "{failed} sessions did not come to be: {}", connected["first_failure"]);
    ensure!(held == sessions, "{held} sessions stand instead of {sessions}");
    let arrived = stats["connections"].as_u64().unwrap_or(0);
    ensure!(arrived == sessions, "{sessions} sessions stand, but {arrived} at the brokers");
    ensure!(stats["faults"].as_u64() == Some(0), "a broker did not understand: {}", stats["last_fault"]);
    if kind == Kind::Direct {
        return Ok(String::new());
    }
    let listeners = stats["listeners"].as_array().context("no listeners in the stats")?;
    let used = listeners.iter().filter(|listener| listener["connections"].as_u64() > Some(0));
    shares(used.clone(), sessions)?;
    if kind != Kind::BrokergateTcp {
        used.clone().try_for_each(address)?;
    }
    let word = |key: &str| connected[key].as_str().unwrap_or_default().to_owned();
    let (version, suite) = (word("tls"), word("suite"));
    ensure!(
        version.contains("1.3") || version.contains("1_3"),
        "TLS 1.3 was not negotiated, but {version:?}"
    );
    Ok(format!("{version}, {suite}, {}", word("group")))
}

/// Sees from the clients' last word that all sessions went well, and that every message came back, once, and
/// as it was sent.
pub(super) fn check_end(said: &Value) -> Result<()> {
    let broken = said["broken"].as_u64().unwrap_or(0);
    ensure!(broken == 0, "{broken} sessions broke: {}", said["first_failure"]);
    for fault in ["lost", "duplicated", "corrupt"] {
        let count = said[fault].as_u64().unwrap_or(0);
        ensure!(count == 0, "{count} messages were {fault}");
    }
    Ok(())
}

fn shares<'a>(listeners: impl Iterator<Item = &'a Value>, sessions: u64) -> Result<()> {
    if sessions < MANY {
        return Ok(());
    }
    let counts: Vec<u64> = listeners.map(|listener| listener["connections"].as_u64().unwrap_or(0)).collect();
    let is_due = |(count, weight): (&u64, f64)| {
        (*count as f64 / sessions as f64 - weight / WEIGHTS.iter().sum::<f64>()).abs() < TOLERANCE
    };
    let all = counts.len() == WEIGHTS.len() && counts.iter().zip(WEIGHTS).all(is_due);
    ensure!(all, "the sessions are not spread 3:2:1, but {counts:?}");
    Ok(())
}

fn address(listener: &Value) -> Result<()> {
    let told = |header: &str| listener[header].as_str().and_then(|text| text.parse::<IpAddr>().ok());
    match (told("x-real-ip"), told("x-forwarded-for")) {
        (Some(real), Some(forwarded)) if real == forwarded && real.is_loopback() => Ok(()),
        _ => bail!(
            "the broker did not learn the client's address: X-Real-IP {}, X-Forwarded-For {}",
            listener["x-real-ip"],
            listener["x-forwarded-for"]
        ),
    }
}
