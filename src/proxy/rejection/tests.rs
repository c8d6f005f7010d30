//! Each rejection has its own label, and a body that says what to change.

use std::collections::BTreeSet;
use std::time::Duration;

use http_body_util::BodyExt;

use super::*;

/// One of each.
fn all() -> Vec<Rejection> {
    let all = vec![
        Rejection::NotWebSocket,
        Rejection::UpgradeHeaders,
        Rejection::HttpVersion,
        Rejection::Method { allow: "GET" },
        Rejection::WebSocketVersion,
        Rejection::Key,
        Rejection::HandshakeBody,
        Rejection::Origin { origin: "https://evil.example".into() },
        Rejection::Subprotocol { offered: "soap".into() },
        Rejection::NoSubprotocol,
        Rejection::Full(Limit::Connections),
        Rejection::Full(Limit::ConnectionsPerAddress),
        Rejection::Full(Limit::Sessions),
        Rejection::NoEndpoint,
        Rejection::NotFound { mqtt_paths: vec!["/mqtt".into()] },
        Rejection::UnknownHost { host: "192.0.2.1".into() },
        Rejection::BadHost(BadHost::Several),
        Rejection::BadRequest,
        Rejection::ArrivalTimeout,
        Rejection::HttpOnTls,
        Rejection::Draining,
        Rejection::from(&BackendError::UnaskedUpgrade),
        Rejection::from(&BackendError::ResponseTimeout(Duration::from_secs(30))),
    ];
    assert_eq!(all.len(), Rejection::LABELS.len());
    all
}

#[test]
fn each_has_its_own_listed_label() {
    let labels: BTreeSet<_> = all().iter().map(Rejection::label).collect();
    assert_eq!(labels, BTreeSet::from(Rejection::LABELS));
}

#[tokio::test]
async fn each_explains_itself_in_a_short_text() {
    for rejection in all() {
        let response = rejection.response();
        assert!(response.status().is_client_error() || response.status().is_server_error());
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = str::from_utf8(&text).unwrap();
        assert!((20..300).contains(&text.len()) && text.ends_with(".\n"), "{text}");
        assert!(!text.contains("  "), "{text}");
    }
}

#[test]
fn each_status_brings_the_header_it_needs() {
    for rejection in all() {
        let response = rejection.response();
        let headers = response.headers();
        match response.status().as_u16() {
            405 => assert!(headers.contains_key(ALLOW)),
            408 | 431 => assert_eq!(headers[CONNECTION], "close"),
            426 if rejection == Rejection::WebSocketVersion => {
                assert_eq!(headers[SEC_WEBSOCKET_VERSION], "13");
            }
            426 => {
                assert_eq!(headers[UPGRADE], "websocket");
                assert_eq!(headers[CONNECTION], "upgrade");
            }
            503 => assert!(headers.contains_key(RETRY_AFTER)),
            _ => {}
        }
    }
}

#[test]
fn the_bytes_are_one_whole_answer() {
    for rejection in all() {
        let text = String::from_utf8(rejection.bytes()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {}", rejection.status())));
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
        assert_eq!(head.matches("connection:").count(), 1);
    }
}

#[test]
fn what_a_client_sent_is_escaped_and_cut() {
    assert_eq!(shown(b"a\r\nb\x1b\xc3\xa9\"<"), r#"a\r\nb\x1b\xc3\xa9\"<"#);
    let long = shown(&[b'x'; 5000]);
    assert_eq!(long.len(), 103);
    assert!(long.ends_with("..."));
}
