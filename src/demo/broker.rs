//! The demo's broker, inside this process: MQTT 3.1.1 and 5, anonymous, on loopback, in memory.
//!
//! It has one TCP and one WebSocket listener, so that the gateway's two endpoints meet in it: what
//! is published through one arrives through the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mqtt5::broker::config::{StorageBackend, WebSocketConfig};
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::{BrokerConfig, MqttBroker, StorageConfig};
use tokio::task::AbortHandle;

use super::{DemoError, MQTT_PATH};

/// Bytes of a packet. The crate's own default, 2^28, is refused by strict clients when CONNACK says
/// it: a remaining length is 2^28 - 1 at the most (MQTT 5, 1.5.5).
const MAX_PACKET_SIZE: usize = 1024 * 1024;
/// How long a session is kept for a client that went away.
const SESSION_EXPIRY: Duration = Duration::from_secs(300);
/// Messages kept for one such session.
const MAX_QUEUED: usize = 1000;
/// Bytes kept for one such session.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// Retained messages, so that a client cannot fill the memory.
const MAX_RETAINED: usize = 1000;

/// A broker at work. It stops when this is dropped.
pub struct Broker {
    tcp: SocketAddr,
    websocket: SocketAddr,
    router: Arc<MessageRouter>,
    task: AbortHandle,
}

impl Broker {
    /// Start on two free loopback ports.
    ///
    /// # Errors
    /// [`DemoError::Broker`] when loopback cannot be bound.
    pub async fn start() -> Result<Self, DemoError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start_at(any, any).await
    }

    /// Start on these addresses. Port 0 is a free one.
    ///
    /// # Errors
    /// [`DemoError::Broker`] when one of them cannot be bound.
    pub async fn start_at(tcp: SocketAddr, websocket: SocketAddr) -> Result<Self, DemoError> {
        let mut broker =
            MqttBroker::with_config(settings(tcp, websocket)).await.map_err(DemoError::Broker)?;
        // Where WebSocket cannot be bound the crate only warns, and has no such listener.
        let (Some(tcp), Some(websocket)) = (broker.local_addr(), broker.ws_local_addr()) else {
            return Err(DemoError::BrokerStopped(websocket));
        };
        let router = broker.router();
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!(%error, "the demo's broker stopped");
            }
        })
        .abort_handle();
        let broker = Self { tcp, websocket, router, task };
        ready.wait_for(|ready| *ready).await.map_err(|_| DemoError::BrokerStopped(tcp))?;
        Ok(broker)
    }

    /// Where it speaks MQTT over TCP.
    #[must_use]
    pub const fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    /// Where it speaks MQTT over WebSocket, on the path `/mqtt`.
    #[must_use]
    pub const fn websocket(&self) -> SocketAddr {
        self.websocket
    }

    pub(super) fn router(&self) -> Arc<MessageRouter> {
        Arc::clone(&self.router)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its accept loops and sessions end with it.
        self.task.abort();
    }
}

