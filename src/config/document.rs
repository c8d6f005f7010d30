//! The TOML text as a tree that knows where every key and value stands.
//!
//! Serde stops at the first mistake. To tell all of them, [`Document::read`] takes the offending key
//! out of a copy of the tree and reads again. That works because every key of the file's form is
//! optional there; what must be present is asked for later, when the tables are checked.

use std::borrow::Cow;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{ConfigErrors, Note};
use super::nearest::nearest;
use super::review::{Review, Span};

/// Asks the environment for a variable.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A configuration file's text and tree.
pub(super) struct Document<'t> {
    source: &'t Path,
    text: &'t str,
    tree: Spanned<DeTable<'t>>,
}

/// One step from a table or an array to what it holds.
#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

impl<'t> Document<'t> {
    /// The tree of `text`, which stands in the file `source`.
    ///
    /// # Errors
    /// Where `text` is no TOML.
    pub(super) fn parse(source: &'t Path, text: &'t str) -> Result<Self, ConfigErrors> {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let document = Self { source, text, tree };
        let mut mistakes: Vec<Note> = Vec::new();
        for error in errors {
            let at = error.span().map_or(text.len(), |span| span.start);
            let curly = curly_quote_on_line(text, at);
            // The reader stumbles on after one slip, over the same thing: the first says enough.
            // Curly quotes come in numbers.
            if curly.is_none() && !mistakes.is_empty() {
                continue;
            }
            let (at, sentence) =
                curly.unwrap_or_else(|| (at, format!("this is not TOML: {}", error.message())));
            let (line, column) = position(text, at);
            mistakes.push(Note { file: source.to_owned(), line, column, key: String::new(), text: sentence });
        }
        if mistakes.is_empty() {
            return Ok(document);
        }
        mistakes.dedup();
        Err(ConfigErrors::Mistakes(mistakes))
    }

    /// The tables of the file; what cannot be read is told to `review` and left out.
    pub(super) fn read<T: DeserializeOwned + Default>(
        &self,
        environment: Environment<'_>,
        review: &mut Review<'_>,
    ) -> T {
        let mut tree = self.tree.clone();
        let mut unusable = Vec::new();
        expand_table(tree.get_mut(), environment, &mut unusable);
        for (span, text) in unusable {
            review.unread(span.clone(), text, None);
            remove(tree.get_mut(), &span);
        }
        loop {
            let error = match T::deserialize(Deserializer::from(tree.clone())) {
                Ok(tables) => return tables,
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let (text, meant) = sentence(error.message());
            review.unread(span.clone(), text, meant);
            if !remove(tree.get_mut(), &span) {
                return T::default();
            }
        }
    }

    /// `text` as said of the key or value at `span`.
    pub(super) fn note(&self, span: &Span, text: String) -> Note {
        let (line, column) = position(self.text, span.start);
        Note { file: self.source.to_owned(), line, column, key: self.key_at(span), text }
    }

    /// The folder where relative paths start.
    pub(super) fn folder(&self) -> &Path {
        self.source.parent().unwrap_or(Path::new(""))
    }

    /// The path of the innermost key around `span`; empty for the whole file.
    pub(super) fn key_at(&self, span: &Span) -> String {
        let mut path = String::new();
        for step in locate(self.tree.get_ref(), span) {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Key(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if !key.is_empty() && key.chars().all(bare) {
                        path.push_str(&key);
                    } else {
                        path.push_str(&format!("{key:?}"));
                    }
                }
            }
        }
        path
    }
}

/// Line and column of a byte of `text`, both from 1; the column counts characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Steps to the smallest key or value around `span`; of equal ones, the innermost.
fn locate(tree: &DeTable<'_>, span: &Span) -> Vec<Step> {
    let mut found = Found { span, steps: Vec::new(), best: None };
    found.table(tree);
    found.best.map(|(_, steps)| steps).unwrap_or_default()
}

struct Found<'s> {
    span: &'s Span,
    steps: Vec<Step>,
    best: Option<(usize, Vec<Step>)>,
}

impl Found<'_> {
    fn table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.steps.push(Step::Key(key.get_ref().to_string()));
            self.consider(key.span());
            self.value(value);
            self.steps.pop();
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) {
        self.consider(value.span());
        match value.get_ref() {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(array) => {
                for (index, item) in array.iter().enumerate() {
                    self.steps.push(Step::Index(index));
                    self.value(item);
                    self.steps.pop();
                }
            }
            _ => {}
        }
    }

    fn consider(&mut self, candidate: Span) {
        let around = candidate.start <= self.span.start && self.span.end <= candidate.end;
        if around && self.best.as_ref().is_none_or(|(length, _)| candidate.len() <= *length) {
            self.best = Some((candidate.len(), self.steps.clone()));
        }
    }
}

/// Take the innermost key or array item around `span` out of the tree.
fn remove(tree: &mut DeTable<'_>, span: &Span) -> bool {
    let steps = locate(tree, span);
    let mut steps = steps.iter().peekable();
    let Some(Step::Key(key)) = steps.next() else { return false };
    if steps.peek().is_none() {
        return tree.remove(key.as_str()).is_some();
    }
    let mut value = tree.get_mut(key.as_str());
    while let (Some(inside), Some(step)) = (value.take(), steps.next()) {
        let last = steps.peek().is_none();
        value = match (inside.get_mut(), step) {
            (DeValue::Table(table), Step::Key(key)) if last => return table.remove(key.as_str()).is_some(),
            (DeValue::Table(table), Step::Key(key)) => table.get_mut(key.as_str()),
            (DeValue::Array(array), Step::Index(index)) if last => {
                let items = array.clone().into_iter().enumerate();
                *array = items.filter(|(at, _)| at != index).map(|(_, item)| item).collect();
                return true;
            }
            (DeValue::Array(array), Step::Index(index)) => array.get_mut(*index),
            _ => return false,
        };
    }
    false
}

