//! Files that change: each way in which editors, renewals and mounted volumes do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::harness::{Broker, Certificates, Client, Gate, Kind, until};
use super::{Crew, LAST_SUCCESSFUL, Site, join, ping, reloads};

/// A gateway that watches, and two brokers: the text leads to the first.
struct Watched {
    site: Site,
    brokers: [Broker; 2],
}

impl Watched {
    async fn new() -> Self {
        Self { site: Site::new(), brokers: [Broker::listen().await, Broker::listen().await] }
    }

    /// The configuration that leads to this broker, and watches.
    fn text(&self, broker: usize) -> String {
        watching(&self.site.text(&[self.brokers[broker].mqtt()], ""))
    }

    /// A new session meets this broker.
    async fn leads_to(&self, broker: usize) {
        join(Client::plain(self.site.plain).await, &self.brokers[broker], Kind::Mqtt, "guest").await;
    }
}

fn watching(text: &str) -> String {
    text.replace("watch = false", "watch = true")
}

/// Wait until so many reloads were applied, and refused.
async fn reloaded(gate: &Gate, applied: usize, refused: usize) {
    let count = |result| gate.metric(&reloads(result)) as usize;
    until(&format!("{applied} reloads and {refused} refusals"), || {
        (count("applied"), count("refused")) == (applied, refused)
    })
    .await;
}

/// Replace `file` as editors do: the new text stands whole before it gets the name.
fn rename_and_replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn a_file_that_is_written_anew_is_taken_up_and_sessions_stay() {
    let watched = Watched::new().await;
    let gate = watched.site.start(&watched.text(0)).await;
    let client = Client::plain(watched.site.plain).await;
    let (mut client, mut visit) = join(client, &watched.brokers[0], Kind::Mqtt, "one").await;
    watched.site.write(&watched.text(1));
    reloaded(&gate, 1, 0).await;
    watched.leads_to(1).await;
    rename_and_replace(&watched.site.file(), &watched.text(0));
    reloaded(&gate, 2, 0).await;
    watched.leads_to(0).await;
    // Again: the watch is not on the file that was replaced.
    rename_and_replace(&watched.site.file(), &watched.text(1));
    reloaded(&gate, 3, 0).await;
    watched.leads_to(1).await;
    ping(&mut client, &mut visit).await;
}

#[tokio::test]
async fn a_half_written_file_is_refused_once_and_the_whole_one_taken() {
    let watched = Watched::new().await;
    let gate = watched.site.start(&watched.text(0)).await;
    let whole = watched.text(1);
    watched.site.write(&whole[..whole.len() / 2]);
    reloaded(&gate, 0, 1).await;
    watched.leads_to(0).await;
    // The same half again, and something else in the folder: no news. That nothing happens shows in
    // the counters once the next change has been seen.
    watched.site.write(&whole[..whole.len() / 2]);
    fs::write(watched.site.file().with_extension("log"), "noise").unwrap();
    gate.reload().await.unwrap_err();
    reloaded(&gate, 0, 2).await;
    watched.site.write(&whole);
    reloaded(&gate, 1, 2).await;
    watched.leads_to(1).await;
    assert_eq!(gate.metric(LAST_SUCCESSFUL), 1.0);
}

#[tokio::test]
async fn a_mounted_volume_is_swapped_by_its_symlink() {
    let watched = Watched::new().await;
    let folder = watched.site.folder.path();
    let publish = |version: &str, text: &str| {
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(folder.join(version).join("brokergate.toml"), text).unwrap();
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    publish("..1", &watched.text(0));
    symlink("..data/brokergate.toml", watched.site.file()).unwrap();
    let gate = Gate::start_file(&watched.site.file()).await;
    watched.leads_to(0).await;
    for (round, broker) in [(1, 1), (2, 0), (3, 1)] {
        publish(&format!("..{}", round + 1), &watched.text(broker));
        fs::remove_dir_all(folder.join(format!("..{round}"))).unwrap();
        reloaded(&gate, round, 0).await;
        watched.leads_to(broker).await;
    }
}

#[tokio::test]
async fn a_secret_that_changes_is_sent_from_then_on() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    fs::write(site.folder.path().join("token"), "first\n").unwrap();
    let more = "[upstreams.brokers.forwarded.set_headers]\nX-Token = { file = \"token\" }";
    let gate = site.start(&watching(&site.text(&[broker.ws()], more))).await;
    let (_client, visit) = join(Client::plain(site.plain).await, &broker, Kind::Ws, "one").await;
    assert_eq!(visit.headers["x-token"], "first");
    rename_and_replace(&site.folder.path().join("token"), "second\n");
    reloaded(&gate, 1, 0).await;
    let (_client, visit) = join(Client::plain(site.plain).await, &broker, Kind::Ws, "two").await;
    assert_eq!(visit.headers["x-token"], "second");
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_taken_up_with_its_key() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let (files, renewed) = (Certificates::of(&["localhost"]), Certificates::of(&["localhost"]));
    let listeners = format!("[[listeners]]\naddresses = [\"{}\"]\ntls = {}\n", site.tls, files.toml());
    let gate = site.start(&watching(&site.text_with(&listeners, &[broker.mqtt()], ""))).await;
    // One after the other: the pair is taken up when it fits, whatever is seen of it before.
    for name in ["chain.pem", "key.pem"] {
        fs::copy(renewed.path(name), files.path(name)).unwrap();
    }
    until("the renewed pair", || gate.metric(&reloads("applied")) == 1.0).await;
    let stream = tokio::net::TcpStream::connect(site.tls).await.unwrap();
    super::super::harness::secure(stream, renewed.client()).await;
}

#[tokio::test]
async fn the_watch_is_switched_by_the_file_it_watches() {
    let watched = Watched::new().await;
    let gate = watched.site.start(&watched.text(0)).await;
    watched.site.write(&watched.text(1).replace("watch = true", "watch = false"));
    reloaded(&gate, 1, 0).await;
    watched.site.write(&watched.text(0));
    // That nothing happens shows while another gateway sees two changes that came later, one after the other.
    let other = Watched::new().await;
    let seeing = other.site.start(&other.text(0)).await;
    for (round, broker) in [(1, 1), (2, 0)] {
        other.site.write(&other.text(broker));
        reloaded(&seeing, round, 0).await;
    }
    assert_eq!(gate.metric(&reloads("applied")), 1.0);
    // Who asks gets it, and the watch is back.
    gate.reload().await.unwrap();
    reloaded(&gate, 2, 0).await;
    watched.site.write(&watched.text(1));
    reloaded(&gate, 3, 0).await;
    watched.leads_to(1).await;
}

#[tokio::test]
async fn what_is_missing_is_taken_up_when_it_comes() {
    let (site, crew) = (Site::new(), Crew::serve("").await);
    let text = watching(&site.text(std::slice::from_ref(&crew.endpoint), ""));
    let gate = site.start(&text).await;
    fs::remove_file(site.file()).unwrap();
    reloaded(&gate, 0, 1).await;
    rename_and_replace(&site.file(), &text);
    reloaded(&gate, 1, 1).await;
    // A secret that is written after the file that names it.
    let more = "\n[upstreams.brokers.forwarded.set_headers]\nX-Token = { file = \"token\" }";
    site.write(&(text + more));
    reloaded(&gate, 1, 2).await;
    fs::write(site.folder.path().join("token"), "secret").unwrap();
    reloaded(&gate, 2, 2).await;
}
