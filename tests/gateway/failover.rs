//! Which broker gets the CONNECT when brokers are down, busy, silent or unwilling.

use tokio::net::TcpListener;

use super::harness::{
    Broker, Client, Gate, KINDS, Kind, Message, accepted, connect_v3, connect_v5, simple, until,
};

/// An address that refuses: it was free a moment ago.
async fn refusing(kind: Kind) -> String {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    match kind {
        Kind::Ws => format!("{{ url = \"ws://{free}/mqtt\", weight = 1000 }}"),
        Kind::Mqtt => format!("{{ url = \"mqtt://{free}\", weight = 1000 }}"),
    }
}

/// The endpoint that is picked first.
fn heavy(endpoint: String) -> String {
    endpoint.replace(" }", ", weight = 1000 }")
}

fn dials_failed(gate: &Gate, broker: &Broker, kind: Kind, reason: &str) -> f64 {
    // By default an endpoint's name is its URL.
    let endpoint = broker.endpoint(kind);
    let endpoint = endpoint.split('"').nth(1).unwrap();
    let labels = format!("upstream=\"brokers\",endpoint=\"{endpoint}\",reason=\"{reason}\"");
    gate.metric(&format!("brokergate_dials_failed_total{{{labels}}}"))
}

/// The second broker takes the CONNECT, and the session is whole.
async fn taken(gate: &Gate, broker: &Broker, kind: Kind, mut client: Client, connect: &[u8]) {
    let mut visit = broker.visit(kind).await;
    visit.welcome(connect).await;
    assert_eq!(client.hear_mqtt(accepted(connect).len()).await, accepted(connect));
    client.say(&[0xC0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xC0, 0]);
    drop((client, visit));
    gate.idle().await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[refusing(kind).await, broker.endpoint(kind)], "")).await;
        let connect = connect_v3("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        taken(&gate, &broker, kind, client, &connect).await;
        // From now on it is avoided: no second refusal.
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        taken(&gate, &broker, kind, client, &connect).await;
        let text = gate.shared.metrics.render();
        let failed = text.lines().filter(|line| line.starts_with("brokergate_dials_failed_total"));
        let failed: Vec<_> = failed.filter(|line| !line.ends_with(" 0")).collect();
        assert!(matches!(failed[..], [line] if line.ends_with(" 1")), "{failed:?}");
    }
}

#[tokio::test]
async fn the_same_connect_goes_to_the_next_when_a_broker_hangs_up_on_it() {
    for kind in KINDS {
        for connect in [connect_v3("one", 60), connect_v5("one", 60)] {
            let (first, second) = (Broker::listen().await, Broker::listen().await);
            let endpoints = [heavy(first.endpoint(kind)), second.endpoint(kind)];
            let gate = Gate::start(&simple(&endpoints, "")).await;
            let mut client = Client::plain(gate.plain()).await;
            // Two fragments, and something behind: both brokers hear the CONNECT alone.
            let bytes = [&connect[..], &[0xC0, 0]].concat();
            client.say(&bytes).await;
            let mut visit = first.visit(kind).await;
            assert_eq!(visit.hear(connect.len()).await, connect);
            assert!(visit.unheard().is_empty());
            drop(visit);
            let mut visit = second.visit(kind).await;
            visit.welcome(&connect).await;
            assert_eq!(visit.hear(2).await, [0xC0, 0]);
            assert_eq!(client.hear_mqtt(accepted(&connect).len()).await, accepted(&connect));
            assert_eq!(dials_failed(&gate, &first, kind, "closed_before_connack"), 1.0);
            drop((client, visit));
            gate.idle().await;
        }
    }
}

