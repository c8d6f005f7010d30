//! The configuration: one TOML file, read once into types that cannot be wrong.
//!
//! What a person writes (the `…Table` types) and what works (`Config` and its parts) are different
//! types; each section has both in one file. [`load`] reads the first into the second and tells every
//! mistake at once. After it nobody asks again whether a weight is zero or a route's upstream exists.

mod admin;
mod backend;
mod document;
mod endpoint;
mod endpoint_url;
mod error;
mod forwarded;
mod limits;
mod listener;
mod log;
mod nearest;
mod pattern;
mod probe;
mod resolver;
mod review;
mod route;
mod secret;
mod site;
mod table;
mod upstream;
mod url;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

pub use admin::{Admin, AdminAddress, Drain, Reload, Runtime};
pub use backend::{Backend, BackendAddress};
pub use endpoint::{Discover, Endpoint, EndpointAddress, ProxyVersion, Transport};
pub use error::{ConfigErrors, Note};
pub use forwarded::{ForwardedFor, ForwardedOptions, ForwardedPort, HostHeader, Template, TemplatePart};
pub use limits::Limits;
pub use listener::{CertificateFiles, Listener, ListenerTls, TlsVersion};
pub use log::{Log, LogFormat};
pub use nearest::did_you_mean;
pub use pattern::{HostPattern, Origin, Origins, PathPattern};
pub use probe::{Probe, ProbeKind, ProbeLogin};
pub use resolver::Resolver;
pub use route::{MqttTarget, Redirect, Route, Target};
pub use secret::Secret;
pub use site::Site;
pub use upstream::{Balance, BrokerTls, OnLoss, Upstream};
pub use value::Weight;

use document::Document;
use review::Review;
use table::ConfigTable;

/// What the gateway is asked to do, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub source: PathBuf,
    /// How many workers, and of what kind.
    pub runtime: Runtime,
    /// Where and how we log.
    pub log: Log,
    /// The admin listener; `None` when switched off.
    pub admin: Option<Admin>,
    /// Caps, deadlines and sizes.
    pub limits: Limits,
    /// Who knows the addresses behind names.
    pub resolver: Resolver,
    /// How long the end may take.
    pub drain: Drain,
    /// What makes it read the configuration again.
    pub reload: Reload,
    /// Peers whose PROXY preamble and `X-Forwarded-*` headers we believe.
    pub trusted_proxies: Vec<IpNet>,
    /// Where clients arrive. Never empty.
    pub listeners: Vec<Arc<Listener>>,
    /// Host and path to target, in the file's order. Never empty.
    pub routes: Vec<Route>,
    /// Brokers by upstream name. Every `MqttTarget::upstream` is a key of it.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// What works, but is probably not wanted.
    pub warnings: Vec<Note>,
}

/// One reading of a configuration file.
#[derive(Debug)]
pub struct Reading {
    /// Every file that has a say: the configuration's own, secrets, certificates, keys, authorities. Known as
    /// far as the text can be read.
    pub files: BTreeSet<PathBuf>,
    /// The configuration, or what is wrong with it.
    pub config: Result<Config, ConfigErrors>,
}

/// The configuration in the file at `path`, with the process's environment.
///
/// # Errors
/// The file cannot be read, or every mistake in it.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    read(path).config
}

/// The same, with the names of the files that were read for it, or will be.
#[must_use]
pub fn read(path: &Path) -> Reading {
    let mut files = BTreeSet::from([path.to_owned()]);
    let config = read_text(path)
        .and_then(|text| parse_noting(path, &text, &|name| std::env::var(name).ok(), &mut files));
    Reading { files, config }
}

/// The configuration in `text`, as if it stood in the file `source`: relative paths start at its folder.
///
/// # Errors
/// Every mistake in `text`.
pub fn parse(
    source: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    parse_noting(source, text, environment, &mut BTreeSet::new())
}

fn parse_noting(
    source: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &mut BTreeSet<PathBuf>,
) -> Result<Config, ConfigErrors> {
    let document = Document::parse(source, text)?;
    let mut review = Review::new(&document);
    let tables: ConfigTable = document.read(environment, &mut review);
    let config = tables.check(&mut review);
    files.extend(review.files().cloned());
    let warnings = review.finish()?;
    Ok(Config { warnings, source: source.to_owned(), ..config })
}

fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    let file = path.to_owned();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ConfigErrors::Missing { file }),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(ConfigErrors::Folder { file });
        }
        Err(source) => return Err(ConfigErrors::Unreadable { file, source }),
    };
    String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ConfigErrors::NotText { file, line: sound.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })
}
