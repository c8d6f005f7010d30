//! What we say when a configuration cannot be used, or could be better.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Something to say about one place of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key's path, such as `upstreams.emqx.endpoints[1].weight`; empty where no key is concerned.
    pub key: String,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// Nothing is at the path.
    #[error("{}: there is no such file; look at the path", file.display())]
    Missing {
        /// The path.
        file: PathBuf,
    },
    /// The path is a folder.
    #[error("{}: this is a folder; name the TOML file in it", file.display())]
    Folder {
        /// The path.
        file: PathBuf,
    },
    /// The file exists, but cannot be read.
    #[error("{}: the file cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not text.
    #[error("{}:{line}: this line is not UTF-8; save the file as UTF-8", file.display())]
    NotText {
        /// The file.
        file: PathBuf,
        /// The first line that is not UTF-8, from 1.
        line: usize,
    },
    /// The file says things that cannot be done: all of them, in the file's order. Never empty.
    #[error("{}", lines(.0))]
    Mistakes(Vec<Note>),
}

impl ConfigErrors {
    /// The mistakes inside the file; none when it could not be read at all.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        match self {
            Self::Mistakes(notes) => notes,
            _ => &[],
        }
    }
}

fn lines(notes: &[Note]) -> String {
    notes.iter().map(Note::to_string).collect::<Vec<_>>().join("\n")
}
