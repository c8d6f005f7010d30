//! Names that stand for many brokers: who joins, who leaves, and what a resolver that fails changes.

use std::net::SocketAddr;
use std::path::Path;

use brokergate::config;
use brokergate::gateway::Gateway;

use super::harness::{Client, Crew, Gate, Message, Mood, Names, connect_v3, log, raw, simple, until, within};

/// Crews on 127.0.0.2, .3 and so on, all on one port.
async fn crews<const N: usize>() -> ([Crew; N], u16) {
    'port: loop {
        let mut crews = vec![Crew::serve_on(SocketAddr::from(([127, 0, 0, 2], 0))).await.unwrap()];
        let port = crews[0].address().port();
        for number in 3..N as u8 + 2 {
            // Somebody else may have the port there.
            let Some(crew) = Crew::serve_on(SocketAddr::from(([127, 0, 0, number], port))).await else {
                continue 'port;
            };
            crews.push(crew);
        }
        return (crews.try_into().ok().unwrap(), port);
    }
}

/// An upstream of this endpoint, and a resolver. `keys` are the upstream's.
async fn gate(endpoint: &str, keys: &str, names: &Names) -> Gate {
    let more = format!("resolve_interval = \"20ms\"\n{keys}\n{}", names.toml());
    let gate = Gate::start(&simple(&[endpoint.to_owned()], &more)).await;
    // Nobody is let in before that.
    gate.shared.snapshot.load_full().looked_up().await;
    gate
}

fn by_address(port: u16) -> String {
    format!("{{ url = \"mqtt://brokers.test:{port}\", name = \"all\", discover = \"addresses\" }}")
}

async fn join(gate: &Gate, client_id: &str) -> Client {
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3(client_id, 0)).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
    client
}

fn endpoints(gate: &Gate) -> Vec<String> {
    let snapshot = gate.shared.snapshot.load();
    snapshot.pools["brokers"].pool.endpoints().iter().map(|endpoint| endpoint.name().to_string()).collect()
}

fn lookups(gate: &Gate, name: &str, result: &str) -> f64 {
    let labels = format!("upstream=\"brokers\",endpoint=\"{name}\",result=\"{result}\"");
    gate.metric(&format!("brokergate_lookups_total{{{labels}}}"))
}

#[tokio::test]
async fn each_address_of_a_name_is_a_broker() {
    let names = Names::serve().await;
    let (crews, port) = crews::<2>().await;
    names.addresses("brokers.test", [[127, 0, 0, 3], [127, 0, 0, 2]]);
    let gate = gate(&by_address(port), "", &names).await;
    assert_eq!(endpoints(&gate), [format!("all@127.0.0.2:{port}"), format!("all@127.0.0.3:{port}")]);
    for client in 0..6 {
        drop(join(&gate, &client.to_string()).await);
    }
    assert_eq!(crews.each_ref().map(Crew::count), [3, 3]);
    gate.idle().await;
}

