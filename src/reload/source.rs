//! The files of a configuration, and whether what they hold has changed.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::config::{self, Config, ConfigErrors};

/// How often a reading is begun again when its files change meanwhile.
const READINGS: usize = 3;

/// A configuration file with all that it names, as it was when it was read.
#[derive(Debug, Clone)]
pub struct Source {
    file: PathBuf,
    files: BTreeSet<PathBuf>,
    print: u64,
}

impl Source {
    /// Read the configuration at `file`. Whatever changes after this call [has changed](Self::has_changed):
    /// the fingerprint is taken before the text is read for good, and before any certificate is.
    pub fn read(file: &Path) -> (Self, Result<Config, ConfigErrors>) {
        let mut reading = config::read(file);
        let mut print = 0;
        for _ in 0..READINGS {
            let files = reading.files;
            print = fingerprint(&files);
            reading = config::read(file);
            if reading.files == files {
                break;
            }
        }
        (Self { file: file.to_owned(), files: reading.files, print }, reading.config)
    }

    /// The configuration file itself.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The file, and the secrets, certificates, keys and authorities it names.
    #[must_use]
    pub fn files(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// Whether any file holds something else than when it was read.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        fingerprint(&self.files) != self.print
    }
}

/// Of what the files hold; a file that can't be read holds the error.
fn fingerprint(files: &BTreeSet<PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        let content = fs::read(file).map_err(|error| error.kind());
        (file, content).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_counts_and_not_when_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("brokergate.toml");
        let (source, config) = Source::read(&file);
        assert!(config.is_err() && !source.has_changed());
        fs::write(&file, "rubbish").unwrap();
        assert!(source.has_changed(), "it is there now");
        let (source, _) = Source::read(&file);
        fs::write(&file, "rubbish").unwrap();
        assert!(!source.has_changed());
        fs::write(&file, "rubbisH").unwrap();
        assert!(source.has_changed());
    }

    #[test]
    fn what_the_file_names_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "brokergate.toml",
            r#"
            [[listeners]]
            addresses = ["127.0.0.1:0"]
            tls.certificates = [{ chain = "tls.crt", key = "tls.key" }]
            [[routes]]
            path = "/mqtt"
            upstream = "brokers"
            [upstreams.brokers]
            endpoints = ["wss://broker.example.org"]
            tls.ca = "ca.pem"
            [upstreams.brokers.forwarded.set_headers]
            X-Token = { file = "token" }
            "#,
        );
        for name in ["token", "tls.crt", "tls.key", "ca.pem"] {
            let (source, config) = Source::read(&folder.path().join("brokergate.toml"));
            assert_eq!(config.is_err(), name == "token", "a secret is read at once");
            assert_eq!(source.files().len(), 5);
            assert!(!source.has_changed());
            write(name, name);
            assert!(source.has_changed(), "{name}");
        }
    }
}
