//! How commands talk to the running gateway: a little HTTP client for its admin listener. And
//! `brokergate reload` and `brokergate upgrade`.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::ConfigArgument;
use crate::admin::control::HEADER;
use crate::config::{self, AdminAddress};

/// How long the gateway may take: roots, keys and certificates are read anew, or a process is started that does
/// so, which it waits 45 seconds for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read as a whole, bytes. A page of sessions with ClientIDs of the worst kind fits.
const LONGEST: usize = 1 << 21;

/// The environment's name for the token.
const TOKEN: &str = "BROKERGATE_ADMIN_TOKEN";

/// Whom to ask.
#[derive(Debug, Args)]
pub(super) struct AdminArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Where its admin listener is, such as 127.0.0.1:9901 or unix:/run/brokergate/admin.sock; by default
    /// where the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<AdminAddress>,
    /// The file that holds its `admin.token`; by default the configuration's, or that of the environment's
    /// BROKERGATE_ADMIN_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A running gateway's admin listener, and what it wants to see.
#[derive(Clone)]
pub(super) struct Gateway {
    address: AdminAddress,
    token: Option<HeaderValue>,
}

/// Why an exchange broke off.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the gateway did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    #[error("{config}: admin.enabled is false, so nobody can be asked; send the process SIGHUP instead")]
    NoAdmin { config: String },
    #[error("the token's file {} cannot be read", file.display())]
    TokenFile { file: PathBuf, source: io::Error },
    #[error("{place}: that is no token; write one line of ASCII without spaces")]
    NoToken { place: String },
    #[error(
        "nobody answers on the admin listener's address {address}; does the gateway run, and with this \
         address? Name another by --admin"
    )]
    Unreachable { address: String, source: io::Error },
    #[error("that is too much to ask for at once; name a session by its id in `brokergate sessions`")]
    TooLong(#[source] http::Error),
    #[error("the answer from {address} broke off; look at the gateway's log")]
    Broken { address: String, source: Cause },
    #[error("{address} did not answer within {PATIENCE:?}; look at the gateway's log")]
    Timeout { address: String },
    /// In the gateway's own words.
    #[error("{}", .words.trim_end())]
    Refused { status: StatusCode, words: String },
}

impl ControlError {
    /// Whether the file, or what it names, must change first.
    pub(super) fn is_configuration(&self) -> bool {
        let is_token = matches!(self, Self::TokenFile { .. } | Self::NoToken { .. });
        is_token || matches!(self, Self::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, .. })
    }
}

/// Ask for a reload and print how it went.
pub(super) fn reload(arguments: &AdminArguments) -> anyhow::Result<()> {
    ask_and_print(arguments, "/reload")
}

/// Ask for an upgrade in place and print how it went.
pub(super) fn upgrade(arguments: &AdminArguments) -> anyhow::Result<()> {
    ask_and_print(arguments, "/upgrade")
}

fn ask_and_print(arguments: &AdminArguments, path: &str) -> anyhow::Result<()> {
    let gateway = Gateway::of(arguments)?;
    let words = runtime()?.block_on(gateway.ask(&Method::POST, path))?;
    io::stdout().write_all(words.as_bytes())?;
    Ok(())
}

/// One that is enough for a command.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

impl Gateway {
    /// Whom the arguments mean. Without an address, the configuration says where; its token counts unless
    /// another is given.
    pub(super) fn of(arguments: &AdminArguments) -> anyhow::Result<Self> {
        let given = given_token(arguments)?;
        let path = &arguments.config.config;
        let admin = match (&arguments.admin, &given) {
            (Some(_), Some(_)) => None,
            // Whoever names the address may ask from a machine without the file.
            (Some(_), None) => config::load(path).ok().and_then(|config| config.admin),
            (None, _) => match config::load(path)?.admin {
                Some(admin) => Some(admin),
                None => return Err(ControlError::NoAdmin { config: path.display().to_string() }.into()),
            },
        };
        let configured = admin.as_ref().and_then(|admin| admin.token.as_ref());
        let token = match (given, configured) {
            (Some(given), _) => Some(given),
            (None, Some(token)) => Some(bearer(token.reveal(), "admin.token")?),
            (None, None) => None,
        };
        let address = arguments.admin.clone().or(admin.map(|admin| admin.address));
        let address = address.ok_or_else(|| ControlError::NoAdmin { config: path.display().to_string() })?;
        Ok(Self { address, token })
    }

