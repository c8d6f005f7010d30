//! Who may ask the admin listener for what.
//!
//! `/live`, `/ready`, `/metrics` and the page's files are for everybody who reaches it: they tell no secret.
//! All else takes `admin.token` where one is set. Without one it is for this machine alone, and its browsers
//! are not to be led here by a page elsewhere: neither by a name that was pointed at us (DNS rebinding: `Host`
//! must be an address or localhost), nor by a form (see [`control::doubt`]).

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{AUTHORIZATION, HOST, HeaderValue, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, Method, Response, StatusCode};

use super::answer::text;
use super::{control, page};
use crate::config::{AdminAddress, Secret};
use crate::net::Body;

/// How the admin listener is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// By a Unix socket: a browser never does.
    Unix,
    /// By a loopback address.
    Loopback,
    /// By a network.
    Network,
}

impl Reach {
    pub(super) const fn of(address: &AdminAddress) -> Self {
        match address {
            AdminAddress::Unix(_) => Self::Unix,
            address if address.is_local() => Self::Loopback,
            AdminAddress::Tcp(_) => Self::Network,
        }
    }
}

/// Why this request is not answered; `None` when it is.
pub(super) fn refuse(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    token: Option<&Secret>,
    reach: Reach,
) -> Option<Response<Body>> {
    if matches!(path, "/live" | "/ready" | "/metrics") || page::has(path) {
        return None;
    }
    if let Some(token) = token {
        // Who has the token is no page elsewhere, whatever the name it came by.
        return if !shows(headers, token) {
            Some(unauthorized())
        } else if method == Method::POST {
            control::unmeant(headers)
        } else {
            None
        };
    }
    if reach == Reach::Network {
        let words = "set `admin.token` in the configuration: this address is not for this machine alone\n";
        return Some(text(StatusCode::FORBIDDEN, words));
    }
    if method == Method::POST {
        // It names its origin, which says more than whom it asks.
        return control::doubt(headers);
    }
    let words = "ask by address or as localhost, not by a name; or set `admin.token` in the configuration\n";
    (reach == Reach::Loopback && !is_by_address(headers)).then(|| text(StatusCode::FORBIDDEN, words))
}

/// Whether the request shows the token (RFC 6750, 2.1). How long this takes tells nothing of the token but
/// its length.
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let Some(value) = headers.get(AUTHORIZATION) else { return false };
    let (scheme, shown) = value.as_bytes().split_at(value.len().min("Bearer ".len()));
    let shown = shown.trim_ascii();
    scheme.eq_ignore_ascii_case(b"Bearer ")
        && verify_slices_are_equal(shown, token.reveal().as_bytes()).is_ok()
}

fn unauthorized() -> Response<Body> {
    let words = "send `Authorization: Bearer` with the token that is `admin.token` in the configuration\n";
    let mut response = text(StatusCode::UNAUTHORIZED, words);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Whether each `Host` is an address or localhost. HTTP/1.0 may have none, and a browser always has.
fn is_by_address(headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().all(|host| {
        let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        authority.is_some_and(|authority| is_local_name(authority.host()))
    })
}

/// Whether a host is an address, or localhost.
pub(super) fn is_local_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn secret() -> Secret {
        let text = "[admin]\ntoken = \"0123456789abcdef\"\n[[listeners]]\naddresses = [\"127.0.0.1:0\"]\n\
                    [[routes]]\npath = \"/\"\nredirect = \"https\"\n";
        let config = config::parse("test.toml".as_ref(), text, &|_| None);
        config.unwrap_or_else(|errors| panic!("{errors}")).admin.unwrap().token.unwrap()
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// The status of the refusal; 200 when there is none.
    fn status(
        method: &Method,
        path: &str,
        lines: &[(&'static str, &'static str)],
        token: bool,
        reach: Reach,
    ) -> u16 {
        let token = token.then(secret);
        refuse(method, path, &headers(lines), token.as_ref(), reach).map_or(200, |no| no.status().as_u16())
    }

    #[test]
    fn some_is_for_everybody() {
        for path in ["/live", "/ready", "/metrics", "/", "/app.js", "/style.css"] {
            for reach in [Reach::Unix, Reach::Loopback, Reach::Network] {
                for token in [false, true] {
                    assert_eq!(
                        status(&Method::GET, path, &[("host", "evil.example")], token, reach),
                        200,
                        "{path}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_rest_takes_the_token_or_this_machine() {
        let good = ("authorization", "Bearer 0123456789abcdef");
        let cases = [
            (vec![], false, Reach::Network, 403),
            (vec![good], false, Reach::Network, 403),
            (vec![("host", "127.0.0.1:9901")], false, Reach::Network, 403),
            (vec![], false, Reach::Unix, 200),
            (vec![("host", "anything")], false, Reach::Unix, 200),
            (vec![], true, Reach::Unix, 401),
            (vec![], true, Reach::Loopback, 401),
            (vec![good], true, Reach::Network, 200),
            (vec![good, ("host", "gateway.example")], true, Reach::Network, 200),
            (vec![("authorization", "bearer  0123456789abcdef ")], true, Reach::Network, 200),
            (vec![("authorization", "Bearer 0123456789abcdeF")], true, Reach::Network, 401),
            (vec![("authorization", "Basic 0123456789abcdef")], true, Reach::Network, 401),
        ];
        for (lines, token, reach, expected) in cases {
            for path in ["/status", "/sessions", "/nowhere"] {
                assert_eq!(
                    status(&Method::GET, path, &lines, token, reach),
                    expected,
                    "{lines:?} {token} {reach:?}"
                );
            }
        }
        for wrong in ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0"] {
            assert!(!shows(&headers(&[("authorization", wrong)]), &secret()), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_that_was_pointed_at_us_learns_nothing() {
        for (host, expected) in [
            ("127.0.0.1:9901", 200),
            ("[::1]:9901", 200),
            ("localhost:9901", 200),
            ("LOCALHOST", 200),
            ("rebound.example:9901", 403),
            ("localhost.example", 403),
            ("127.0.0.1.example", 403),
            ("", 403),
        ] {
            assert_eq!(
                status(&Method::GET, "/status", &[("host", host)], false, Reach::Loopback),
                expected,
                "{host}"
            );
        }
    }

    #[test]
    fn control_is_meant() {
        let (good, meant) = (("authorization", "Bearer 0123456789abcdef"), ("x-brokergate", "1"));
        let named = ("origin", "https://gateway.example");
        let post = |lines: &[_], token, reach| status(&Method::POST, "/reload", lines, token, reach);
        assert_eq!(post(&[], false, Reach::Loopback), 403);
        assert_eq!(post(&[meant], false, Reach::Loopback), 200);
        assert_eq!(post(&[meant, named], false, Reach::Loopback), 403);
        assert_eq!(post(&[meant], false, Reach::Network), 403);
        assert_eq!(post(&[good], true, Reach::Network), 403);
        assert_eq!(post(&[good, meant, named], true, Reach::Network), 200);
        assert_eq!(post(&[meant], true, Reach::Loopback), 401);
    }
}
