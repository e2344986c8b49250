//! Metrics over HTTP, on request or pushed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Answer, Handler, Request};
use crate::resource::Resources;
use crate::text::{CONTENT_TYPE, render};

/// How metrics leave the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    #[default]
    None,
    /// On request.
    Pull,
    /// To a push gateway; for tests.
    Push,
}

impl FromStr for Mode {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Ok(Self::None),
            "pull" => Ok(Self::Pull),
            "push" => Ok(Self::Push),
            _ => Err(StartError::Mode(text.to_owned())),
        }
    }
}

/// What is configured.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How.
    pub mode: Mode,
    /// Where to listen (`IP:port`), or the gateway (`host:port`, or a URL with `http://`).
    pub address: String,
    /// How often to measure the process, and to push.
    pub interval: Duration,
    /// Name of the job, for pushing.
    pub job_name: String,
    /// Labels of this instance, for pushing; `instance` must be among them.
    pub labels: BTreeMap<String, String>,
    /// Where the size of files is measured.
    pub data_dir: PathBuf,
    /// Whether options for tests are allowed.
    pub debug: bool,
}

/// Why metrics can't be exposed. Texts as in the reference.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A mode that does not exist, or not without the debug flag.
    #[error("metrics: unsupported mode: '{0}'")]
    Mode(String),
    /// Pushing needs a name.
    #[error("metrics: job_name required for push mode")]
    JobName,
    /// Pushing needs to say who pushes.
    #[error("metrics: at least 'instance' key should be set for labels")]
    Instance,
    /// Only plain HTTP is spoken.
    #[error("metrics: the push gateway must be reached by http, found {0:?}")]
    Scheme(String),
    /// The address can't be listened on.
    #[error("metrics: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Least time between measurements of the process.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Exposes or pushes metrics, once it runs.
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    interval: Duration,
    resources: Resources,
}

#[derive(Debug)]
enum Kind {
    None,
    Pull(TcpListener),
    Push(Gateway),
}

/// Where to push to.
#[derive(Debug)]
struct Gateway {
    host: String,
    path: String,
}

struct Metrics;

impl Handler for Metrics {
    async fn answer(&self, _: Request) -> Answer {
        Answer::ok(CONTENT_TYPE, render())
    }
}

impl Service {
    /// Checks the settings and takes the address.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(settings: &Settings) -> Result<Self, StartError> {
        let kind = match settings.mode {
            Mode::None => Kind::None,
            Mode::Pull => {
                let listener = TcpListener::bind(&settings.address).await;
                Kind::Pull(listener.map_err(|source| StartError::Listen { address: settings.address.clone(), source })?)
            }
            Mode::Push if !settings.debug => return Err(StartError::Mode("push".to_owned())),
            Mode::Push => {
                if settings.job_name.is_empty() {
                    return Err(StartError::JobName);
                }
                if settings.labels.get("instance").is_none_or(String::is_empty) {
                    return Err(StartError::Instance);
                }
                let address = settings.address.trim_end_matches('/');
                let host = match address.split_once("://") {
                    Some(("http", rest)) => rest,
                    Some(_) => return Err(StartError::Scheme(settings.address.clone())),
                    None => address,
                };
                let (host, prefix) = host.split_once('/').map_or((host, String::new()), |(h, p)| (h, format!("/{p}")));
                let path = format!("{prefix}{}", push_path(&settings.job_name, &settings.labels));
                Kind::Push(Gateway { host: host.to_owned(), path })
            }
        };
        let interval = settings.interval.max(MIN_INTERVAL);
        Ok(Self { kind, interval, resources: Resources::new(settings.data_dir.clone()) })
    }

    /// Where requests are answered, if they are.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        match &self.kind {
            Kind::Pull(listener) => listener.local_addr().ok(),
            _ => None,
        }
    }

    /// Runs until stopped, and ends at once then.
    pub async fn run(self, stop: CancellationToken) {
        let Self { kind, interval, resources } = self;
        match kind {
            Kind::None => {}
            Kind::Pull(listener) => {
                let answer = http::serve(listener, Metrics, stop.clone());
                tokio::join!(answer, repeat(interval, &stop, &resources, None));
            }
            Kind::Push(gateway) => repeat(interval, &stop, &resources, Some(&gateway)).await,
        }
    }
}

/// Walking the data directory may block.
async fn measure(resources: &Resources) {
    let resources = resources.clone();
    if tokio::task::spawn_blocking(move || resources.update()).await.is_err() {
        tracing::warn!(module = "metrics", "failed to update resource collector");
    }
}

/// Measures at once and then again and again, and pushes if there is a gateway, until stopped.
async fn repeat(interval: Duration, stop: &CancellationToken, resources: &Resources, gateway: Option<&Gateway>) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let step = async || {
        measure(resources).await;
        let Some(Gateway { host, path }) = gateway else { return };
        if let Err(error) = http::put(host, path, CONTENT_TYPE, render().as_bytes()).await {
            tracing::warn!(module = "metrics", err = error, "Push: failed");
        }
    };
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = step() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Path of a group on the push gateway.
fn push_path(job: &str, labels: &BTreeMap<String, String>) -> String {
    let mut path = format!("/metrics{}", push_part("job", job));
    for (name, value) in labels {
        path.push_str(&push_part(name, value));
    }
    path
}

/// A name and its value; a value that is empty or has a slash is in base64, anything else that a URL can't hold is escaped.
fn push_part(name: &str, value: &str) -> String {
    if value.is_empty() {
        return format!("/{name}@base64/=");
    }
    if value.contains('/') {
        return format!("/{name}@base64/{}", base64(value.as_bytes()));
    }
    let mut out = format!("/{name}/");
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Base64 for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests;