#[tokio::test]
async fn a_broker_that_is_busy_or_elsewhere_is_passed_over_and_one_that_refuses_is_believed() {
    let v3: [(&[u8], bool); 3] =
        [(&[0x20, 2, 0, 3], true), (&[0x20, 2, 0, 5], false), (&[0x20, 2, 0, 4], false)];
    let v5: [(&[u8], bool); 5] = [
        (&[0x20, 3, 0, 0x88, 0], true),
        (&[0x20, 3, 0, 0x89, 0], true),
        (&[0x20, 3, 0, 0x9C, 0], true),
        (&[0x20, 3, 0, 0x87, 0], false),
        (&[0x20, 3, 0, 0x9D, 0], false),
    ];
    let v3 = v3.map(|case| (connect_v3("one", 60), case));
    let v5 = v5.map(|case| (connect_v5("one", 60), case));
    for kind in KINDS {
        for (connect, (connack, passed_over)) in v3.iter().chain(&v5) {
            let (first, second) = (Broker::listen().await, Broker::listen().await);
            let endpoints = [heavy(first.endpoint(kind)), second.endpoint(kind)];
            let gate = Gate::start(&simple(&endpoints, "")).await;
            let mut client = Client::plain(gate.plain()).await;
            client.say(connect).await;
            let mut visit = first.visit(kind).await;
            visit.welcome_by(connect, connack).await;
            if *passed_over {
                taken(&gate, &second, kind, client, connect).await;
                assert_eq!(dials_failed(&gate, &first, kind, "elsewhere"), 1.0);
            } else {
                assert_eq!(client.hear().await, Message::Mqtt(connack.to_vec()));
                drop((client, visit));
                gate.ended("broker_refused", "broker").await;
                gate.idle().await;
            }
        }
    }
}

#[tokio::test]
async fn a_silent_broker_is_given_up() {
    for kind in KINDS {
        let (first, second) = (Broker::listen().await, Broker::listen().await);
        let endpoints = [heavy(first.endpoint(kind)), second.endpoint(kind)];
        let gate = Gate::start(&simple(&endpoints, "connack_timeout = \"200ms\"")).await;
        let connect = connect_v3("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        let mut visit = first.visit(kind).await;
        assert_eq!(visit.hear_all().await, connect);
        taken(&gate, &second, kind, client, &connect).await;
        assert_eq!(dials_failed(&gate, &first, kind, "connack_timeout"), 1.0);
    }
}

#[tokio::test]
async fn a_broker_that_does_not_answer_the_upgrade_is_given_up() {
    let (first, second) = (Broker::listen().await, Broker::listen().await);
    let endpoints = [heavy(first.ws()), second.ws()];
    let gate = Gate::start(&simple(&endpoints, "dial_timeout = \"200ms\"")).await;
    let connect = connect_v3("one", 60);
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect).await;
    let _held = first.accept().await;
    taken(&gate, &second, Kind::Ws, client, &connect).await;
    assert_eq!(dials_failed(&gate, &first, Kind::Ws, "timeout"), 1.0);
}

#[tokio::test]
async fn a_broker_that_floods_before_its_connack_is_given_up_soon() {
    // Empty pings for ever: no CONNACK, and no end either.
    let (first, second) = (Broker::listen().await, Broker::listen().await);
    let endpoints = [heavy(first.ws()), second.ws()];
    let gate = Gate::start(&simple(&endpoints, "connack_timeout = \"60s\"")).await;
    let connect = connect_v3("one", 60);
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect).await;
    let mut visit = first.visit_ws().await;
    let flooding = tokio::spawn(async move {
        let pings = [0x89, 0].repeat(32 * 1024);
        use tokio::io::AsyncWriteExt;
        while visit.stream().write_all(&pings).await.is_ok() {}
    });
    taken(&gate, &second, Kind::Ws, client, &connect).await;
    flooding.await.unwrap();
}

