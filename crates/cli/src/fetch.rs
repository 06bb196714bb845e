//! Plain HTTP GETs, bounded in size and time.

use std::io::Read;
use std::time::Duration;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server said no.
    #[error("the server answered {0}")]
    Status(u16),
    /// More than the limit.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// The network, the name, the certificate.
    #[error("{0}")]
    Transport(String),
}

/// Fetches a URL.
///
/// # Errors
/// See [`FetchError`].
pub fn get(url: &str, max_bytes: u64) -> Result<Vec<u8>, FetchError> {
    get_with_headers(url, &[], max_bytes)
}

/// Fetches a URL with request headers. Headers are not sent on to another host after a redirect.
///
/// # Errors
/// See [`FetchError`].
pub fn get_with_headers(url: &str, headers: &[(String, String)], max_bytes: u64) -> Result<Vec<u8>, FetchError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_global(Some(Duration::from_secs(300)))
        .user_agent(concat!("kubetask/", env!("CARGO_PKG_VERSION")))
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
        .http_status_as_error(false)
        // Headers may be secrets under any name: with headers, a redirect is an error instead of a leak.
        .max_redirects(if headers.is_empty() { 5 } else { 0 })
        .max_redirects_will_error(false)
        .build()
        .into();
    let mut request = agent.get(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = request.call().map_err(|e| FetchError::Transport(e.to_string()))?;
    let status = response.status().as_u16();
    if !(200..300).contains(&status) {
        return Err(FetchError::Status(status));
    }
    let mut body = Vec::new();
    response
        .into_body()
        .into_reader()
        .take(max_bytes + 1)
        .read_to_end(&mut body)
        .map_err(|e| FetchError::Transport(e.to_string()))?;
    if body.len() as u64 > max_bytes { Err(FetchError::TooLarge(max_bytes)) } else { Ok(body) }
}
