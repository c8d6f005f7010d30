//! Upgrades in place: another process takes over, and no client notices more than a goodbye.

mod family;
mod supervised;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::family::{Family, signal};
use super::harness::{Broker, Client, Crew, Message, connect_v3, connect_v5, until, within};

/// Drains that say goodbye to the first at once, to the next in minutes.
const PATIENT: &str = "[drain]\nwindow = \"10m\"\ngrace = \"10m\"";

/// A client that is joined to the crew.
async fn join(family: &Family, name: &str) -> Client {
    let mut client = Client::plain(family.plain).await;
    client.say(&connect_v3(name, 60)).await;
    assert_eq!(client.hear_mqtt(4).await, [0x20, 2, 0, 0]);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_comes_is_refused_or_reset() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), "");
    let first = family.start().await;
    let (over, came) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let comers: Vec<_> = (0..6)
        .map(|number| {
            let (over, came, plain, tls) = (Arc::clone(&over), Arc::clone(&came), family.plain, family.tls);
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let mut client =
                        if number % 3 == 0 { Client::tls(tls).await } else { Client::plain(plain).await };
                    client.say(&connect_v3(&format!("comer-{number}"), 60)).await;
                    assert_eq!(client.hear_mqtt(4).await, [0x20, 2, 0, 0]);
                    came.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut processes = vec![first.id().unwrap()];
    for _ in 0..4 {
        let before = came.load(Ordering::Relaxed);
        processes.push(family.upgraded().await);
        until("comers at the new process", || came.load(Ordering::Relaxed) > before + 20).await;
    }
    over.store(true, Ordering::Relaxed);
    for comer in comers {
        within("a comer", comer).await.unwrap();
    }
    let last = processes.pop().unwrap();
    assert!(!processes.contains(&last));
    family.only(&[last]).await;
    assert_eq!(family.status().await.upgrade.unwrap().outcome, "took_over");
    assert_eq!(family.metric("brokergate_upgrades_total{result=\"took_over\"}").await.as_deref(), Some("1"));
    drop(first);
}

#[tokio::test]
async fn sessions_live_on_at_the_old_process_and_get_their_goodbyes() {
    let (family, broker) = (Family::new(), Broker::listen().await);
    family.configure(&[broker.mqtt()], PATIENT);
    let mut first = family.start().await;
    let old = first.id().unwrap();
    let join = async |name: &str| {
        let mut client = Client::tls(family.tls).await;
        let connect = connect_v5(name, 60);
        client.say(&connect).await;
        let mut visit = broker.visit_mqtt().await;
        visit.welcome(&connect).await;
        assert_eq!(client.hear_mqtt(5).await, [0x20, 3, 0, 0, 0]);
        (client, visit)
    };
    let (mut asked, _visit) = join("the first to be asked").await;
    let (mut client, mut visit) = join("one").await;
    signal(old, "-USR2");
    let new = async {
        loop {
            let status = family.status().await;
            if status.pid != old {
                break status.pid;
            }
        }
    };
    let new = within("another process", new).await;
    assert_eq!(asked.hear_all().await, (vec![0xE0, 2, 0x8B, 0], Some(1001)));
    drop(asked);
    let (other, _other_visit) = join("two").await;
    assert_eq!(family.status().await.sessions.open, 1, "the one that came since");
    client.say(&[0xC0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xC0, 0]);
    visit.say(&[0xD0, 0]).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0xD0, 0]));
    family.only(&[old, new]).await;

    // What is asked of the old one now joins its drain; the second time it cuts. (Two of a kind may become one.)
    signal(old, "-TERM");
    signal(old, "-INT");
    assert!(within("the end", first.wait()).await.unwrap().success());
    client.hear_close().await;
    drop((visit, other));

    // By a configuration that says goodbye at once.
    family.configure(&[broker.mqtt()], "[drain]\ndelay = \"10m\"\nwindow = \"0s\"\ngrace = \"5s\"");
    family.logged("reloaded the configuration").await;
    let (mut client, mut visit) = join("three").await;
    let newest = family.upgraded().await;
    assert_eq!(client.hear_all().await, (vec![0xE0, 2, 0x8B, 0], Some(1001)));
    assert!(visit.hear_all().await.is_empty(), "no DISCONNECT: the Will may fire");
    drop((client, visit));
    family.only(&[newest]).await;
}

