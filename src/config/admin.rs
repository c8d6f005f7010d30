//! `[runtime]`, `[admin]`, `[drain]` and `[reload]`: the process itself.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::listener::bindable;
use super::review::Review;
use super::secret::{Secret, SecretTable, WrittenSecret};
use super::value::{Leaf, Written};
use crate::drain::{Terms, Will};

/// The shape of the process. Not reloadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Worker threads, each with its own runtime; by default one a core.
    pub workers: usize,
    /// Whether workers stay awake for the answers of brokers that are quick.
    pub busy_poll: bool,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; loopback by default.
    pub address: AdminAddress,
    /// What a request must show for all but `/live`, `/ready` and `/metrics`.
    pub token: Option<Secret>,
}

/// Where the admin listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How the gateway ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Not ready, but still serving, for so long: time for load balancers to notice.
    pub delay: Duration,
    /// Goodbyes are spread over so long.
    pub window: Duration,
    /// After the goodbyes, sessions have so long to end; then they are cut.
    pub grace: Duration,
    /// What becomes of the Wills of those who are sent away.
    pub will: Will,
}

impl Drain {
    /// How goodbyes are said where nobody asks for something else.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        Terms { window: self.window, grace: self.grace, will: self.will }
    }
}

/// What makes the gateway read its configuration again, beside being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// A change of one of its files does.
    pub watch: bool,
}

/// `[runtime]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuntimeTable {
    workers: Option<Spanned<i64>>,
    busy_poll: Option<bool>,
}

impl RuntimeTable {
    pub(super) fn check(self, review: &mut Review<'_>) -> Runtime {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Runtime {
            workers: review.count(self.workers, 1..=1024, cores),
            busy_poll: self.busy_poll.unwrap_or(true),
        }
    }
}

/// `[admin]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdminTable {
    enabled: Option<bool>,
    address: Written<AdminAddress>,
    token: Option<WrittenSecret>,
}

/// The fewest characters of a token: whoever may ask may guess.
const SHORTEST_TOKEN: usize = 16;

impl AdminTable {
    const DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9901));

    pub(super) fn check(self, review: &mut Review<'_>) -> Option<Admin> {
        let token = self.token.and_then(|written| Self::check_token(written, review));
        let address = match self.address {
            None => AdminAddress::Tcp(Self::DEFAULT),
            Some(written) => {
                let span = written.span();
                let address = written.into_inner().0;
                if !address.is_local() {
                    let beyond = if token.is_some() {
                        "the token and what it opens cross the network in the clear"
                    } else {
                        "/status and control are refused there as long as `token` is not set"
                    };
                    review.warning(
                        span,
                        format!(
                            "everybody who reaches this address can read the metrics, and {beyond}; \
                             write a loopback address or a Unix socket"
                        ),
                    );
                }
                match address {
                    AdminAddress::Unix(path) => AdminAddress::Unix(review.path(path)),
                    tcp @ AdminAddress::Tcp(_) => tcp,
                }
            }
        };
        self.enabled.unwrap_or(true).then_some(Admin { address, token })
    }

    fn check_token(written: WrittenSecret, review: &mut Review<'_>) -> Option<Secret> {
        let span = written.span();
        let token = SecretTable::check(written, review)?;
        let is_sound = token.reveal().bytes().all(|byte| byte.is_ascii_graphic());
        if !is_sound || token.reveal().len() < SHORTEST_TOKEN {
            let advice = format!(
                "a token has at least {SHORTEST_TOKEN} characters, of ASCII and without spaces; \
                 `openssl rand -hex 32` makes one"
            );
            review.mistake(span, advice);
            return None;
        }
        Some(token)
    }

    /// The TCP address that it will bind.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self.address.as_ref().map(|address| &address.get_ref().0) {
            _ if self.enabled == Some(false) => None,
            None => Some(Self::DEFAULT),
            Some(AdminAddress::Tcp(address)) => Some(*address),
            Some(AdminAddress::Unix(_)) => None,
        }
    }
}

impl AdminAddress {
    /// Whether nobody but this machine reaches it.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl Leaf for AdminAddress {
    const FORM: &'static str = "an address such as \"127.0.0.1:9901\" or \"unix:/run/brokergate/admin.sock\"";

    fn text(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err(format!("the socket's path is missing; write {}", Self::FORM)),
            Some(path) => Ok(Self::Unix(path.into())),
            None => bindable(text, 9901).map(Self::Tcp),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::text(text)
    }
}

/// `[drain]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DrainTable {
    delay: Written<Duration>,
    window: Written<Duration>,
    grace: Written<Duration>,
    will: Option<Will>,
}

impl DrainTable {
    pub(super) fn check(self, review: &mut Review<'_>) -> Drain {
        const RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
        Drain {
            delay: review.time(self.delay, RANGE, Duration::ZERO),
            window: review.time(self.window, RANGE, Duration::from_secs(5)),
            grace: review.time(self.grace, RANGE, Duration::from_secs(10)),
            will: self.will.unwrap_or_default(),
        }
    }
}

/// `[reload]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReloadTable {
    watch: Option<bool>,
}

impl ReloadTable {
    pub(super) fn check(self) -> Reload {
        Reload { watch: self.watch.unwrap_or(true) }
    }
}
