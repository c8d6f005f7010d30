//! The words of these tests: a site of a few files, and what it answers.

mod answer;
mod place;

use std::fs;
use std::path::Path;

use http::HeaderName;
use http_body_util::BodyExt;

use super::*;

/// A site of a few files, and a secret beside it.
struct Site {
    folder: tempfile::TempDir,
    config: config::Site,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("www");
        let site = Self {
            config: config::Site {
                root,
                index: "index.html".into(),
                fallback: None,
                cache_control: "max-age=3600".into(),
                precompressed: true,
            },
            folder,
        };
        for (name, content) in [
            ("index.html", "index"),
            ("app.js", "0123456789"),
            ("docs/index.html", "docs"),
            ("docs/page.html", "page"),
            ("with space.txt", "space"),
            (".env", "secret"),
            (".git/config", "secret"),
            (".well-known/security.txt", "contact"),
            ("empty/.keep", ""),
        ] {
            site.write(name, content);
        }
        fs::write(site.folder.path().join("secret.txt"), "secret").unwrap();
        site
    }

    fn path(&self, name: impl AsRef<Path>) -> std::path::PathBuf {
        self.config.root.join(name)
    }

    fn write(&self, name: impl AsRef<Path>, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(HeaderName, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let files = Files::build(&self.config).unwrap();
        let response = files.serve(&request.body(()).unwrap()).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    }

    async fn read(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
