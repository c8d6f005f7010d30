//! The page for people: files written by hand, carried in the program. They know nothing of this gateway; what
//! they show they ask of `/status`.

use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::net::{Body, full};

/// The page's files: path, type, content. They use nothing from outside.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("/show.js", "text/javascript; charset=utf-8", include_str!("page/show.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// What a browser may do with whatever comes from the admin listener.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                                 connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether the page has a file there.
pub(super) fn has(path: &str) -> bool {
    FILES.iter().any(|(file, ..)| *file == path)
}

/// The file there.
pub(super) fn file(path: &str) -> Option<Response<Body>> {
    let (_, content_type, content) = FILES.iter().find(|(file, ..)| *file == path)?;
    let mut response = Response::new(full(*content));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all files, as they go over the wire.
    const MOST_BYTES: usize = 40_000;

    fn content(path: &str) -> &'static str {
        FILES.iter().find(|(file, ..)| *file == path).unwrap().2
    }

    /// The values of `name="…"` in `text`.
    fn attribute<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let start = format!(" {name}=\"");
        text.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    }

    #[test]
    fn it_is_light_and_whole() {
        let bytes: usize = FILES.iter().map(|(.., content)| content.len()).sum();
        assert!(bytes < MOST_BYTES, "{bytes} bytes");
        let index = content("/");
        let mut named: Vec<&str> = attribute(index, "src");
        named.extend(attribute(index, "href").into_iter().filter(|link| !link.starts_with('#')));
        let imports = content("/app.js").lines().filter(|line| line.contains(" from \"./"));
        named.extend(imports.map(|line| line.split("\"./").nth(1).unwrap().split('"').next().unwrap()));
        assert!(named.len() >= 4, "{named:?}");
        named.iter().for_each(|name| assert!(has(&format!("/{name}")), "{name}"));
    }

    #[test]
    fn nothing_comes_from_outside_and_nothing_is_inline() {
        for (name, _, content) in FILES {
            let content = content.replace("http://www.w3.org/2000/svg", "");
            for outside in [
                "http://",
                "https://",
                "url(",
                "@import",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
            ] {
                assert!(!content.contains(outside), "{name} has {outside}");
            }
        }
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!content("/").contains(inline), "the page has {inline}");
        }
        assert_eq!(content("/").matches("<script").count(), 1);
    }

    #[test]
    fn every_element_the_scripts_ask_for_is_there() {
        let ids = attribute(content("/"), "id");
        let scripts = content("/app.js").to_owned() + content("/show.js");
        let asked: Vec<&str> =
            scripts.split("byId(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(asked.len() > 10, "{asked:?}");
        asked.iter().for_each(|id| assert!(ids.contains(id), "the scripts ask for #{id}"));
        assert_eq!(content("/").matches("<table").count(), content("/").matches("<caption").count());
    }
}
