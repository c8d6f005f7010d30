//! Everything `brokergate demo` needs beside the gateway: a broker, a certificate, a page.
//!
//! [`Demo::prepare`] starts the broker in this process and writes the rest into one private folder.
//! [`Demo::configuration`] is the file the gateway then runs with, so that the demo takes the same
//! path as anybody's own configuration. Dropping the [`Demo`] stops the broker and removes the folder.

mod broker;
mod certificate;
mod folder;
mod guide;
mod page;
mod port;
mod presence;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use broker::Broker;
pub use certificate::Certificate;
pub use folder::Folder;
pub use port::{DEFAULT_PORT, free_port};
pub use presence::{Presence, PresenceBoard};

/// The MQTT route of the demo, at the gateway and at the broker's WebSocket listener.
const MQTT_PATH: &str = "/mqtt";

/// The parts of the demo, at work until it is dropped.
pub struct Demo {
    port: u16,
    endpoints: [DemoEndpoint; 2],
    certificate: Certificate,
    site: PathBuf,
    presence: PresenceBoard,
    // Fields are dropped in this order: the broker stops before its folder goes.
    broker: Broker,
    #[expect(dead_code, reason = "held: dropping it removes the files")]
    folder: Folder,
}

/// One way to the demo's broker.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct DemoEndpoint {
    name: &'static str,
    url: String,
    weight: u16,
}

impl Demo {
    /// Start the broker, make the certificate, and write the page for a gateway on loopback `port`.
    ///
    /// # Errors
    /// When a loopback port, a key or the private folder cannot be had.
    pub async fn prepare(port: u16) -> Result<Self, DemoError> {
        let broker = Broker::start().await?;
        let folder = Folder::create()?;
        let certificate = Certificate::make(&folder)?;
        let presence = PresenceBoard::start(&broker);
        let endpoints = [
            DemoEndpoint {
                name: "websocket",
                url: format!("ws://{}{MQTT_PATH}", broker.websocket()),
                weight: 2,
            },
            DemoEndpoint { name: "tcp", url: format!("mqtt://{}", broker.tcp()), weight: 1 },
        ];
        let site = folder.path().join("site");
        let demo = Self { port, endpoints, certificate, site, presence, broker, folder };
        page::write(&demo.site, &demo.facts())?;
        Ok(demo)
    }

    /// The gateway's configuration: one TLS listener on loopback, `/mqtt` to the broker by both ways, and the page.
    #[must_use]
    pub fn configuration(&self) -> String {
        guide::configuration(self)
    }

    /// What to print once the gateway listens: where to look and what to type.
    #[must_use]
    pub fn banner(&self) -> String {
        guide::banner(self)
    }

    /// Where the gateway says who came and who left.
    #[must_use]
    pub fn presence(&self) -> PresenceBoard {
        self.presence.clone()
    }

    fn facts(&self) -> page::Facts<'_> {
        page::Facts {
            endpoints: &self.endpoints,
            presence: presence::TOPIC,
            path: MQTT_PATH,
            ca: self.certificate.ca().display().to_string(),
            commands: guide::commands(self),
        }
    }
}

/// Why the demo could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The embedded broker found no loopback port, or refused its settings.
    #[error("the demo's broker cannot listen on loopback; is 127.0.0.1 usable on this machine?")]
    Broker(#[source] mqtt5::MqttError),
    /// The broker stopped before it was ready.
    #[error("the demo's broker stopped before it listened on {0}")]
    BrokerStopped(SocketAddr),
    /// The certificate could not be made.
    #[error("the demo's throw-away certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// A file of the demo could not be written.
    #[error("cannot write {}; set TMPDIR to a folder with room that you may write to", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No port is free near the one asked for.
    #[error("no free port from {0} on; give another with --port")]
    NoFreePort(u16),
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn configuration_is_toml_with_both_ways_to_the_broker() {
        let demo = Demo::prepare(8443).await.unwrap();
        let file: toml::Table = demo.configuration().parse().unwrap();

        let addresses = file["listeners"][0]["addresses"].as_array().unwrap();
        assert_eq!(addresses[0].as_str(), Some("127.0.0.1:8443"));
        for key in ["chain", "key"] {
            let path = file["listeners"][0]["tls"]["certificates"][0][key].as_str().unwrap();
            assert!(std::fs::metadata(path).unwrap().is_file());
        }
        let endpoints = file["upstreams"]["demo"]["endpoints"].as_array().unwrap();
        assert_eq!(endpoints[0]["url"].as_str(), Some(&*format!("ws://{}/mqtt", demo.broker.websocket())));
        assert_eq!(endpoints[0]["weight"].as_integer(), Some(2));
        assert_eq!(endpoints[1]["url"].as_str(), Some(&*format!("mqtt://{}", demo.broker.tcp())));
        assert_eq!(file["routes"][0]["path"].as_str(), Some("/mqtt"));
        let site = file["routes"][1]["site"]["root"].as_str().unwrap();
        assert!(std::fs::metadata(site).unwrap().is_dir());
    }

    #[tokio::test]
    async fn banner_names_the_page_the_socket_and_the_certificate() {
        let demo = Demo::prepare(8450).await.unwrap();
        let banner = demo.banner();
        for part in [
            "https://localhost:8450/",
            "wss://localhost:8450/mqtt",
            "npx mqtt sub",
            "mosquitto_pub",
            "Ctrl-C",
        ] {
            assert!(banner.contains(part), "{part} is missing in\n{banner}");
        }
        assert!(banner.contains(demo.certificate.ca().to_str().unwrap()));
    }

    #[tokio::test]
    async fn nothing_is_left_behind() {
        let demo = Demo::prepare(8443).await.unwrap();
        let (folder, broker) = (demo.site.parent().unwrap().to_owned(), demo.broker.tcp());
        assert!(folder.join("key.pem").is_file());
        drop(demo);
        assert!(!folder.exists());
        // The broker's tasks end when the runtime comes to them.
        while TcpListener::bind(broker).is_err() {
            tokio::task::yield_now().await;
        }
    }
}
