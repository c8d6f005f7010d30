//! Listeners across a reload: who stays keeps its socket, who goes stops accepting.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::harness::{Broker, CERTIFICATES, Client, Gate, Kind, raw, within};
use super::{LAST_SUCCESSFUL, Site, join, ping};

/// A listener's table.
fn listener(address: SocketAddr, more: &str) -> String {
    format!("[[listeners]]\naddresses = [\"{address}\"]\n{more}\n")
}

/// What the gateway says of `/nowhere` at this address.
async fn ask(address: SocketAddr) -> String {
    raw(address, b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await
}

#[tokio::test]
async fn addresses_come_and_go_and_sessions_of_those_that_go_live_on() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let both = listener(site.plain, "") + &listener(site.tls, &format!("tls = {}", CERTIFICATES.toml()));
    let text = |listeners: &str| site.text_with(listeners, &[broker.mqtt()], "");
    let gate = site.start(&text(&listener(site.plain, ""))).await;
    assert!(TcpStream::connect(site.tls).await.is_err(), "nobody listens there yet");
    site.change(&gate, &text(&both)).await;
    let (mut client, mut visit) = join(Client::tls(site.tls).await, &broker, Kind::Mqtt, "one").await;
    let (mut second, mut other) = join(Client::plain(site.plain).await, &broker, Kind::Mqtt, "two").await;
    site.change(&gate, &text(&listener(site.plain, ""))).await;
    assert!(TcpStream::connect(site.tls).await.is_err(), "nobody listens there any more");
    ping(&mut client, &mut visit).await;
    ping(&mut second, &mut other).await;
    // And back at once: the address is free when the reload is done.
    site.change(&gate, &text(&both)).await;
    join(Client::tls(site.tls).await, &broker, Kind::Mqtt, "three").await;
    drop((client, visit, second, other));
    gate.idle().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_changes_nothing_at_all() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let gate = site.start(&site.text_with(&listener(site.plain, ""), &[broker.mqtt()], "")).await;
    // The first could be bound, the second belongs to the broker.
    let listeners = listener(site.tls, "") + &listener(broker.address(), "");
    site.write(&site.text_with(&listeners, &[broker.mqtt()], "[limits]\nconnections = 1"));
    let refusal = gate.reload().await.unwrap_err();
    assert!(refusal.to_string().contains(&format!("can't listen on {}", broker.address())), "{refusal}");
    assert!(TcpStream::connect(site.tls).await.is_err(), "what was bound is free again");
    let held = [Client::plain(site.plain).await, Client::plain(site.plain).await];
    assert_eq!(gate.metric(LAST_SUCCESSFUL), 0.0);
    drop(held);
    gate.idle().await;
}

#[tokio::test]
async fn an_address_in_our_own_way_is_named() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let gate = site.start(&site.text_with(&listener(site.plain, ""), &[broker.mqtt()], "")).await;
    let wide = SocketAddr::new([0, 0, 0, 0].into(), site.plain.port());
    let other = "{ url = \"mqtt://127.0.0.1:1\", name = \"only-here\" }".to_owned();
    site.write(&site.text_with(&listener(wide, ""), &[broker.mqtt(), other], ""));
    let refusal = gate.reload().await.unwrap_err();
    // What was built for it is gone: an alert must not ring for what was never at work.
    assert!(!gate.shared.metrics.render().contains("only-here"));
    let told = format!("can't listen on {wide} while this gateway listens on {}", site.plain);
    assert!(refusal.to_string().contains(&told), "{refusal}");
}

#[tokio::test]
async fn settings_change_for_who_comes_next_on_the_same_socket() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let trusted = "trusted_proxies = [\"127.0.0.1\"]\n";
    let text =
        |more: &str| trusted.to_owned() + &site.text_with(&listener(site.plain, more), &[broker.ws()], "");
    let gate: Gate = site.start(&text("")).await;
    // A connection that is open, and has asked nothing yet.
    let mut kept = TcpStream::connect(site.plain).await.unwrap();
    let get = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";
    kept.write_all(get).await.unwrap();
    assert!(within("an answer", kept.read(&mut [0; 1024])).await.unwrap() > 0);
    assert!(ask(site.plain).await.starts_with("HTTP/1.1 404 "));

    site.change(&gate, &text("redirect = \"https\"")).await;
    assert!(ask(site.plain).await.starts_with("HTTP/1.1 308 "));
    site.change(&gate, &text("proxy_protocol = true")).await;
    let preamble = b"PROXY TCP4 192.0.2.7 192.0.2.8 50000 443\r\nGET /mqtt HTTP/1.0\r\nHost: a\r\n\r\n";
    assert!(raw(site.plain, preamble).await.starts_with("HTTP/1.0 426 "));
    site.change(&gate, &text(&format!("tls = {}", CERTIFICATES.toml()))).await;
    assert!(ask(site.plain).await.starts_with("HTTP/1.1 400 "), "plain HTTP on what is a TLS port now");

    // It goes on by what it came by.
    kept.write_all(get).await.unwrap();
    let mut answer = [0; 1024];
    let count = within("an answer", kept.read(&mut answer)).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 404 "));
    drop(kept);
    gate.idle().await;
}
