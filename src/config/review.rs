//! One reading of a file: what we found wrong in it so far, and the few questions every section asks.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::document::Document;
use super::error::{ConfigErrors, Note};
use super::value::{OrOff, Parsed, Size, Written};

/// A range of bytes in the file.
pub(super) type Span = std::ops::Range<usize>;

/// Mistakes and warnings of one file.
pub(super) struct Review<'d> {
    document: &'d Document<'d>,
    mistakes: Vec<Note>,
    warnings: Vec<Note>,
    /// Keys whose value could not be read. They are not missing, though nobody sees them.
    unread: Vec<String>,
    files: BTreeSet<PathBuf>,
}

impl<'d> Review<'d> {
    pub(super) fn new(document: &'d Document<'d>) -> Self {
        Self {
            document,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            unread: Vec::new(),
            files: BTreeSet::new(),
        }
    }

    /// Say what is wrong at `span`, and what would be right.
    pub(super) fn mistake(&mut self, span: Span, text: impl Into<String>) {
        self.mistakes.push(self.document.note(&span, text.into()));
    }

    /// Say what works, but is probably not wanted.
    pub(super) fn warning(&mut self, span: Span, text: impl Into<String>) {
        self.warnings.push(self.document.note(&span, text.into()));
    }

    /// A key or value that cannot be read; `meant` is the key it was probably written for.
    pub(super) fn unread(&mut self, span: Span, text: String, meant: Option<&str>) {
        let key = self.document.key_at(&span);
        if let Some(meant) = meant {
            let section = key.rfind('.').map_or("", |dot| &key[..dot]);
            self.unread.push(join(section, meant));
        }
        self.unread.push(key);
        self.mistake(span, text);
    }

    /// Say that the section at `span` needs `key`, unless we already said that it cannot be read.
    pub(super) fn missing(&mut self, span: Span, key: &str, advice: &str) {
        let section = self.document.key_at(&span);
        if !self.is_unread(&join(&section, key)) {
            self.mistake(span, format!("`{key}` is missing; {advice}"));
        }
    }

    /// Say that the section at `span` needs one of `keys`, unless we already said that one cannot be read.
    pub(super) fn missing_one_of(&mut self, span: Span, keys: &[&str], text: &str) {
        let section = self.document.key_at(&span);
        if !keys.iter().any(|key| self.is_unread(&join(&section, key))) {
            self.mistake(span, text);
        }
    }

    /// Say that the list at `span` is empty, unless that is because its items cannot be read.
    pub(super) fn empty(&mut self, span: Span, advice: &str) {
        if !self.is_unread(&self.document.key_at(&span)) {
            self.mistake(span, format!("this list is empty; {advice}"));
        }
    }

    /// Whether `key`, or a part of its value, could not be read.
    pub(super) fn is_unread(&self, key: &str) -> bool {
        self.unread.iter().any(|unread| {
            unread.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// `path` as seen from the file's folder.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.document.folder().join(path)
    }

    /// `path` as seen from the file's folder, of a file that is part of the configuration: when it
    /// changes, the configuration does.
    pub(super) fn file(&mut self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.path(path);
        self.files.insert(path.clone());
        path
    }

    /// The files that are part of the configuration, beside its text.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter()
    }

    /// A whole number.
    pub(super) fn count(
        &mut self,
        field: Option<Spanned<i64>>,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let Some(field) = field else { return default };
        match usize::try_from(*field.get_ref()).ok().filter(|value| range.contains(value)) {
            Some(value) => value,
            None => {
                self.mistake(field.span(), out_of_range(field.get_ref(), &range));
                default
            }
        }
    }

    /// A whole number that can be switched off.
    pub(super) fn count_or_off(
        &mut self,
        field: Written<OrOff<i64>>,
        range: RangeInclusive<usize>,
    ) -> Option<usize> {
        let field = field?;
        let span = field.span();
        match field.into_inner().0 {
            OrOff::Off => None,
            OrOff::On(value) => Some(self.count(Some(Spanned::new(span, value)), range, 1)),
        }
    }

    /// A duration.
    pub(super) fn time(
        &mut self,
        field: Written<Duration>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let Some(field) = field else { return default };
        let Parsed(value) = field.get_ref();
        if range.contains(value) {
            return *value;
        }
        let written = |time: &Duration| humantime::format_duration(*time).to_string();
        let advice = format!(
            "\"{}\" is out of range; write a duration from \"{}\" to \"{}\"",
            written(value),
            written(range.start()),
            written(range.end()),
        );
        self.mistake(field.span(), advice);
        default
    }

    /// A duration that can be switched off.
    pub(super) fn time_or_off(
        &mut self,
        field: Written<OrOff<Duration>>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Option<Duration> {
        let Some(field) = field else { return Some(default) };
        let span = field.span();
        match field.into_inner().0 {
            OrOff::Off => None,
            OrOff::On(value) => Some(self.time(Some(Spanned::new(span, Parsed(value))), range, default)),
        }
    }

    /// A size in bytes.
    pub(super) fn size(
        &mut self,
        field: Written<Size>,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let Some(field) = field else { return default };
        let Parsed(Size(value)) = *field.get_ref();
        if let Some(value) = usize::try_from(value).ok().filter(|value| range.contains(value)) {
            return value;
        }
        let written = |bytes: usize| match bytes {
            mebibytes if mebibytes.is_multiple_of(1 << 20) => format!("{} MiB", mebibytes >> 20),
            kibibytes => format!("{} KiB", kibibytes >> 10),
        };
        let advice = format!(
            "{value} bytes is out of range; write a size from \"{}\" to \"{}\"",
            written(*range.start()),
            written(*range.end()),
        );
        self.mistake(field.span(), advice);
        default
    }

    /// The warnings, or every mistake.
    pub(super) fn finish(mut self) -> Result<Vec<Note>, ConfigErrors> {
        let in_order = |note: &Note| (note.line, note.column);
        if self.mistakes.is_empty() {
            self.warnings.sort_by_key(in_order);
            return Ok(self.warnings);
        }
        self.mistakes.sort_by_key(in_order);
        Err(ConfigErrors::Mistakes(self.mistakes))
    }
}

fn out_of_range(value: &i64, range: &RangeInclusive<usize>) -> String {
    format!("{value} is out of range; write a whole number from {} to {}", range.start(), range.end())
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}