#[tokio::test]
async fn who_was_accepted_is_served_by_the_one_who_accepted() {
    let (family, broker) = (Family::new(), Broker::listen().await);
    family.configure(&[broker.mqtt()], "");
    let first = family.start().await;
    let old = first.id().unwrap();
    // Within its request's head, and with its 101 but without its CONNECT.
    let mut begun = TcpStream::connect(family.plain).await.unwrap();
    begun.write_all(b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let mut silent = Client::plain(family.plain).await;
    let connections =
        async { while family.metric("brokergate_connections").await.as_deref() != Some("2") {} };
    within("two connections", connections).await;
    let new = family.upgraded().await;
    family.only(&[old, new]).await;
    begun
        .write_all(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    within("an answer", begun.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    let connect = connect_v5("silent", 60);
    silent.say(&connect).await;
    let mut visit = broker.visit_mqtt().await;
    visit.welcome(&connect).await;
    assert_eq!(silent.hear_mqtt(5).await, [0x20, 3, 0, 0, 0]);
    drop(begun);
    // Now that both have arrived, it drains.
    assert_eq!(silent.hear_all().await, (vec![0xE0, 2, 0x8B, 0], Some(1001)));
    drop((silent, visit));
    family.only(&[new]).await;
}

#[tokio::test]
async fn a_successor_that_cannot_begin_changes_nothing() {
    let (family, broker) = (Family::new(), Broker::listen().await);
    family.configure(&[broker.mqtt()], "[reload]\nwatch = false");
    let first = family.start().await;
    let old = first.id().unwrap();
    let (mut client, connect) = (Client::plain(family.plain).await, connect_v3("one", 60));
    client.say(&connect).await;
    let mut visit = broker.visit_mqtt().await;
    visit.welcome(&connect).await;
    client.hear_mqtt(4).await;

    let text = std::fs::read_to_string(family.path("brokergate.toml")).unwrap();
    let cases: [(&str, &dyn Fn()); 5] = [
        ("exit status: 3", &|| family.replace_program("exit 3")),
        ("is it a brokergate?", &|| family.replace_program("echo rubbish >&0; exec tail -f \"$3\"")),
        ("can't be started from", &|| std::fs::remove_file(family.path("brokergate")).unwrap()),
        ("did you mean `workers`", &|| family.write(&text.replace("workers", "wrokers"))),
        ("another process listens there", &|| {
            family.write(&text.replace(&family.plain.to_string(), &broker.address().to_string()));
        }),
    ];
    for (number, (words, spoil)) in cases.iter().enumerate() {
        spoil();
        let (code, said) = family.upgrade().await;
        assert!(code == Some(1) && said.contains(words), "{code:?}: {said}");
        assert!(said.ends_with(&format!("not upgraded: process {old} works on\n")), "{said}");
        family.restore_program();
        family.write(&text);
        family.only(&[old]).await;
        let status = family.status().await;
        let upgrade = status.upgrade.unwrap();
        assert_eq!((status.pid, status.stage.as_str(), upgrade.outcome.as_str()), (old, "ready", "failed"));
        assert!(upgrade.error.unwrap().contains(words));
        let failed = family.metric("brokergate_upgrades_total{result=\"failed\"}").await;
        assert_eq!(failed, Some((number + 1).to_string()));
        client.say(&[0xC0, 0]).await;
        assert_eq!(visit.hear(2).await, [0xC0, 0]);
    }
    assert_ne!(family.upgraded().await, old, "and the next one does");
    drop((client, visit));
    family.only(&[family.status().await.pid]).await;
    drop(first);
}

#[tokio::test]
async fn a_stop_ends_a_successor_that_does_not_serve_yet() {
    for second in [false, true] {
        let (family, crew) = (Family::new(), Crew::serve("").await);
        family.configure(std::slice::from_ref(&crew.endpoint), if second { PATIENT } else { "" });
        let mut first = family.start().await;
        let old = first.id().unwrap();
        let (mut asked, mut client) = (join(&family, "one").await, join(&family, "two").await);
        family.replace_program("exec tail -f \"$3\"");
        let mut asking = std::pin::pin!(family.upgrade());
        let under_way = async {
            family.logged("a new process is to take over").await;
            // What else is asked meanwhile is told to wait.
            let (code, said) = family.upgrade().await;
            assert!(code == Some(1) && said.contains("hands over to a new process"), "{code:?}: {said}");
        };
        tokio::select! {
            () = under_way => {}
            outcome = asking.as_mut() => panic!("it waits for one that says nothing: {outcome:?}"),
        }
        assert_eq!(family.living().len(), 2);
        signal(old, "-TERM");
        let (code, said) = asking.await;
        assert!(code == Some(1) && said.contains("asked to stop"), "{code:?}: {said}");
        family.only(&[old]).await;
        assert_eq!(asked.hear_close().await, Some(1001));
        drop(asked);
        if second {
            signal(old, "-TERM");
            client.hear_close().await;
        } else {
            assert_eq!(client.hear_close().await, Some(1001));
        }
        drop(client);
        assert!(within("the end", first.wait()).await.unwrap().success());
        assert!(family.living().is_empty());
    }
}

#[tokio::test]
async fn a_successor_whose_predecessor_is_killed_ends_too() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), "");
    let mut first = family.start().await;
    let old = first.id().unwrap();
    // It waits for a word of whoever stands still.
    family.replace_program(&format!("kill -STOP $PPID; exec {} \"$@\"", env!("CARGO_BIN_EXE_brokergate")));
    signal(old, "-USR2");
    // In the middle of an exec a process has no name.
    let mut new = None;
    until("a new process", || {
        new = family.living().into_iter().find(|process| *process != old);
        new.is_some()
    })
    .await;
    let new = new.unwrap();
    until("it to wait", || family.listens(new)).await;
    signal(old, "-KILL");
    assert!(!within("the end", first.wait()).await.unwrap().success());
    family.only(&[]).await;
    family.logged("to be its successor, has ended or changed its mind").await;
}

