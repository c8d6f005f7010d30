//! How a file is sent: whole, in part, compressed, or not again.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
};
use rstest::rstest;

use super::*;

#[tokio::test]
async fn other_methods_are_told_which_are_allowed() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "BREW"] {
        let answer = Site::new().ask(method, "/", &[]).await;
        assert_eq!((answer.status, answer.header(ALLOW)), (405, "GET, HEAD"), "{method}");
    }
}

#[tokio::test]
async fn head_says_what_get_would() {
    let site = Site::new();
    let (head, get) =
        (site.ask("HEAD", "/app.js", &[(RANGE, "bytes=0-1")]).await, site.read("/app.js").await);
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(head.headers, get.headers);
    assert_eq!(head.header(CONTENT_LENGTH), "10");
}

#[tokio::test]
async fn a_known_file_is_not_sent_again() {
    let site = Site::new();
    site.write("app.js.gz", "gz");
    let first = site.read("/app.js").await;
    assert!(!first.header(ETAG).is_empty() && !first.header(LAST_MODIFIED).is_empty());
    for (name, value) in [
        (IF_NONE_MATCH, first.header(ETAG)),
        (IF_NONE_MATCH, "*"),
        (IF_MODIFIED_SINCE, first.header(LAST_MODIFIED)),
    ] {
        let again = site.ask("GET", "/app.js", &[(name, value)]).await;
        assert_eq!((again.status, &*again.body), (304, ""));
        for kept in [ETAG, CACHE_CONTROL, VARY] {
            assert_eq!(again.header(&kept), first.header(&kept));
        }
    }
    let other = site.ask("GET", "/app.js", &[(IF_NONE_MATCH, "\"other\"")]).await;
    assert_eq!(other.status, 200);
    let packed = site.ask("GET", "/app.js", &[(ACCEPT_ENCODING, "gzip")]).await;
    assert_ne!(packed.header(ETAG), first.header(ETAG));
}

#[rstest]
#[case("bytes=2-4", 206, "234", "bytes 2-4/10")]
#[case("bytes=7-", 206, "789", "bytes 7-9/10")]
#[case("bytes=-2", 206, "89", "bytes 8-9/10")]
#[case("bytes=10-", 416, "", "bytes */10")]
#[case("bytes=0-1,3-4", 200, "0123456789", "")]
#[case("lines=1-2", 200, "0123456789", "")]
#[tokio::test]
async fn a_part_is_sent(#[case] range: &str, #[case] status: u16, #[case] body: &str, #[case] part: &str) {
    let answer = Site::new().ask("GET", "/app.js", &[(RANGE, range)]).await;
    assert_eq!((answer.status, &*answer.body, answer.header(CONTENT_RANGE)), (status, body, part));
    assert_eq!(answer.header(ACCEPT_RANGES), "bytes");
}

#[tokio::test]
async fn a_part_of_a_file_that_has_changed_is_not_sent() {
    let site = Site::new();
    let first = site.read("/app.js").await;
    let part =
        async |validator| site.ask("GET", "/app.js", &[(RANGE, "bytes=2-4"), (IF_RANGE, validator)]).await;
    assert_eq!(part(first.header(ETAG)).await.body, "234");
    assert_eq!(part(first.header(LAST_MODIFIED)).await.body, "234");
    let weak = format!("W/{}", first.header(ETAG));
    for validator in ["\"other\"", &*weak, "Thu, 01 Jan 1970 00:00:00 GMT", ""] {
        let answer = part(validator).await;
        assert_eq!((answer.status, &*answer.body), (200, "0123456789"), "{validator}");
    }
}

#[rstest]
#[case("br, gzip", "br")]
#[case("gzip", "gzip")]
#[case("zstd, gzip", "gzip")]
#[case("br;q=0, gzip;q=0.5", "gzip")]
#[case("identity", "")]
#[case("", "")]
#[tokio::test]
async fn a_precompressed_neighbour_is_sent_to_who_reads_it(#[case] accept: &str, #[case] encoding: &str) {
    let site = Site::new();
    site.write("app.js.br", "packed");
    site.write("app.js.gz", "packed");
    let answer = site.ask("GET", "/app.js", &[(ACCEPT_ENCODING, accept)]).await;
    assert_eq!(answer.header(CONTENT_ENCODING), encoding);
    assert_eq!(answer.body, if encoding.is_empty() { "0123456789" } else { "packed" });
    assert_eq!(answer.header(CONTENT_TYPE), "text/javascript; charset=utf-8");
    assert_eq!(answer.header(VARY), "accept-encoding");
}

#[tokio::test]
async fn precompressed_neighbours_can_be_left_alone() {
    let mut site = Site::new();
    site.write("app.js.br", "packed");
    site.config.precompressed = false;
    let answer = site.ask("GET", "/app.js", &[(ACCEPT_ENCODING, "br")]).await;
    assert_eq!((&*answer.body, answer.header(VARY)), ("0123456789", ""));
}

#[tokio::test]
async fn only_the_index_and_the_fallback_are_always_revalidated() {
    let mut site = Site::new();
    site.config.fallback = Some("docs/page.html".into());
    for (path, cache_control) in [
        ("/", "no-cache"),
        ("/index.html", "no-cache"),
        ("/docs/", "no-cache"),
        ("/docs/page.html", "no-cache"),
        ("/app.js", "max-age=3600"),
    ] {
        assert_eq!(site.read(path).await.header(CACHE_CONTROL), cache_control, "{path}");
    }
    site.config.cache_control = "".into();
    assert_eq!(site.read("/app.js").await.header(CACHE_CONTROL), "");
    site.config.cache_control = "a\nb".into();
    assert!(Files::build(&site.config).is_err());
}
