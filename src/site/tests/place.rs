//! Which file answers a path, and which paths lead nowhere.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const HTML: &str = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";

#[rstest]
#[case("/", "index", "text/html; charset=utf-8")]
#[case("/index.html", "index", "text/html; charset=utf-8")]
#[case("/app.js", "0123456789", "text/javascript; charset=utf-8")]
#[case("/docs/", "docs", "text/html; charset=utf-8")]
#[case("//docs//page.html", "page", "text/html; charset=utf-8")]
#[case("/with%20space.txt", "space", "text/plain; charset=utf-8")]
#[case("/.well-known/security.txt", "contact", "text/plain; charset=utf-8")]
#[case("/app.js?v=1", "0123456789", "text/javascript; charset=utf-8")]
#[tokio::test]
async fn a_file_is_served_with_its_type(#[case] path: &str, #[case] body: &str, #[case] media: &str) {
    let answer = Site::new().read(path).await;
    assert_eq!((answer.status, &*answer.body, answer.header(CONTENT_TYPE)), (200, body, media));
}

#[tokio::test]
async fn names_need_not_be_utf_8() {
    let site = Site::new();
    site.write(OsStr::from_bytes(b"caf\xe9.bin"), "coffee");
    let answer = site.read("/caf%E9.bin").await;
    assert_eq!((&*answer.body, answer.header(CONTENT_TYPE)), ("coffee", "application/octet-stream"));
}

#[rstest]
#[case("/missing")]
#[case("/app.js/")]
#[case("/app.js/x")]
#[case("/empty/")]
#[case("/.env")]
#[case("/.git/config")]
#[case("/../secret.txt")]
#[case("/docs/../../secret.txt")]
#[case("/%2e%2e/secret.txt")]
#[case("/..%2fsecret.txt")]
#[case("/docs%2fpage.html")]
#[case("/..%5csecret.txt")]
#[case("/app.js%00.html")]
#[case("/%00")]
#[tokio::test]
async fn what_is_not_below_the_root_is_not_there(#[case] path: &str) {
    let answer = Site::new().ask("GET", path, &[(ACCEPT, HTML)]).await;
    assert_eq!(answer.status, 404);
    assert!(!answer.body.contains("secret"));
}

#[tokio::test]
async fn a_name_too_long_is_not_there() {
    assert_eq!(Site::new().read(&format!("/{}", "x".repeat(5000))).await.status, 404);
}

#[tokio::test]
async fn symlinks_are_followed_below_the_root_only() {
    let site = Site::new();
    let outside = site.folder.path();
    symlink(outside.join("secret.txt"), site.path("absolute.txt")).unwrap();
    symlink("../secret.txt", site.path("relative.txt")).unwrap();
    symlink(outside, site.path("folder")).unwrap();
    symlink("loop", site.path("loop")).unwrap();
    symlink("nowhere", site.path("broken")).unwrap();
    // A neighbour whose name begins like the root's.
    fs::create_dir(outside.join("www2")).unwrap();
    fs::write(outside.join("www2/index.html"), "secret").unwrap();
    symlink("../www2", site.path("neighbour")).unwrap();
    for path in
        ["/absolute.txt", "/relative.txt", "/folder/secret.txt", "/folder", "/loop", "/broken", "/neighbour/"]
    {
        assert_eq!(site.read(path).await.status, 404, "{path}");
    }
    symlink("docs", site.path("manual")).unwrap();
    symlink("app.js", site.path("latest.css")).unwrap();
    assert_eq!(site.read("/manual/page.html").await.body, "page");
    assert_eq!(site.read("/latest.css").await.header(CONTENT_TYPE), "text/css; charset=utf-8");
}

#[tokio::test]
async fn a_precompressed_neighbour_may_not_lead_out_either() {
    let site = Site::new();
    symlink("../secret.txt", site.path("app.js.br")).unwrap();
    let answer = site.ask("GET", "/app.js", &[(ACCEPT_ENCODING, "br")]).await;
    assert_eq!((&*answer.body, answer.header(CONTENT_ENCODING)), ("0123456789", ""));
}

