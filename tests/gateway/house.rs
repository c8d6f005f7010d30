//! The house rules: who imports whom, how long a file is, and that the documentation names what the code
//! has. The rules about imports stand in `docs/architecture.md` and are read from there.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by them")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use brokergate::admin::Stage;
use brokergate::config;
use brokergate::listener::connection;
use brokergate::mqtt::Connack;
use brokergate::proxy::Rejection;
use brokergate::snapshot::Target;
use brokergate::tls::AcceptError;
use brokergate::tunnel::Ending;
use brokergate::upstream::{DialError, OfferError};

/// A file of the source, past which a reader asks for two.
const MOST_LINES: usize = 450;
/// A file of nothing but tests.
const MOST_LINES_OF_TESTS: usize = 600;
/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];

// --- Who imports whom --------------------------------------------------------------------------------

#[test]
fn imports_run_downward() {
    let house = House::load();
    let arrows: Vec<String> = sources()
        .iter()
        .flat_map(|source| house.wrong_arrows(&source.module(), &imports(&source.text)))
        .collect();
    assert!(arrows.is_empty(), "{}", arrows.join("\n"));
}

#[test]
fn an_arrow_that_runs_up_is_found() {
    let house = House { ranks: ranks("main > proxy > site, backend > config, net\n") };
    let wrong = |module: &str, text: &str| house.wrong_arrows(module, &imports(text));
    assert!(wrong("proxy", "use crate::{backend::Backend, config::{self, Config}, net};").is_empty());
    assert!(wrong("backend", "use super::body; // use crate::proxy\nuse crate::backend::dial;").is_empty());

    let up = "`backend` imports `proxy`, which stands above it";
    assert_eq!(wrong("backend", "use crate::proxy::Rejection;"), [up]);
    assert_eq!(wrong("backend", "use crate::{\n    config,\n    proxy::{Rejection, Limit},\n};"), [up]);
    assert_eq!(wrong("backend", "fn f() -> crate::proxy::Rejection {}"), [up]);
    assert_eq!(
        wrong("site", "use crate::backend::Backend;"),
        ["`site` imports `backend`, which stands beside it"]
    );
    assert_eq!(wrong("attic", "use crate::net;"), ["`attic` has no place in docs/architecture.md"]);
    assert_eq!(wrong("proxy", "use crate::attic;"), ["`attic` has no place in docs/architecture.md"]);
}

/// The order of the modules, the highest first; those of one rank do not know each other.
struct House {
    ranks: Vec<Vec<String>>,
}

impl House {
    fn load() -> Self {
        let page = read("docs/architecture.md");
        let order = page.split("```").find(|block| block.trim_start().starts_with("main > "));
        let house = Self { ranks: ranks(order.expect("docs/architecture.md gives the order: main > …")) };
        let modules: BTreeSet<String> = sources().iter().map(Source::module).collect();
        let placed: BTreeSet<String> = house.ranks.iter().flatten().cloned().collect();
        assert_eq!(placed, modules, "docs/architecture.md places other modules than src/ has");
        house
    }

    fn wrong_arrows(&self, from: &str, to: &BTreeSet<String>) -> Vec<String> {
        let place =
            |module: &str| self.ranks.iter().position(|rank| rank.iter().any(|other| other == module));
        let wrong = |module: &String| {
            let (Some(above), Some(below)) = (place(from), place(module)) else {
                let lost = if place(from).is_none() { from } else { module };
                return Some(format!("`{lost}` has no place in docs/architecture.md"));
            };
            match above.cmp(&below) {
                _ if from == module => None,
                std::cmp::Ordering::Less => None,
                std::cmp::Ordering::Equal => {
                    Some(format!("`{from}` imports `{module}`, which stands beside it"))
                }
                std::cmp::Ordering::Greater => {
                    Some(format!("`{from}` imports `{module}`, which stands above it"))
                }
            }
        };
        to.iter().filter_map(wrong).collect()
    }
}

fn ranks(order: &str) -> Vec<Vec<String>> {
    let names = |rank: &str| rank.split(',').map(|name| name.trim().to_owned()).collect();
    order.split('>').map(names).collect()
}

/// The modules that a file's `crate::…` paths lead to.
fn imports(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    code.split("crate::").skip(1).flat_map(first_names).collect()
}

/// `a` of `a::b`; `a` and `c` of `{a::{self, b}, c}`.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut depth = 0;
    let mut names = vec![name(group)];
    for (at, sign) in group.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn name(path: &str) -> String {
    path.trim_start().chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect()
}

// --- Files -------------------------------------------------------------------------------------------

#[test]
fn files_say_what_they_are_for_and_stay_short() {
    for source in sources() {
        let file = source.path.display();
        assert!(source.text.starts_with("//! "), "{file} does not begin with `//! `: say what it is for");
        let (lines, most) = (source.text.lines().count(), source.most_lines());
        assert!(lines <= most, "{file} has {lines} lines; past {most} it is two files");
        for name in source.path.with_extension("").iter().filter_map(|name| name.to_str()) {
            assert!(!EMPTY_NAMES.contains(&name), "{file}: `{name}` does not say what is inside");
        }
    }
}

