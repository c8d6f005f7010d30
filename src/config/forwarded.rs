//! What WebSocket brokers and backends learn about the client, and header values made of such facts.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;

use super::nearest::did_you_mean;
use super::review::Review;
use super::secret::SecretTable;
use super::value::{Either, Leaf};

/// What HTTP-speaking brokers and backends learn about the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardedOptions {
    /// The form of `X-Forwarded-For`.
    pub forwarded_for: ForwardedFor,
    /// The meaning of `X-Forwarded-Port`.
    pub port: ForwardedPort,
    /// Whose `Host` is sent.
    pub host: HostHeader,
    /// Whether `Cookie` is passed on.
    pub cookie: bool,
    /// Headers added or overwritten, last.
    pub set_headers: Vec<(HeaderName, Template)>,
}

/// The form of `X-Forwarded-For`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedFor {
    /// `192.0.2.1`
    #[default]
    Address,
    /// `192.0.2.1:50000`, `[2001:db8::1]:50000`
    AddressPort,
}

/// The meaning of `X-Forwarded-Port`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedPort {
    /// The client's source port: what EMQX reads.
    #[default]
    Client,
    /// The port of our listener.
    Listener,
}

/// Whose `Host` is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostHeader {
    /// As the client sent it.
    #[default]
    Client,
    /// The endpoint's own authority.
    Endpoint,
}

/// A header's value with facts of the client in it, such as `{client_address}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<TemplatePart>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// As written.
    Text(Box<str>),
    /// `{client_address}`
    ClientAddress,
    /// `{client_port}`
    ClientPort,
    /// `{listener_port}`
    ListenerPort,
    /// `{host}`: the request's host.
    Host,
    /// `{scheme}`: `https` or `http`.
    Scheme,
    /// `{client_id}`: the CONNECT's ClientID; empty toward a backend.
    ClientId,
    /// `{username}`: the CONNECT's username; empty toward a backend.
    Username,
    /// `{tls_version}`: `TLSv1.3`; empty on a plain listener.
    TlsVersion,
    /// `{server_name}`: the SNI; empty where there is none.
    ServerName,
}

/// `forwarded` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { port = \"client\" }")]
pub(super) struct ForwardedTable {
    forwarded_for: ForwardedFor,
    port: ForwardedPort,
    host: HostHeader,
    cookie: Option<bool>,
    set_headers: BTreeMap<Spanned<String>, Spanned<Either<Template, SecretTable>>>,
}

impl ForwardedTable {
    /// The options; `cookie` holds where the file says nothing about it.
    pub(super) fn check(self, cookie: bool, review: &mut Review<'_>) -> ForwardedOptions {
        let mut set_headers: Vec<(HeaderName, Template)> = Vec::new();
        for (name, value) in self.set_headers {
            let header = check_name(&name, review);
            let value = check_value(value, review);
            let Some((header, value)) = header.zip(value) else { continue };
            if set_headers.iter().any(|(earlier, _)| *earlier == header) {
                review.mistake(
                    name.span(),
                    "header names have no case, so this one is set twice; keep one of the two",
                );
            }
            set_headers.push((header, value));
        }
        ForwardedOptions {
            forwarded_for: self.forwarded_for,
            port: self.port,
            host: self.host,
            cookie: self.cookie.unwrap_or(cookie),
            set_headers,
        }
    }
}

fn check_name(name: &Spanned<String>, review: &mut Review<'_>) -> Option<HeaderName> {
    if name.get_ref().contains('_') {
        let dashed = name.get_ref().replace('_', "-");
        review.mistake(
            name.span(),
            format!(
                "many servers silently drop a header with `_` in its name (nginx's X-Real_IP \
             reaches nobody); write {dashed:?}"
            ),
        );
        return None;
    }
    let Ok(header) = HeaderName::try_from(name.get_ref()) else {
        review.mistake(name.span(), "this cannot be a header's name; write letters, digits and `-`");
        return None;
    };
    if let Some(why) = refused(&header) {
        review.mistake(name.span(), why);
        return None;
    }
    Some(header)
}

