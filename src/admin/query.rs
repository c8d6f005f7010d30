//! What a request's query asks for, and how a mistake in it is told.

use std::borrow::Cow;
use std::fmt::Display;

use http::StatusCode;
use percent_encoding::percent_decode_str;

use crate::config::did_you_mean;
use crate::drain::Will;

/// Why a request is not answered: the status, and words for a person.
pub(super) type Refused = (StatusCode, String);

/// Names and values, decoded. A name that comes twice is a mistake: one of its values would not count.
pub(super) fn pairs(query: Option<&str>) -> impl Iterator<Item = Result<(&str, Cow<'_, str>), Refused>> {
    let mut names = Vec::new();
    query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if names.contains(&name) {
            return Err(bad(format!("`{}` is there twice", name.escape_debug())));
        }
        names.push(name);
        let value = percent_decode_str(value).decode_utf8().map_err(|_| bad("a parameter is not UTF-8"))?;
        Ok((name, value))
    })
}

/// A name that means nothing here.
pub(super) fn no_parameter<const N: usize>(name: &str, known: [&str; N]) -> Refused {
    let near = did_you_mean(name, known);
    bad(format!("`{}` is no parameter here{near}", name.escape_debug()))
}

pub(super) fn will(value: &str) -> Result<Will, Refused> {
    match value {
        "fire" => Ok(Will::Fire),
        "suppress" => Ok(Will::Suppress),
        _ => Err(bad("will: write fire or suppress")),
    }
}

pub(super) fn bad(words: impl Display) -> Refused {
    (StatusCode::BAD_REQUEST, words.to_string())
}

pub(super) fn conflict(words: impl Display) -> Refused {
    (StatusCode::CONFLICT, words.to_string())
}

/// What tests ask of each reading of a query: a mistake in it is a 400 with such words.
#[cfg(test)]
#[track_caller]
pub(super) fn tells_mistakes<T: std::fmt::Debug>(
    read: impl Fn(Option<&str>) -> Result<T, Refused>,
    mistakes: &[(&str, &str)],
) {
    for (query, words) in mistakes {
        let (status, told) = read(Some(query)).expect_err(query);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(told.contains(words), "{query}: {told}");
    }
}
