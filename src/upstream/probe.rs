//! One probe: ask an endpoint whether it works, as the upstream's `probe` says.
//!
//! A probe takes no slot and tells passive health nothing; what its result means is a streak's matter.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::dial::{self, Dialled, Hello};
use super::error::DialError;
use super::health::Change;
use super::offer::{First, OfferError, offer};
use super::{Endpoint, Pool};
use crate::config::{EndpointAddress, Probe, ProbeKind, ProbeLogin};
use crate::mqtt::{self, Level};
use crate::net::Stream;
use crate::tunnel::Framing;
use crate::websocket::{self, Mask, Opcode};

/// Why a probe did not pass.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No way to the endpoint.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No answer to the CONNECT.
    #[error("the broker did not take the probe's CONNECT")]
    Offer(#[from] OfferError),
    /// The broker refused the CONNECT.
    #[error("the broker refused the probe's CONNECT: CONNACK {code:#04x}, {name}{}", refused_hint(*.code))]
    Refused {
        /// The return code (MQTT 3.1.1, 3.2.2.3).
        code: u8,
        /// Its name.
        name: &'static str,
    },
    /// An answer that is not 2xx.
    #[error("the answer to the probe's GET is {0}: check the probe's `port` and `path`")]
    Status(StatusCode),
    /// No HTTP.
    #[error("the probe's GET has no answer: check the probe's `port`")]
    Http(#[from] hyper::Error),
    /// The probe's `timeout` passed.
    #[error("the probe took longer than its `timeout`, {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

impl ProbeError {
    /// Every [`label`](Self::label) that a probe of a kind may have, so that each series exists from the start.
    pub fn labels(kind: &ProbeKind) -> impl Iterator<Item = &'static str> + use<> {
        let (offer, own): (&[_], &[_]) = match kind {
            ProbeKind::Tcp => (&[], &[]),
            ProbeKind::Mqtt(_) => (&OfferError::LABELS, &["refused"]),
            ProbeKind::Http { .. } => (&[], &["status", "http"]),
        };
        let dial = DialError::LABELS.into_iter();
        dial.chain(offer.iter().copied()).chain(own.iter().copied()).chain(["probe_timeout"])
    }

    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Dial(error) => error.label(),
            Self::Offer(error) => error.label(),
            Self::Refused { .. } => "refused",
            Self::Status(_) => "status",
            Self::Http(_) => "http",
            Self::Timeout(_) => "probe_timeout",
        }
    }
}

impl Pool {
    /// Probe an endpoint of this pool, in the name of `client_id` where that is asked for.
    ///
    /// # Errors
    /// When the endpoint does not pass.
    pub async fn probe(&self, endpoint: &Endpoint, probe: &Probe, client_id: &str) -> Result<(), ProbeError> {
        let asking = async {
            match &probe.kind {
                ProbeKind::Tcp => dial::reach(self, endpoint, None).await.map(drop).map_err(ProbeError::Dial),
                ProbeKind::Mqtt(login) => self.say_connect(endpoint, login, client_id).await,
                ProbeKind::Http { port, path } => self.get(endpoint, *port, path).await,
            }
        };
        timeout(probe.timeout, asking).await.unwrap_or(Err(ProbeError::Timeout(probe.timeout)))
    }

    /// Let an endpoint's health follow from a probe.
    pub fn tell_probe(&self, endpoint: &Endpoint, probe: &Probe, passed: bool) -> Option<Change> {
        endpoint.tell_probe(passed, probe.rise, probe.fall, Instant::now())
    }

    /// All that a session does until its CONNACK, and a DISCONNECT.
    async fn say_connect(
        &self,
        endpoint: &Endpoint,
        login: &ProbeLogin,
        client_id: &str,
    ) -> Result<(), ProbeError> {
        let hello = Hello { arrival: None, headers: &[] };
        let Dialled { stream, read, framing, .. } = dial::dial(self, endpoint, &hello).await?;
        let password = login.password.as_ref().map(|password| password.reveal());
        let connect = mqtt::connect_v311(client_id, login.username.as_deref(), password);
        let patience = self.config.connack_timeout;
        let answer = offer(stream, read, framing, Level::V311, &connect, patience).await?;
        say_goodbye(answer.stream, framing).await;
        match answer.first {
            First::Connack(connack) if !connack.accepted() => {
                Err(ProbeError::Refused { code: connack.code, name: connack.label() })
            }
            First::Connack(_) | First::Auth => Ok(()),
        }
    }

    async fn get(&self, endpoint: &Endpoint, port: u16, path: &str) -> Result<(), ProbeError> {
        let stream = dial::reach(self, endpoint, Some(port)).await?;
        let host = match &endpoint.config().address {
            EndpointAddress::Ip(address) => SocketAddr::new(address.ip(), port).to_string(),
            EndpointAddress::Name { host, .. } => format!("{host}:{port}"),
            EndpointAddress::Unix(_) => "localhost".to_owned(),
        };
        let mut request = Request::new(Empty::<Bytes>::new());
        // Both were checked when the configuration was read.
        *request.uri_mut() = path.parse().unwrap_or_default();
        for (name, value) in [(HOST, host.as_str()), (USER_AGENT, "brokergate"), (CONNECTION, "close")] {
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(name, value);
            }
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        let status = tokio::select! {
            biased;
            answer = &mut answer => answer?.status(),
            // Whatever ended it is told to the request.
            _ = connection => answer.await?.status(),
        };
        if status.is_success() { Ok(()) } else { Err(ProbeError::Status(status)) }
    }
}

/// DISCONNECT, and the stream's end. The probe has its answer, so what goes wrong here is no matter.
async fn say_goodbye(mut stream: Stream, framing: Framing) {
    let disconnect = match framing {
        Framing::Raw => mqtt::DISCONNECT_V311.to_vec(),
        Framing::WebSocket => {
            let mask = || Some(Mask::new(fastrand::u32(..).to_ne_bytes()));
            let mut frames = websocket::frame(Opcode::Binary, &mqtt::DISCONNECT_V311, mask());
            let payload = websocket::close_payload(websocket::CloseCode::Normal, "");
            frames.extend(websocket::frame(Opcode::Close, &payload, mask()));
            frames
        }
    };
    if stream.write_all(&disconnect).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

const fn refused_hint(code: u8) -> &'static str {
    match code {
        4 | 5 => ": check the probe's `username` and `password`, and that the broker lets it in",
        2 => ": the broker does not like the probe's ClientID; choose another `client_id`",
        _ => "",
    }
}
