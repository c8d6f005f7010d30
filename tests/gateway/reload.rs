//! Reload: the next configuration goes to work, and no session notices.

mod certificates;
mod command;
mod files;
mod listeners;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use brokergate::reload::Refusal;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::harness::{
    Broker, CERTIFICATES, Client, Crew, Gate, KINDS, Kind, Message, Names, Visit, connect_v3, connect_v5,
    publish, raw, until, within,
};

/// The metric of reloads of this result.
fn reloads(result: &str) -> String {
    format!("brokergate_reloads_total{{result=\"{result}\"}}")
}

const LAST_SUCCESSFUL: &str = "brokergate_config_last_reload_successful";

/// A configuration file in a folder of its own, and the gateway that was started from it.
struct Site {
    folder: TempDir,
    plain: SocketAddr,
    tls: SocketAddr,
    /// Keep both ports from everybody else: bound, and nobody listens.
    _held: [Socket; 2],
}

impl Site {
    fn new() -> Self {
        // Addresses must be known beforehand: another port 0 would be another address.
        let held = ["127.0.0.1:0", "[::1]:0"].map(|at| hold(at.parse().unwrap()));
        let [plain, tls] = held.each_ref().map(|held| held.local_addr().unwrap().as_socket().unwrap());
        Self { folder: tempfile::tempdir().unwrap(), plain, tls, _held: held }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("brokergate.toml")
    }

    /// A plain and a TLS listener, `/mqtt` to these endpoints; `more` is appended.
    fn text(&self, endpoints: &[String], more: &str) -> String {
        let listeners = format!(
            "[[listeners]]\naddresses = [\"{}\"]\n[[listeners]]\naddresses = [\"{}\"]\ntls = {}\n",
            self.plain,
            self.tls,
            CERTIFICATES.toml()
        );
        self.text_with(&listeners, endpoints, more)
    }

    fn text_with(&self, listeners: &str, endpoints: &[String], more: &str) -> String {
        let endpoints = endpoints.join(", ");
        format!(
            r#"
            {listeners}
            [[routes]]
            path = "/mqtt"
            upstream = "brokers"
            [runtime]
            workers = 1
            [admin]
            address = "127.0.0.1:0"
            [reload]
            watch = false
            [upstreams.brokers]
            endpoints = [{endpoints}]
            {more}
            "#
        )
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    async fn start(&self, text: &str) -> Gate {
        self.write(text);
        Gate::start_file(&self.file()).await
    }

    /// Write, and reload.
    async fn change(&self, gate: &Gate, text: &str) {
        self.write(text);
        gate.reload().await.unwrap_or_else(|refusal| panic!("{refusal}"));
    }
}

/// A bound socket that does not listen. Who asks for any port gets another, and who asks for this one, as the gateway
/// does, may listen beside it.
fn hold(at: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&at.into()).unwrap();
    socket
}

/// A client that is joined to a broker.
async fn join(mut client: Client, broker: &Broker, kind: Kind, name: &str) -> (Client, Visit) {
    let connect = connect_v5(name, 60);
    client.say(&connect).await;
    let mut visit = broker.visit(kind).await;
    visit.welcome(&connect).await;
    assert_eq!(client.hear_mqtt(5).await, [0x20, 3, 0, 0, 0]);
    (client, visit)
}

/// One ping there and back.
async fn ping(client: &mut Client, visit: &mut Visit) {
    client.say(&[0xC0, 0]).await;
    assert_eq!(visit.hear(2).await, [0xC0, 0]);
    visit.say(&[0xD0, 0]).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0xD0, 0]));
}

#[tokio::test]
async fn a_session_lives_on_and_the_next_one_meets_the_next_configuration() {
    for kind in KINDS {
        let (site, old, new) = (Site::new(), Broker::listen().await, Broker::listen().await);
        let gate = site.start(&site.text(&[old.endpoint(kind)], "")).await;
        let (mut client, mut visit) = join(Client::tls(site.tls).await, &old, kind, "one").await;
        let before = Arc::downgrade(&gate.shared.snapshot.load_full());
        site.change(&gate, &site.text(&[new.endpoint(kind)], "")).await;
        ping(&mut client, &mut visit).await;
        let (mut second, mut other) = join(Client::tls(site.tls).await, &new, kind, "two").await;
        ping(&mut client, &mut visit).await;
        ping(&mut second, &mut other).await;
        until("the old snapshot to be gone", || before.strong_count() == 0).await;
        assert_eq!(gate.metric(&reloads("applied")), 1.0);
        drop((client, visit, second, other));
        gate.idle().await;
    }
}