#[tokio::test]
async fn a_name_that_moves_takes_new_sessions_along_and_leaves_old_ones_alone() {
    let names = Names::serve().await;
    let ([first, second], port) = crews().await;
    names.addresses("brokers.test", [[127, 0, 0, 2]]);
    let gate = gate(&by_address(port), "", &names).await;
    let stays = join(&gate, "stays").await;

    names.addresses("brokers.test", [[127, 0, 0, 3]]);
    until("the move", || endpoints(&gate) == [format!("all@127.0.0.3:{port}")]).await;
    let moved = join(&gate, "moved").await;
    assert_eq!((first.clients(), second.clients()), (vec!["stays".into()], vec!["moved".into()]));
    let name = |address: &str| format!("{{upstream=\"brokers\",endpoint=\"all@{address}:{port}\"}}");
    let metrics =
        raw(gate.admin(), b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    for line in [
        format!("brokergate_endpoint_up{} NaN", name("127.0.0.2")),
        format!("brokergate_endpoint_up{} 1", name("127.0.0.3")),
        format!("brokergate_endpoint_sessions{} 1", name("127.0.0.2")),
        format!("brokergate_endpoint_sessions{} 1", name("127.0.0.3")),
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }

    assert_eq!(gate.metric("brokergate_sessions"), 2.0);
    drop((stays, moved));
    gate.idle().await;
}

#[tokio::test]
async fn a_resolver_that_fails_changes_nothing() {
    log::keep();
    let names = Names::serve().await;
    let ([crew], port) = crews().await;
    names.addresses("steady.test", [[127, 0, 0, 2]]);
    let endpoint =
        format!("{{ url = \"mqtt://steady.test:{port}\", name = \"steady\", discover = \"addresses\" }}");
    let gate = gate(&endpoint, "", &names).await;
    let held = join(&gate, "held").await;
    for (mood, result) in [(Mood::Failing, "failed"), (Mood::Silent, "timeout")] {
        names.feels(mood);
        until(&format!("failures of a server that is {mood:?}"), || lookups(&gate, "steady", result) >= 2.0)
            .await;
        assert_eq!(endpoints(&gate), [format!("steady@127.0.0.2:{port}")]);
        drop(join(&gate, result).await);
    }
    log::line(&["steady", "a name has no answer"]).await;
    names.feels(Mood::Well);
    log::line(&["steady", "a name is answered again"]).await;
    // A name without addresses says as little.
    names.addresses("steady.test", []);
    let failed = lookups(&gate, "steady", "failed");
    until("an empty answer", || lookups(&gate, "steady", "failed") > failed).await;
    assert_eq!(endpoints(&gate), [format!("steady@127.0.0.2:{port}")]);
    assert_eq!(crew.clients(), ["held", "failed", "timeout"]);
    drop(held);
    gate.idle().await;
}

#[tokio::test]
async fn who_is_asked_to_stop_does_not_wait_for_names() {
    let names = Names::serve().await;
    names.feels(Mood::Silent);
    let resolver = names.toml().replace("300ms", "30s");
    let text = simple(&[by_address(1883)], &format!("{resolver}[admin]\nenabled = false"));
    let config = config::parse(Path::new("test.toml"), &text, &|_| None).unwrap();
    let gateway = Gateway::bind(config).unwrap();
    let asked = async { until("a question", || names.questions() > 0).await };
    let run = Box::pin(gateway.run(asked, std::future::pending()));
    within("the end", run).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_not_there_yet_is_waited_for() {
    let names = Names::serve().await;
    let ([crew], port) = crews().await;
    let gate = gate(&by_address(port), "required = true", &names).await;
    assert_eq!(endpoints(&gate), Vec::<String>::new());
    let ready = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(raw(gate.admin(), ready).await.starts_with("HTTP/1.1 503 "));
    let request = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    assert!(raw(gate.plain(), request.as_bytes()).await.starts_with("HTTP/1.1 503 "));

    names.addresses("brokers.test", [[127, 0, 0, 2]]);
    until("its first answer", || !endpoints(&gate).is_empty()).await;
    assert!(raw(gate.admin(), ready).await.starts_with("HTTP/1.1 200 "));
    drop(join(&gate, "one").await);
    assert_eq!(crew.count(), 1);
}

#[tokio::test]
async fn srv_records_bring_ports_weights_and_backups() {
    let names = Names::serve().await;
    let brokers = [Crew::serve("").await, Crew::serve("").await, Crew::serve("").await];
    let [two, one, backup] = brokers.each_ref().map(|crew| crew.address().port());
    names.services(
        "_mqtt._tcp.example.test",
        [(20, 5, backup, "c.test"), (10, 2, two, "a.test"), (10, 1, one, "b.test")],
    );
    for target in ["a.test", "b.test", "c.test"] {
        names.addresses(target, [[127, 0, 0, 1]]);
    }
    let endpoint = "{ url = \"mqtt://_mqtt._tcp.example.test\", name = \"srv\", discover = \"srv\" }";
    let gate = gate(endpoint, "", &names).await;
    assert_eq!(
        endpoints(&gate),
        [format!("srv@a.test:{two}"), format!("srv@b.test:{one}"), format!("srv@c.test:{backup}")]
    );
    for client in 0..6 {
        drop(join(&gate, &client.to_string()).await);
    }
    assert_eq!(brokers.each_ref().map(Crew::count), [4, 2, 0]);

    names.services("_mqtt._tcp.example.test", [(20, 5, backup, "c.test")]);
    until("the backup alone", || endpoints(&gate) == [format!("srv@c.test:{backup}")]).await;
    drop(join(&gate, "last").await);
    assert_eq!(brokers[2].clients(), ["last"]);
}

#[tokio::test]
async fn brokers_that_stay_keep_their_sessions_and_new_ones_start_slowly() {
    let names = Names::serve().await;
    let (crews, port) = crews::<2>().await;
    names.addresses("brokers.test", [[127, 0, 0, 2]]);
    let gate = gate(&by_address(port), "slow_start = \"1h\"", &names).await;
    let held = join(&gate, "held").await;
    names.addresses("brokers.test", [[127, 0, 0, 2], [127, 0, 0, 3]]);
    until("the new one", || endpoints(&gate).len() == 2).await;
    let snapshot = gate.shared.snapshot.load();
    let sessions: Vec<_> =
        snapshot.pools["brokers"].pool.endpoints().iter().map(|endpoint| endpoint.sessions()).collect();
    assert_eq!(sessions, [1, 0]);
    for client in 0..22 {
        drop(join(&gate, &client.to_string()).await);
    }
    assert_eq!(crews.each_ref().map(Crew::count), [21, 2], "a tenth of the other's");
    drop(held);
}

#[tokio::test]
async fn sessions_of_a_broker_that_leaves_stay_or_are_told_to_go() {
    for on_removal in ["keep", "drain"] {
        let names = Names::serve().await;
        let (crews, port) = crews::<2>().await;
        names.addresses("brokers.test", [[127, 0, 0, 2], [127, 0, 0, 3]]);
        let keys = format!("on_removal = \"{on_removal}\"\n[drain]\nwindow = \"0s\"");
        let gate = gate(&by_address(port), &keys, &names).await;
        let mut leaving = join(&gate, "one").await;
        let staying = join(&gate, "two").await;
        assert_eq!(crews.each_ref().map(Crew::count), [1, 1]);
        names.addresses("brokers.test", [[127, 0, 0, 3]]);
        until("the other alone", || endpoints(&gate) == [format!("all@127.0.0.3:{port}")]).await;
        if on_removal == "drain" {
            assert_eq!(leaving.hear_close().await, Some(1001));
            drop(leaving);
            gate.ended("drained", "gateway").await;
            until("the other's alone", || gate.metric("brokergate_sessions") == 1.0).await;
        } else {
            let more = lookups(&gate, "all", "answered") + 2.0;
            until("more look-ups", || lookups(&gate, "all", "answered") >= more).await;
            assert_eq!(gate.metric("brokergate_sessions"), 2.0);
            drop(leaving);
        }
        drop(staying);
    }
}

#[tokio::test]
async fn a_name_stands_for_so_many_and_no_more() {
    log::keep();
    let names = Names::serve().await;
    names.addresses("crowd.test", [[127, 0, 0, 4], [127, 0, 0, 2], [127, 0, 0, 3]]);
    let endpoint = "{ url = \"mqtt://crowd.test\", name = \"crowd\", discover = \"addresses\" }";
    let gate = gate(endpoint, "max_endpoints = 2", &names).await;
    assert_eq!(endpoints(&gate), ["crowd@127.0.0.2:1883", "crowd@127.0.0.3:1883"]);
    until("more look-ups", || lookups(&gate, "crowd", "answered") >= 3.0).await;
    let line = log::line(&["crowd", "max_endpoints"]).await;
    assert!(line.contains("\"left_out\":1"), "{line}");
}

#[tokio::test]
async fn discovered_brokers_are_probed_while_they_are_there() {
    let names = Names::serve().await;
    let ([_first, second], port) = crews().await;
    names.addresses("brokers.test", [[127, 0, 0, 2]]);
    let keys = "probe = { kind = \"tcp\", interval = \"10ms\", jitter = \"0s\" }";
    let gate = gate(&by_address(port), keys, &names).await;
    let passed = |address: &str| {
        let labels =
            format!("upstream=\"brokers\",endpoint=\"all@{address}:{port}\",kind=\"tcp\",result=\"passed\"");
        gate.metric(&format!("brokergate_probes_total{{{labels}}}"))
    };
    until("a probe of the first", || passed("127.0.0.2") >= 1.0).await;
    names.addresses("brokers.test", [[127, 0, 0, 3]]);
    until("probes of the second", || passed("127.0.0.3") >= 1.0).await;
    let (of_first, of_second) = (passed("127.0.0.2"), passed("127.0.0.3"));
    until("more of them", || passed("127.0.0.3") >= of_second + 10.0).await;
    assert!(passed("127.0.0.2") <= of_first + 1.0, "who left is not probed");
    assert_eq!(second.count(), 0);
}

#[tokio::test]
async fn a_plain_name_is_resolved_by_the_nameservers_at_each_dial() {
    let names = Names::serve().await;
    let (crews, port) = crews::<2>().await;
    names.addresses("plain.test", [[127, 0, 0, 2]]);
    let endpoint = format!("{{ url = \"mqtt://plain.test:{port}\" }}");
    let gate = Gate::start(&simple(&[endpoint], &names.toml())).await;
    assert_eq!(names.questions(), 0, "nobody has dialled");
    drop(join(&gate, "one").await);
    names.addresses("plain.test", [[127, 0, 0, 3]]);
    drop(join(&gate, "two").await);
    assert_eq!(crews.each_ref().map(Crew::count), [1, 1]);
}
