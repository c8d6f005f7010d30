//! Under a service manager: what it is told, and the sockets it listens on.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use brokergate::config;
use brokergate::gateway::Gateway;
use brokergate::worker::Workers;
use tokio::net::UnixDatagram;
use tokio::process::Command;

use super::super::harness::{Client, Crew, connect_v3, simple, until, within};
use super::family::{Family, signal};

/// What listens where NOTIFY_SOCKET says.
struct Manager(UnixDatagram);

impl Manager {
    fn of(family: &Family) -> Self {
        Self(UnixDatagram::bind(family.path("notify.sock")).unwrap())
    }

    /// Read nothing more for now, as while it reads its units again: nothing more goes in.
    fn look_away(&self, family: &Family) {
        let place = family.path("notify.sock");
        // One sender alone is stopped by its own buffer before.
        let another = || {
            let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
            other.set_nonblocking(true).unwrap();
            let sent = std::iter::from_fn(|| other.send_to(b"OTHER=1", &place).ok()).count();
            sent > 0
        };
        while another() {}
    }

    /// The next message.
    async fn hear(&self) -> String {
        let mut bytes = [0; 4096];
        let length = within("a message", self.0.recv(&mut bytes)).await.unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// The next message that begins so.
    async fn hear_of(&self, begin: &str) -> String {
        loop {
            let message = self.hear().await;
            if message.starts_with(begin) {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn a_service_manager_learns_how_things_are() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    let manager = Manager::of(&family);
    family.configure(std::slice::from_ref(&crew.endpoint), "[reload]\nwatch = false");
    let first = family
        .command()
        .env("NOTIFY_SOCKET", family.path("notify.sock"))
        .env("WATCHDOG_USEC", "600000")
        .spawn()
        .unwrap();
    let old = first.id().unwrap();
    assert_eq!(manager.hear().await, "READY=1\n");
    assert_eq!(manager.hear().await, "STATUS=serving, 0 sessions\n");
    for _ in 0..3 {
        assert_eq!(manager.hear().await, "WATCHDOG=1\n");
    }
    let mut client = Client::plain(family.plain).await;
    client.say(&connect_v3("one", 60)).await;
    client.hear_mqtt(4).await;
    manager.hear_of("STATUS=serving, 1 sessions").await;

    // A reload, whatever comes of it.
    signal(old, "-HUP");
    let reloading = manager.hear_of("RELOADING=1\n").await;
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    manager.hear_of("READY=1\n").await;

    // Another process is the service: it alone is heard from then on.
    let new = family.upgraded().await;
    assert_eq!(manager.hear_of("MAINPID=").await, format!("MAINPID={new}\nREADY=1\n"));
    assert_eq!(manager.hear().await, "STATUS=serving, 0 sessions\n");
    assert_eq!(manager.hear().await, "WATCHDOG=1\n", "though it was named to another process");
    drop(client);
    family.only(&[new]).await;
    signal(new, "-TERM");
    let stopping = manager.hear_of("STOPPING=1\n").await;
    // drain.grace, and a little more.
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=10000000\n"), "{stopping}");
    family.only(&[]).await;
    drop(first);
}

#[tokio::test]
async fn a_service_manager_that_is_slow_learns_of_each_process_in_turn() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    let manager = Manager::of(&family);
    family.configure(std::slice::from_ref(&crew.endpoint), "");
    let mut command = family.command();
    command.env("NOTIFY_SOCKET", family.path("notify.sock")).env("WATCHDOG_USEC", "600000");
    let first = command.spawn().unwrap();
    let old = first.id().unwrap();
    manager.hear_of("WATCHDOG=1").await;
    manager.look_away(&family);
    family.logged("does not hear us").await;
    let new = family.upgraded().await;
    assert_eq!(family.living(), [old, new], "the service ends with the process that it is known by");
    // A next one would be named before this one.
    let (code, said) = family.upgrade().await;
    assert!(code == Some(1) && said.contains("does not hear yet"), "{code:?}: {said}");
    assert_eq!(manager.hear_of("MAINPID=").await, format!("MAINPID={new}\nREADY=1\n"));
    family.only(&[new]).await;
    manager.hear_of("WATCHDOG=1").await;
    let next = family.upgraded().await;
    assert_eq!(manager.hear_of("MAINPID=").await, format!("MAINPID={next}\nREADY=1\n"));
    drop(first);
}

#[tokio::test]
async fn a_worker_that_is_stuck_does_not_turn() {
    let config = config::parse(
        Path::new("test.toml"),
        &simple(&["\"mqtt://127.0.0.1:1\"".to_owned()], "[admin]\nenabled = false"),
        &|_| None,
    );
    let gateway = Gateway::bind(config.unwrap()).unwrap();
    let workers = Workers::start(2, gateway.shared()).unwrap();
    let turns = workers.turns();
    until("both to turn", || turns.iter().all(|turns| turns.count() > 0)).await;
    // The first one, by a call that does not come back.
    let (blocked, is_blocked) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    workers.accepting().spawn(async move {
        blocked.send(()).unwrap();
        let _ = released.recv();
    });
    is_blocked.await.unwrap();
    let before = [turns[0].count(), turns[1].count()];
    until("the other to turn", || turns[1].count() >= before[1] + 2).await;
    assert_eq!(turns[0].count(), before[0]);
    drop(release);
    until("it to turn again", || turns[0].count() > before[0]).await;
    tokio::task::spawn_blocking(|| workers.stop()).await.unwrap();
}

#[tokio::test]
async fn a_service_manager_that_is_not_there_harms_nobody() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), "");
    let mut first = family.command().env("NOTIFY_SOCKET", family.path("nowhere.sock")).spawn().unwrap();
    family.serving().await;
    family.logged("does not hear us").await;
    signal(first.id().unwrap(), "-TERM");
    assert!(within("the end", first.wait()).await.unwrap().success());
    let log = std::fs::read_to_string(family.path("log")).unwrap();
    assert_eq!(log.matches("does not hear us").count(), 1, "{log}");
}

