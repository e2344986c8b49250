//! Key files: names, contents, permission checks and atomic writes.

use crate::pem::{self, PemError};
use base_crypto::ed25519::SecretKey;
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{
    fs::{File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// PEM type of secret keys.
const SECRET_PEM: &str = "ED25519 PRIVATE KEY";
/// PEM type of public keys.
const PUBLIC_PEM: &str = "ED25519 PUBLIC KEY";
/// PEM type of the P2P entropy.
const ENTROPY_PEM: &str = "STATIC ENTROPY";
/// File of the P2P entropy.
const ENTROPY_FILE: &str = "p2p_entropy.pem";
/// The mode of secret files.
pub(crate) const SECRET_MODE: u32 = 0o600;
/// No key file is anywhere near this long, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// What is wrong with a key file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file does not exist.
    #[error("{}: not found; generate the node's keys first or point to the right data directory", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// A key is to be generated where a file already is.
    #[error("{}: already exists and will not be replaced; move it away to generate a new key", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory, pipe or device is in the file's place.
    #[error("{}: not a regular file; move it away", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Someone else may read or write the file.
    #[error("{path}: mode is {found:04o}, must be {SECRET_MODE:04o}; run `chmod {SECRET_MODE:o} {path}`", path = path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        found: u32,
    },
    /// The file is far too long for a key.
    #[error("{}: longer than {MAX_FILE} bytes, which no key file is; restore it from a backup", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the expected PEM.
    #[error("{}: {source}; restore the file from a backup", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PemError,
    },
    /// The PEM block has the wrong size.
    #[error("{}: PEM block holds {found} bytes, expected {expected}; restore the file from a backup", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes in the block.
        found: usize,
        /// Bytes that it must have.
        expected: usize,
    },
    /// The two halves of a secret key do not belong together.
    #[error("{}: public half does not belong to the secret half; restore the file from a backup", path.display())]
    Halves {
        /// The file.
        path: PathBuf,
    },
    /// The public key file is of another key.
    #[error(
        "{}: holds public key {found}, but the secret key's is {expected}; \
         restore the secret key, or delete this file to have it written anew",
        path.display()
    )]
    PublicMismatch {
        /// The public key file.
        path: PathBuf,
        /// Key in the file, base64.
        found: String,
        /// Key that belongs to the secret key, base64.
        expected: String,
    },
    /// A TLS key is not PKCS#8 of an Ed25519 key.
    #[error("{}: not an Ed25519 key in PKCS#8 form; delete the file to have a new one generated", path.display())]
    NotEd25519 {
        /// The file.
        path: PathBuf,
    },
    /// The operating system has no randomness.
    #[error("{}: cannot generate a key: {reason}", path.display())]
    Entropy {
        /// The file that was to be written.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The certificate could not be made.
    #[error("{}: cannot make a certificate: {reason}", path.display())]
    Certificate {
        /// The file that was to be written.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl FileError {
    /// Whether the file does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// The entity that owns nodes.
    Entity,
    /// The node itself.
    Node,
    /// Peer-to-peer links.
    P2p,
    /// Consensus votes.
    Consensus,
    /// Verifiable random function.
    Vrf,
}

impl KeyRole {
    /// Name of the secret key file.
    #[must_use]
    pub const fn secret_file(self) -> &'static str {
        match self {
            Self::Entity => "entity.pem",
            Self::Node => "identity.pem",
            Self::P2p => "p2p.pem",
            Self::Consensus => "consensus.pem",
            Self::Vrf => "vrf.pem",
        }
    }

    /// Name of the public key file, which the entity does not have.
    #[must_use]
    pub const fn public_file(self) -> Option<&'static str> {
        match self {
            Self::Entity => None,
            Self::Node => Some("identity_pub.pem"),
            Self::P2p => Some("p2p_pub.pem"),
            Self::Consensus => Some("consensus_pub.pem"),
            Self::Vrf => Some("vrf_pub.pem"),
        }
    }
}

/// Wraps an I/O error, telling missing files apart.
fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::NotFound if action == "open" => FileError::NotFound { path },
        _ => FileError::Io { path, action, source },
    }
}

