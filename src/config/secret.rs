//! Secrets: from the environment, or from a file of their own.

use std::fmt;
use std::fs;

use serde::Deserialize;
use toml::Spanned;

use super::review::Review;
use super::value::{Either, Leaf, Written};

/// What nobody may read in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Leaf for Secret {
    const FORM: &'static str = "a text in quotes, or { file = \"…\" }";

    fn text(text: &str) -> Result<Self, String> {
        String::text(text).map(|text| Self(text.into()))
    }
}

/// A secret as written: the text itself, most often from `${NAME}`, or the file that holds it.
pub(super) type WrittenSecret = Spanned<Either<Secret, SecretTable>>;

/// `{ file = "…" }`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SecretTable {
    file: Written<String>,
}

impl SecretTable {
    /// The secret.
    pub(super) fn check(written: WrittenSecret, review: &mut Review<'_>) -> Option<Secret> {
        let span = written.span();
        match written.into_inner() {
            Either::Word(secret) => Some(secret),
            Either::Table(table) => {
                table.read(span, "a secret", |_| true, review).map(|text| Secret(text.into()))
            }
        }
    }

    /// What the file holds, to the letter but for the newline at its end, if it `fits` being `what`.
    pub(super) fn read(
        self,
        span: super::review::Span,
        what: &str,
        fits: impl FnOnce(&str) -> bool,
        review: &mut Review<'_>,
    ) -> Option<String> {
        let Some(file) = self.file else {
            review.missing(span, "file", "name the file that holds the value");
            return None;
        };
        let path = review.file(&file.get_ref().0);
        let secret = match fs::read_to_string(&path) {
            Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
            Err(error) => {
                review.mistake(file.span(), format!("{} cannot be read: {error}", path.display()));
                return None;
            }
        };
        if secret.is_empty() || !fits(&secret) {
            review.mistake(
                file.span(),
                format!("what {} holds cannot be {what}; write one line of text into it", path.display()),
            );
            return None;
        }
        Some(secret)
    }
}
