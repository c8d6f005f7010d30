//! `brokergate check`: prove that a configuration can go to work, and tell what it would do.
//!
//! Loading proves what the file says. Here follows what it points at: certificates, authorities and
//! sites. No socket is opened: a broker that is down today is no mistake of the file.

mod plan;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config::{self, CertificateFiles, Config, ConfigErrors, Site, Target};
use crate::tls::{self, Complaint, Dated, LoadedCertificate};

/// Why a configuration cannot go to work.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file cannot be read, or has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What the file points at is missing or wrong. Never empty.
    #[error("{}", lines(.0))]
    Findings(Vec<Finding>),
    /// The answer cannot be written.
    #[error("the answer cannot be written")]
    Output(#[from] io::Error),
}

/// Something about what a key of the file points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The configuration file.
    pub file: PathBuf,
    /// The key's path.
    pub key: String,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.file.display(), self.key, self.text)
    }
}

/// Check the file at `path`; the plan and the warnings are written to `out`.
///
/// # Errors
/// Everything that keeps this configuration from going to work.
pub fn run(path: &Path, out: &mut impl Write) -> Result<(), CheckError> {
    let config = config::load(path)?;
    let examination = Examination::of(&config, SystemTime::now());
    if examination.mistakes.is_empty() {
        plan::write(&config, &examination.certificates, SystemTime::now(), out)?;
    }
    let warnings = config.warnings.iter().map(ToString::to_string);
    for warning in warnings.chain(examination.warnings.iter().map(ToString::to_string)) {
        writeln!(out, "warning: {warning}")?;
    }
    if examination.mistakes.is_empty() {
        return Ok(());
    }
    Err(CheckError::Findings(examination.mistakes))
}

/// What the file points at, looked at once.
struct Examination<'c> {
    config: &'c Config,
    now: SystemTime,
    mistakes: Vec<Finding>,
    warnings: Vec<Finding>,
    /// Of each listener, in their order.
    certificates: Vec<Vec<LoadedCertificate>>,
}

impl<'c> Examination<'c> {
    fn of(config: &'c Config, now: SystemTime) -> Self {
        let mut examination =
            Self { config, now, mistakes: Vec::new(), warnings: Vec::new(), certificates: Vec::new() };
        examination.listeners();
        examination.routes();
        examination.upstreams();
        examination
    }

    fn listeners(&mut self) {
        for (index, listener) in self.config.listeners.iter().enumerate() {
            let files = listener.tls.iter().flat_map(|tls| &tls.certificates).enumerate();
            let loaded = files
                .filter_map(|(at, files)| {
                    let key = format!("listeners[{index}].tls.certificates[{at}]");
                    let certificate = self.certificate(&key, files)?;
                    if certificate.names.is_empty() {
                        self.warn(
                            &key,
                            "this certificate names no host, so clients refuse it; \
                         make one with a subjectAltName",
                        );
                    }
                    Some(certificate)
                })
                .collect();
            self.certificates.push(loaded);
        }
    }

    fn routes(&mut self) {
        for (index, route) in self.config.routes.iter().enumerate() {
            if let Target::Site(site) = &route.target {
                self.site(&format!("routes[{index}].site"), site);
            }
        }
    }

    fn upstreams(&mut self) {
        for (name, upstream) in &self.config.upstreams {
            if let Some(ca) = &upstream.tls.ca
                && let Err(error) = tls::load_roots(ca)
            {
                self.refuse(&format!("upstreams.{name}.tls.ca"), told(error));
            }
            if let Some(files) = &upstream.tls.client_certificate {
                self.certificate(&format!("upstreams.{name}.tls.client_certificate"), files);
            }
        }
    }

    fn certificate(&mut self, key: &str, files: &CertificateFiles) -> Option<LoadedCertificate> {
        let certificate = match tls::load(files) {
            Ok(certificate) => certificate,
            Err(error) => {
                self.refuse(key, told(error));
                return None;
            }
        };
        match Dated::of(files, &certificate).complaint(self.now) {
            Some(Complaint::Wrong(text)) => self.refuse(key, text),
            Some(Complaint::Soon(text)) => self.warn(key, text),
            None => {}
        }
        Some(certificate)
    }

    fn site(&mut self, key: &str, site: &Site) {
        let root = site.root.display();
        if !site.root.is_dir() {
            self.refuse(
                &format!("{key}.root"),
                format!("{root} is no folder; name the one with the site's files"),
            );
            return;
        }
        if !site.root.join(&*site.index).is_file() {
            self.warn(
                &format!("{key}.index"),
                format!("there is no {} in {root}, so `/` answers 404", site.index),
            );
        }
        if let Some(fallback) = &site.fallback
            && !site.root.join(fallback).is_file()
        {
            self.refuse(&format!("{key}.fallback"), format!("there is no {} in {root}", fallback.display()));
        }
    }

    fn refuse(&mut self, key: &str, text: impl Into<String>) {
        self.mistakes.push(self.finding(key, text.into()));
    }

    fn warn(&mut self, key: &str, text: impl Into<String>) {
        self.warnings.push(self.finding(key, text.into()));
    }

    fn finding(&self, key: &str, text: String) -> Finding {
        Finding { file: self.config.source.clone(), key: key.to_owned(), text }
    }
}

fn days(time: Duration) -> u64 {
    time.as_secs() / (24 * 60 * 60)
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// An error with its causes, on one line.
fn told(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
