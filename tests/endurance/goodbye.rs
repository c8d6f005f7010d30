//! A goodbye as a client hears it, when it came, and whether the words were those of its version.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::{Client, Heard};
use super::packet::{Version, kind};

/// What a client heard at the end.
#[derive(Debug)]
pub(crate) struct Goodbye {
    pub(crate) client: usize,
    pub(crate) at: Instant,
    /// Against the words that are due: DISCONNECT 0x8B and close 1001 in MQTT 5, the close alone before.
    pub(crate) wrong: Option<String>,
}

impl Goodbye {
    /// Wait for it.
    pub(crate) async fn hear(number: usize, client: &mut Client) -> Self {
        let mut heard = client.hear().await;
        let at = Instant::now();
        let mut said = Vec::new();
        if let Heard::Packet(packet) = &heard {
            said.push(heard.words());
            let is_due = client.version == Version::V5
                && packet.kind() == kind::DISCONNECT
                && packet.body.first() == Some(&0x8B);
            if is_due {
                said.clear();
            }
            heard = client.hear().await;
        } else if client.version == Version::V5 {
            said.push("no DISCONNECT".to_owned());
        }
        if !matches!(heard, Heard::Close(1001)) {
            said.push(heard.words());
        }
        let wrong = (!said.is_empty())
            .then(|| format!("client {number} ({:?}) heard: {}", client.version, said.join(", then ")));
        Self { client: number, at, wrong }
    }
}

/// Let each of these hear its goodbye, to the end of its stream.
pub(crate) fn hear_all(clients: Vec<(usize, Client)>) -> JoinSet<Goodbye> {
    let mut hearing = JoinSet::new();
    for (number, mut client) in clients {
        hearing.spawn(async move {
            let goodbye = Goodbye::hear(number, &mut client).await;
            client.follow_close().await;
            goodbye
        });
    }
    hearing
}

/// The most of these, which are in order, in any second that begins with one.
pub(crate) fn most_in_a_second(times: &[Instant]) -> usize {
    let in_second = |(at, time): (usize, &Instant)| {
        times.partition_point(|it| it.duration_since(*time) < Duration::from_secs(1)) - at
    };
    times.iter().enumerate().map(in_second).max().unwrap_or_default()
}
