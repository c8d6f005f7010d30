//! Draining: nobody new, goodbye to all, and an end in time.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{
    Broker, Client, Gate, KINDS, Kind, Session, connect_v3, connect_v5, publish, raw, simple, until, within,
};

#[tokio::test]
async fn everybody_is_told_to_go_and_the_gateway_stops() {
    for kind in KINDS {
        for tls in [false, true] {
            for (connect, connack, told) in [
                (connect_v5("new", 60), &[0x20, 3, 0, 0, 0][..], &[0xE0, 2, 0x8B, 0][..]),
                (connect_v3("old", 60), &[0x20, 2, 0, 0], &[]),
            ] {
                let Session { mut gate, mut client, mut visit, .. } =
                    Session::open_by(kind, tls, &connect, connack, "").await;
                gate.ask();
                assert_eq!(client.hear_all().await, (told.to_vec(), Some(1001)), "{kind:?}");
                assert!(visit.hear_all().await.is_empty(), "no DISCONNECT: the Will may fire");
                drop((client, visit));
                gate.ended("drained", "gateway").await;
                gate.stopped().await;
            }
        }
    }
}

#[tokio::test]
async fn a_goodbye_waits_for_the_packets_end() {
    for kind in KINDS {
        let Session { mut gate, mut client, mut visit, .. } =
            Session::open(kind, &connect_v5("one", 60), "").await;
        let packet = publish(5, 100);
        visit.say(&packet[..40]).await;
        assert_eq!(client.hear_mqtt(40).await, packet[..40]);
        gate.ask();
        assert!(visit.hear_all().await.is_empty());
        visit.say(&packet[40..]).await;
        let heard = client.hear_all().await;
        assert_eq!(heard, ([&packet[40..], &[0xE0, 2, 0x8B, 0]].concat(), Some(1001)), "{kind:?}");
        drop((client, visit));
        gate.stopped().await;
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_broker_is_told_too() {
    let broker = Broker::listen().await;
    let mut gate = Gate::start(&simple(&[broker.mqtt()], "")).await;
    let mut dialling = Client::plain(gate.plain()).await;
    dialling.say(&connect_v5("one", 60)).await;
    let _held = broker.accept().await;
    let mut silent = Client::plain(gate.plain()).await;
    until("both sessions", || gate.metric("brokergate_sessions") == 2.0).await;
    gate.ask();
    assert_eq!(dialling.hear_all().await, (vec![0x20, 3, 0, 0x88, 0], Some(1001)));
    assert_eq!(silent.hear_all().await, (vec![], Some(1001)));
    drop((dialling, silent));
    gate.ended("drained", "gateway").await;
    gate.stopped().await;
}

#[tokio::test]
async fn nobody_new_is_taken_and_who_is_here_is_refused() {
    // A session that never leaves keeps the drain going until it is cut.
    let Session { mut gate, client: _client, visit: _visit, .. } =
        Session::open(Kind::Mqtt, &connect_v3("one", 60), "[drain]\nwindow = \"10m\"\ngrace = \"10m\"").await;
    let ready = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(raw(gate.admin(), ready).await.starts_with("HTTP/1.1 200 "));
    // A connection that is kept, and one that has begun a request.
    let get = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = TcpStream::connect(gate.plain()).await.unwrap();
    kept.write_all(get).await.unwrap();
    assert!(within("an answer", kept.read(&mut [0; 1024])).await.unwrap() > 0);
    let mut begun = TcpStream::connect(gate.plain()).await.unwrap();
    begun.write_all(&get[..20]).await.unwrap();
    until("three", || gate.metric("brokergate_connections") == 3.0).await;
    gate.ask();
    assert_eq!(within("the end of what is kept", kept.read(&mut [0; 1024])).await.unwrap(), 0);
    begun.write_all(&get[20..]).await.unwrap();
    let mut answer = String::new();
    within("an answer", begun.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("about to stop"), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    assert_eq!(gate.metric("brokergate_rejections_total{reason=\"draining\"}"), 1.0);
    assert!(TcpStream::connect(gate.plain()).await.is_err(), "nothing listens any more");
    let ready = raw(gate.admin(), ready).await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("draining\n"), "{ready}");
    gate.cut();
    gate.ended("cut", "gateway").await;
    gate.stopped().await;
}

#[tokio::test]
async fn a_delay_goes_on_serving() {
    let broker = Broker::listen().await;
    let text = simple(&[broker.mqtt()], "[drain]\ndelay = \"10m\"\nwindow = \"0s\"\ngrace = \"0s\"");
    let mut gate = Gate::start(&text).await;
    let ready = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // Who is asked before it serves stops at once.
    assert!(raw(gate.admin(), ready).await.starts_with("HTTP/1.1 200 "));
    gate.ask();
    while raw(gate.admin(), ready).await.starts_with("HTTP/1.1 200 ") {}
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3("late", 60)).await;
    broker.visit_mqtt().await.welcome(&connect_v3("late", 60)).await;
    gate.cut();
    gate.stopped().await;
}

#[tokio::test]
async fn goodbyes_are_spread_over_the_window() {
    let broker = Broker::listen().await;
    let text = simple(&[broker.mqtt()], "[drain]\nwindow = \"1s\"\ngrace = \"5s\"");
    let mut gate = Gate::start(&text).await;
    let mut clients = Vec::new();
    for index in 0..20 {
        let mut client = Client::plain(gate.plain()).await;
        let connect = connect_v3(&format!("{index}"), 60);
        client.say(&connect).await;
        let mut visit = broker.visit_mqtt().await;
        visit.welcome(&connect).await;
        client.hear_mqtt(4).await;
        clients.push((client, visit));
    }
    gate.ask();
    let began = std::time::Instant::now();
    let leaving: Vec<_> = clients
        .into_iter()
        .map(|(mut client, visit)| {
            tokio::spawn(async move {
                assert_eq!(client.hear_close().await, Some(1001));
                drop(visit);
                began.elapsed()
            })
        })
        .collect();
    let mut times = Vec::new();
    for left in leaving {
        times.push(left.await.unwrap());
    }
    // All of 20 in one half of the window would be one chance in half a million.
    let half = std::time::Duration::from_millis(500);
    assert!(times.iter().any(|time| *time < half) && times.iter().any(|time| *time > half), "{times:?}");
    gate.stopped().await;
}

#[tokio::test]
async fn a_client_that_does_not_leave_is_cut_after_the_grace() {
    let Session { mut gate, client, visit, .. } =
        Session::open(Kind::Ws, &connect_v3("one", 60), "[drain]\nwindow = \"0s\"\ngrace = \"300ms\"").await;
    gate.ask();
    // Neither reads nor hangs up.
    gate.stopped().await;
    drop((client, visit));
}

#[tokio::test]
async fn a_connection_that_never_asked_for_anything_is_not_waited_for() {
    let mut gate = Gate::start(&simple(&[Broker::listen().await.ws()], "")).await;
    let mut silent =
        [TcpStream::connect(gate.plain()).await.unwrap(), TcpStream::connect(gate.tls()).await.unwrap()];
    until("two connections", || gate.metric("brokergate_connections") == 2.0).await;
    gate.ask();
    for stream in &mut silent {
        assert_eq!(within("the end", stream.read(&mut [0])).await.unwrap_or(0), 0);
    }
    gate.stopped().await;
}
