//! Answers as they are written: words for a person or content of a type, and what a browser may make of it.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

use super::page;
use super::query::Refused;
use crate::net::{Body, full};

/// What came of a request, in words for a person.
pub(super) fn told(outcome: Result<String, Refused>) -> Response<Body> {
    let (status, words) = match outcome {
        Ok(words) => (StatusCode::OK, words),
        Err(refused) => refused,
    };
    text(status, words + "\n")
}

/// Words for a person, in whole lines.
pub(super) fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = typed("text/plain; charset=utf-8", full(text));
    *response.status_mut() = status;
    response
}

/// Content that was asked for.
pub(super) fn typed(content_type: &'static str, content: Body) -> Response<Body> {
    let mut response = Response::new(content);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer that a browser neither keeps, guesses at, frames, nor takes for more than it is.
pub(super) fn careful(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    response
}
