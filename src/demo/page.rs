//! The demo's page: files written by hand, carried in the program, and put into the site's folder.

use std::path::Path;

use serde::Serialize;

use super::guide::Command;
use super::{DemoEndpoint, DemoError};

/// The page's files. They use nothing from outside, so that the demo works without a network.
const FILES: [(&str, &str); 5] = [
    ("index.html", include_str!("page/index.html")),
    ("style.css", include_str!("page/style.css")),
    ("app.js", include_str!("page/app.js")),
    ("mqtt.js", include_str!("page/mqtt.js")),
    ("icon.svg", include_str!("page/icon.svg")),
];

/// What the page is told of this demo, as `demo.json` beside it.
#[derive(Debug, Serialize)]
pub(super) struct Facts<'a> {
    pub(super) endpoints: &'a [DemoEndpoint],
    /// The topic of the presence board.
    pub(super) presence: &'a str,
    /// The path of the MQTT route.
    pub(super) path: &'a str,
    /// Where the authority's certificate is.
    pub(super) ca: String,
    pub(super) commands: Vec<Command>,
}

/// Make the folder `site` and fill it.
pub(super) fn write(site: &Path, facts: &Facts<'_>) -> Result<(), DemoError> {
    let put = |name: &str, content: &[u8]| {
        let path = site.join(name);
        std::fs::write(&path, content).map_err(|source| DemoError::File { path, source })
    };
    std::fs::create_dir(site).map_err(|source| DemoError::File { path: site.to_owned(), source })?;
    for (name, content) in FILES {
        put(name, content.as_bytes())?;
    }
    // Strings and numbers: there is nothing that could fail.
    put("demo.json", &serde_json::to_vec_pretty(facts).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::page::hygiene::{asked_ids, attribute, has_nothing_inline, is_self_contained};

    fn file(name: &str) -> &'static str {
        FILES.iter().find(|(file, _)| *file == name).unwrap().1
    }

    #[test]
    fn every_file_it_names_is_there() {
        let index = file("index.html");
        let mut named: Vec<&str> = attribute(index, "src");
        named.extend(attribute(index, "href").into_iter().filter(|link| !link.starts_with('#')));
        let imports = file("app.js").lines().filter(|line| line.starts_with("import "));
        named.extend(imports.map(|line| line.split('"').nth(1).unwrap().trim_start_matches("./")));
        assert!(named.len() >= 4, "{named:?}");
        for name in named {
            file(name);
        }
    }

    #[test]
    fn nothing_comes_from_outside_and_nothing_is_inline() {
        FILES.iter().for_each(|(name, content)| is_self_contained(name, content));
        let index = file("index.html");
        assert!(index.contains("<script type=\"module\" src=\"app.js\"></script>"));
        has_nothing_inline(index);
    }

    #[test]
    fn every_element_the_script_asks_for_is_there_and_every_field_has_a_label() {
        let (index, script) = (file("index.html"), file("app.js"));
        let ids = attribute(index, "id");
        let asked = asked_ids(script);
        assert!(asked.len() > 5, "{asked:?}");
        for id in asked {
            assert!(ids.contains(&id), "app.js asks for #{id}");
        }
        let labelled = attribute(index, "for");
        let fields =
            index.split("<input").skip(1).map(|rest| attribute(rest.split('>').next().unwrap(), "id"));
        for field in fields {
            assert!(labelled.contains(&field[0]), "{field:?} has no label");
        }
    }
}
