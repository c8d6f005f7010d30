//! `/status` tells the truth, to those who may know it; and `brokergate status` shows it.

use std::process::Output;
use std::time::{Duration, Instant};

use brokergate::admin::status::form::{State, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use super::harness::{Broker, Client, Crew, Gate, Message, connect_v3, publish, raw, simple, within};

const TOKEN: &str = "an-example-of-a-token";

/// The status code and body of the answer to a request with these header lines.
async fn ask(gate: &Gate, request: &str, headers: &[&str]) -> (u16, String) {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!("{request} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
    let answer = raw(gate.admin(), text.as_bytes()).await;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (code.unwrap_or_else(|| panic!("no answer: {answer}")), body.unwrap_or_default())
}

async fn status(gate: &Gate) -> Status {
    let (code, body) = ask(gate, "GET /status", &["Host: localhost"]).await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Wait until the status is so.
async fn until(gate: &Gate, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    within(what, async {
        loop {
            let status = status(gate).await;
            if holds(&status) {
                return status;
            }
        }
    })
    .await
}

async fn join(gate: &Gate, client_id: &str) -> Client {
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3(client_id, 0)).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 0]));
    client
}

#[tokio::test]
async fn it_counts_who_is_there_and_what_they_say() {
    let crew = Crew::serve("weight = 3").await;
    let gate =
        Gate::start(&simple(std::slice::from_ref(&crew.endpoint), "[limits]\nconnections = 100")).await;
    let (mut one, two) = (join(&gate, "one").await, join(&gate, "two").await);
    let told = status(&gate).await;
    assert_eq!((told.sessions.open, told.sessions.opened, told.sessions.ended), (2, 2, 0));
    assert_eq!((told.stage.as_str(), told.left, told.connections.limit), ("ready", None, 100));
    assert_eq!(told.connections.held, 2);
    let endpoint = &told.upstreams[0].endpoints[0];
    assert_eq!((endpoint.sessions, endpoint.opened, endpoint.weight), (2, 2, 3));
    assert_eq!((endpoint.state, &endpoint.since, &endpoint.error), (State::Up, &None, &None));

    // Rates are those of whole seconds.
    for _ in 0..50 {
        one.say(&publish(4, 10)).await;
    }
    let told = until(&gate, "a rate", |status| status.rates.publish_up > 0.0).await;
    assert!(told.rates.bytes_up > told.rates.publish_up, "{:?}", told.rates);
    let has_history = |status: &Status| status.history.publish_up.iter().any(|rate| *rate > 0.0);
    let told = until(&gate, "a second with messages", has_history).await;
    assert!(told.history.connects.len() <= 60 && told.process.memory_bytes > Some(1 << 20));

    drop(two);
    let told = until(&gate, "an ending", |status| status.sessions.open == 1).await;
    assert_eq!(told.sessions.ended, 1);
    let ending = &told.endings[0];
    assert_eq!((ending.reason.as_str(), ending.by.as_str()), ("client_vanished", "client"));
    assert_eq!((ending.minute, ending.total, told.endings.len()), (1, 1, 1));
    let nowhere =
        raw(gate.plain(), b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(nowhere.starts_with("HTTP/1.1 404 "));
    let told = status(&gate).await;
    assert_eq!((told.rejections[0].reason.as_str(), told.rejections[0].minute), ("not_found", 1));
}

#[tokio::test]
async fn an_endpoint_that_goes_down_is_told_within_its_probes() {
    let crew = Crew::serve("").await;
    let (interval, fall) = (Duration::from_millis(100), 3);
    let probe = format!(
        "probe = {{ kind = \"tcp\", interval = \"100ms\", jitter = \"0s\", timeout = \"5s\", rise = 2, fall = {fall} }}"
    );
    let gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), &probe)).await;
    let endpoint = |status: &Status| status.upstreams[0].endpoints[0].clone();
    let told = until(&gate, "a probe", |status| endpoint(status).probe.is_some()).await;
    assert!(endpoint(&told).probe.unwrap().passed && told.upstreams[0].available);

    let resting = crew.stop_listening().await;
    let began = Instant::now();
    let told = until(&gate, "down", |status| endpoint(status).state == State::Down).await;
    let took = began.elapsed();
    assert!(took < interval * (fall + 1) + Duration::from_secs(1), "it took {took:?}");
    assert!(!told.upstreams[0].available && endpoint(&told).since.is_some());
    let error = endpoint(&told).probe.unwrap().error.unwrap();
    assert!(error.contains("cannot connect"), "{error}");

    let _crew = resting.listen_again().await;
    let told = until(&gate, "up", |status| endpoint(status).state == State::Up).await;
    assert!(endpoint(&told).probe.unwrap().passed && endpoint(&told).since.is_none());
}

