//! The data directory: private to its user, used by one process at a time.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// File that is locked.
const LOCK: &str = "node.lock";

/// Why a data directory can't be used. Texts of permissions as in `go/common/mkdir.go`.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// None is configured.
    #[error("data directory not set: set common.data_dir in the configuration")]
    NotSet,
    /// It can't be made or read.
    #[error("common/Mkdir: {path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not a directory.
    #[error("common/Mkdir: path '{0}' is not a directory")]
    NotDirectory(PathBuf),
    /// Others may use it.
    #[error(
        "common/Mkdir: path '{path}' has invalid permissions: {found}. Expected permissions: drwx------ (chmod 700 {path})"
    )]
    Permissions {
        /// The path.
        path: PathBuf,
        /// Its permissions.
        found: String,
    },
    /// It belongs to somebody else.
    #[error("common/Mkdir: path '{path}' has invalid owner: {found}. Expected owner: {expected}")]
    Owner {
        /// The path.
        path: PathBuf,
        /// Its owner's id.
        found: u32,
        /// This process's user id.
        expected: u32,
    },
    /// Another process uses it.
    #[error("cannot acquire lock on '{0}': another node is running on this data directory; stop it first")]
    Locked(PathBuf),
}

/// A data directory in use by this process; unlocked on drop.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

fn mode_text(mode: u32) -> String {
    let bits = "rwxrwxrwx".chars().enumerate();
    std::iter::once('d').chain(bits.map(|(i, c)| if mode >> (8 - i) & 1 == 1 { c } else { '-' })).collect()
}

/// Makes the directory for this user alone, or checks that it is; gives its absolute path.
///
/// # Errors
/// See [`DataDirError`].
pub fn prepare(path: &Path) -> Result<PathBuf, DataDirError> {
    if path.as_os_str().is_empty() {
        return Err(DataDirError::NotSet);
    }
    let io = |source| DataDirError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        }
        Err(error) => return Err(io(error)),
        Ok(metadata) => {
            if !metadata.is_dir() {
                return Err(DataDirError::NotDirectory(path.to_owned()));
            }
            let mode = metadata.permissions().mode() & 0o777;
            if mode != 0o700 {
                return Err(DataDirError::Permissions { path: path.to_owned(), found: mode_text(mode) });
            }
            let expected = rustix::process::geteuid().as_raw();
            if metadata.uid() != expected {
                return Err(DataDirError::Owner { path: path.to_owned(), found: metadata.uid(), expected });
            }
        }
    }
    fs::canonicalize(path).map_err(io)
}

impl DataDir {
    /// Prepares and locks the directory.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let path = prepare(path)?;
        let file = path.join(LOCK);
        let io = |source| DataDirError::Io { path: file.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(io)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::Locked(path)),
            Err(error) => Err(io(error.into())),
        }
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_checks_and_locks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = DataDir::open(&path).expect_err("locked").to_string();
        assert!(error.contains("another node is running"), "{error}");
        drop(first);
        drop(DataDir::open(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = DataDir::open(&path).expect_err("open to others").to_string();
        assert!(error.contains("has invalid permissions: drwxr-xr-x. Expected permissions: drwx------"), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(DataDir::open(&file), Err(DataDirError::NotDirectory(_))));
        assert!(matches!(DataDir::open(Path::new("")), Err(DataDirError::NotSet)));
    }
}
