//! Configuration files: those in `config/`, the fixtures in `tests/config/`, and `brokergate check`.
#![expect(clippy::unwrap_used, reason = "a test fails by them")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use brokergate::cli::check::{self, CheckError};
use brokergate::config::{self, Config, ConfigErrors, Target, TemplatePart};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// A variable that fixtures may use.
fn environment(name: &str) -> Option<String> {
    (name == "HOST").then(|| "broker.example.org".to_owned())
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The TOML files of a folder, of which there are at least so many.
fn files(folder: &Path, at_least: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    assert!(files.len() >= at_least, "{} has {} files", folder.display(), files.len());
    files.sort();
    files
}

fn parse(path: &Path) -> Result<Config, ConfigErrors> {
    config::parse(path, &fs::read_to_string(path).unwrap(), &environment)
}

fn parse_text(text: &str) -> Result<Config, ConfigErrors> {
    config::parse(Path::new("gateway.toml"), text, &environment)
}

/// Compare what was said of a fixture with the `.expected` file beside it. With `UPDATE_EXPECTED` set
/// the file is written instead, for a person to read.
fn assert_expected(fixture: &Path, said: &str) {
    let said = said.replace(&format!("{}/", fixture.parent().unwrap().display()), "");
    let expected = fixture.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        match said.is_empty() {
            true => drop(fs::remove_file(&expected)),
            false => fs::write(&expected, format!("{said}\n")).unwrap(),
        }
        return;
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(said, wanted.trim_end(), "{}", fixture.display());
}

#[test]
fn invalid_files_are_refused_with_every_mistake() {
    for fixture in files(&folder("tests/config/invalid"), 100) {
        let Err(errors) = parse(&fixture) else { panic!("{} is accepted", fixture.display()) };
        assert!(!errors.notes().is_empty());
        assert_expected(&fixture, &errors.to_string());
    }
}

#[test]
fn valid_files_are_accepted_with_their_warnings() {
    for fixture in files(&folder("tests/config/valid"), 15) {
        let config = parse(&fixture).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(fixture.to_string_lossy().contains("warning-"), !warnings.is_empty());
        assert_expected(&fixture, &warnings.join("\n"));
    }
}

#[test]
fn the_files_we_give_people_are_in_order() {
    for file in files(&folder("config"), 6) {
        let config = parse(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.warnings, [], "{}", file.display());
    }
}

#[test]
fn the_reference_shows_the_real_defaults() {
    let text = fs::read_to_string(folder("config/reference.toml")).unwrap();
    let (shown, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.ends_with("# default"));
    assert!(shown.len() > 40, "{} lines show a default", shown.len());
    let left_out = Config { warnings: Vec::new(), ..parse_text(&rest.join("\n")).unwrap() };
    let written = Config { warnings: Vec::new(), ..parse_text(&text).unwrap() };
    assert_eq!(format!("{written:#?}"), format!("{left_out:#?}"));
}

/// An unknown key in a table is answered with all keys of that table: ask every table.
#[test]
fn the_reference_names_every_key() {
    let text = fs::read_to_string(folder("config/reference.toml")).unwrap();
    let reference: toml::Table = text.parse().unwrap();
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    name_keys("", &reference, &mut named);

    let mut asked = reference;
    plant_unknown_keys(&mut asked);
    let errors = parse_text(&asked.to_string()).unwrap_err();
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for note in errors.notes() {
        let mut words = note.text.split('`').skip(1).step_by(2);
        assert_eq!(words.next(), Some(UNKNOWN), "{note}");
        let section = note.key.strip_suffix(UNKNOWN).unwrap().trim_end_matches('.');
        known.insert(one_upstream(&without_indices(section)), words.map(str::to_owned).collect());
    }
    // Here the file's author chooses the keys.
    for free in ["upstreams", "upstreams.emqx.forwarded.set_headers", "routes.backend.forwarded.set_headers"]
    {
        assert!(named.remove(free).is_some());
    }
    assert!(known.len() > 15);
    assert_eq!(named, known);
}

const UNKNOWN: &str = "qqqqqqqq";

/// Some keys exclude each other, so the reference has a second upstream for the others.
fn one_upstream(section: &str) -> String {
    section.replace("upstreams.cluster", "upstreams.emqx")
}

fn name_keys(section: &str, table: &toml::Table, named: &mut BTreeMap<String, BTreeSet<String>>) {
    named.entry(one_upstream(section)).or_default().extend(table.keys().cloned());
    for (key, value) in table {
        let key = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match value {
            toml::Value::Table(table) => name_keys(&key, table, named),
            toml::Value::Array(items) => {
                for table in items.iter().filter_map(toml::Value::as_table) {
                    name_keys(&key, table, named);
                }
            }
            _ => {}
        }
    }
}

fn plant_unknown_keys(table: &mut toml::Table) {
    let is_free = table.contains_key("emqx") || table.contains_key("X-Gateway");
    for (_, value) in table.iter_mut() {
        match value {
            toml::Value::Table(table) => plant_unknown_keys(table),
            toml::Value::Array(items) => {
                for table in items.iter_mut().filter_map(toml::Value::as_table_mut) {
                    plant_unknown_keys(table);
                }
            }
            _ => {}
        }
    }
    if !is_free {
        table.insert(UNKNOWN.to_owned(), toml::Value::Boolean(true));
    }
}

/// `routes[1].site` as `routes.site`.
fn without_indices(key: &str) -> String {
    key.split(['[', ']']).step_by(2).collect()
}

#[test]
fn a_secret_is_taken_to_the_letter() {
    let config = parse(&folder("tests/config/valid/secret-from-a-file.toml")).unwrap();
    let headers = &config.upstreams["emqx"].forwarded.set_headers;
    let value = |name: &str| &headers.iter().find(|(header, _)| header == name).unwrap().1.0;
    assert_eq!(*value("x-token"), [TemplatePart::Text("a {secret} value".into())]);
    assert_eq!(*value("x-gateway"), [TemplatePart::Text("broker.example.org".into())]);
}

#[test]
fn paths_start_at_the_files_folder() {
    let text = fs::read_to_string(folder("tests/config/valid/bare-words.toml")).unwrap();
    let config = config::parse(Path::new("/etc/brokergate/gateway.toml"), &text, &environment).unwrap();
    let roots: Vec<&Path> = config
        .routes
        .iter()
        .filter_map(|route| match &route.target {
            Target::Site(site) => Some(site.root.as_path()),
            _ => None,
        })
        .collect();
    assert_eq!(roots, [Path::new("/etc/brokergate/www")]);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("gateway.toml");
    assert!(matches!(config::load(&missing), Err(ConfigErrors::Missing { .. })));
    assert!(matches!(config::load(folder.path()), Err(ConfigErrors::Folder { .. })));
    fs::write(&missing, b"# fine\n# caf\xe9\n").unwrap();
    assert!(matches!(config::load(&missing), Err(ConfigErrors::NotText { line: 2, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A file that is being edited is reloaded in any state.
    #[test]
    fn no_text_is_too_odd(
        cut in any::<prop::sample::Index>(),
        length in 0..40_usize,
        typed in "[\\[\\]{}\"=,.$\u{201c}a1\n-]{0,6}",
    ) {
        let text = fs::read_to_string(folder("config/reference.toml")).unwrap();
        let start = text.floor_char_boundary(cut.index(text.len()));
        let end = text.ceil_char_boundary((start + length).min(text.len()));
        let odd = format!("{}{typed}{}", &text[..start], &text[end..]);
        if let Err(errors) = parse_text(&odd) {
            prop_assert!(!errors.notes().is_empty());
            prop_assert!(errors.notes().iter().all(|note| note.line > 0 && note.column > 0));
        }
    }
}

/// A folder with a configuration, and what it points at.
struct Installation(TempDir);

impl Installation {
    /// Everything is in order: a certificate for many years, a site, an authority.
    fn new() -> Self {
        let installation = Self(tempfile::tempdir().unwrap());
        installation.certificate(2020, 2100);
        fs::create_dir(installation.path("www")).unwrap();
        installation.write("www/index.html", "hello");
        fs::copy(installation.path("tls.crt"), installation.path("ca.pem")).unwrap();
        installation.write(
            "gateway.toml",
            r#"
            [[listeners]]
            name = "edge"
            addresses = ["127.0.0.1:443", "127.0.0.1:8084"]
            tls.certificates = [{ chain = "tls.crt", key = "tls.key" }]

            [[routes]]
            path = "/"
            site = { root = "www", fallback = "index.html" }

            [[routes]]
            path = "/mqtt"
            upstream = "emqx"

            [[routes]]
            host = "*.example.org"
            path = "/"
            redirect = { port = 8443 }

            [[routes]]
            host = "api.example.org"
            path = "/"
            backend = "http://127.0.0.1:3000"

            [upstreams.emqx]
            tls = { ca = "ca.pem", client_certificate = { chain = "tls.crt", key = "tls.key" } }
            endpoints = [
              { name = "one", url = "wss://192.0.2.1/mqtt", weight = 2, max_sessions = 500 },
              { name = "two", url = "mqtts://192.0.2.2" },
              { name = "three", url = "mqtt://192.0.2.3", proxy_protocol = "v2" },
              { name = "four", url = "mqtt://192.0.2.4", backup = true },
            ]
            "#,
        );
        installation
    }

    fn certificate(&self, from: i32, until: i32) {
        let names = ["gateway.example.org".to_owned(), "192.0.2.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        self.write("tls.crt", &params.self_signed(&key).unwrap().pem());
        self.write("tls.key", &key.serialize_pem());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// What `brokergate check` answers, without the folder's name.
    fn check(&self) -> Result<String, String> {
        let mut out = Vec::new();
        let checked = check::run(&self.path("gateway.toml"), &mut out);
        let plain = |text: &str| text.replace(&format!("{}/", self.0.path().display()), "");
        match checked {
            Ok(()) => Ok(plain(&String::from_utf8(out).unwrap())),
            Err(error) => {
                assert!(matches!(error, CheckError::Findings(_)));
                Err(plain(&error.to_string()))
            }
        }
    }
}

#[test]
fn check_tells_what_would_be_done() {
    let plan = Installation::new().check().unwrap();
    // The days left change from day to day.
    let plan: Vec<&str> = plan.lines().map(|line| line.split(" (").next().unwrap()).collect();
    insta::assert_snapshot!(plan.join("\n"), @r"
    gateway.toml is in order.

    Listeners
      edge: 127.0.0.1:443, 127.0.0.1:8084  TLS 1.2 and 1.3
        gateway.example.org, 192.0.2.1  until 2100-01-01T00:00:00Z

    Routes, in the order in which they are tried
      api.example.org          /*               backend http://127.0.0.1:3000
      *.example.org            /*               redirects to https on port 8443
      any host                 /mqtt            MQTT to emqx
      any host                 /*               files of www

    Upstreams
      emqx  by weight, in turn; up to 3 endpoints tried for one session
         50.0 %  weight 2     one, up to 500 sessions
         25.0 %  weight 1     two
         25.0 %  weight 1     three, PROXY v2
         backup  weight 1     four
    ");
}

#[test]
fn check_finds_what_is_missing_behind_the_file() {
    let refusal = |spoil: &dyn Fn(&Installation)| {
        let installation = Installation::new();
        spoil(&installation);
        installation.check().unwrap_err()
    };
    let certificate = "gateway.toml: listeners[0].tls.certificates[0]: ";
    for (said, why) in [
        (refusal(&|on| on.certificate(2020, 2021)), format!("{certificate}tls.crt expired on 2021-01-01")),
        (refusal(&|on| on.certificate(2100, 2101)), format!("{certificate}tls.crt is valid from 2100-01-01")),
        (refusal(&|on| on.write("tls.key", "")), format!("{certificate}tls.key holds no private key")),
        (
            refusal(&|on| fs::remove_file(on.path("tls.crt")).unwrap()),
            format!("{certificate}tls.crt cannot be read: No such file"),
        ),
        (
            refusal(&|on| fs::remove_dir_all(on.path("www")).unwrap()),
            "routes[0].site.root: www is no folder".to_owned(),
        ),
        (
            refusal(&|on| fs::remove_file(on.path("www/index.html")).unwrap()),
            "routes[0].site.fallback: there is no index.html".to_owned(),
        ),
        (
            refusal(&|on| on.write("ca.pem", "")),
            "upstreams.emqx.tls.ca: ca.pem holds no certificate".to_owned(),
        ),
    ] {
        assert!(said.contains(&why), "{why}: {said}");
    }
}

#[test]
fn check_passes_mistakes_of_the_file_on() {
    let installation = Installation::new();
    installation.write("gateway.toml", "");
    let error = check::run(&installation.path("gateway.toml"), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, CheckError::Config(ConfigErrors::Mistakes(_))));
}