#[tokio::test]
async fn sockets_of_systemd_are_taken() {
    let (family, crew) = (Family::on_unix_socket(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), "");
    let clients = std::net::TcpListener::bind(family.plain).unwrap();
    let admin = std::os::unix::net::UnixListener::bind(family.path("admin.sock")).unwrap();
    // Who comes before the gateway is there is served when it is.
    let early = tokio::net::TcpStream::connect(family.plain).await.unwrap();
    let mut command = Command::new("/bin/sh");
    let script =
        "exec 3<&0 4>&1 </dev/null >&2; export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$0\" run --config \"$1\"";
    command.arg("-c").arg(script).arg(family.path("brokergate")).arg(family.path("brokergate.toml"));
    family.attend(&mut command);
    // As with systemd, another process keeps them.
    let copies = (clients.try_clone().unwrap(), admin.try_clone().unwrap());
    command.stdin(Stdio::from(OwnedFd::from(copies.0))).stdout(Stdio::from(OwnedFd::from(copies.1)));
    let first = command.spawn().unwrap();
    drop(command);
    family.serving().await;
    let (mut client, _) =
        Client::over(Box::new(early), "ws://localhost/mqtt", &[("sec-websocket-protocol", "mqtt")])
            .await
            .unwrap();
    client.say(&connect_v3("early", 60)).await;
    assert_eq!(client.hear_mqtt(4).await, [0x20, 2, 0, 0]);
    let new = family.upgraded().await;
    assert_eq!(client.hear_close().await, Some(1001));
    drop(client);
    family.only(&[new]).await;
    let mut client = Client::plain(family.plain).await;
    client.say(&connect_v3("late", 60)).await;
    assert_eq!(client.hear_mqtt(4).await, [0x20, 2, 0, 0]);
    drop((first, clients, admin));
}

#[tokio::test]
async fn a_socket_that_is_no_listener_is_refused() {
    let (family, crew) = (Family::new(), Crew::serve("").await);
    family.configure(std::slice::from_ref(&crew.endpoint), "");
    let mut command = Command::new("/bin/sh");
    let script = "exec 3</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" run --config \"$1\"";
    command.arg("-c").arg(script).arg(family.path("brokergate")).arg(family.path("brokergate.toml"));
    family.attend(&mut command);
    let status = within("the end", command.status()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    family.logged("socket 1 of those that systemd passes is no stream socket that listens").await;
}