#[tokio::test]
async fn what_is_no_connack_is_passed_over() {
    for (kind, first_packet) in [
        (Kind::Mqtt, &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
        (Kind::Mqtt, &[0xD0, 0]),
        (Kind::Mqtt, &[0x20, 0xFF, 0xFF, 0xFF, 0x7F]),
        (Kind::Mqtt, &[0x20, 1, 0]),
        (Kind::Ws, &[0x30, 3, 0, 1, b't']),
    ] {
        let (first, second) = (Broker::listen().await, Broker::listen().await);
        let endpoints = [heavy(first.endpoint(kind)), second.endpoint(kind)];
        let gate = Gate::start(&simple(&endpoints, "")).await;
        let connect = connect_v3("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        first.visit(kind).await.welcome_by(&connect, first_packet).await;
        taken(&gate, &second, kind, client, &connect).await;
    }
}

#[tokio::test]
async fn a_connack_in_any_pieces_commits() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let connect = connect_v5("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        let mut visit = broker.visit(kind).await;
        assert_eq!(visit.hear(connect.len()).await, connect);
        visit.stream().set_nodelay(true).unwrap();
        // With a retained message right behind it.
        for byte in [0x20, 3, 0, 0, 0, 0x30, 4, 0, 1, b't', 0] {
            visit.say(&[byte]).await;
            tokio::task::yield_now().await;
        }
        let heard = client.hear_mqtt(11).await;
        assert_eq!(heard, [0x20, 3, 0, 0, 0, 0x30, 4, 0, 1, b't', 0]);
    }
}

#[tokio::test]
async fn a_broker_that_refuses_the_client_at_the_upgrade_is_believed() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        for (connect, connack) in
            [(connect_v3("one", 60), &[0x20, 2, 0, 5][..]), (connect_v5("one", 60), &[0x20, 3, 0, 0x87, 0])]
        {
            let (first, second) = (Broker::listen().await, Broker::listen().await);
            let gate = Gate::start(&simple(&[heavy(first.ws()), second.ws()], "")).await;
            let mut client = Client::plain(gate.plain()).await;
            client.say(&connect).await;
            first.answer(&format!("HTTP/1.1 {status}\r\ncontent-length: 0")).await;
            assert_eq!(client.hear_all().await, (connack.to_vec(), Some(1008)));
            drop(client);
            gate.ended("not_authorized", "broker").await;
            gate.idle().await;
            // It was no failure of the broker's: the next client goes there.
            let mut client = Client::plain(gate.plain()).await;
            client.say(&connect).await;
            taken(&gate, &first, Kind::Ws, client, &connect).await;
        }
    }
}

#[tokio::test]
async fn other_answers_to_the_upgrade_are_passed_over() {
    for head in [
        "HTTP/1.1 404 Not Found",
        "HTTP/1.1 503 Service Unavailable",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 301 Moved Permanently\r\nlocation: http://192.0.2.1/",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: wrong",
        "SSH-2.0-x",
    ] {
        let (first, second) = (Broker::listen().await, Broker::listen().await);
        let gate = Gate::start(&simple(&[heavy(first.ws()), second.ws()], "")).await;
        let connect = connect_v3("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        first.answer(head).await;
        taken(&gate, &second, Kind::Ws, client, &connect).await;
    }
}

#[tokio::test]
async fn without_any_broker_the_client_is_told_to_try_later_and_the_next_gets_503() {
    for kind in KINDS {
        for (connect, connack) in
            [(connect_v3("one", 60), &[0x20, 2, 0, 3][..]), (connect_v5("one", 60), &[0x20, 3, 0, 0x88, 0])]
        {
            let gate = Gate::start(&simple(&[refusing(kind).await, refusing(kind).await], "")).await;
            let mut client = Client::tls(gate.tls()).await;
            client.say(&connect).await;
            assert_eq!(client.hear_all().await, (connack.to_vec(), Some(1013)));
            drop(client);
            gate.ended("no_broker", "broker").await;
            gate.idle().await;
            // One a second may try nevertheless.
            let answer = loop {
                match Client::open(gate.plain(), false, &[]).await {
                    Ok((lucky, _)) => drop(lucky),
                    Err(answer) => break answer,
                }
            };
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
            assert_eq!(gate.metric("brokergate_rejections_total{reason=\"no_endpoint\"}"), 1.0);
            gate.idle().await;
        }
    }
}

#[tokio::test]
async fn only_so_many_endpoints_are_tried() {
    let brokers = [Broker::listen().await, Broker::listen().await, Broker::listen().await];
    let endpoints = brokers.each_ref().map(Broker::mqtt);
    let gate = Gate::start(&simple(&endpoints, "attempts = 2")).await;
    let connect = connect_v3("one", 60);
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect).await;
    for broker in &brokers[..2] {
        assert_eq!(broker.visit_mqtt().await.hear(connect.len()).await, connect);
    }
    assert_eq!(client.hear_all().await, (vec![0x20, 2, 0, 3], Some(1013)));
    drop(client);
    gate.ended("no_broker", "broker").await;
    gate.idle().await;
    // Hanging up on a CONNECT is no failure to dial: all are up still.
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect).await;
    taken(&gate, &brokers[2], Kind::Mqtt, client, &connect).await;
}

