//! Why runtimes cannot be hosted.

use std::path::PathBuf;

use base_kv::KvError;
use base_prims::Namespace;
use rt_host::api::HostError;

/// What keeps a node from hosting what it is configured for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostingError {
    /// An option is for test networks only.
    #[error(
        "{option} requires use of unsafe debug flags; set it only on a test network, with --debug.dont_blame_oasis"
    )]
    Unsafe {
        /// What was configured.
        option: &'static str,
    },
    /// A mode that takes part in runtimes without one, or one that takes no part in them with one.
    #[error("{0}")]
    Mode(&'static str),
    /// An option has a value that cannot be used.
    #[error("{key}: {reason}")]
    Config {
        /// The key in the configuration file.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A bundle is refused, or the store of bundles is out of order.
    #[error(transparent)]
    Bundle(#[from] rt_bundle::Error),
    /// A bundle cannot be hosted beside those that are there.
    #[error("failed to register manifest: {0}")]
    Register(String),
    /// Bundles of key managers come from `runtime.paths` only.
    #[error("not allowed to add key manager bundle; add it to runtime.paths and restart the node")]
    KeyManagerBundle,
    /// The node does not know the runtime.
    #[error("runtime {0} is not configured; add it to runtime.runtimes and restart the node")]
    NotConfigured(Namespace),
    /// The runtime is hosted already.
    #[error("runtime {0} is hosted already")]
    Twice(Namespace),
    /// A store of the node's own cannot be opened.
    #[error("failed to open {path}: {source}")]
    Store {
        /// Its folder.
        path: PathBuf,
        /// What went wrong.
        source: KvError,
    },
    /// A folder or file of the node's own cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Volumes are out of order.
    #[error("{0}")]
    Volume(String),
    /// The provisioner refuses.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A task of the node failed.
    #[error("internal error: {0}")]
    Internal(String),
}

impl HostingError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
