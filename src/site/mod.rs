//! stub
#[derive(Debug)]
pub struct Files;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct SiteError;
impl Files {
    pub fn build(_: &crate::config::Site) -> Result<Self, SiteError> { Ok(Self) }
    pub async fn serve<B>(&self, _: &http::Request<B>) -> http::Response<crate::net::Body> { http::Response::new(crate::net::empty()) }
}