fn expand_table(table: &mut DeTable<'_>, environment: Environment<'_>, unusable: &mut Vec<(Span, String)>) {
    for (_, value) in table.iter_mut() {
        expand_value(value, environment, unusable);
    }
}

fn expand_value(
    value: &mut Spanned<DeValue<'_>>,
    environment: Environment<'_>,
    unusable: &mut Vec<(Span, String)>,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => expand_table(table, environment, unusable),
        DeValue::Array(array) => {
            for item in array.iter_mut() {
                expand_value(item, environment, unusable);
            }
        }
        DeValue::String(text) => {
            if let Some(quote) = text.chars().next().into_iter().chain(text.chars().last()).find(is_curly) {
                unusable.push((span, curly_sentence(quote)));
                return;
            }
            match expand(text, environment) {
                Ok(Cow::Borrowed(_)) => {}
                Ok(Cow::Owned(expanded)) => *text = Cow::Owned(expanded),
                Err(sentence) => unusable.push((span, sentence)),
            }
        }
        _ => {}
    }
}

/// `text` with `${NAME}` and `${NAME:-default}` replaced, and `$${` written as `${`.
fn expand<'s>(text: &'s str, environment: Environment<'_>) -> Result<Cow<'s, str>, String> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(escaped) = before.strip_suffix('$') {
            expanded.push_str(escaped);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err(
                "`${` is never closed; write `${NAME}`, or `$${` for the characters themselves".into()
            );
        };
        let (name, default) = match reference[2..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&reference[2..end], None),
        };
        let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return Err(format!(
                "`{name}` is no name of an environment variable; write letters, digits and `_`"
            ));
        }
        match environment(name).or_else(|| default.map(str::to_owned)) {
            Some(value) => expanded.push_str(&value),
            None => {
                return Err(format!(
                    "the environment has no {name}; set it, or write `${{{name}:-a default}}`"
                ));
            }
        }
        rest = &reference[end + 1..];
    }
    expanded.push_str(rest);
    Ok(Cow::Owned(expanded))
}

fn is_curly(c: &char) -> bool {
    matches!(
        c,
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' | '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}'
    )
}

fn curly_sentence(quote: char) -> String {
    format!(
        "`{quote}` is a curly quote, as web pages and word processors make them; write a straight one: \""
    )
}

/// The first curly quote on the line of a syntax error, which it most likely explains.
fn curly_quote_on_line(text: &str, at: usize) -> Option<(usize, String)> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next()?;
    let (offset, quote) = line.char_indices().find(|(_, c)| is_curly(c))?;
    Some((start + offset, curly_sentence(quote)))
}

/// What serde says, as we say it; and the key that was meant where it was nearly right.
fn sentence(message: &str) -> (String, Option<&str>) {
    let mut words = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let is_key = message.starts_with("unknown field");
        let word = words.next().unwrap_or_default();
        let known: Vec<&str> = words.collect();
        let meant = nearest(word, known.iter().copied());
        let advice = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write {}", one_of(&known)),
        };
        let text = match is_key {
            true => format!("there is no key `{word}` here; {advice}"),
            false => format!("{word:?} is no value of this key; {advice}"),
        };
        return (text, meant.filter(|_| is_key));
    }
    if let Some((found, wanted)) =
        message.strip_prefix("invalid type: ").and_then(|m| m.split_once(", expected "))
    {
        return (format!("found {}; write {}", plain(found), plain(wanted)), None);
    }
    if message == "wanted string or table" {
        return ("write one of the known words, in quotes".into(), None);
    }
    (message.to_owned(), None)
}

fn one_of(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// Serde's words for types, in TOML's.
fn plain(words: &str) -> &str {
    match words {
        "a sequence" => "a list: values in [ ], or tables under a name in [[ ]]",
        "map" | "a map" => "a table",
        "sequence" => "a list",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "i64" | "u64" | "usize" => "a whole number",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "HOST").then(|| "broker.example.org".to_owned())
    }

    #[test]
    fn the_environment_is_read_into_strings() {
        let expand = |text| expand(text, &environment).map(Cow::into_owned);
        assert_eq!(expand("ws://${HOST}:8083/mqtt").as_deref(), Ok("ws://broker.example.org:8083/mqtt"));
        assert_eq!(expand("${PORT:-8083}${EMPTY:-}").as_deref(), Ok("8083"));
        assert_eq!(expand("a $${HOST} is ${HOST}").as_deref(), Ok("a ${HOST} is broker.example.org"));
        assert_eq!(expand("$HOST {HOST}").as_deref(), Ok("$HOST {HOST}"));
        assert!(expand("${PORT}").is_err_and(|error| error.contains("the environment has no PORT")));
        assert!(expand("${HOST").is_err_and(|error| error.contains("never closed")));
        assert!(expand("${2}").is_err());
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("a\n\u{e9}x", 4), (2, 2));
        assert_eq!(position("a", 9), (1, 2));
    }
}
