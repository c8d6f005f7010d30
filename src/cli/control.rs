//! `brokergate reload`: ask the running gateway, through its admin listener.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::admin::control::HEADER;
use crate::config::{self, AdminAddress};

/// How long the gateway may take: roots, keys and certificates are read anew.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is shown, bytes.
const LONGEST: usize = 1 << 20;

/// Why the gateway did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    #[error("{config}: admin.enabled is false, so nobody can be asked; send the process SIGHUP instead")]
    NoAdmin { config: String },
    #[error(
        "nobody answers on the admin listener's address {address}; does the gateway run, and with this \
         address? Name another by --admin"
    )]
    Unreachable { address: String, source: io::Error },
    #[error("the answer from {address} broke off; look at the gateway's log")]
    Broken { address: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{address} did not answer within {PATIENCE:?}; look at the gateway's log")]
    Timeout { address: String },
    /// In the gateway's own words.
    #[error("{}", .words.trim_end())]
    Refused { status: StatusCode, words: String },
}

impl ControlError {
    /// Whether the file, or what it names, must change first.
    pub(super) fn is_configuration(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, .. })
    }
}

/// Ask for a reload and print how it went. Without `admin`, the configuration says whom to ask.
pub(super) fn reload(config: &Path, admin: Option<AdminAddress>) -> anyhow::Result<()> {
    let address = match admin {
        Some(address) => address,
        None => match config::load(config)?.admin {
            Some(admin) => admin.address,
            None => return Err(ControlError::NoAdmin { config: config.display().to_string() }.into()),
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let words = runtime.block_on(post("/reload", &address))?;
    io::stdout().write_all(words.as_bytes())?;
    Ok(())
}

/// The gateway's answer to a POST.
async fn post(path: &str, address: &AdminAddress) -> Result<String, ControlError> {
    let at = || match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    };
    let asked = async {
        match address {
            AdminAddress::Tcp(address) => match TcpStream::connect(reachable(*address)).await {
                Ok(stream) => Ok(exchange(stream, path).await),
                Err(error) => Err(error),
            },
            AdminAddress::Unix(socket) => match UnixStream::connect(socket).await {
                Ok(stream) => Ok(exchange(stream, path).await),
                Err(error) => Err(error),
            },
        }
    };
    let asked = timeout(PATIENCE, asked).await.map_err(|_| ControlError::Timeout { address: at() })?;
    let answered = asked.map_err(|source| ControlError::Unreachable { address: at(), source })?;
    match answered.map_err(|source| ControlError::Broken { address: at(), source })? {
        (status, words) if status.is_success() => Ok(words),
        (status, words) => Err(ControlError::Refused { status, words }),
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(path).header(HOST, "localhost").header(HEADER, "1");
    let (head, body) = sender.send_request(request.body(Empty::<&[u8]>::new())?).await?.into_parts();
    let words = Limited::new(body, LONGEST).collect().await?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&words).into_owned()))
}

/// What is bound on every address is reached on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