#[tokio::test]
async fn an_endpoint_that_returns_is_used_again() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let address = broker.address();
        let endpoint = broker.endpoint(kind);
        drop(broker);
        let gate = Gate::start(&simple(&[endpoint], "avoid = \"100ms\"")).await;
        let connect = connect_v3("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        assert_eq!(client.hear_close().await, Some(1013));
        drop(client);
        let broker = Broker::listen_on(&address.to_string()).await;
        // Until its time is over, 503.
        let mut client = loop {
            match Client::open(gate.plain(), false, &[]).await {
                Ok((client, _)) => break client,
                Err(answer) => assert_eq!(answer.status(), 503),
            }
        };
        client.say(&connect).await;
        taken(&gate, &broker, kind, client, &connect).await;
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_during_the_dial_frees_everything() {
    for kind in KINDS {
        for tls in [false, true] {
            let broker = Broker::listen().await;
            let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
            let connect = connect_v3("one", 60);
            let mut client = Client::of(&gate, tls).await;
            client.say(&connect).await;
            // The broker has the CONNECT, or the handshake, and is silent.
            let mut held = broker.accept().await;
            until("a session", || gate.metric("brokergate_sessions") == 1.0).await;
            drop(client);
            gate.ended("client_vanished", "client").await;
            gate.idle().await;
            use tokio::io::AsyncReadExt;
            let mut heard = Vec::new();
            super::harness::within("the dial's end", held.read_to_end(&mut heard)).await.unwrap();
            assert!(!heard.ends_with(&[0xE0, 0]));
        }
    }
}

#[tokio::test]
async fn a_client_that_says_goodbye_during_the_dial_is_answered() {
    let broker = Broker::listen().await;
    let gate = Gate::start(&simple(&[broker.mqtt()], "")).await;
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3("one", 60)).await;
    let _held = broker.accept().await;
    client.send(tokio_tungstenite::tungstenite::Message::Close(None)).await;
    assert_eq!(client.hear_close().await, Some(1000));
    drop(client);
    gate.ended("client_closed", "client").await;
    gate.idle().await;
}

#[tokio::test]
async fn an_auth_commits_the_session() {
    for kind in KINDS {
        let broker = Broker::listen().await;
        let gate = Gate::start(&simple(&[broker.endpoint(kind)], "")).await;
        let connect = connect_v5("one", 60);
        let mut client = Client::plain(gate.plain()).await;
        client.say(&connect).await;
        let mut visit = broker.visit(kind).await;
        visit.welcome_by(&connect, &[0xF0, 2, 0x18, 0]).await;
        assert_eq!(client.hear().await, Message::Mqtt(vec![0xF0, 2, 0x18, 0]));
        client.say(&[0xF0, 2, 0x18, 0]).await;
        assert_eq!(visit.hear(4).await, [0xF0, 2, 0x18, 0]);
        visit.say(&[0x20, 3, 0, 0, 0]).await;
        assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 3, 0, 0, 0]));
    }
}
