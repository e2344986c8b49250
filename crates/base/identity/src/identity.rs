//! All keys of a node, loaded from its data directory.

use crate::files::{self, FileError, KeyRole};
use crate::tls::TlsIdentity;
use base_crypto::ed25519::SecretKey;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Files of the node's TLS identity: key, certificate.
const TLS_FILES: (&str, &str) = ("tls_identity.pem", "tls_identity_cert.pem");
/// Files of the TLS identity towards a sentry: key, certificate.
const SENTRY_FILES: (&str, &str) = ("sentry_client_tls_identity.pem", "sentry_client_tls_identity_cert.pem");
/// Leftovers of old versions, removed on sight.
const EPHEMERAL_FILES: [&str; 3] = ["tls_ephemeral.pem", "tls_ephemeral_next.pem", "tls_ephemeral_new_next.pem"];

/// The keys of a node.
#[derive(Debug)]
pub struct Identity {
    /// The node's own key (`identity.pem`).
    pub node: SecretKey,
    /// The key of peer-to-peer links.
    pub p2p: SecretKey,
    /// The key of consensus votes.
    pub consensus: SecretKey,
    /// The key of verifiable random function proofs.
    pub vrf: SecretKey,
    /// Constant random bytes that belong to the P2P key.
    pub p2p_entropy: P2pEntropy,
    /// Key and certificate for TLS.
    pub tls: TlsIdentity,
    /// Key and certificate of connections to a sentry's control port.
    pub sentry_client_tls: TlsIdentity,
    /// Why the TLS key file could not be used, if it was there and was replaced by a new key; worth a warning.
    pub replaced_tls_key: Option<FileError>,
}

/// The P2P entropy; wiped on drop and never printed.
#[derive(Clone)]
pub struct P2pEntropy(Zeroizing<[u8; 32]>);

impl P2pEntropy {
    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for P2pEntropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("P2pEntropy(redacted)")
    }
}

/// Why a source gives no key.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// There is none for the role, but one may be generated.
    #[error("no {0:?} key")]
    Missing(KeyRole),
    /// A key file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another signer.
    #[error("signer: {0}")]
    Signer(String),
}

/// Where a node's keys come from: files or signers elsewhere.
pub trait KeySource: Send + Sync {
    /// The key of a role.
    ///
    /// # Errors
    /// If there is none or it cannot be had.
    fn load(&self, role: KeyRole) -> Result<SecretKey, KeySourceError>;
    /// A new key for a role that has none.
    ///
    /// # Errors
    /// If there is one, or the source makes none.
    fn generate(&self, role: KeyRole) -> Result<SecretKey, KeySourceError>;
}

/// Key files of a folder.
#[derive(Debug, Clone)]
pub struct KeyFiles(
    /// The folder.
    pub PathBuf,
);

impl KeySource for KeyFiles {
    fn load(&self, role: KeyRole) -> Result<SecretKey, KeySourceError> {
        files::load_key(&self.0, role).map_err(KeySourceError::File)
    }

    fn generate(&self, role: KeyRole) -> Result<SecretKey, KeySourceError> {
        Ok(files::generate_key(&self.0, role)?)
    }
}

fn only_files(error: KeySourceError) -> FileError {
    match error {
        KeySourceError::File(error) => error,
        // Files are the only source where this is called.
        KeySourceError::Missing(role) => FileError::NotFound { path: role.secret_file().into() },
        KeySourceError::Signer(reason) => FileError::Certificate { path: "signer".into(), reason },
    }
}

impl Identity {
    /// Loads the keys of a data directory; a missing secret key is an error.
    ///
    /// As in the reference, missing public key files, P2P entropy and TLS keys are written even so, and certificates
    /// are always issued anew for `now_unix` (seconds since 1970).
    pub fn load(dir: &Path, now_unix: i64) -> Result<Self, FileError> {
        Self::open(dir, &KeyFiles(dir.to_owned()), now_unix, false).map_err(only_files)
    }