#[tokio::test]
async fn what_a_configuration_gets_wrong_is_told_and_changes_nothing() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let good = site.text(&[broker.mqtt()], "");
    let gate = site.start(&good).await;
    let (mut client, mut visit) = join(Client::plain(site.plain).await, &broker, Kind::Mqtt, "one").await;
    let before = gate.shared.snapshot.load_full();
    let no_key = good.replace("key.pem", "nowhere.pem");
    let no_ca = site.text(&["{ url = \"mqtts://localhost\" }".into()], "tls.ca = \"nowhere.pem\"");
    for (text, words, is_configuration) in [
        (good.replace("workers", "wrokers"), "brokergate.toml:", true),
        (good[..good.len() / 2].to_owned(), "brokergate.toml:", true),
        (no_key, "nowhere.pem cannot be read", true),
        (no_ca, "nowhere.pem cannot be read", true),
        // Our own broker has it.
        (good.replace(&site.plain.to_string(), &broker.address().to_string()), "another process", false),
    ] {
        site.write(&text);
        let refusal = gate.reload().await.unwrap_err();
        let reports = refusal.reports();
        assert!(reports.iter().any(|report| report.contains(words)), "{reports:?}");
        assert_eq!(refusal.is_configuration(), is_configuration, "{reports:?}");
        assert_eq!(gate.metric(LAST_SUCCESSFUL), 0.0);
    }
    assert!(Arc::ptr_eq(&before, &gate.shared.snapshot.load_full()));
    assert_eq!((gate.metric(&reloads("refused")), gate.metric(&reloads("applied"))), (5.0, 0.0));
    ping(&mut client, &mut visit).await;
    TcpStream::connect(site.plain).await.unwrap();
    site.change(&gate, &good).await;
    assert_eq!(gate.metric(LAST_SUCCESSFUL), 1.0);
}

#[tokio::test]
async fn what_takes_a_restart_is_named_and_the_rest_is_applied() {
    let (site, old, new) = (Site::new(), Broker::listen().await, Broker::listen().await);
    let gate = site.start(&site.text(&[old.mqtt()], "")).await;
    let text = site
        .text(&[new.mqtt()], "[log]\nformat = \"json\"")
        .replace("workers = 1", "workers = 2\nbusy_poll = false");
    site.write(&text.replace("address = \"127.0.0.1:0\"", "enabled = false"));
    let warnings = gate.reload().await.unwrap().warnings;
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for key in ["runtime.workers", "runtime.busy_poll", "admin", "log.format"] {
        let told = format!("brokergate.toml: {key}: a running gateway can't change this");
        assert!(warnings.iter().any(|warning| warning.contains(&told)), "{warnings:?}");
    }
    join(Client::plain(site.plain).await, &new, Kind::Mqtt, "one").await;
    assert!(raw(gate.admin(), b"GET /live HTTP/1.0\r\n\r\n").await.ends_with("live\n"));
}

#[tokio::test]
async fn caps_change_and_who_is_in_stays() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let text =
        |connections: usize| site.text(&[broker.mqtt()], &format!("[limits]\nconnections = {connections}"));
    let gate = site.start(&text(3)).await;
    let (mut first, mut visit) = join(Client::plain(site.plain).await, &broker, Kind::Mqtt, "one").await;
    let second = join(Client::plain(site.plain).await, &broker, Kind::Mqtt, "two").await;
    site.change(&gate, &text(1)).await;
    assert_eq!(Client::open(site.plain, false, &[]).await.err().unwrap().status(), 503);
    ping(&mut first, &mut visit).await;
    site.change(&gate, &text(3)).await;
    until("the rejected one to be gone", || gate.metric("brokergate_connections") == 2.0).await;
    join(Client::plain(site.plain).await, &broker, Kind::Mqtt, "three").await;
    drop((first, visit, second));
    gate.idle().await;
}