#[tokio::test]
async fn a_successor_whose_predecessor_is_gone_before_does_not_serve() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), "[reload]\nwatch = false");
    let mut first = family.start().await;
    // Of other addresses it could be a gateway of its own, which nobody ordered.
    let text = std::fs::read_to_string(family.path("brokergate.toml")).unwrap();
    let [plain, tls] = [family.plain, family.tls].map(|address| address.to_string());
    family.write(
        &text.replace(&plain, "127.0.0.1:0").replace(&tls, "[::1]:0").replace(&family.admin, "127.0.0.1:0"),
    );
    let program = env!("CARGO_BIN_EXE_brokergate");
    family.replace_program(&format!(
        "before=$PPID; while kill -0 $before; do sleep 0.01; done; exec {program} \"$@\""
    ));
    signal(first.id().unwrap(), "-USR2");
    family.logged("a new process is to take over").await;
    signal(first.id().unwrap(), "-KILL");
    assert!(!within("the end", first.wait()).await.unwrap().success());
    family.logged("hands over, but is gone").await;
    family.only(&[]).await;
}

#[tokio::test]
async fn an_admin_listener_on_a_unix_socket_is_handed_over() {
    let (family, crew) = (Family::on_unix_socket(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), PATIENT);
    let first = family.start().await;
    let old = first.id().unwrap();
    // A session keeps the old one there.
    let (mut asked, _session) = (join(&family, "one").await, join(&family, "two").await);
    // Who came before is answered where it came to, and then hung up on.
    let socket = family.path("admin.sock");
    let question = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut silent = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let mut kept = tokio::net::UnixStream::connect(&socket).await.unwrap();
    kept.write_all(question).await.unwrap();
    within("an answer", kept.read_exact(&mut [0; 12])).await.unwrap();
    let new = family.upgraded().await;
    assert_ne!(new, old);
    let mut rest = String::new();
    within("its end", kept.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.ends_with("\r\n\r\nlive\n"), "{rest}");
    assert_eq!(asked.hear_close().await, Some(1001), "it drains");
    drop(asked);
    silent.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("an answer", silent.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ready\n"), "of this address: {answer}");
    for _ in 0..3 {
        assert_eq!(family.status().await.pid, new, "the old one does not answer");
    }
    let newest = family.upgraded().await;
    family.only(&[old, newest]).await;
    signal(old, "-TERM");
    signal(old, "-INT");
    family.only(&[newest]).await;
    assert_eq!(family.status().await.pid, newest, "the socket's file is still there");
    drop(first);
}

#[tokio::test]
async fn the_configuration_of_the_new_process_counts() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), "[reload]\nwatch = false");
    let first = family.start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = free.local_addr().unwrap();
    drop(free);
    let text = std::fs::read_to_string(family.path("brokergate.toml")).unwrap();
    family.write(&text.replace(&family.plain.to_string(), &elsewhere.to_string()));
    family.upgraded().await;
    let mut client = Client::plain(elsewhere).await;
    client.say(&connect_v3("one", 60)).await;
    client.hear_mqtt(4).await;
    let refused = async { while TcpStream::connect(family.plain).await.is_ok() {} };
    within("the old address to be closed", refused).await;
    let mut client = Client::tls(family.tls).await;
    client.say(&connect_v3("two", 60)).await;
    client.hear_mqtt(4).await;

    // One that overlaps what is listened on already can't be bound beside it.
    let port = elsewhere.port();
    family.write(&text.replace(&family.plain.to_string(), &format!("0.0.0.0:{port}")));
    let (code, said) = family.upgrade().await;
    assert!(code == Some(1) && said.contains("while this gateway listens on"), "{code:?}: {said}");
    drop(first);
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_upgraded() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), PATIENT);
    let first = family.start().await;
    let _sessions = (join(&family, "one").await, join(&family, "two").await);
    let drain = async |more: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_brokergate"));
        let status = command.args(["drain", "--admin", &family.admin]).args(more).status().await.unwrap();
        assert!(status.success());
    };
    drain(&[]).await;
    let (code, said) = family.upgrade().await;
    assert!(code == Some(1) && said.contains("`brokergate drain --cancel` puts it back"), "{code:?}: {said}");
    family.only(&[first.id().unwrap()]).await;
    drain(&["--cancel"]).await;
    family.upgraded().await;
    drop(first);
}
