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

/// What tests ask of each page of ours.
#[cfg(test)]
pub(crate) mod hygiene {
    /// The values of `name="…"` in `text`.
    pub(crate) fn attribute<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        quoted_behind(text, &format!(" {name}=\""))
    }

    /// The elements that a script asks for.
    pub(crate) fn asked_ids(script: &str) -> Vec<&str> {
        quoted_behind(script, "byId(\"")
    }

    fn quoted_behind<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        text.split(start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    }

    /// A file loads nothing from elsewhere, and takes no text for HTML or code.
    pub(crate) fn is_self_contained(name: &str, content: &str) {
        let content = content.replace("http://www.w3.org/2000/svg", "");
        let outside = [
            "http://",
            "https://",
            "url(",
            "@import",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
        ];
        outside.iter().for_each(|outside| assert!(!content.contains(outside), "{name} has {outside}"));
    }

    /// A page has one script, and it is not in the page.
    pub(crate) fn has_nothing_inline(page: &str) {
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!page.contains(inline), "the page has {inline}");
        }
        assert_eq!(page.matches("<script").count(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::hygiene::{asked_ids, attribute, has_nothing_inline, is_self_contained};
    use super::*;

    /// Of all files, as they go over the wire.
    const MOST_BYTES: usize = 42_000;

    fn content(path: &str) -> &'static str {
        FILES.iter().find(|(file, ..)| *file == path).unwrap().2
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
        FILES.iter().for_each(|(name, _, content)| is_self_contained(name, content));
        has_nothing_inline(content("/"));
    }

    #[test]
    fn every_element_the_scripts_ask_for_is_there() {
        let ids = attribute(content("/"), "id");
        let scripts = content("/app.js").to_owned() + content("/show.js");
        let asked = asked_ids(&scripts);
        assert!(asked.len() > 10, "{asked:?}");
        asked.iter().for_each(|id| assert!(ids.contains(id), "the scripts ask for #{id}"));
        assert_eq!(content("/").matches("<table").count(), content("/").matches("<caption").count());
    }
}
