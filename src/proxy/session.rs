//! One MQTT session: 101, CONNECT, a broker, the tunnel, and one ending that is counted and logged.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tracing::{info, warn};

use super::account::Account;
use super::forwarded::{self, ConnectFacts, Identity};
use super::handshake::Handshake;
use super::opening::Opening;
use super::{Arriving, Inner, Rejection};
use crate::config::Limits;
use crate::drain::{Asked, Watch, Will};
use crate::mqtt::{self, Connect, Level, Refusal, Reply};
use crate::net::clock::{timeout, timeout_at};
use crate::net::{Arrival, Body, Stream, empty};
use crate::snapshot::{Snapshot, UpstreamAtWork};
use crate::telemetry::ErrorChain;
use crate::tunnel::{Ending, Ends, Framing, Patience, Tunnel};
use crate::upstream::{Answer, Dialled, First, Hello, Key, Picked, Tried, offer};

/// Answer a good handshake with 101, and let the session begin behind it.
pub(super) fn accept(
    mut request: Request<Incoming>,
    handshake: Handshake,
    identity: Identity,
    inner: &Inner,
    snapshot: &Snapshot,
    upstream: &Arc<UpstreamAtWork>,
) -> Result<Response<Body>, Rejection> {
    // The message-level stream is never read from: no buffers for it.
    let unused = WebSocketConfig::default().read_buffer_size(0);
    let (response, upgrade) =
        hyper_tungstenite::upgrade(&mut request, Some(unused)).map_err(|_| Rejection::BadRequest)?;
    let mut response = response.map(|_| empty());
    if let Some(subprotocol) = handshake.subprotocol {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol.header());
    }
    let arrival = Arrival {
        // Behind a trusted HTTP proxy the client is whom its headers name.
        client: (identity.address, identity.port.unwrap_or(0)).into(),
        ..inner.arrival.clone()
    };
    let watch = inner.shared.sessions.watch();
    let is_logged = snapshot.config.log.access;
    let session = Session {
        account: Account::open(arrival.client, is_logged, inner, upstream.pool.name(), &watch),
        watch,
        _arriving: inner.arriving(),
        limits: snapshot.config.limits.clone(),
        arrival,
        identity,
        upstream: Arc::clone(upstream),
    };
    tokio::spawn(carry(Box::pin(session.open(upgrade))));
    Ok(response)
}

/// A session on its way to a broker.
struct Session {
    account: Account,
    watch: Watch,
    /// Until there is a broker, or an ending.
    _arriving: Option<Arriving>,
    limits: Limits,
    arrival: Arrival,
    identity: Identity,
    upstream: Arc<UpstreamAtWork>,
}

/// A session that has its broker.
struct Joined {
    tunnel: Tunnel,
    account: Account,
    watch: Watch,
    picked: Picked,
}

/// A broker that took the CONNECT.
struct Found {
    picked: Picked,
    framing: Framing,
    answer: Answer,
}

/// The session's life. The beginning is large and short, the tunnel small and long: the beginning has an
/// allocation of its own, which is gone when the tunnel runs.
async fn carry(opening: impl Future<Output = Option<Joined>> + Unpin) {
    let Some(mut joined) = opening.await else { return };
    let (watch, account) = (&joined.watch, &joined.account);
    let (traffic, meter) = (account.traffic(), &account.entry().meter);
    let ending = joined.tunnel.run(watch.asked(), watch.cut(), traffic, meter).await;
    // The endpoint's slot is free once its streams are closed, and the session ends with both.
    drop(joined.tunnel);
    drop(joined.picked);
    joined.account.end(ending);
}

impl Session {
    async fn open(mut self, upgrade: HyperWebsocket) -> Option<Joined> {
        let deadline = Instant::now() + self.limits.connect_timeout;
        let upgraded = timeout_at(deadline, raw_stream(upgrade)).await;
        let Ok(Some((stream, read))) = upgraded else {
            self.account.end(if upgraded.is_err() { Ending::ConnectTimeout } else { Ending::ClientVanished });
            return None;
        };
        let mut opening = Opening::new(stream, &read, Arc::clone(self.account.entry()));
        match self.find(&mut opening, deadline).await {
            Ok((connect, found)) => self.join(opening, &connect, found).await,
            Err((ending, reply)) => {
                self.account.entry().meter.leave();
                let deadline = Instant::now() + self.limits.half_close_timeout;
                let refused = opening.refuse(reply.as_deref(), &ending, deadline);
                tokio::select! {
                    () = refused => {}
                    () = self.watch.cut() => {}
                }
                self.account.end(ending);
                None
            }
        }
    }

