//! One session, from its CONNECT to its ending.

use brokergate::websocket::{CloseCode, Opcode, close_frame};

use super::harness::{Broker, Client, Gate, Message, connect_v3, connect_v5, simple};

#[tokio::test]
async fn a_websocket_broker_gets_the_session_and_the_client_its_answers() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let mut client = Client::tls(gate.tls()).await;
    let connect = connect_v5("one", 60);
    client.say(&connect).await;
    let mut visit = broker.visit_ws().await;
    visit.welcome(&connect).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 3, 0, 0, 0]));
    client.say(&[0xC0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xC0, 0]);
    visit.say(&[0xD0, 0]).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0xD0, 0]));
    drop(client);
    assert!(visit.hear_all().await.is_empty(), "no DISCONNECT: the Will fires");
    drop(visit);
    gate.ended("client_vanished", "client").await;
    gate.idle().await;
}

#[tokio::test]
async fn a_tcp_broker_gets_bare_mqtt() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "")).await;
    let mut client = Client::plain(gate.plain()).await;
    let connect = connect_v3("one", 0);
    client.say(&connect).await;
    let mut visit = broker.visit_mqtt().await;
    visit.welcome(&connect).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
    client.say(&[0xC0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xC0, 0]);
    visit.say(&[0xD0, 0]).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0xD0, 0]));
    drop(visit);
    assert_eq!(client.hear().await, Message::Close(1001, "the broker closed the connection".into()));
    drop(client);
    gate.ended("broker_closed", "broker").await;
    gate.idle().await;
}

#[tokio::test]
async fn a_close_frame_of_the_broker_is_its_doing_though_the_client_answers_it() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.ws()], "")).await;
    let mut client = Client::plain(gate.plain()).await;
    let connect = connect_v5("one", 60);
    client.say(&connect).await;
    let mut visit = broker.visit_ws().await;
    visit.welcome(&connect).await;
    visit.say_raw(&close_frame(CloseCode::TryAgainLater, "busy")).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 3, 0, 0, 0]));
    assert_eq!(client.hear().await, Message::Close(1013, "busy".into()));
    client.say_frame(Opcode::Close, &1013_u16.to_be_bytes()).await;
    visit.hear_all().await;
    drop((client, visit));
    gate.ended("broker_closed", "broker").await;
    gate.idle().await;
}