    /// Loads the keys of a data directory and generates those that are missing.
    pub fn load_or_generate(dir: &Path, now_unix: i64) -> Result<Self, FileError> {
        Self::open(dir, &KeyFiles(dir.to_owned()), now_unix, true).map_err(only_files)
    }

    /// Loads the keys from wherever they are and generates those that are missing; TLS keys are always files of `dir`.
    pub fn load_or_generate_from(dir: &Path, keys: &dyn KeySource, now_unix: i64) -> Result<Self, KeySourceError> {
        Self::open(dir, keys, now_unix, true)
    }

    fn open(dir: &Path, keys: &dyn KeySource, now_unix: i64, generate: bool) -> Result<Self, KeySourceError> {
        for name in EPHEMERAL_FILES {
            // Whether they existed or could be removed does not matter.
            let _ = std::fs::remove_file(dir.join(name));
        }
        let node = open_key(dir, keys, KeyRole::Node, generate, |_| Ok(()))?.0;
        let (p2p, p2p_entropy) = open_key(dir, keys, KeyRole::P2p, generate, |fresh| open_entropy(dir, fresh))?;
        let consensus = open_key(dir, keys, KeyRole::Consensus, generate, |_| Ok(()))?.0;
        let vrf = open_key(dir, keys, KeyRole::Vrf, generate, |_| Ok(()))?.0;
        let (tls, replaced_tls_key) = open_tls(dir, TLS_FILES, now_unix, true)?;
        let (sentry_client_tls, _) = open_tls(dir, SENTRY_FILES, now_unix, false)?;
        Ok(Self {
            node,
            p2p,
            consensus,
            vrf,
            p2p_entropy: P2pEntropy(p2p_entropy),
            tls,
            sentry_client_tls,
            replaced_tls_key,
        })
    }
}

/// Loads or generates a key and what belongs to it (`extra` is told whether the key is fresh), then checks or writes
/// its public key file.
fn open_key<T>(
    dir: &Path,
    keys: &dyn KeySource,
    role: KeyRole,
    generate: bool,
    extra: impl FnOnce(bool) -> Result<T, FileError>,
) -> Result<(SecretKey, T), KeySourceError> {
    let (key, fresh) = match keys.load(role) {
        Ok(key) => (key, false),
        Err(KeySourceError::Missing(_)) if generate => (keys.generate(role)?, true),
        Err(KeySourceError::File(e)) if e.is_not_found() && generate => (keys.generate(role)?, true),
        Err(e) => return Err(e),
    };
    let extra = extra(fresh)?;
    if let Some(name) = role.public_file() {
        files::check_public(dir, name, &key)?;
    }
    Ok((key, extra))
}

/// A fresh P2P key gets fresh entropy; an old one gets it only if none is there.
fn open_entropy(dir: &Path, fresh: bool) -> Result<Zeroizing<[u8; 32]>, FileError> {
    if fresh {
        return files::generate_entropy(dir);
    }
    match files::load_entropy(dir) {
        Err(e) if e.is_not_found() => files::generate_entropy(dir),
        other => other,
    }
}

/// Loads or generates a TLS key, issues its certificate and writes both. An unusable key file is an error unless
/// `replace_unusable`; then it is returned beside the new key.
fn open_tls(
    dir: &Path,
    (key_file, certificate_file): (&str, &str),
    now_unix: i64,
    replace_unusable: bool,
) -> Result<(TlsIdentity, Option<FileError>), FileError> {
    let key_path = dir.join(key_file);
    let (tls, unusable) = match TlsIdentity::load(&key_path, now_unix) {
        Ok(tls) => (tls, None),
        Err(e) if e.is_not_found() => (TlsIdentity::generate(&key_path, now_unix)?, None),
        Err(e) if replace_unusable => (TlsIdentity::generate(&key_path, now_unix)?, Some(e)),
        Err(e) => return Err(e),
    };
    tls.save(&key_path, &dir.join(certificate_file))?;
    Ok((tls, unusable))
}

#[cfg(test)]
mod tests;