    /// Read the CONNECT, then find it a broker; or the ending, and what an MQTT client is told of it.
    async fn find(
        &mut self,
        opening: &mut Opening,
        deadline: Instant,
    ) -> Result<(Connect, Found), (Ending, Option<Reply>)> {
        let asked = self.watch.asked();
        let mut asked = pin!(asked);
        let read = timeout_at(deadline, opening.read_connect(self.limits.max_connect_size));
        let (connect, packet) = tokio::select! {
            read = read => read.unwrap_or(Err(Ending::ConnectTimeout)).map_err(|ending| match ending {
                Ending::ConnectRefused(error) => {
                    let reply = error.reply();
                    (Ending::ConnectRefused(error), reply)
                }
                ending => (ending, None),
            })?,
            asked = asked.as_mut() => return Err((Ending::asked(asked).0, None)),
        };
        self.account.introduce(&connect);
        let found = self.find_unless_asked(opening, &connect, &packet, asked).await;
        match found {
            Ok(found) => Ok((connect, found)),
            Err(ending) => {
                let refusal = match &ending {
                    Ending::NoBroker | Ending::Drained | Ending::Kicked => Some(Refusal::Unavailable),
                    Ending::NotAuthorized => Some(Refusal::NotAuthorized),
                    _ => None,
                };
                let reply = refusal.map(|refusal| mqtt::connack(connect.level, refusal));
                Err((ending, reply))
            }
        }
    }

    /// Find it a broker while the client waits, unless we are `asked` to say goodbye before.
    async fn find_unless_asked(
        &mut self,
        opening: &mut Opening,
        connect: &Connect,
        packet: &[u8],
        mut asked: Pin<&mut (impl Future<Output = Asked> + Send)>,
    ) -> Result<Found, Ending> {
        let max_pending = self.limits.max_pending_size;
        let (cut, offered) = (self.watch.cut(), AtomicBool::new(false));
        let (mut cut, mut is_leaving) = (pin!(cut), false);
        let mut finding = pin!(self.find_broker(connect, packet, &offered));
        loop {
            tokio::select! {
                found = finding.as_mut() => return found,
                ending = opening.hold(max_pending) => return Err(ending),
                asked = asked.as_mut(), if !is_leaving => {
                    let (ending, will) = Ending::asked(asked);
                    // A broker that may have taken the CONNECT would fire the Will: there the tunnel says goodbye.
                    is_leaving = will == Will::Suppress && offered.load(Ordering::Relaxed);
                    if !is_leaving {
                        return Err(ending);
                    }
                }
                () = cut.as_mut() => return Err(Ending::Cut),
            }
        }
    }

    /// Offer the CONNECT to one endpoint after the other. `offered` is whether one may have it now.
    async fn find_broker(
        &mut self,
        connect: &Connect,
        packet: &[u8],
        offered: &AtomicBool,
    ) -> Result<Found, Ending> {
        let upstream = Arc::clone(&self.upstream);
        let key = Key { client_id: &connect.client_id, address: self.arrival.client.ip() };
        let facts = ConnectFacts { client_id: &connect.client_id, username: connect.username.as_deref() };
        let headers = forwarded::broker_headers(&self.identity, &upstream.pool.config().forwarded, facts);
        let mut tried = Tried::new();
        while tried.count() < upstream.pool.config().attempts {
            let Ok(picked) = upstream.pool.pick(&key, &tried, Instant::now()) else { break };
            tried.add(&picked);
            self.account.attempts = tried.count();
            match self.offer(&picked, &headers, connect.level, packet, offered).await {
                Ok((framing, answer)) => return Ok(Found { picked, framing, answer }),
                Err(NotTaken::RefusedClient) => return Err(Ending::NotAuthorized),
                Err(NotTaken::Next) => {}
            }
        }
        Err(Ending::NoBroker)
    }

