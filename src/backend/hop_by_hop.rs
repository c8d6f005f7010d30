//! Headers that are meant for one connection, not for the other end (RFC 9110 section 7.6.1).

use http::header::{
    CONNECTION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

/// Those of the specification, and what old clients send in their place.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Remove what `Connection` names, `Connection` itself, and the other hop-by-hop headers. Do it before
/// headers of our own are added: else a client takes them away by naming them in `Connection`.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<_> = elements(headers, &CONNECTION).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove::<&HeaderName>(name);
    }
}

/// The protocols a request asks to switch to: `Upgrade`, where `Connection` names it. HTTP's own are left
/// out: inside such a tunnel a client could send requests past our routes and headers.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    elements(headers, &CONNECTION).find(|option| option.eq_ignore_ascii_case("upgrade"))?;
    let is_http = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or(protocol).trim();
        ["http", "h2", "h2c"].iter().any(|http| name.eq_ignore_ascii_case(http))
    };
    let kept: Vec<_> =
        elements(headers, &UPGRADE).filter(|name| !name.is_empty() && !is_http(name)).collect();
    HeaderValue::try_from(kept.join(", ")).ok().filter(|protocols| !protocols.is_empty())
}

/// Whether the sender reads trailers: the only use of `TE` that is left.
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    elements(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        lines.iter().map(line).fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
    }

    #[test]
    fn only_headers_for_the_other_end_are_left() {
        let mut found = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "upgrade,,not a name"),
            ("x-secret", "1"),
            ("x-secret", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("trailer", "x-sum"),
            ("authorization", "Bearer x"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut found);
        let expected = [("trailer", "x-sum"), ("authorization", "Bearer x"), ("accept", "*/*")];
        assert_eq!(found, headers(&expected));
    }

    #[test]
    fn an_upgrade_counts_when_connection_names_it_and_it_is_not_http() {
        let asked =
            |connection, protocols| upgrade(&headers(&[("connection", connection), ("upgrade", protocols)]));
        assert_eq!(asked("keep-alive, Upgrade", "websocket").unwrap(), "websocket");
        assert_eq!(asked("upgrade", "h2c, websocket, IRC/6.9").unwrap(), "websocket, IRC/6.9");
        for protocols in ["h2c", "H2C", "HTTP/2.0", "h2 / x", "", " , "] {
            assert_eq!(asked("upgrade", protocols), None, "{protocols}");
        }
        assert_eq!(asked("close", "websocket"), None);
        assert_eq!(upgrade(&headers(&[("connection", "upgrade")])), None);
    }

    #[test]
    fn trailers_are_asked_for_in_te() {
        assert!(takes_trailers(&headers(&[("te", "deflate;q=0.5, Trailers")])));
        assert!(!takes_trailers(&headers(&[("te", "deflate")])));
    }
}