/// A file below `src`.
struct Source {
    /// From `src` on.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The top module it belongs to.
    fn module(&self) -> String {
        let first = self.path.iter().next().map(Path::new).unwrap_or(&self.path);
        first.with_extension("").display().to_string()
    }

    fn most_lines(&self) -> usize {
        let is_test = self.path.with_extension("").iter().any(|name| name == "tests");
        if is_test { MOST_LINES_OF_TESTS } else { MOST_LINES }
    }
}

/// All of `src` but `lib.rs`, which is the list of the modules.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources: Vec<Source> = files_below(&root, "rs")
        .into_iter()
        .filter_map(|file| Some((file.strip_prefix(&root).ok()?.to_owned(), file)))
        .filter(|(path, _)| path != Path::new("lib.rs"))
        .map(|(path, file)| Source { path, text: fs::read_to_string(file).unwrap() })
        .collect();
    assert!(sources.len() > 50, "only {} files are below {}", sources.len(), root.display());
    sources
}

// --- The documentation's tables ------------------------------------------------------------------------

#[test]
fn the_manual_lists_every_ending() {
    let endings = Ending::all_labels().map(|(label, by)| (label.to_owned(), by.to_owned()));
    assert_eq!(pairs("Endings"), endings.collect());
}

#[test]
fn the_manual_lists_every_rejection() {
    assert_eq!(first(&pairs("Rejections")), Rejection::LABELS.map(str::to_owned).into());
}

#[test]
fn the_manual_lists_why_arrivals_dials_and_handshakes_fail() {
    let arrivals = labels("src/listener/connection.rs");
    assert_eq!(set(connection::REASONS), arrivals);
    assert_eq!(first(&pairs("Arrivals that failed")), arrivals);
    let dials = &labels("src/upstream/error.rs") | &labels("src/upstream/offer.rs");
    assert_eq!(&set(&DialError::LABELS) | &set(&OfferError::LABELS), dials);
    assert_eq!(first(&pairs("Dials that failed")), dials);
    let timeout = BTreeSet::from([AcceptError::TIMEOUT.to_owned()]);
    assert_eq!(set(&AcceptError::LABELS), &labels("src/tls/accept.rs") | &timeout);
    assert_eq!(first(&pairs("TLS handshakes that failed")), set(&AcceptError::LABELS));
}

#[test]
fn closed_sets_of_labels_are_whole() {
    assert_eq!(set(&Connack::LABELS), labels("src/mqtt/connack.rs"));
    assert_eq!(set(&Stage::LABELS), labels("src/admin/mod.rs"));
    let none = BTreeSet::from([Target::NONE.to_owned()]);
    assert_eq!(set(Target::LABELS), &labels("src/snapshot.rs") | &none);
}

fn set(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// The first two columns of the table under a heading of the manual, without their backticks.
fn pairs(heading: &str) -> BTreeSet<(String, String)> {
    let page = read("docs/operations.md");
    let section =
        page.split("\n#").find(|section| section.trim_start_matches('#').trim().starts_with(heading));
    let rows = section.unwrap_or_default().lines().filter(|line| line.starts_with("| `"));
    let column = |row: &str, at: usize| row.split('|').nth(at).unwrap_or_default().trim().replace('`', "");
    let pairs: BTreeSet<_> = rows.map(|row| (column(row, 1), column(row, 2))).collect();
    assert!(!pairs.is_empty(), "docs/operations.md has no table under {heading:?}");
    pairs
}

fn first(pairs: &BTreeSet<(String, String)>) -> BTreeSet<String> {
    pairs.iter().map(|(first, _)| first.clone()).collect()
}

/// What a file's `fn label` gives.
fn labels(file: &str) -> BTreeSet<String> {
    let text = read(file);
    let body = text.split("fn label(").nth(1).and_then(|rest| rest.split("\n    }\n").next());
    let labels: BTreeSet<String> =
        body.unwrap_or_default().split("=> \"").skip(1).map(before_quote).collect();
    assert!(!labels.is_empty(), "{file} has no `fn label`");
    labels
}

fn before_quote(text: &str) -> String {
    text.split('"').next().unwrap_or_default().to_owned()
}

// --- What is deployed ----------------------------------------------------------------------------------

#[test]
fn deployed_configurations_load() {
    let files = files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy"), "toml");
    assert!(!files.is_empty(), "no configuration is below deploy/");
    for file in files {
        let config = config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(config.warnings.is_empty(), "{}: {:?}", file.display(), config.warnings);
    }
}

#[test]
fn the_configuration_in_the_readme_loads() {
    let page = read("README.md");
    let text = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let parsed =
        config::parse(Path::new("README.md"), text.expect("README.md shows a configuration"), &|_| None);
    let config = parsed.unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
