//! A command: a word, then `name=value` pairs and bare values.

use std::str::FromStr;

use super::failure::Failure;

/// A line, taken apart. What is asked for is taken out; what is left is a mistake.
pub(super) struct Order {
    pub(super) word: String,
    bare: Vec<String>,
    pairs: Vec<(String, String)>,
}

impl Order {
    pub(super) fn parse(line: &str) -> Self {
        let mut words = line.split_ascii_whitespace();
        let word = words.next().unwrap_or_default().to_owned();
        let (mut bare, mut pairs) = (Vec::new(), Vec::new());
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
                None => bare.push(word.to_owned()),
            }
        }
        Self { word, bare, pairs }
    }

    /// The next bare value.
    pub(super) fn bare<T: FromStr>(&mut self, what: &str) -> Result<Option<T>, Failure> {
        if self.bare.is_empty() {
            return Ok(None);
        }
        let value = self.bare.remove(0);
        value.parse().map(Some).map_err(|_| self.wrong(what, &value))
    }

    /// The value of `name`.
    pub(super) fn pair<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let Some(at) = self.pairs.iter().position(|(other, _)| other == name) else { return Ok(None) };
        let (_, value) = self.pairs.remove(at);
        value.parse().map(Some).map_err(|_| self.wrong(name, &value))
    }

    /// The value of `name`, which must be there.
    pub(super) fn must<T: FromStr>(&mut self, name: &str) -> Result<T, Failure> {
        let missing = format!("{}: `{name}=` is missing", self.word);
        self.pair(name)?.ok_or_else(|| Failure::new(missing))
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Failure> {
        let left = self.bare.first().or(self.pairs.first().map(|(name, _)| name));
        left.map_or(Ok(()), |left| Err(Failure::new(format!("{}: `{left}` is not known here", self.word))))
    }

    fn wrong(&self, what: &str, value: &str) -> Failure {
        Failure::new(format!("{}: {what} cannot be `{value}`", self.word))
    }
}
