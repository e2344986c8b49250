//! Signers: where a node's keys are if not in its own files.
//!
//! Layer: L3. Reference counterpart: `go/common/crypto/signature/signers/{file,remote,plugin,composite}`,
//! `go/oasis-node/cmd/common/signer`.
//!
//! A key that a signer holds is a [`base_crypto::ed25519::SecretKey`] like any other: whatever signs in a context signs
//! with it. What it does not do: it parses no command lines and keeps no keys; contexts and the record against signing
//! twice are the caller's.
//!
//! Main types: [`SignerConfig`] and [`open`], which gives a [`base_identity::KeySource`]; [`remote::router`] for a server;
//! [`plugin::Plugin`] and [`plugin::serve`] for plugins.
//!
//! Invariants: no call waits longer than [`SIGN_TIMEOUT`]; what a signer or plugin sends is bounded before it is held in
//! memory; a signature is checked against the key before it is used (in `base_crypto`).
//!
//! Tests: every back end signs and proves over real sockets and processes; hanging and lying signers; damaged messages.

mod composite;
pub mod plugin;
pub mod remote;
mod role;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use base_identity::{FileError, KeyFiles, KeyRole, KeySource};

pub use composite::Composite;
pub use role::{ROLES, Role};

/// How long a signer may take for a signature or a proof: a vote that comes later is of no use.
pub const SIGN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a signer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// There is no such back end.
    #[error("unsupported signer backend: {0} (expected file, plugin, remote or composite)")]
    Backend(String),
    /// The roles of a composite signer.
    #[error("signer.composite.backends: {0}")]
    Composite(String),
    /// A plugin that has to prove.
    #[error("plugins give no VRF proofs: use the composite backend with vrf:file or vrf:remote")]
    VrfNotSupported,
    /// A plugin without a name.
    #[error("a plugin name must be specified (signer.plugin.name)")]
    PluginName,
    /// A file of certificates.
    #[error(transparent)]
    File(#[from] FileError),
    /// The server's certificate.
    #[error("{}: not a certificate of an Ed25519 key", path.display())]
    ServerCertificate {
        /// The file.
        path: PathBuf,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] base_grpc::TlsSetupError),
    /// The remote signer.
    #[error("remote signer at {address}: {reason}")]
    Remote {
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The plugin.
    #[error("signer plugin {}: {reason}", path.display())]
    Plugin {
        /// Its program.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system.
    #[error("signer thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A remote signer and how it is reached.
#[derive(Debug, Clone, Default)]
pub struct RemoteConfig {
    /// `unix:PATH`, or `HOST:PORT` with TLS.
    pub address: String,
    /// The client's certificate.
    pub client_certificate: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
    /// The server's certificate, whose key is pinned.
    pub server_certificate: PathBuf,
}

/// A plugin.
#[derive(Debug, Clone, Default)]
pub struct PluginConfig {
    /// What it must call itself.
    pub name: String,
    /// Its program.
    pub path: PathBuf,
    /// What it is told when it starts.
    pub config: String,
}

/// Which signer, as on the command line of the reference (`--signer.*`).
#[derive(Debug, Clone, Default)]
pub struct SignerConfig {
    /// `file`, `plugin`, `remote` or `composite`; empty is `file`.
    pub backend: String,
    /// `ROLE:BACKEND`, separated by commas.
    pub composite: String,
    /// For `remote`.
    pub remote: RemoteConfig,
    /// For `plugin`.
    pub plugin: PluginConfig,
}

/// Opens the signer for these roles; key files, if any, are in `dir`. Blocks.
///
/// # Errors
/// If it can't be used.
pub fn open(config: &SignerConfig, dir: &Path, roles: &[KeyRole]) -> Result<Box<dyn KeySource>, SignerError> {
    let backend = config.backend.to_ascii_lowercase();
    if backend == "composite" {
        return Ok(Box::new(Composite::open(config, dir, roles)?));
    }
    open_one(&backend, config, dir, roles)
}

fn open_one(
    backend: &str,
    config: &SignerConfig,
    dir: &Path,
    roles: &[KeyRole],
) -> Result<Box<dyn KeySource>, SignerError> {
    match backend {
        "" | "file" => Ok(Box::new(KeyFiles(dir.to_owned()))),
        "remote" => Ok(Box::new(remote::RemoteSigner::connect(&config.remote)?)),
        "plugin" => Ok(Box::new(plugin::Plugin::start(&config.plugin, roles)?)),
        other => Err(SignerError::Backend(other.to_owned())),
    }
}