/// Reads a whole key file; `secret` ones must have exactly mode 0600.
pub(crate) fn read(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // Looked at before opening, because opening a named pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(io_error(path, "open"))?.is_file() {
        return Err(FileError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(io_error(path, "open"))?;
    let meta = file.metadata().map_err(io_error(path, "examine"))?;
    let found = meta.permissions().mode() & 0o777;
    if secret && found != SECRET_MODE {
        return Err(FileError::Permissions { path: path.to_owned(), found });
    }
    if meta.len() > MAX_FILE {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    // Reserved at once, so that no smaller copy of a secret is left behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize));
    file.take(MAX_FILE).read_to_end(&mut text).map_err(io_error(path, "read"))?;
    Ok(text)
}

/// Writes a file aside, syncs it and renames it into place; with `replace` unset, an existing file is an error.
pub(crate) fn write(path: &Path, text: &[u8], mode: u32, replace: bool) -> Result<(), FileError> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = tempfile::Builder::new()
        .prefix(".key-")
        .permissions(Permissions::from_mode(SECRET_MODE))
        .tempfile_in(dir)
        .map_err(io_error(path, "create"))?;
    aside.write_all(text).map_err(io_error(path, "write"))?;
    aside.as_file().set_permissions(Permissions::from_mode(mode)).map_err(io_error(path, "set the mode of"))?;
    aside.as_file().sync_all().map_err(io_error(path, "sync"))?;
    let result = if replace { aside.persist(path) } else { aside.persist_noclobber(path) };
    result.map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists { path: path.to_owned() },
        _ => FileError::Io { path: path.to_owned(), action: "rename", source: e.error },
    })?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_error(path, "sync the directory of"))
}

/// Reads a PEM block of `N` bytes.
fn read_pem<const N: usize>(path: &Path, kind: &'static str, secret: bool) -> Result<Zeroizing<[u8; N]>, FileError> {
    let text = read(path, secret)?;
    let data = pem::decode(kind, &text).map_err(|source| FileError::Pem { path: path.to_owned(), source })?;
    let mut out = Zeroizing::new([0; N]);
    if data.len() != N {
        return Err(FileError::Length { path: path.to_owned(), found: data.len(), expected: N });
    }
    out.copy_from_slice(&data);
    Ok(out)
}

/// 32 bytes of the operating system's randomness for a file.
pub(crate) fn random(path: &Path) -> Result<Zeroizing<[u8; 32]>, FileError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|e| FileError::Entropy { path: path.to_owned(), reason: e.to_string() })?;
    Ok(bytes)
}

/// Loads the secret key of a role from a data directory.
pub fn load_key(dir: &Path, role: KeyRole) -> Result<SecretKey, FileError> {
    load_key_file(&dir.join(role.secret_file()))
}

/// Loads a secret key from any file.
pub fn load_key_file(path: &Path) -> Result<SecretKey, FileError> {
    let bytes = read_pem::<64>(path, SECRET_PEM, true)?;
    SecretKey::from_bytes(&bytes).map_err(|_| FileError::Halves { path: path.to_owned() })
}

/// Generates the secret key of a role; an existing file is never replaced.
pub fn generate_key(dir: &Path, role: KeyRole) -> Result<SecretKey, FileError> {
    let path = dir.join(role.secret_file());
    let key = SecretKey::from_seed(&*random(&path)?);
    let text = pem::encode(SECRET_PEM, key.to_bytes().as_slice());
    write(&path, text.as_bytes(), SECRET_MODE, false)?;
    Ok(key)
}

/// Checks the public key file of a role against the secret key; writes it if it is missing.
pub(crate) fn check_public(dir: &Path, name: &str, key: &SecretKey) -> Result<(), FileError> {
    let path = dir.join(name);
    match read_pem::<32>(&path, PUBLIC_PEM, false) {
        Ok(found) if *found == key.public() => Ok(()),
        Ok(found) => Err(FileError::PublicMismatch {
            path,
            found: BASE64_STANDARD.encode(found.as_slice()),
            expected: BASE64_STANDARD.encode(key.public()),
        }),
        Err(e) if e.is_not_found() => {
            write(&path, pem::encode(PUBLIC_PEM, &key.public()).as_bytes(), SECRET_MODE, true)
        }
        Err(e) => Err(e),
    }
}

/// Loads the P2P entropy.
pub(crate) fn load_entropy(dir: &Path) -> Result<Zeroizing<[u8; 32]>, FileError> {
    read_pem::<32>(&dir.join(ENTROPY_FILE), ENTROPY_PEM, true)
}

/// Generates the P2P entropy, replacing what is there: it belongs to the P2P key.
pub(crate) fn generate_entropy(dir: &Path) -> Result<Zeroizing<[u8; 32]>, FileError> {
    let path = dir.join(ENTROPY_FILE);
    let entropy = random(&path)?;
    write(&path, pem::encode(ENTROPY_PEM, entropy.as_slice()).as_bytes(), SECRET_MODE, true)?;
    Ok(entropy)
}
