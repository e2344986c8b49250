//! HTTP(S) for bundle registries and Intel's services: requests on threads of their own, bounded in time and size.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig, TlsProvider},
};

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Most redirects that are followed.
const MAX_REDIRECTS: u32 = 10;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No answer.
    #[error("{url}: {reason}")]
    Transport {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// Another status than was expected.
    #[error("{url}: invalid status code {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// More bytes than are accepted.
    #[error("{url}: too large, at least {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The file system refused.
    #[error("cannot write the download: {0}")]
    File(String),
    /// The node stops.
    #[error("stopped")]
    Stopped,
}

impl HttpError {
    /// Whether what was downloaded so far may be gone on with.
    pub fn is_resumable(&self) -> bool {
        matches!(self, Self::Transport { .. })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is there of a download.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes in the file.
    pub bytes: u64,
    /// The server's name for the content, without which a download cannot be gone on with.
    pub tag: Option<String>,
    /// All bytes, if the server said.
    pub total: Option<u64>,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
}

impl Client {
    /// One whose requests take at most `limit` each, from connecting to the last byte.
    pub fn new(limit: Duration) -> Self {
        let tls = TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(RootCerts::WebPki).build();
        let config = Agent::config_builder()
            .timeout_global(Some(limit))
            .max_redirects(MAX_REDIRECTS)
            .http_status_as_error(false)
            .user_agent("wadi")
            .tls_config(tls)
            .build();
        Self { agent: config.into() }
    }

    /// Gets a document. With `cut`, more than `limit` bytes are cut off; without, they are an error.
    ///
    /// # Errors
    /// If there is no answer of status 200.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)], limit: u64, cut: bool) -> Result<Answer, HttpError> {
        self.request(url, headers, None, limit, cut).await
    }

    /// Posts a document and gets one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        limit: u64,
    ) -> Result<Answer, HttpError> {
        self.request(url, headers, Some(body), limit, false).await
    }

    async fn request(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
        limit: u64,
        cut: bool,
    ) -> Result<Answer, HttpError> {
        let (agent, url) = (self.agent.clone(), url.to_owned());
        let headers: Vec<(String, String)> =
            headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        blocking(move || {
            let failed = |e: ureq::Error| HttpError::Transport { url: url.clone(), reason: e.to_string() };
            let mut response = match body {
                Some(body) => {
                    let mut request = agent.post(&url);
                    for (key, value) in &headers {
                        request = request.header(key, value);
                    }
                    request.send(&body)
                }
                None => {
                    let mut request = agent.get(&url);
                    for (key, value) in &headers {
                        request = request.header(key, value);
                    }
                    request.call()
                }
            }
            .map_err(failed)?;
            let status = response.status().as_u16();
            if status != 200 {
                return Err(HttpError::Status { url, status });
            }
            let headers = response
                .headers()
                .iter()
                .filter_map(|(key, value)| Some((key.as_str().to_owned(), value.to_str().ok()?.to_owned())))
                .collect();
            let mut body = Vec::new();
            let most = limit.saturating_add(u64::from(!cut));
            response
                .body_mut()
                .as_reader()
                .take(most)
                .read_to_end(&mut body)
                .map_err(|e| HttpError::Transport { url: url.clone(), reason: e.to_string() })?;
            if body.len() as u64 > limit {
                return Err(HttpError::TooLarge { url, limit });
            }
            Ok(Answer { headers, body })
        })
        .await
    }

    /// Downloads to a file, going on from what is there. `limit` bytes are too many.
    ///
    /// On return `progress` says what is there, also after an error.
    ///
    /// # Errors
    /// If it is not complete.
    pub async fn download(
        &self,
        url: &str,
        to: &Path,
        limit: u64,
        progress: Progress,
        stop: &CancellationToken,
    ) -> (Progress, Result<(), HttpError>) {
        let (agent, url, to, stop) = (self.agent.clone(), url.to_owned(), to.to_owned(), stop.clone());
        let shared = Arc::new(parking_lot::Mutex::new(progress));
        let inner = Arc::clone(&shared);
        let outcome = blocking(move || {
            let mut progress = inner.lock().clone();
            let outcome = download(&agent, &url, &to, limit, &mut progress, &stop);
            *inner.lock() = progress;
            outcome
        })
        .await;
        let progress = shared.lock().clone();
        (progress, outcome)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HttpError> + Send + 'static,
) -> Result<T, HttpError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| HttpError::Stopped)?
}

fn download(
    agent: &Agent,
    url: &str,
    to: &Path,
    limit: u64,
    progress: &mut Progress,
    stop: &CancellationToken,
) -> Result<(), HttpError> {
    let transport = |reason: String| HttpError::Transport { url: url.into(), reason };
    let in_file = |e: std::io::Error| HttpError::File(format!("{}: {e}", to.display()));
    let mut request = agent.get(url);
    if let Some(tag) = progress.tag.as_deref().filter(|_| progress.bytes > 0) {
        request = request.header("range", format!("bytes={}-", progress.bytes)).header("if-range", tag);
    }
    let mut response = request.call().map_err(|e| transport(e.to_string()))?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut file = match response.status().as_u16() {
        200 => {
            // From the start, whatever was there.
            *progress = Progress {
                bytes: 0,
                tag: header("etag").filter(|tag| tag.starts_with('"')).or_else(|| header("last-modified")),
                total: header("content-length").and_then(|text| text.parse().ok()),
            };
            File::create(to).map_err(in_file)?
        }
        206 if header("content-range").is_some_and(|text| text.starts_with(&format!("bytes {}-", progress.bytes))) => {
            let mut file = File::options().write(true).open(to).map_err(in_file)?;
            file.set_len(progress.bytes).map_err(in_file)?;
            std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(in_file)?;
            file
        }
        status => {
            *progress = Progress::default();
            return Err(HttpError::Status { url: url.into(), status });
        }
    };
    if progress.total.is_some_and(|total| total >= limit) {
        return Err(HttpError::TooLarge { url: url.into(), limit });
    }
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        if stop.is_cancelled() {
            return Err(HttpError::Stopped);
        }
        let count = body.read(&mut buffer).map_err(|e| transport(e.to_string()))?;
        if count == 0 {
            break;
        }
        let total = progress.bytes.saturating_add(count as u64);
        if total >= limit {
            return Err(HttpError::TooLarge { url: url.into(), limit });
        }
        file.write_all(buffer.get(..count).unwrap_or_default()).map_err(in_file)?;
        progress.bytes = total;
    }
    if progress.total.is_some_and(|total| total != progress.bytes) {
        return Err(transport(format!("ended after {} bytes", progress.bytes)));
    }
    file.sync_all().map_err(in_file)
}

#[cfg(test)]
pub(crate) mod tests;
