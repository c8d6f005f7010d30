//! A request's path as names of files: what no file below the root can be called is turned away here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// All but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path below a root: plain names, none of them hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePath {
    /// The names, joined. Empty is the root itself.
    names: PathBuf,
    /// Whether the request's path ends with a slash.
    is_folder: bool,
}

impl FilePath {
    /// Decode a request's path, name by name. `None` is a path that must not be looked up: with `..` in it,
    /// an encoded slash, a backslash, a NUL, or a hidden name (`.git`, `.env`; `.well-known` is public by
    /// RFC 8615). Slashes in a row count as one.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut names = PathBuf::new();
        for (at, segment) in path.strip_prefix('/')?.split('/').filter(|name| !name.is_empty()).enumerate() {
            let name: Vec<u8> = percent_decode_str(segment).collect();
            let is_hidden = name.first() == Some(&b'.') && !(at == 0 && name == b".well-known");
            if is_hidden || name.iter().any(|byte| b"/\\\0".contains(byte)) {
                return None;
            }
            names.push(OsStr::from_bytes(&name));
        }
        Some(Self { names, is_folder: path.ends_with('/') })
    }

    pub(super) fn names(&self) -> &Path {
        &self.names
    }

    pub(super) const fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// Whether a page of a single-page application can have this path: one with a dot in its last name is
    /// a file, and a script that is missing must stay missing.
    pub(super) fn is_page(&self) -> bool {
        self.names.file_name().is_none_or(|name| !name.as_bytes().contains(&b'.'))
    }

    /// The same path as a folder's, for a `Location`. It is built anew from the names, so that it begins
    /// with exactly one slash and never leads to another host.
    pub(super) fn as_folder(&self, query: Option<&str>) -> String {
        let mut location = String::from("/");
        for name in &self.names {
            location.extend(percent_encode(name.as_bytes(), ESCAPED));
            location.push('/');
        }
        if let Some(query) = query {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_decoded_one_by_one() {
        let table: &[(&str, &[u8], bool)] = &[
            ("/", b"", true),
            ("/app.js", b"app.js", false),
            ("/a/b/", b"a/b", true),
            ("//a///b", b"a/b", false),
            ("/with%20space", b"with space", false),
            ("/%C3%A9", "é".as_bytes(), false),
            ("/%ff", b"\xff", false),
            ("/%252e%252e", b"%2e%2e", false),
            ("/100%", b"100%", false),
            ("/.well-known/acme", b".well-known/acme", false),
            ("/a..b/c...", b"a..b/c...", false),
        ];
        for (path, names, is_folder) in table {
            let names = PathBuf::from(OsStr::from_bytes(names));
            assert_eq!(FilePath::parse(path), Some(FilePath { names, is_folder: *is_folder }), "{path}");
        }
    }

    #[test]
    fn no_path_leads_out_or_to_a_hidden_file() {
        for path in [
            "",
            "*",
            "app.js",
            "/..",
            "/../etc/passwd",
            "/a/../../etc/passwd",
            "/%2e%2e/etc/passwd",
            "/.%2E/etc/passwd",
            "/a%2f..%2fb",
            "/a%2Fb",
            "/%2fetc/passwd",
            "/a%5c..%5cb",
            "/..\\x",
            "/a%00.html",
            "/.",
            "/%2e",
            "/.git/config",
            "/%2egit/config",
            "/a/.env",
            "/..data/index.html",
            "/a/.well-known",
            "/.well-known/.hidden",
            "/.well-known2",
        ] {
            assert_eq!(FilePath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_folders_location_stays_on_the_host() {
        let location = |path, query| FilePath::parse(path).map(|path| path.as_folder(query));
        assert_eq!(location("/a/b", None).unwrap(), "/a/b/");
        assert_eq!(location("/a", Some("x=//evil.example")).unwrap(), "/a/?x=//evil.example");
        assert_eq!(location("//evil.example", None).unwrap(), "/evil.example/");
        assert_eq!(location("///evil.example/%20", None).unwrap(), "/evil.example/%20/");
        assert_eq!(location("/%0d%0aSet-Cookie:x", None).unwrap(), "/%0D%0ASet-Cookie%3Ax/");
        assert_eq!(location("/%ff", None).unwrap(), "/%FF/");
        assert_eq!(location("/\\evil.example", None), None);
    }

    #[test]
    fn a_page_has_no_dot_in_its_last_name() {
        let is_page = |path| FilePath::parse(path).unwrap().is_page();
        assert!(is_page("/") && is_page("/users/7") && is_page("/v1.2/users") && is_page("/users/"));
        assert!(!is_page("/app.js") && !is_page("/a/app.js.map"));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_stays_below_the_root(path in "/([a./%2eEfF05cC\\\\]{0,8}|\\PC{0,6}){0,5}") {
            let Some(parsed) = FilePath::parse(&path) else { return Ok(()) };
            let root = Path::new("/root/of/site");
            let joined = root.join(parsed.names());
            prop_assert!(joined.starts_with(root));
            prop_assert!(joined.components().all(|part| part != std::path::Component::ParentDir));
            let location = parsed.as_folder(None);
            prop_assert!(location.starts_with('/') && !location.starts_with("//") && location.is_ascii());
            let again = FilePath::parse(&location).unwrap();
            prop_assert_eq!(again.names(), parsed.names());
        }
    }
}