#[tokio::test]
async fn an_endpoint_that_fails_to_dial_is_told_with_its_error() {
    let broker = Broker::listen().await;
    let nobody = broker.mqtt();
    drop(broker);
    let gate = Gate::start(&simple(&[nobody], "avoid = \"1h\"")).await;
    let mut client = Client::plain(gate.plain()).await;
    client.say(&connect_v3("one", 0)).await;
    assert_eq!(client.hear().await, Message::Mqtt(vec![0x20, 2, 0, 3]));
    let told = status(&gate).await;
    let endpoint = &told.upstreams[0].endpoints[0];
    assert_eq!((endpoint.state, endpoint.opened), (State::Avoided, 0));
    assert!(endpoint.avoided_seconds > Some(3000) && endpoint.since.is_some(), "{endpoint:?}");
    assert!(endpoint.error.as_ref().unwrap().words.contains("cannot connect"), "{endpoint:?}");
    assert!(!told.upstreams[0].available);
}

#[tokio::test]
async fn a_refused_reload_is_told_with_its_mistakes_and_certificates_with_their_days() {
    let crew = Crew::serve("").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("brokergate.toml");
    let text = simple(
        std::slice::from_ref(&crew.endpoint),
        "[admin]\naddress = \"127.0.0.1:0\"\n[reload]\nwatch = false",
    );
    std::fs::write(&file, &text).unwrap();
    let gate = Gate::start_file(&file).await;
    let told = until(&gate, "certificates", |status| !status.certificates.is_empty()).await;
    assert_eq!((&told.reload, told.config), (&None, file.display().to_string()));
    assert!(told.certificates[0].kind == "listener" && told.certificates[0].days_left > 365);

    std::fs::write(&file, text.replace("workers", "wrokers").replace("upstream =", "upstraem =")).unwrap();
    gate.reload().await.unwrap_err();
    let reload = status(&gate).await.reload.unwrap();
    assert_eq!((reload.applied, reload.cause.as_str()), (false, "sighup"));
    let place = format!("{}:", file.display());
    assert!(
        reload.mistakes.len() >= 2 && reload.mistakes.iter().all(|it| it.starts_with(&place)),
        "{reload:?}"
    );
    assert!(reload.mistakes[0].contains("did you mean `workers`"), "{reload:?}");

    std::fs::write(&file, text.replace("workers = 1", "workers = 2")).unwrap();
    gate.reload().await.unwrap();
    let told = status(&gate).await;
    assert!(told.reload.unwrap().applied);
    assert!(
        told.warnings.iter().any(|it| it.contains("runtime.workers: a running gateway can't")),
        "{:?}",
        told.warnings
    );
}

#[tokio::test]
async fn what_is_left_of_a_drain_is_told() {
    let crew = Crew::serve("").await;
    let more = "[drain]\ndelay = \"1h\"\nwindow = \"0s\"\ngrace = \"5s\"";
    let mut gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), more)).await;
    let _client = join(&gate, "one").await;
    gate.ask();
    let told = until(&gate, "draining", |status| status.stage == "draining").await;
    assert_eq!(told.left, Some(1));
}

/// Whoever reaches the address could take all descriptors from clients otherwise.
#[tokio::test]
async fn only_so_many_connections_are_held() {
    let gate = Gate::start(&simple(&["\"mqtt://127.0.0.1:1\"".to_owned()], "")).await;
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(TcpStream::connect(gate.admin()).await.unwrap());
    }
    let mut one_more = TcpStream::connect(gate.admin()).await.unwrap();
    assert_eq!(within("its end", one_more.read(&mut [0])).await.unwrap_or(0), 0);
    // Who is there is answered, and makes room.
    let request = b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    held[0].write_all(request).await.unwrap();
    within("an answer", held[0].read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    let again = async {
        loop {
            let mut stream = TcpStream::connect(gate.admin()).await.unwrap();
            let mut answer = Vec::new();
            // Until there is room it is closed.
            let _ = stream.write_all(request).await;
            let _ = stream.read_to_end(&mut answer).await;
            if answer.starts_with(b"HTTP/1.1 200 ") {
                return;
            }
        }
    };
    within("room", again).await;
}

#[tokio::test]
async fn the_network_needs_a_token() {
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let meant = "X-Brokergate: 1";
    let named = "Host: gateway.example.org";
    for (address, token, headers, expected) in [
        ("0.0.0.0:0", false, vec![named], 403),
        ("0.0.0.0:0", false, vec![named, meant, &bearer], 403),
        ("0.0.0.0:0", true, vec![named], 401),
        ("0.0.0.0:0", true, vec![named, "Authorization: Bearer wrong", meant], 401),
        ("0.0.0.0:0", true, vec![named, meant, &bearer], 200),
        ("127.0.0.1:0", true, vec!["Host: localhost", meant], 401),
        ("127.0.0.1:0", true, vec!["Host: localhost", meant, &bearer], 200),
        ("127.0.0.1:0", false, vec!["Host: localhost", meant], 200),
        // A name that was pointed at this machine.
        ("127.0.0.1:0", false, vec!["Host: evil.example.org"], 403),
        ("127.0.0.1:0", false, vec!["Host: 127.0.0.1.example.org"], 403),
    ] {
        let line = if token { format!("token = \"{TOKEN}\"") } else { String::new() };
        let admin = format!("[admin]\naddress = \"{address}\"\n{line}");
        let gate = Gate::start(&simple(&["\"mqtt://127.0.0.1:1\"".to_owned()], &admin)).await;
        let (code, body) = ask(&gate, "GET /status", &headers).await;
        assert_eq!(code, expected, "{address} {token} {headers:?}: {body}");
        match expected {
            200 => assert!(body.contains("\"stage\":\"ready\"")),
            _ => assert!(body.contains("admin.token") && !body.contains("stage"), "{body}"),
        }
        // A reload has no file here, which is 409: it was let in.
        let (code, _) = ask(&gate, "POST /reload", &headers).await;
        assert_eq!(code, if expected == 200 { 409 } else { expected }, "{address} {token} {headers:?}");
        for path in ["/live", "/ready", "/metrics", "/", "/app.js"] {
            assert_eq!(ask(&gate, &format!("GET {path}"), &[named]).await.0, 200, "{path}");
        }
        let (code, _) = ask(&gate, "GET /nowhere", &headers).await;
        assert_eq!(code, if expected == 200 { 404 } else { expected });
    }
}