    /// The gateway's answer, if it is a good one.
    pub(super) async fn ask(&self, method: &Method, path: &str) -> Result<String, ControlError> {
        let asked =
            async { whole(self.send(method, path).await?).await.map_err(|source| self.broken(source)) };
        match self.in_time(asked).await? {
            (status, words) if status.is_success() => Ok(words),
            (status, words) => Err(ControlError::Refused { status, words }),
        }
    }

    /// The lines of an answer that goes on and on, as long as `each` wants more of them.
    pub(super) async fn follow(
        &self,
        method: &Method,
        path: &str,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let response = self.in_time(self.send(method, path)).await?;
        let status = response.status();
        if !status.is_success() {
            let answered = async { whole(response).await.map_err(|source| self.broken(source)) };
            let (status, words) = self.in_time(answered).await?;
            return Err(ControlError::Refused { status, words }.into());
        }
        let (mut body, mut waiting) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| self.broken(source))?;
            waiting.extend_from_slice(frame.data_ref().map_or(&[], |bytes| bytes));
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                each(&waiting[..end])?;
                waiting.drain(..=end);
            }
            if waiting.len() > LONGEST {
                return Err(self.broken("a line has no end").into());
            }
        }
        Ok(())
    }

    /// Ask, and wait for the answer's head.
    async fn send(&self, method: &Method, path: &str) -> Result<Response<Incoming>, ControlError> {
        let unreachable = |source| ControlError::Unreachable { address: self.to_string(), source };
        // A path has no more than 64 KiB.
        let request = self.request(method, path).map_err(ControlError::TooLong)?;
        let answered = match &self.address {
            AdminAddress::Tcp(address) => {
                let stream = TcpStream::connect(reachable(*address)).await.map_err(unreachable)?;
                exchange(stream, request).await
            }
            AdminAddress::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
                exchange(stream, request).await
            }
        };
        answered.map_err(|source| self.broken(source))
    }

    fn request(&self, method: &Method, path: &str) -> http::Result<Request<Empty<&'static [u8]>>> {
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, "localhost").header(HEADER, "1");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        request.body(Empty::new())
    }

    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        let late = |_| Err(ControlError::Timeout { address: self.to_string() });
        timeout(PATIENCE, asked).await.unwrap_or_else(late)
    }

    fn broken(&self, source: impl Into<Cause>) -> ControlError {
        ControlError::Broken { address: self.to_string(), source: source.into() }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<&'static [u8]>>,
) -> Result<Response<Incoming>, Cause> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Status and words of an answer.
async fn whole(response: Response<Incoming>) -> Result<(StatusCode, String), Cause> {
    let (head, body) = response.into_parts();
    let words = Limited::new(body, LONGEST).collect().await?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&words).into_owned()))
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            AdminAddress::Tcp(address) => address.fmt(f),
            AdminAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The token of the file that was named, or of the environment.
fn given_token(arguments: &AdminArguments) -> Result<Option<HeaderValue>, ControlError> {
    if let Some(file) = &arguments.token_file {
        let text = fs::read_to_string(file)
            .map_err(|source| ControlError::TokenFile { file: file.clone(), source })?;
        return bearer(&text, &file.display().to_string()).map(Some);
    }
    match std::env::var(TOKEN) {
        Ok(token) if !token.is_empty() => bearer(&token, TOKEN).map(Some),
        _ => Ok(None),
    }
}

/// `Authorization`'s value for a token from `place` (RFC 6750, 2.1).
fn bearer(token: &str, place: &str) -> Result<HeaderValue, ControlError> {
    let token = token.trim_end_matches(['\r', '\n']);
    let no_token = || ControlError::NoToken { place: place.to_owned() };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(no_token());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A path with a query of these names and values.
pub(super) fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let pair =
        |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    let pairs: Vec<_> = pairs.iter().map(pair).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
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