    async fn offer(
        &self,
        picked: &Picked,
        headers: &[(HeaderName, HeaderValue)],
        level: Level,
        packet: &[u8],
        offered: &AtomicBool,
    ) -> Result<(Framing, Answer), NotTaken> {
        let endpoint = picked.endpoint();
        let began = Instant::now();
        let hello = Hello { arrival: Some(&self.arrival), headers };
        let pool = &self.upstream.pool;
        let metrics = self.upstream.metrics(endpoint);
        let count_failure = |reason| metrics.iter().for_each(|metrics| metrics.dial_failed(reason));
        let Dialled { stream, read, framing, returned } =
            picked.dial(pool, &hello).await.map_err(|error| {
                count_failure(error.label());
                let words = ErrorChain(&error).to_string();
                warn!(upstream = %pool.name(), endpoint = %endpoint.name(), error = %words, "a dial failed");
                endpoint.failed(words);
                if error.refused_client() { NotTaken::RefusedClient } else { NotTaken::Next }
            })?;
        if returned {
            endpoint.settled();
            info!(upstream = %pool.name(), endpoint = %endpoint.name(), "an endpoint is back");
        }
        metrics.iter().for_each(|metrics| metrics.dial_seconds.record(began.elapsed()));
        if endpoint.is_closed() {
            // Its drain began while we dialled.
            return Err(NotTaken::Next);
        }
        let patience = pool.config().connack_timeout;
        offered.store(true, Ordering::Relaxed);
        let answer = offer(stream, read, framing, level, packet, patience).await.map_err(|error| {
            count_failure(error.label());
            let words = ErrorChain(&error).to_string();
            warn!(upstream = %pool.name(), endpoint = %endpoint.name(), error = %words, "a broker did not take a CONNECT");
            endpoint.failed(words);
            offered.store(false, Ordering::Relaxed);
            NotTaken::Next
        })?;
        Ok((framing, answer))
    }

    /// Join both streams.
    async fn join(mut self, opening: Opening, connect: &Connect, found: Found) -> Option<Joined> {
        let Found { picked, framing, answer } = found;
        let endpoint = picked.endpoint();
        self.account.commit(endpoint, self.upstream.metrics(endpoint).as_ref(), &answer.first);
        let opened = tokio::select! {
            opened = timeout(self.limits.write_stall_timeout, opening.open()) => {
                opened.unwrap_or(Err(Ending::ClientStalled))
            }
            () = self.watch.cut() => Err(Ending::Cut),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(ending) => {
                self.account.end(ending);
                return None;
            }
        };
        let ends = Ends {
            client: opened.stream,
            broker: answer.stream,
            framing,
            from_client: opened.waiting,
            begins_message: opened.begins_message,
            from_broker: answer.read,
            level: connect.level,
            was_refused: matches!(answer.first, First::Connack(connack) if !connack.accepted()),
        };
        let patience = Patience {
            idle: idle_limit(connect.keepalive, &answer.first, self.upstream.pool.config().keepalive_margin),
            stall: self.limits.write_stall_timeout,
            farewell: self.limits.half_close_timeout,
            max_packet_size: self.limits.max_packet_size,
        };
        // Asked with its endpoint, and with the whole gateway.
        let key = Key { client_id: &connect.client_id, address: self.arrival.client.ip() };
        let key = self.upstream.pool.home_key(&key);
        let watch = endpoint.drain(&self.account.shared.sessions).watch_by(key);
        self.account.entry().follow(&watch);
        Some(Joined { tunnel: Tunnel::new(ends, patience), account: self.account, watch, picked })
    }
}

/// Why an endpoint did not take a CONNECT.
enum NotTaken {
    /// Another may.
    Next,
    /// It said no to the client itself: another would say the same.
    RefusedClient,
}

/// The stream below a handshake, and what came right behind it.
async fn raw_stream(upgrade: HyperWebsocket) -> Option<(Stream, Bytes)> {
    let upgraded: Upgraded = upgrade.await.ok()?.into_inner().into_inner();
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

/// How long a client may be silent: one and a half times its keepalive, or the broker's (MQTT 5,
/// 3.2.2.3.14), and a margin, so that the broker acts first. `None` is for ever: a keepalive of 0, or a
/// broker that has not yet said which.
fn idle_limit(keepalive: u16, first: &First, margin: Duration) -> Option<Duration> {
    let seconds = match first {
        First::Connack(connack) => connack.server_keepalive.unwrap_or(keepalive),
        First::Auth => 0,
    };
    (seconds > 0).then(|| Duration::from_secs(seconds.into()) * 3 / 2 + margin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::roster::Entry;
    use crate::tunnel::Meter;

    /// What each session holds for as long as it lives, in bytes. Most of it is the tunnel, once, with what each message
    /// touches of the client's TLS.
    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Tunnel>() <= 816, "a tunnel takes {}", size_of::<Tunnel>());
        let session = carry(Box::pin(async { None }));
        assert!(size_of_val(&session) <= 1600, "a session takes {}", size_of_val(&session));
        // Beside it stands what others see of it.
        assert!(size_of::<Entry>() <= 216, "an entry of the roster takes {}", size_of::<Entry>());
        let seen = size_of::<Entry>() + size_of::<Meter>();
        assert!(seen <= 256, "with its meter it takes {seen}");
    }
}
