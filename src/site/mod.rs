//! Static files: the web application on the same domain.
//!
//! A path is parsed into names (`path`), looked up below the root (`locate`), and answered by
//! tower-http's `ServeFile`: types, ranges, conditional requests, precompressed files. As with nginx's
//! `root`, the whole path of the request is looked up, whatever the route's prefix.

mod locate;
mod path;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tower_http::services::ServeFile;

use self::locate::{File, Located, locate};
use self::path::FilePath;
use crate::config;
use crate::net::{Body, empty, full};

/// The index and the fallback name all other files, so a browser must ask again for them each time.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// A folder of files at work.
#[derive(Debug, Clone)]
pub struct Files {
    folder: Arc<Folder>,
    cache_control: Option<HeaderValue>,
}

/// What a lookup needs to know.
#[derive(Debug)]
struct Folder {
    root: PathBuf,
    index: Box<str>,
    fallback: Option<PathBuf>,
    precompressed: bool,
}

/// A site that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// `cache_control` cannot stand in a header.
    #[error("site.cache_control {0:?} is no header value; write it as \"max-age=3600\"")]
    CacheControl(Box<str>),
}

impl Files {
    /// Files as configured. The root is looked up at each request, so that a site can be replaced by
    /// switching a symlink.
    ///
    /// # Errors
    /// [`SiteError`]
    pub fn build(site: &config::Site) -> Result<Self, SiteError> {
        let cache_control = HeaderValue::from_str(&site.cache_control)
            .map_err(|_| SiteError::CacheControl(site.cache_control.clone()))?;
        let folder = Folder {
            root: site.root.clone(),
            index: site.index.clone(),
            fallback: site.fallback.clone(),
            precompressed: site.precompressed,
        };
        let cache_control = Some(cache_control).filter(|value| !value.is_empty());
        Ok(Self { folder: Arc::new(folder), cache_control })
    }

    /// Answer a request; its body is not read.
    pub async fn serve<B>(&self, request: &Request<B>) -> Response<Body> {
        let mut response = match *request.method() {
            Method::GET | Method::HEAD => self.find(request).await,
            _ => not_allowed(),
        };
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn find<B>(&self, request: &Request<B>) -> Response<Body> {
        let Some(path) = FilePath::parse(request.uri().path()) else { return not_found() };
        let wants_page = path.is_page() && accepts_html(request.headers());
        let redirect = path.as_folder(request.uri().query());
        let folder = Arc::clone(&self.folder);
        let located = tokio::task::spawn_blocking(move || locate(&folder, &path, wants_page)).await;
        match located.map_err(io::Error::other).flatten() {
            Ok(Located::File(file)) => self.send(&file, request).await.unwrap_or_else(|error| failed(&error)),
            Ok(Located::Folder) => moved(&redirect),
            Ok(Located::Nothing) => not_found(),
            Err(error) => failed(&error),
        }
    }

    async fn send<B>(&self, file: &File, request: &Request<B>) -> io::Result<Response<Body>> {
        let mut head = Request::new(());
        head.method_mut().clone_from(request.method());
        head.headers_mut().clone_from(request.headers());
        if !is_range_wanted(request) {
            head.headers_mut().remove(RANGE);
        }
        let mut response = open(file, &head).await?;
        if head.headers().contains_key(RANGE) && !if_range_holds(request.headers(), response.headers()) {
            head.headers_mut().remove(RANGE);
            response = open(file, &head).await?;
        }
        let cache_control = if file.is_entry { Some(REVALIDATE) } else { self.cache_control.clone() };
        let headers = response.headers_mut();
        if let Some(cache_control) = cache_control {
            headers.insert(CACHE_CONTROL, cache_control);
        }
        // A 304 needs it as well (RFC 9110 section 15.4.5).
        if file.is_precompressed() {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Some(text) = headers.get(CONTENT_TYPE).and_then(with_charset) {
            headers.insert(CONTENT_TYPE, text);
        }
        Ok(response)
    }
}

/// The file itself, or its precompressed neighbour.
async fn open(file: &File, head: &Request<()>) -> io::Result<Response<Body>> {
    let mut service = ServeFile::new(&file.path).ignore_multi_range_requests(true);
    if file.has_br {
        service = service.precompressed_br();
    }
    if file.has_zst {
        service = service.precompressed_zstd();
    }
    if file.has_gz {
        service = service.precompressed_gzip();
    }
    let response = service.try_call(head.clone()).await?;
    Ok(response.map(Body::new))
}

/// `Range` counts for GET, and in bytes, alone; else it is to be ignored (RFC 9110 section 14.2).
fn is_range_wanted<B>(request: &Request<B>) -> bool {
    let is_bytes = |range: &HeaderValue| range.as_bytes().to_ascii_lowercase().starts_with(b"bytes=");
    request.method() == Method::GET && request.headers().get(RANGE).is_some_and(is_bytes)
}

/// Whether the file is still the one of which a part is asked for (RFC 9110 section 13.1.5): `If-Range` is
/// exactly the answer's `ETag` or `Last-Modified`, or is not there.
fn if_range_holds(request: &HeaderMap, response: &HeaderMap) -> bool {
    let Some(known) = request.get(IF_RANGE) else { return true };
    [ETAG, LAST_MODIFIED].iter().any(|name| response.get(name) == Some(known))
}

/// Whether a person's browser asks, and not a script that would choke on a page.
fn accepts_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case("text/html")
    })
}

/// Text of our day is UTF-8; without a word a browser guesses.
fn with_charset(media: &HeaderValue) -> Option<HeaderValue> {
    let media = media.to_str().ok().filter(|media| media.starts_with("text/") && !media.contains(';'))?;
    HeaderValue::try_from(format!("{media}; charset=utf-8")).ok()
}

fn not_allowed() -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Files can be read (GET, HEAD), no more.\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "Nothing is at this path.\n")
}

fn failed(error: &io::Error) -> Response<Body> {
    match error.kind() {
        // Replaced since it was located.
        io::ErrorKind::NotFound => not_found(),
        io::ErrorKind::PermissionDenied => {
            text(StatusCode::FORBIDDEN, "The gateway has no permission to read this file.\n")
        }
        _ => {
            tracing::warn!(%error, "a file of a site cannot be read");
            text(StatusCode::INTERNAL_SERVER_ERROR, "The gateway cannot read this file.\n")
        }
    }
}

/// Temporary, for what is a folder today may be a file tomorrow.
fn moved(location: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(location) else { return not_found() };
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, REVALIDATE);
    response
}

fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut response = Response::new(full(words));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, REVALIDATE);
    response
}

#[cfg(test)]
mod tests;
