//! Which broker a session goes to, with all of them up.

use std::sync::Arc;

use super::harness::{Client, Crew, Gate, Message, connect_v3, connect_v5, dial_from, simple, until};

async fn join(gate: &Gate, client_id: &str) -> Client {
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3(client_id, 0)).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
    client
}

/// Which of the brokers welcomed the client last.
fn home(crews: &[Crew], client_id: &str) -> usize {
    let with = |crew: &Crew| crew.clients().iter().any(|client| client == client_id);
    let homes: Vec<_> = crews.iter().enumerate().filter(|(_, crew)| with(crew)).collect();
    assert_eq!(homes.len(), 1, "{client_id}");
    homes[0].0
}

fn endpoints<'a>(crews: impl IntoIterator<Item = &'a Crew>) -> Vec<String> {
    crews.into_iter().map(|crew| crew.endpoint.clone()).collect()
}

#[tokio::test]
async fn weights_are_kept_under_concurrency() {
    let crews =
        [Crew::serve("weight = 5").await, Crew::serve("weight = 3").await, Crew::serve("weight = 1").await];
    let gate = Arc::new(Gate::start(&simple(&endpoints(&crews), "")).await);
    let clients: Vec<_> = (0..50)
        .map(|client| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                for round in 0..18 {
                    drop(join(&gate, &format!("{client}-{round}")).await);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    for (crew, expected) in crews.iter().zip([500, 300, 100]) {
        assert!(crew.count().abs_diff(expected) <= 2, "{} of {expected}", crew.count());
    }
    gate.idle().await;
}

#[tokio::test]
async fn weights_are_smooth() {
    let crews = [Crew::serve("weight = 2").await, Crew::serve("").await];
    let gate = Gate::start(&simple(&endpoints(&crews), "")).await;
    let mut held = Vec::new();
    for round in 1..=10 {
        for client in 0..3 {
            held.push(join(&gate, &format!("{round}-{client}")).await);
        }
        assert_eq!((crews[0].count(), crews[1].count()), (2 * round, round));
    }
}

#[tokio::test]
async fn least_sessions_fills_the_emptiest() {
    let crews = [Crew::serve("").await, Crew::serve("").await, Crew::serve("weight = 2").await];
    let gate = Gate::start(&simple(&endpoints(&crews), "balance = \"least-sessions\"")).await;
    let mut held = Vec::new();
    for client in 0..40 {
        held.push(join(&gate, &format!("{client}")).await);
    }
    assert_eq!(crews.each_ref().map(Crew::count), [10, 10, 20]);
    // All of the first one's clients leave: the next ten go there.
    let leaving = crews[0].clients();
    let mut at = 0;
    held.retain(|_| {
        at += 1;
        !leaving.contains(&(at - 1).to_string())
    });
    until("their leaving", || gate.metric("brokergate_sessions") == 30.0).await;
    let left = || {
        let pools = &gate.shared.snapshot.load().pools;
        let endpoints = pools.values().flat_map(|upstream| upstream.pool.endpoints().to_vec());
        endpoints.map(|endpoint| endpoint.sessions()).sum::<usize>()
    };
    until("the slots' return", || left() == 30).await;
    for client in 100..110 {
        held.push(join(&gate, &format!("{client}")).await);
    }
    assert_eq!(crews.each_ref().map(Crew::count), [20, 10, 20]);
}

#[tokio::test]
async fn a_client_id_meets_the_same_broker_at_every_gateway() {
    let crews = [
        Crew::serve("").await,
        Crew::serve("").await,
        Crew::serve("").await,
        Crew::serve("").await,
        Crew::serve("").await,
    ];
    let all = Gate::start(&simple(&endpoints(&crews), "balance = \"client-id\"")).await;
    let ids: Vec<_> = (0..100).map(|client| format!("client-{client}")).collect();
    for id in &ids {
        drop(join(&all, id).await);
        all.idle().await;
    }
    let homes: Vec<_> = ids.iter().map(|id| home(&crews, id)).collect();
    assert!((0..5).all(|crew| homes.contains(&crew)), "everybody has some: {homes:?}");
    // Another gateway agrees, in another order of the file and with MQTT 5.
    let other = Gate::start(&simple(&endpoints(crews.iter().rev()), "balance = \"client-id\"")).await;
    // And one without the third broker moves that one's clients alone.
    let four = crews.iter().enumerate().filter(|(index, _)| *index != 2).map(|(_, crew)| crew);
    let fewer = Gate::start(&simple(&endpoints(four), "balance = \"client-id\"")).await;
    for (id, home) in ids.iter().zip(homes) {
        let before = crews.each_ref().map(Crew::count);
        let mut client = Client::plain(other.plain()).await;
        client.say(&connect_v5(id, 0)).await;
        client.hear_mqtt(5).await;
        drop(client);
        other.idle().await;
        assert_eq!(crews[home].count(), before[home] + 1, "{id}");
        drop(join(&fewer, id).await);
        fewer.idle().await;
        let moved = crews[home].count() == before[home] + 1;
        assert_eq!(moved, home == 2, "{id}");
    }
}

#[tokio::test]
async fn a_source_address_meets_the_same_broker() {
    let crews = [Crew::serve("").await, Crew::serve("").await, Crew::serve("").await];
    let gate = Gate::start(&simple(&endpoints(&crews), "balance = \"source-address\"")).await;
    for round in 0..3 {
        for source in 1..20 {
            let wire = dial_from(&format!("127.0.0.{source}"), gate.plain()).await;
            let (mut client, _) = Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.unwrap();
            client.say(&connect_v3(&format!("{source}"), 0)).await;
            client.hear_mqtt(4).await;
            assert!(home(&crews, &format!("{source}")) < 3, "{round}");
        }
    }
    assert!(crews.iter().all(|crew| crew.count() > 0));
}

#[tokio::test]
async fn a_full_endpoint_is_passed_over_until_a_session_ends() {
    let crews = [Crew::serve("max_sessions = 2, weight = 100").await, Crew::serve("max_sessions = 1").await];
    let gate = Gate::start(&simple(&endpoints(&crews), "")).await;
    let mut early = Client::plain(gate.plain()).await;
    let first = join(&gate, "a").await;
    let _held = [join(&gate, "b").await, join(&gate, "c").await];
    assert_eq!(crews.each_ref().map(Crew::count), [2, 1]);
    // All are full: who asks now is told so, and who has asked before is by CONNACK.
    let answer = Client::open(gate.plain(), false, &[]).await.err().unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(gate.metric("brokergate_rejections_total{reason=\"full_sessions\"}"), 1.0);
    early.say(&connect_v3("d", 0)).await;
    assert_eq!(early.hear_all().await, (vec![0x20, 2, 0, 3], Some(1013)));
    drop(early);
    drop(first);
    until("two sessions", || gate.metric("brokergate_sessions") == 2.0).await;
    until("a slot", || {
        let pools = &gate.shared.snapshot.load().pools;
        pools.values().any(|upstream| upstream.pool.endpoints()[0].sessions() == 1)
    })
    .await;
    let _held = join(&gate, "e").await;
    assert_eq!(home(&crews, "e"), 0);
}

#[tokio::test]
async fn a_backup_serves_when_no_other_can() {
    let crews = [Crew::serve("max_sessions = 3").await, Crew::serve("backup = true, weight = 1000").await];
    let gate = Gate::start(&simple(&endpoints(&crews), "")).await;
    let mut held = Vec::new();
    for client in 0..5 {
        held.push(join(&gate, &format!("{client}")).await);
    }
    assert_eq!(crews.each_ref().map(Crew::count), [3, 2]);
}