#[tokio::test]
async fn sessions_of_a_removed_endpoint_stay_or_are_told_to_go() {
    for kind in KINDS {
        let (site, old, new) = (Site::new(), Broker::listen().await, Broker::listen().await);
        let text = |endpoints: &[String], on_removal: &str| {
            site.text(endpoints, &format!("on_removal = \"{on_removal}\"\n[drain]\nwindow = \"0s\""))
        };
        let gate = site.start(&text(&[old.endpoint(kind)], "drain")).await;
        let (mut client, mut visit) = join(Client::plain(site.plain).await, &old, kind, "one").await;
        // It stays, whatever else changes of it.
        let same = old.endpoint(kind).replace(" }", ", weight = 7, name = \"renamed\" }");
        site.change(&gate, &text(&[same.clone(), new.endpoint(kind)], "drain")).await;
        ping(&mut client, &mut visit).await;
        // It goes, and its sessions are kept.
        site.change(&gate, &text(&[new.endpoint(kind)], "keep")).await;
        ping(&mut client, &mut visit).await;
        let up = |name: &str| {
            gate.metric(&format!("brokergate_endpoint_up{{upstream=\"brokers\",endpoint=\"{name}\"}}"))
        };
        assert!(up("renamed").is_nan(), "an alert must not ring for what is gone");
        let (mut second, mut other) = join(Client::plain(site.plain).await, &new, kind, "two").await;
        // The other goes, and its sessions with it.
        site.change(&gate, &text(&[same], "drain")).await;
        assert_eq!(second.hear_all().await, (vec![0xE0, 2, 0x8B, 0], Some(1001)));
        assert!(other.hear_all().await.is_empty(), "no DISCONNECT toward the broker");
        ping(&mut client, &mut visit).await;
        drop((second, other));
        gate.ended("drained", "gateway").await;
        drop((client, visit));
        gate.idle().await;
    }
}

#[tokio::test]
async fn goodbyes_of_a_removed_endpoint_are_spread_over_the_window() {
    let (site, old, new) = (Site::new(), Broker::listen().await, Broker::listen().await);
    let text =
        |broker: &Broker| site.text(&[broker.mqtt()], "on_removal = \"drain\"\n[drain]\nwindow = \"1s\"");
    let gate = site.start(&text(&old)).await;
    let mut sessions = Vec::new();
    for index in 0..20 {
        let name = index.to_string();
        sessions.push(join(Client::plain(site.plain).await, &old, Kind::Mqtt, &name).await);
    }
    site.change(&gate, &text(&new)).await;
    let began = Instant::now();
    let leaving = sessions.into_iter().map(|(mut client, visit)| {
        tokio::spawn(async move {
            assert_eq!(client.hear_close().await, Some(1001));
            drop(visit);
            began.elapsed()
        })
    });
    let mut times = Vec::new();
    for left in leaving.collect::<Vec<_>>() {
        times.push(left.await.unwrap());
    }
    // All of 20 in one half of the window would be one chance in half a million.
    let half = Duration::from_millis(500);
    assert!(times.iter().any(|time| *time < half) && times.iter().any(|time| *time > half), "{times:?}");
    gate.idle().await;
}

#[tokio::test]
async fn a_session_that_is_dialling_a_removed_endpoint_is_told_to_go() {
    let (site, old, new) = (Site::new(), Broker::listen().await, Broker::listen().await);
    let text =
        |broker: &Broker| site.text(&[broker.mqtt()], "on_removal = \"drain\"\n[drain]\nwindow = \"0s\"");
    let gate = site.start(&text(&old)).await;
    let mut client = Client::plain(site.plain).await;
    let connect = connect_v3("one", 60);
    client.say(&connect).await;
    let mut visit = old.visit_mqtt().await;
    site.change(&gate, &text(&new)).await;
    visit.welcome(&connect).await;
    assert_eq!(client.hear_all().await, (vec![0x20, 2, 0, 0], Some(1001)));
    drop((client, visit));
    gate.ended("drained", "gateway").await;
    gate.idle().await;
}

#[tokio::test]
async fn a_removed_upstream_goes_by_what_it_said_itself() {
    let (site, old, new) = (Site::new(), Broker::listen().await, Broker::listen().await);
    let gate =
        site.start(&site.text(&[old.mqtt()], "on_removal = \"drain\"\n[drain]\nwindow = \"0s\"")).await;
    let (mut client, visit) = join(Client::plain(site.plain).await, &old, Kind::Mqtt, "one").await;
    let renamed = site.text(&[new.mqtt()], "").replace("brokers", "others");
    site.change(&gate, &renamed).await;
    assert_eq!(client.hear_close().await, Some(1001));
    drop((client, visit));
    gate.idle().await;
}

#[tokio::test]
async fn brokers_found_by_name_are_there_from_the_first_session_on() {
    let (site, old, new, names) =
        (Site::new(), Broker::listen().await, Broker::listen().await, Names::serve().await);
    let gate = site.start(&site.text(&[old.mqtt()], "")).await;
    names.addresses("brokers.test", [[127, 0, 0, 1]]);
    let endpoint =
        format!("{{ url = \"mqtt://brokers.test:{}\", discover = \"addresses\" }}", new.address().port());
    site.change(&gate, &site.text(&[endpoint], &names.toml())).await;
    join(Client::plain(site.plain).await, &new, Kind::Mqtt, "one").await;
}

