//! `[[listeners]]`: where clients arrive.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::Redirect;
use super::review::{Review, Span};
use super::route::{RedirectTable, RedirectWord};
use super::value::{Either, Label, Leaf, Parsed, Written, WrittenList};

/// One or more bound addresses that share their settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name in logs and metrics: the configured one, or its first address.
    pub name: Arc<str>,
    /// Addresses to bind. Never empty.
    pub addresses: Vec<SocketAddr>,
    /// TLS, or plain.
    pub tls: Option<ListenerTls>,
    /// Whether trusted proxies send a PROXY preamble here.
    pub proxy_protocol: bool,
    /// Answer every request with a redirect to https instead of routing it.
    pub redirect: Option<Redirect>,
}

/// How a listener speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Chosen by SNI; the first is the default. Never empty.
    pub certificates: Vec<CertificateFiles>,
    /// The lowest version we accept.
    pub min_version: TlsVersion,
    /// TLS 1.3 tickets sent after a handshake, 0 to 4.
    pub session_tickets: usize,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

/// One `[[listeners]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as [[listeners]]")]
pub(super) struct ListenerTable {
    name: Written<Label>,
    addresses: WrittenList<SocketAddr>,
    tls: Option<Spanned<TlsTable>>,
    proxy_protocol: Option<Spanned<bool>>,
    redirect: Option<Spanned<Either<RedirectWord, RedirectTable>>>,
}

impl ListenerTable {
    /// The listener, if there is enough of it.
    pub(super) fn check(table: Spanned<Self>, trusted: bool, review: &mut Review<'_>) -> Option<Listener> {
        let span = table.span();
        let table = table.into_inner();
        let tls = table.tls.and_then(|tls| TlsTable::check(tls, review));
        let redirect = table.redirect.map(|written| {
            let span = written.span();
            let redirect = RedirectTable::check(written, review);
            (span, redirect)
        });
        if let Some(proxy_protocol) = table.proxy_protocol.as_ref().filter(|on| *on.get_ref() && !trusted) {
            review.mistake(
                proxy_protocol.span(),
                "nobody may send a PROXY preamble yet; list the load balancer's addresses in `trusted_proxies`",
            );
        }
        let Some(addresses) = table.addresses else {
            review.missing(span, "addresses", "write for instance addresses = [\"0.0.0.0:443\"]");
            return None;
        };
        if addresses.get_ref().is_empty() {
            review.empty(addresses.span(), "write for instance [\"0.0.0.0:443\"]");
        }
        let addresses_span = addresses.span();
        let addresses: Vec<SocketAddr> =
            addresses.into_inner().into_iter().map(|address| address.into_inner().0).collect();
        if let Some((span, redirect)) = &redirect
            && tls.is_some()
            && addresses.iter().any(|address| address.port() == redirect.port)
        {
            review.mistake(
                span.clone(),
                format!(
                    "port {} of this listener is https already, so the redirect would lead to itself",
                    redirect.port
                ),
            );
        }
        if tls.is_none()
            && redirect.is_none()
            && !trusted
            && !addresses.iter().all(|address| address.ip().is_loopback())
        {
            review.warning(
                addresses_span,
                "this listener speaks no TLS, so passwords cross the network in the clear; \
                 add `tls`, or `redirect = \"https\"`",
            );
        }
        let name = match table.name {
            Some(name) => name.into_inner().0.0,
            None => addresses.first()?.to_string().into(),
        };
        Some(Listener {
            name,
            addresses,
            tls,
            proxy_protocol: table.proxy_protocol.is_some_and(Spanned::into_inner),
            redirect: redirect.map(|(_, redirect)| redirect),
        })
    }

    /// Where its name is written.
    pub(super) fn name_span(&self) -> Option<Span> {
        self.name.as_ref().map(Spanned::span)
    }

    /// Each address that is written, and where.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (SocketAddr, Span)> {
        let addresses = self.addresses.iter().flat_map(|addresses| addresses.get_ref());
        addresses.map(|address| (address.get_ref().0, address.span()))
    }
}

/// `tls` of a listener, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with `certificates`")]
struct TlsTable {
    certificates: Option<Spanned<Vec<Spanned<CertificateTable>>>>,
    min_version: TlsVersion,
    session_tickets: Option<Spanned<i64>>,
}

impl TlsTable {
    fn check(table: Spanned<Self>, review: &mut Review<'_>) -> Option<ListenerTls> {
        const ADVICE: &str = "write { chain = \"tls.crt\", key = \"tls.key\" }";
        let span = table.span();
        let table = table.into_inner();
        let session_tickets = review.count(table.session_tickets, 0..=4, 1);
        let Some(certificates) = table.certificates else {
            review.missing(span, "certificates", ADVICE);
            return None;
        };
        if certificates.get_ref().is_empty() {
            review.empty(certificates.span(), ADVICE);
        }
        let certificates = certificates.into_inner().into_iter();
        Some(ListenerTls {
            certificates: certificates.filter_map(|files| CertificateTable::check(files, review)).collect(),
            min_version: table.min_version,
            session_tickets,
        })
    }
}

/// A certificate's files, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table { chain = \"…\", key = \"…\" }")]
pub(super) struct CertificateTable {
    chain: Written<String>,
    key: Written<String>,
}

impl CertificateTable {
    pub(super) fn check(table: Spanned<Self>, review: &mut Review<'_>) -> Option<CertificateFiles> {
        let span = table.span();
        let table = table.into_inner();
        if table.chain.is_none() {
            review.missing(
                span.clone(),
                "chain",
                "name the PEM file with the certificate and its intermediates",
            );
        }
        if table.key.is_none() {
            review.missing(span, "key", "name the PEM file with the certificate's private key");
        }
        let (chain, key) = table.chain.zip(table.key)?;
        let (Parsed(chain), Parsed(key)) = (chain.into_inner(), key.into_inner());
        Some(CertificateFiles { chain: review.file(chain), key: review.file(key) })
    }
}

impl Leaf for SocketAddr {
    const FORM: &'static str = "an address with its port, such as \"0.0.0.0:443\"";

    fn text(text: &str) -> Result<Self, String> {
        bindable(text, 443)
    }

    fn number(number: i64) -> Result<Self, String> {
        Err(format!(
            "{number} is a port without its address; \
             write \"0.0.0.0:{number}\", or \"[::]:{number}\" for IPv6 as well"
        ))
    }
}

/// An address to bind; `port` is for the example in the sentence of a refusal.
pub(super) fn bindable(text: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let advice = if let Ok(port) = text.trim_start_matches([':', '*']).parse::<u16>() {
        format!("; write \"0.0.0.0:{port}\", or \"[::]:{port}\" for IPv6 as well")
    } else if text.contains([',', ' ']) {
        "; write each address as a text of its own: [\"0.0.0.0:443\", \"0.0.0.0:8084\"]".to_owned()
    } else if text.contains("://") {
        format!("; write an address without a scheme, such as \"0.0.0.0:{port}\"")
    } else if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        format!(": its port is missing; write \"{}\"", SocketAddr::new(address, port))
    } else if let Some(port) = text.strip_prefix("localhost:") {
        format!(": names are not looked up here; write \"127.0.0.1:{port}\"")
    } else {
        format!("; write an IP address and a port, such as \"0.0.0.0:{port}\" or \"[::]:{port}\"")
    };
    Err(format!("{text:?} is not an address to listen on{advice}"))
}