fn settings(tcp: SocketAddr, websocket: SocketAddr) -> BrokerConfig {
    let storage = StorageConfig {
        backend: StorageBackend::Memory,
        max_queued_messages_per_client: MAX_QUEUED,
        max_queued_bytes_per_client: MAX_QUEUED_BYTES,
        ..StorageConfig::default()
    };
    BrokerConfig::new()
        .with_bind_address(tcp)
        .with_websocket(WebSocketConfig::new().with_bind_address(websocket).with_path(MQTT_PATH))
        .with_storage(storage)
        .with_max_packet_size(MAX_PACKET_SIZE)
        .with_session_expiry(SESSION_EXPIRY)
        .with_max_retained_messages(MAX_RETAINED)
        .with_max_retained_message_size(MAX_PACKET_SIZE)
        .with_sys_topics_enabled(false)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use futures_util::{SinkExt, StreamExt};
    use mqttbytes::QoS;
    use mqttbytes::{v4, v5};
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    use tokio_tungstenite::tungstenite::http::HeaderValue;

    use super::*;

    /// One of the broker's two listeners.
    #[derive(Debug, Clone, Copy)]
    enum Way {
        Tcp,
        WebSocket,
    }

    /// A connection of an MQTT client that is not the broker's own crate.
    enum Client {
        Tcp(TcpStream, BytesMut),
        WebSocket(Box<WebSocketStream<TcpStream>>, BytesMut),
    }

    impl Client {
        async fn dial(broker: &Broker, way: Way) -> Self {
            match way {
                Way::Tcp => Self::Tcp(TcpStream::connect(broker.tcp()).await.unwrap(), BytesMut::new()),
                Way::WebSocket => {
                    let stream = TcpStream::connect(broker.websocket()).await.unwrap();
                    let mut request =
                        format!("ws://{}/mqtt", broker.websocket()).into_client_request().unwrap();
                    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("mqtt"));
                    let (stream, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
                    assert_eq!(answer.headers()["sec-websocket-protocol"], "mqtt");
                    Self::WebSocket(Box::new(stream), BytesMut::new())
                }
            }
        }

        async fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> Result<usize, mqttbytes::Error>) {
            let mut bytes = BytesMut::new();
            write(&mut bytes).unwrap();
            match self {
                Self::Tcp(stream, _) => stream.write_all(&bytes).await.unwrap(),
                Self::WebSocket(stream, _) => stream.send(Message::Binary(bytes.freeze())).await.unwrap(),
            }
        }

        /// The next packet, by `read`, as soon as it is whole.
        async fn receive<P>(&mut self, read: fn(&mut BytesMut, usize) -> Result<P, mqttbytes::Error>) -> P {
            loop {
                let (Self::Tcp(_, buffer) | Self::WebSocket(_, buffer)) = self;
                match read(buffer, MAX_PACKET_SIZE) {
                    Ok(packet) => return packet,
                    Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                match self {
                    Self::Tcp(stream, buffer) => {
                        assert!(stream.read_buf(buffer).await.unwrap() > 0, "hung up")
                    }
                    Self::WebSocket(stream, buffer) => match stream.next().await.unwrap().unwrap() {
                        Message::Binary(bytes) => buffer.extend_from_slice(&bytes),
                        other => panic!("{other}"),
                    },
                }
            }
        }

        async fn connect_v4(broker: &Broker, way: Way, client_id: &str) -> Self {
            let mut client = Self::dial(broker, way).await;
            client.send(|bytes| v4::Connect::new(client_id).write(bytes)).await;
            match client.receive(v4::read).await {
                v4::Packet::ConnAck(answer) => assert_eq!(answer.code, v4::ConnectReturnCode::Success),
                other => panic!("{other:?}"),
            }
            client
        }

        async fn connect_v5(broker: &Broker, way: Way, client_id: &str) -> Self {
            let mut client = Self::dial(broker, way).await;
            client.send(|bytes| v5::Connect::new(client_id).write(bytes)).await;
            match client.receive(v5::read).await {
                v5::Packet::ConnAck(answer) => {
                    assert_eq!(answer.code, v5::ConnectReturnCode::Success);
                    let size = answer.properties.unwrap().max_packet_size.unwrap();
                    assert_eq!(usize::try_from(size).unwrap(), MAX_PACKET_SIZE);
                }
                other => panic!("{other:?}"),
            }
            client
        }
    }

    #[rstest]
    #[tokio::test]
    async fn mqtt_3_1_1_crosses_from_one_listener_to_the_other(
        #[values(Way::Tcp, Way::WebSocket)] from: Way,
        #[values(Way::Tcp, Way::WebSocket)] to: Way,
    ) {
        let broker = Broker::start().await.unwrap();
        let mut to = Client::connect_v4(&broker, to, "to").await;
        to.send(|bytes| v4::Subscribe::new("demo/#", QoS::AtLeastOnce).write(bytes)).await;
        assert!(matches!(to.receive(v4::read).await, v4::Packet::SubAck(_)));

        let mut from = Client::connect_v4(&broker, from, "from").await;
        from.send(|bytes| v4::Publish::new("demo/hello", QoS::AtMostOnce, "hello").write(bytes)).await;
        match to.receive(v4::read).await {
            v4::Packet::Publish(message) => {
                assert_eq!((message.topic.as_str(), message.payload), ("demo/hello", Bytes::from("hello")));
            }
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[tokio::test]
    async fn mqtt_5_crosses_from_one_listener_to_the_other(
        #[values(Way::Tcp, Way::WebSocket)] from: Way,
        #[values(Way::Tcp, Way::WebSocket)] to: Way,
    ) {
        let broker = Broker::start().await.unwrap();
        let mut to = Client::connect_v5(&broker, to, "to").await;
        to.send(|bytes| v5::Subscribe::new("demo/#", QoS::AtLeastOnce).write(bytes)).await;
        assert!(matches!(to.receive(v5::read).await, v5::Packet::SubAck(_)));

        let mut from = Client::connect_v5(&broker, from, "from").await;
        from.send(|bytes| v5::Publish::new("demo/hello", QoS::AtMostOnce, "hello").write(bytes)).await;
        match to.receive(v5::read).await {
            v5::Packet::Publish(message) => {
                assert_eq!((message.topic.as_str(), message.payload), ("demo/hello", Bytes::from("hello")));
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let taken = std::net::TcpListener::bind(any).unwrap();
        let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
        assert!(Broker::start_at(taken.1, any).await.is_err());
        assert!(Broker::start_at(any, taken.1).await.is_err());
    }
}