#[tokio::test]
async fn a_drain_reaches_the_sessions_of_removed_endpoints() {
    let (site, old, new) = (Site::new(), Broker::listen().await, Broker::listen().await);
    let mut gate = site.start(&site.text(&[old.mqtt()], "")).await;
    let (mut client, visit) = join(Client::plain(site.plain).await, &old, Kind::Mqtt, "one").await;
    // The window of today counts, and not that of the session's first day.
    site.change(&gate, &site.text(&[new.mqtt()], "[drain]\nwindow = \"0s\"")).await;
    gate.ask();
    assert_eq!(client.hear_close().await, Some(1001));
    drop((client, visit));
    gate.stopped().await;
}

#[tokio::test]
async fn fifty_reloads_lose_no_session_and_refuse_nobody() {
    let (site, crews) = (Site::new(), [Crew::serve("").await, Crew::serve("").await, Crew::serve("").await]);
    let steady = Broker::listen().await;
    let text = |round: usize| {
        let mut endpoints = vec![steady.mqtt().replace(" }", ", max_sessions = 4 }")];
        endpoints.extend(crews.iter().skip(round % 3).map(|crew| crew.endpoint.clone()));
        site.text(&endpoints, &format!("[limits]\nconnections = {}", 1000 + round))
    };
    let gate = site.start(&site.text(&[steady.mqtt()], "")).await;
    // Sessions that end would make room at the steady broker for a guest it does not expect: they stay.
    let (stop, talked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut talking = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let client =
            if name.len() == 3 { Client::plain(site.plain).await } else { Client::tls(site.tls).await };
        let (mut client, mut visit) = join(client, &steady, Kind::Mqtt, name).await;
        let (stop, talked) = (Arc::clone(&stop), Arc::clone(&talked));
        talking.push(tokio::spawn(async move {
            let packet = publish(5, 3000);
            while !stop.load(Ordering::Relaxed) {
                client.say(&packet).await;
                assert_eq!(visit.hear(packet.len()).await, packet);
                visit.say(&packet).await;
                assert_eq!(client.hear_mqtt(packet.len()).await, packet);
                talked.fetch_add(1, Ordering::Relaxed);
            }
            // Room at the steady broker would be for a guest whom it does not expect.
            (client, visit)
        }));
    }
    // The steady broker is full from now on: guests go to the crews.
    site.change(&gate, &text(0)).await;
    let knocking = {
        let (stop, plain, tls) = (Arc::clone(&stop), site.plain, site.tls);
        tokio::spawn(async move {
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut client =
                    if served % 2 == 1 { Client::tls(tls).await } else { Client::plain(plain).await };
                client.say(&connect_v3("guest", 60)).await;
                assert_eq!(client.hear_mqtt(4).await, [0x20, 2, 0, 0]);
                served += 1;
            }
            served
        })
    };
    for round in 0..50 {
        let before = talked.load(Ordering::Relaxed);
        if round % 3 == 2 {
            site.write(&text(round)[..400]);
            assert!(matches!(gate.reload().await, Err(Refusal::Config(_))));
        } else {
            site.change(&gate, &text(round)).await;
        }
        until("traffic", || talked.load(Ordering::Relaxed) > before).await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(within("the last guest", knocking).await.unwrap() > 0);
    for session in talking {
        drop(within("the end of a talk", session).await.unwrap());
    }
    assert_eq!((gate.metric(&reloads("applied")), gate.metric(&reloads("refused"))), (35.0, 16.0));
    gate.idle().await;
}

#[tokio::test]
async fn the_admin_listener_reloads_who_asks_in_earnest() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let good = site.text(&[broker.mqtt()], "");
    let mut gate = site.start(&good).await;
    let post = async |headers: &str| {
        let request = format!("POST /reload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
        raw(gate.admin(), request.as_bytes()).await
    };
    assert!(post("").await.starts_with("HTTP/1.1 403 "));
    assert!(
        post("X-Brokergate: 1\r\nOrigin: http://evil.example.org\r\n").await.starts_with("HTTP/1.1 403 ")
    );
    assert_eq!(gate.metric(&reloads("applied")), 0.0);
    let done = post("X-Brokergate: 1\r\n").await;
    assert!(done.starts_with("HTTP/1.1 200 ") && done.ends_with("reloaded\n"), "{done}");
    site.write(&good.replace("workers", "wrokers"));
    let refused = post("X-Brokergate: 1\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 422 ") && refused.contains("did you mean `workers`"), "{refused}");
    assert!(raw(gate.admin(), b"GET /reload HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 405 "));
    // A gateway that came from no file has none to read.
    let other = Gate::start(&super::harness::simple(&[broker.mqtt()], "")).await;
    assert!(matches!(other.reload().await, Err(Refusal::NoFile)));
    gate.ask();
    while !matches!(gate.reload().await, Err(Refusal::Stopping)) {}
    gate.stopped().await;
}
