//! After a 101: opaque bytes both ways, until both sides have closed.

use std::io;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::time::timeout;

use crate::drain::Watch;

/// Carry bytes until one side has closed and the other has too, or `half_close` has passed. A drain is not
/// told to either side, for we do not know their language; it waits, and cuts at its end.
pub(super) async fn run(client: OnUpgrade, backend: OnUpgrade, half_close: Duration, drain: Watch) {
    tokio::select! {
        ended = carry(client, backend, half_close) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an upgraded connection to a backend broke off");
            }
        }
        () = drain.cut() => {}
    }
}

async fn carry(client: OnUpgrade, backend: OnUpgrade, half_close: Duration) -> Result<(), Broken> {
    // The backend's side first: the client's is there once our 101 is written.
    let backend: Upgraded = backend.await?;
    let client: Upgraded = client.await?;
    let (mut from_client, mut to_client) = split(TokioIo::new(client));
    let (mut from_backend, mut to_backend) = split(TokioIo::new(backend));
    let mut up = std::pin::pin!(pump(&mut from_client, &mut to_backend));
    let mut down = std::pin::pin!(pump(&mut from_backend, &mut to_client));
    tokio::select! {
        ended = &mut up => {
            ended?;
            timeout(half_close, down).await??;
        }
        ended = &mut down => {
            ended?;
            timeout(half_close, up).await??;
        }
    }
    Ok(())
}

/// One direction; its end is passed on.
async fn pump(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    copy(from, to).await?;
    to.shutdown().await
}

/// Why a tunnel ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the connection was lost before the upgrade")]
    Upgrade(#[from] hyper::Error),
    #[error("one side failed")]
    Failed(#[from] io::Error),
    #[error("one side closed, the other did not follow in time")]
    HalfClosed(#[from] tokio::time::error::Elapsed),
}
