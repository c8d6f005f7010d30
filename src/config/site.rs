//! `site` of a route: static files.

use std::path::PathBuf;

use http::HeaderValue;
use serde::Deserialize;
use toml::Spanned;

use super::review::Review;
use super::value::{Either, Parsed, Written};

/// Static files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The folder; it existed when the configuration was checked.
    pub root: PathBuf,
    /// The file served for a folder.
    pub index: Box<str>,
    /// The file, relative to the root, served with 200 where nothing is found (single-page applications).
    pub fallback: Option<PathBuf>,
    /// `Cache-Control` of files other than the index and the fallback, which are always revalidated.
    pub cache_control: Box<str>,
    /// Serve `name.br`, `name.zst` and `name.gz` beside `name` to clients that accept them.
    pub precompressed: bool,
}

/// `site` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SiteTable {
    root: Written<String>,
    index: Written<String>,
    fallback: Written<String>,
    cache_control: Written<String>,
    precompressed: Option<bool>,
}

impl SiteTable {
    /// Names without a fingerprint are the rule, and a stale script beside a new page is worse than
    /// an empty 304.
    const CACHE_CONTROL: &'static str = "no-cache";

    pub(super) fn check(written: Spanned<Either<String, Self>>, review: &mut Review<'_>) -> Option<Site> {
        let span = written.span();
        let table = match written.into_inner() {
            Either::Word(root) => {
                Self { root: Some(Spanned::new(span.clone(), Parsed(root))), ..Self::default() }
            }
            Either::Table(table) => table,
        };
        let index = match &table.index {
            Some(index) if index.get_ref().0.contains('/') => {
                review.mistake(
                    index.span(),
                    "this is the file's name in every folder; write it without `/`, such as \"index.html\"",
                );
                ""
            }
            Some(index) => &index.get_ref().0,
            None => "index.html",
        };
        let fallback = table.fallback.as_ref().and_then(|fallback| {
            let path = &fallback.get_ref().0;
            let inside =
                !path.starts_with('/') && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
            if !inside {
                review.mistake(
                    fallback.span(),
                    "this is a file below `root`; write it relative to it, such as \"index.html\"",
                );
            }
            inside.then(|| path.into())
        });
        let cache_control = match &table.cache_control {
            Some(value) if HeaderValue::from_str(&value.get_ref().0).is_err() => {
                review.mistake(
                    value.span(),
                    "this cannot be a header's value; write for instance \"public, max-age=3600\"",
                );
                ""
            }
            Some(value) => &value.get_ref().0,
            None => Self::CACHE_CONTROL,
        };
        let Some(root) = &table.root else {
            review.missing(span, "root", "name the folder with the site's files");
            return None;
        };
        Some(Site {
            root: review.path(&root.get_ref().0),
            index: index.into(),
            fallback,
            cache_control: cache_control.into(),
            precompressed: table.precompressed.unwrap_or(true),
        })
    }
}
