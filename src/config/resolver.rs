//! `[resolver]`: who knows the addresses behind names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use super::review::Review;
use super::value::{Leaf, Written, WrittenList};

/// The longest that a look-up may take. In an upgrade the next process looks all names up before it takes over, for
/// which it has 45 seconds.
const LONGEST: Duration = Duration::from_secs(30);

/// Who knows the addresses behind names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// DNS servers to ask, on UDP and TCP; empty leaves it to the system.
    pub nameservers: Vec<SocketAddr>,
    /// What one look-up for discovery may take.
    pub timeout: Duration,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { nameservers: Vec::new(), timeout: Duration::from_secs(5) }
    }
}

/// `[resolver]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ResolverTable {
    nameservers: WrittenList<Nameserver>,
    timeout: Written<Duration>,
}

impl ResolverTable {
    pub(super) fn check(self, review: &mut Review<'_>) -> Resolver {
        let nameservers = self.nameservers.map(|list| list.into_inner()).unwrap_or_default();
        Resolver {
            nameservers: nameservers.into_iter().map(|server| server.into_inner().0.0).collect(),
            timeout: review.time(
                self.timeout,
                Duration::from_millis(10)..=LONGEST,
                Resolver::default().timeout,
            ),
        }
    }
}

/// A DNS server's address; its port is 53 where none is written.
#[derive(Debug, Clone)]
struct Nameserver(SocketAddr);

impl Leaf for Nameserver {
    const FORM: &'static str = "an address such as \"10.0.0.10\" or \"127.0.0.1:5353\"";

    fn text(text: &str) -> Result<Self, String> {
        let alone = |text: &str| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        match text.parse::<SocketAddr>().or_else(|_| alone(text)) {
            Ok(address) => Ok(Self(address)),
            Err(_) => Err(format!("{text:?} is not a DNS server's address; write {}", Self::FORM)),
        }
    }
}