/// Why a header cannot be set by hand: it is about one connection (RFC 9110 section 7.6.1), or ours to compute.
fn refused(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("`Host` has a key of its own; write forwarded.host = \"client\" or \"endpoint\""),
        "cookie" => Some("`Cookie` has a key of its own; write forwarded.cookie = true"),
        "x-forwarded-for" | "x-forwarded-port" => Some(
            "the gateway computes this header; \
             choose its form with the keys `forwarded_for` and `port` of `forwarded`",
        ),
        "x-real-ip" | "x-forwarded-proto" | "x-forwarded-host" => {
            Some("the gateway computes this header; leave it out")
        }
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "content-length"
        | "expect" => {
            Some("this header is about one connection, which the gateway makes itself; leave it out")
        }
        name if name.starts_with("sec-websocket-") => Some(
            "the gateway makes the WebSocket handshake itself; \
             leave this header out (an endpoint has the key `subprotocol`)",
        ),
        _ => None,
    }
}

/// A header's value: a template, or a secret in a file of its own, which may well have braces in it.
fn check_value(written: Spanned<Either<Template, SecretTable>>, review: &mut Review<'_>) -> Option<Template> {
    let span = written.span();
    match written.into_inner() {
        Either::Word(template) => Some(template),
        Either::Table(table) => table
            .read(span, "a header's value", |text| HeaderValue::from_str(text).is_ok(), review)
            .map(|secret| Template(vec![TemplatePart::Text(secret.into())])),
    }
}

impl Leaf for Template {
    const FORM: &'static str = "a text such as \"{client_address}\"";

    fn text(text: &str) -> Result<Self, String> {
        // The value may be a secret from the environment, so no sentence repeats it.
        if HeaderValue::from_str(text).is_err() {
            return Err("this cannot be a header's value; write one line of text".to_owned());
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let braces = &rest[at..];
            if braces.starts_with("{{") || braces.starts_with("}}") {
                plain.push_str(&braces[..1]);
                rest = &braces[2..];
                continue;
            }
            let Some((name, behind)) = braces.strip_prefix('{').and_then(|inside| inside.split_once('}'))
            else {
                return Err("a brace stands alone; write {{ or }} for the character itself".to_owned());
            };
            if !plain.is_empty() {
                parts.push(TemplatePart::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(placeholder(name)?);
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(TemplatePart::Text(plain.into()));
        }
        Ok(Self(parts))
    }
}

fn placeholder(name: &str) -> Result<TemplatePart, String> {
    const NAMES: [&str; 9] = [
        "client_address",
        "client_port",
        "listener_port",
        "host",
        "scheme",
        "client_id",
        "username",
        "tls_version",
        "server_name",
    ];
    match name {
        "client_address" => Ok(TemplatePart::ClientAddress),
        "client_port" => Ok(TemplatePart::ClientPort),
        "listener_port" => Ok(TemplatePart::ListenerPort),
        "host" => Ok(TemplatePart::Host),
        "scheme" => Ok(TemplatePart::Scheme),
        "client_id" => Ok(TemplatePart::ClientId),
        "username" => Ok(TemplatePart::Username),
        "tls_version" => Ok(TemplatePart::TlsVersion),
        "server_name" => Ok(TemplatePart::ServerName),
        _ => {
            let advice = match did_you_mean(name, NAMES) {
                none if none.is_empty() => format!("; there are {{{}}}", NAMES.join("}, {")),
                near => near,
            };
            Err(format!("there is no placeholder {{{name}}}{advice}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn templates() {
        let parts = |text| Template::text(text).map(|template| template.0);
        let plain = |text: &str| TemplatePart::Text(text.into());
        assert_eq!(parts("edge-1"), Ok(vec![plain("edge-1")]));
        assert_eq!(
            parts("{client_address}:{client_port} via {scheme}"),
            Ok(vec![
                TemplatePart::ClientAddress,
                plain(":"),
                TemplatePart::ClientPort,
                plain(" via "),
                TemplatePart::Scheme
            ])
        );
        assert_eq!(parts("{{{host}}}"), Ok(vec![plain("{"), TemplatePart::Host, plain("}")]));
        assert_eq!(parts(""), Ok(vec![]));
        assert!(parts("{client_adress}").is_err_and(|error| error.contains("did you mean `client_address`")));
        assert!(parts("{").is_err());
        assert!(parts("a } b").is_err());
        assert!(parts("a\nb").is_err());
    }

    #[test]
    fn the_gateway_keeps_its_own_headers() {
        for name in [header::CONNECTION, header::UPGRADE, header::HOST, header::SEC_WEBSOCKET_KEY] {
            assert!(refused(&name).is_some(), "{name}");
        }
        assert!(refused(&header::AUTHORIZATION).is_none());
    }
}
