//! Rebalances: who is asked to move, who never, and where they come in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use super::super::harness::{Client, Crew, Gate, connect_v3, dial_from, simple, until};
use super::{done, post, sessions, told};

/// Clients that come back at once whenever they are sent away, until dropped.
struct Regulars {
    moves: Vec<Arc<AtomicUsize>>,
    staying: Vec<JoinHandle<()>>,
}

impl Regulars {
    /// One from each source, all at the second of two brokers: the first was drained meanwhile, and is back at work.
    async fn at_second(gate: &Gate, first: &str, sources: impl IntoIterator<Item = String>) -> Self {
        let mut regulars = Self { moves: Vec::new(), staying: Vec::new() };
        done(gate, &format!("/drain?upstream=brokers&endpoint={first}")).await;
        for (number, source) in sources.into_iter().enumerate() {
            let (name, moves) = (format!("client-{number}"), Arc::<AtomicUsize>::default());
            let client = join_from(&source, gate.plain(), &name).await;
            regulars.staying.push(tokio::spawn(stay(client, gate.plain(), source, name, Arc::clone(&moves))));
            regulars.moves.push(moves);
        }
        assert_eq!(sessions(gate), [0, regulars.moves.len()]);
        done(gate, &format!("/resume?upstream=brokers&endpoint={first}")).await;
        regulars
    }

