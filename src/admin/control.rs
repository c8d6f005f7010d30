//! Control: what a person asks of the running gateway, by POST.
//!
//! Where there is no `admin.token`, nobody but this machine is answered. Its browsers are, on behalf of any
//! page: so each request must carry a header that a page of another origin can't send without
//! asking (the Fetch Standard's preflight, which we answer 405), and a page's origin, where there is one,
//! must be an address or localhost: a name could be one that was pointed at us (DNS rebinding).

use http::header::ORIGIN;
use http::uri::Authority;
use http::{HeaderMap, Response, StatusCode, Uri};

use super::answer::text;
use super::guard::is_local_name;
use crate::net::Body;
use crate::reload::{Asker, Cause, Refusal};

/// The header that says a control request was meant; any value does.
pub const HEADER: &str = "x-brokergate";

/// Why a control request that shows no token is not believed; `None` when it is.
pub(super) fn doubt(headers: &HeaderMap) -> Option<Response<Body>> {
    if let Some(unmeant) = unmeant(headers) {
        return Some(unmeant);
    }
    let is_local = |origin: &http::HeaderValue| origin.to_str().is_ok_and(is_local);
    if !headers.get_all(ORIGIN).iter().all(is_local) {
        return Some(text(
            StatusCode::FORBIDDEN,
            "open the page by address or as localhost, not by a name\n",
        ));
    }
    None
}

/// Why it is not sure that a control request is meant; `None` when it is.
pub(super) fn unmeant(headers: &HeaderMap) -> Option<Response<Body>> {
    let words = "say that you mean it: send the header X-Brokergate: 1\n";
    (!headers.contains_key(HEADER)).then(|| text(StatusCode::FORBIDDEN, words))
}

/// Whether an origin is an address, or localhost.
fn is_local(origin: &str) -> bool {
    let host = |uri: Uri| uri.authority().map(Authority::host).map(str::to_owned);
    origin.parse().ok().and_then(host).is_some_and(|host| is_local_name(&host))
}

/// `POST /reload`: 200 when the configuration is at work, 422 when it must be changed first, 409 and 503
/// otherwise. The body says what is wrong, or what to beware of.
pub(super) async fn reload(asker: &Asker) -> Response<Body> {
    match asker.ask(Cause::Admin).await {
        Ok(applied) => {
            let warnings = applied.warnings.iter().map(|warning| format!("warning: {warning}\n"));
            text(StatusCode::OK, "reloaded\n".to_owned() + &warnings.collect::<String>())
        }
        Err(refusal) => {
            let status = match &refusal {
                refusal if refusal.is_configuration() => StatusCode::UNPROCESSABLE_ENTITY,
                Refusal::Stopping | Refusal::Draining | Refusal::HandingOver => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                _ => StatusCode::CONFLICT,
            };
            let reports = refusal.reports().join("\n");
            text(status, format!("{reports}\nnot reloaded: the configuration from before works on\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_elsewhere_is_not_believed() {
        let doubted = |lines: &[(&'static str, &'static str)]| {
            let lines = lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            doubt(&lines.collect()).is_some()
        };
        assert!(doubted(&[]));
        assert!(!doubted(&[("x-brokergate", "1")]));
        for (origin, is_doubted) in [
            ("http://127.0.0.1:9901", false),
            ("http://[::1]:9901", false),
            ("http://localhost:9901", false),
            ("http://localhost.example.org:9901", true),
            ("http://127.0.0.1.example.org", true),
            ("null", true),
        ] {
            assert_eq!(doubted(&[("x-brokergate", "1"), ("origin", origin)]), is_doubted, "{origin}");
            assert!(doubted(&[("origin", origin)]));
        }
    }
}