#[tokio::test]
async fn a_token_changes_with_a_reload_and_never_falls_away() {
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = (folder.path().join("brokergate.toml"), folder.path().join("token"));
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = { file = \"token\" }\n[reload]\nwatch = false";
    let text = simple(&["\"mqtt://127.0.0.1:1\"".to_owned()], admin);
    std::fs::write(&file, &text).unwrap();
    std::fs::write(&secret, format!("{TOKEN}\n")).unwrap();
    let gate = Gate::start_file(&file).await;
    let code =
        async |token: &str| ask(&gate, "GET /status", &[&format!("Authorization: Bearer {token}")]).await.0;
    assert_eq!((code(TOKEN).await, code("another-token-for-it").await), (200, 401));
    std::fs::write(&secret, "another-token-for-it").unwrap();
    assert!(gate.reload().await.unwrap().warnings.iter().all(|warning| !warning.contains("admin")));
    assert_eq!((code(TOKEN).await, code("another-token-for-it").await), (401, 200));
    // Switching the listener off takes a restart. Until then it goes by what it was started with.
    std::fs::write(&file, text.replace("token = {", "enabled = false\ntoken = {")).unwrap();
    gate.reload().await.unwrap();
    assert_eq!((code(TOKEN).await, code("").await), (200, 401));
}

#[tokio::test]
async fn a_unix_socket_asks_for_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let admin = format!("[admin]\naddress = \"unix:{}\"", socket.display());
    let text = simple(&["\"mqtt://127.0.0.1:1\"".to_owned()], &admin);
    let config = brokergate::config::parse("test.toml".as_ref(), &text, &|_| None).unwrap();
    let gateway = brokergate::gateway::Gateway::bind(config).unwrap();
    let running = gateway.run(std::future::pending(), std::future::pending());
    let asking = async {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream
            .write_all(b"GET /status HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let answer = tokio::select! {
        answer = asking => answer,
        ended = running => panic!("{ended:?}"),
    };
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_browser_takes_the_page_for_no_more_than_it_is() {
    let gate = Gate::start(&simple(&["\"mqtt://127.0.0.1:1\"".to_owned()], "")).await;
    for path in ["/", "/app.js", "/style.css", "/status", "/metrics", "/nowhere"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let head = raw(gate.admin(), request.as_bytes()).await.to_ascii_lowercase();
        for line in [
            "cache-control: no-store\r\n",
            "x-content-type-options: nosniff\r\n",
            "content-security-policy: default-src 'none'; script-src 'self';",
            "frame-ancestors 'none'",
        ] {
            assert!(head.contains(line), "{path}: {head}");
        }
    }
}

async fn command(arguments: &[&str], token: &str) -> (Option<i32>, String, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_brokergate"))
        .arg("status")
        .args(arguments)
        .env("BROKERGATE_ADMIN_TOKEN", token)
        .output();
    let Output { status, stdout, stderr } = within("the command", command).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn the_command_shows_it() {
    let crew = Crew::serve("").await;
    let admin = format!("[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"");
    let gate = Gate::start(&simple(std::slice::from_ref(&crew.endpoint), &admin)).await;
    let _client = join(&gate, "one").await;
    let address = gate.admin().to_string();
    let (code, shown, _) = command(&["--admin", &address], TOKEN).await;
    assert!(code == Some(0) && shown.contains("1 open, 1 opened, 0 ended"), "{shown}");
    assert!(shown.contains(&crew.name()) && !shown.contains('\x1b'), "{shown}");
    let (code, shown, _) = command(&["--admin", &address, "--json"], TOKEN).await;
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Status>(&shown).unwrap().sessions.open, 1);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(command(&["--admin", &address, "--token-file", path], "").await.0, Some(0));
    let (code, _, said) = command(&["--admin", &address], "").await;
    assert!(code == Some(1) && said.contains("admin.token"), "{said}");
    let (code, _, said) = command(&["--admin", "127.0.0.1:1"], "").await;
    assert!(code == Some(1) && said.contains("nobody answers"), "{said}");
    assert_eq!(command(&["--json", "--watch"], "").await.0, Some(2));
    assert_eq!(command(&["--admin", &address, "--token-file", "/nowhere"], "").await.0, Some(2));
}