    /// How often each has come back.
    fn moves(&self) -> Vec<usize> {
        self.moves.iter().map(|moves| moves.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Regulars {
    fn drop(&mut self) {
        self.staying.iter().for_each(JoinHandle::abort);
    }
}

async fn stay(mut client: Client, to: SocketAddr, source: String, name: String, moves: Arc<AtomicUsize>) {
    loop {
        // However long that takes.
        client.sent_away().await;
        client = join_from(&source, to, &name).await;
        moves.fetch_add(1, Ordering::Relaxed);
    }
}

async fn join_from(source: &str, to: SocketAddr, name: &str) -> Client {
    let wire = dial_from(source, to).await;
    let (mut client, _) = Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.unwrap();
    client.say(&connect_v3(name, 60)).await;
    assert_eq!(client.hear_mqtt(4).await, [0x20, 2, 0, 0]);
    client
}

/// So many clients of one machine.
fn neighbours(count: usize) -> Vec<String> {
    vec!["127.0.0.1".to_owned(); count]
}

/// The endpoint under a name of the test's own: homes go by names.
fn named(crew: &Crew, name: &str) -> String {
    crew.endpoint.replace(&format!("name = \"{}\"", crew.name()), &format!("name = \"{name}\""))
}

/// How many a rebalance asks to move, by its answer.
async fn asked(gate: &Gate) -> usize {
    let words = done(gate, "/rebalance?upstream=brokers").await;
    words.strip_prefix("brokers: ").unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_rebalance_moves_as_many_as_are_too_many_and_nobody_twice() {
    let (first, second) = (Crew::serve("weight = 2").await, Crew::serve("").await);
    let more = "[drain]\nwindow = \"1s\"\ngrace = \"2s\"";
    let gate = Gate::start(&simple(&[first.endpoint.clone(), second.endpoint.clone()], more)).await;
    let regulars = Regulars::at_second(&gate, &first.name(), neighbours(60)).await;
    let words = done(&gate, "/rebalance?upstream=brokers").await;
    assert!(words.contains("40 sessions are asked to move"), "{words}");
    assert_eq!(post(&gate, "/rebalance?upstream=brokers").await.0, 409);
    told(&gate, "\"rebalance\":{\"total\":40,").await;
    until("the spread", || sessions(&gate) == [40, 20]).await;
    until("all who were asked", || regulars.moves().iter().sum::<usize>() == 40).await;
    told(&gate, "\"rebalance\":null").await;
    assert!(regulars.moves().iter().all(|moves| *moves <= 1), "{:?}", regulars.moves());
    // There is nobody to move any more.
    assert_eq!(asked(&gate).await, 0);
    assert_eq!(sessions(&gate), [40, 20]);
}

#[tokio::test]
async fn a_rebalance_by_client_id_moves_who_is_not_at_home() {
    let (first, second) = (Crew::serve("").await, Crew::serve("").await);
    let more = "balance = \"client-id\"\n[drain]\nwindow = \"500ms\"\ngrace = \"1s\"";
    let gate = Gate::start(&simple(&[named(&first, "one"), named(&second, "two")], more)).await;
    let regulars = Regulars::at_second(&gate, "one", neighbours(40)).await;
    let moving = asked(&gate).await;
    assert!((8..=32).contains(&moving), "{moving}");
    // A client may be back before its old session has ended on our side.
    until("all who are not at home", || {
        first.count() == moving && sessions(&gate).iter().sum::<usize>() == 40
    })
    .await;
    assert!(regulars.moves().iter().all(|moves| *moves <= 1), "{:?}", regulars.moves());
}

#[tokio::test]
async fn who_would_find_no_room_at_home_is_not_asked() {
    let (first, second) = (Crew::serve("max_sessions = 5").await, Crew::serve("").await);
    for balance in ["client-id", "source-address"] {
        let more = format!("balance = \"{balance}\"\n[drain]\nwindow = \"500ms\"\ngrace = \"1s\"");
        let gate = Gate::start(&simple(&[first.endpoint.clone(), second.endpoint.clone()], &more)).await;
        let sources = (1..=40).map(|last| format!("127.0.0.{last}"));
        let regulars = Regulars::at_second(&gate, &first.name(), sources).await;
        let before = first.count();
        assert_eq!(asked(&gate).await, 5, "{balance}");
        until("all who have room", || first.count() == before + 5).await;
        told(&gate, "\"rebalance\":null").await;
        assert_eq!(sessions(&gate), [5, 35], "{balance}");
        assert_eq!(regulars.moves().iter().sum::<usize>(), 5, "{balance}");
    }
}

#[tokio::test]
async fn a_rebalance_by_source_address_moves_who_is_not_at_home() {
    let (first, second) = (Crew::serve("").await, Crew::serve("").await);
    let more = "balance = \"source-address\"\n[drain]\nwindow = \"500ms\"\ngrace = \"1s\"";
    let gate = Gate::start(&simple(&[named(&first, "one"), named(&second, "two")], more)).await;
    // Four clients behind each of ten addresses: they move together, or not at all.
    let sources = (0..40).map(|number| format!("127.0.0.{}", number / 4 + 1));
    let regulars = Regulars::at_second(&gate, "one", sources).await;
    let moving = asked(&gate).await;
    assert!(moving > 0 && moving < 40 && moving.is_multiple_of(4), "{moving}");
    until("all who are not at home", || regulars.moves().iter().sum::<usize>() == moving).await;
    let all = regulars.moves();
    assert!(all.chunks(4).all(|behind| behind == [0; 4] || behind == [1; 4]), "{all:?}");
    told(&gate, "\"rebalance\":null").await;
    assert_eq!(sessions(&gate), [moving, 40 - moving]);
}

#[tokio::test]
async fn a_rebalance_that_is_cancelled_asks_nobody_more() {
    let (first, second) = (Crew::serve("").await, Crew::serve("").await);
    let more = "[drain]\nwindow = \"10m\"\ngrace = \"5s\"";
    let gate = Gate::start(&simple(&[first.endpoint.clone(), second.endpoint.clone()], more)).await;
    let _regulars = Regulars::at_second(&gate, &first.name(), neighbours(10)).await;
    done(&gate, "/rebalance?upstream=brokers").await;
    told(&gate, "\"rebalance\":{\"total\":5,\"asked\":1,\"left\":4,").await;
    assert!(done(&gate, "/resume?upstream=brokers").await.contains("cancelled"));
    told(&gate, "\"rebalance\":null").await;
    assert!(gate.metric("brokergate_sessions") >= 9.0);
}