#[tokio::test]
async fn a_mounted_config_map_is_served_and_its_swap_is_seen() {
    let site = Site::new();
    for (version, content) in [("..1", "old"), ("..2", "new")] {
        site.write(format!("{version}/page.html"), content);
    }
    symlink("..1", site.path("..data")).unwrap();
    symlink("..data/page.html", site.path("page.html")).unwrap();
    assert_eq!(site.read("/page.html").await.body, "old");
    symlink("..2", site.path("..next")).unwrap();
    fs::rename(site.path("..next"), site.path("..data")).unwrap();
    assert_eq!(site.read("/page.html").await.body, "new");
    assert_eq!(site.read("/..data/page.html").await.status, 404);
}

#[tokio::test]
async fn a_root_can_be_switched_by_its_link() {
    let mut site = Site::new();
    let current = site.folder.path().join("current");
    symlink("www", &current).unwrap();
    site.config.root.clone_from(&current);
    let files = Files::build(&site.config).unwrap();
    let read = async || {
        let response = files.serve(&Request::new(())).await;
        response.into_body().collect().await.unwrap().to_bytes()
    };
    assert_eq!(read().await, "index");
    let next = site.folder.path().join("next");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("index.html"), "next").unwrap();
    fs::remove_file(&current).unwrap();
    symlink("next", &current).unwrap();
    assert_eq!(read().await, "next");
}

#[tokio::test]
async fn a_pipe_is_not_a_file() {
    let site = Site::new();
    let made = std::process::Command::new("mkfifo").arg(site.path("pipe")).status().unwrap();
    assert!(made.success());
    assert_eq!(site.read("/pipe").await.status, 404);
}

#[rstest]
#[case("/docs", "/docs/")]
#[case("/docs?a=1&b=//evil.example", "/docs/?a=1&b=//evil.example")]
#[case("//docs", "/docs/")]
#[case("///docs", "/docs/")]
#[tokio::test]
async fn a_folder_is_redirected_to_its_slash_on_this_host(#[case] path: &str, #[case] location: &str) {
    let answer = Site::new().read(path).await;
    assert_eq!((answer.status, answer.header(LOCATION)), (307, location));
}

#[rstest]
#[case("/users/7", HTML, 200)]
#[case("/users/7/", HTML, 200)]
#[case("/empty/", HTML, 200)]
#[case("/users/7", "*/*", 404)]
#[case("/users/7", "application/json", 404)]
#[case("/missing.js", HTML, 404)]
#[case("/.env", HTML, 404)]
#[case("/..%2fx", HTML, 404)]
#[tokio::test]
async fn pages_of_an_application_fall_back_on_its_file(
    #[case] path: &str,
    #[case] accept: &str,
    #[case] status: u16,
) {
    let mut site = Site::new();
    site.config.fallback = Some("index.html".into());
    let answer = site.ask("GET", path, &[(ACCEPT, accept)]).await;
    assert_eq!(answer.status, status);
    if status == 200 {
        assert_eq!((&*answer.body, answer.header(CACHE_CONTROL)), ("index", "no-cache"));
    }
    site.config.fallback = Some("gone.html".into());
    assert_eq!(site.ask("GET", path, &[(ACCEPT, accept)]).await.status, 404);
}

/// The bytes of a request line as an attacker writes them, past any client's own clean-up.
#[tokio::test]
async fn raw_request_lines_do_not_lead_out() {
    let site = Site::new();
    let files = Files::build(&site.config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let files = &files;
            let answer = service_fn(async move |request| {
                Ok::<_, std::convert::Infallible>(files.serve(&request).await)
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // A refused request line ends its connection with an error.
            drop(served.await);
        }
    });
    for target in ["/app.js", "http://x/app.js"] {
        assert!(exchange(address, target).await.starts_with("HTTP/1.1 200"), "{target}");
    }
    for target in [
        "/../secret.txt",
        "/..\\secret.txt",
        "\\..\\secret.txt",
        "/%2e%2e%2fsecret.txt",
        "../secret.txt",
        "*",
    ] {
        let answer = exchange(address, target).await;
        assert!(answer.starts_with("HTTP/1.1 40") && !answer.contains("secret"), "{target}: {answer}");
    }
    server.abort();
}

async fn exchange(address: std::net::SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
