//! Removing a node's state, as the reference's `unsafe-reset` does.
//!
//! Reference: `oasis-core:go/oasis-node/cmd/node/unsafe_reset.go`.
//!
//! DEVIATION: the reference removes the guard file with the rest of the consensus folder; a validator that starts over
//! could then sign twice. Here it is kept unless asked for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::guard::GUARD_FILE;

#[cfg(test)]
mod tests;

/// Folder of the consensus engine.
const CONSENSUS: &str = "consensus";
/// Folder of an old version's consensus engine.
const LEGACY: &str = "tendermint";
/// A node's data folder has this file.
const IDENTITY: &str = "identity_pub.pem";
const RUNTIMES: &str = "runtimes";
const HISTORY: &str = "history.db";

/// What to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetOptions {
    /// Remove nothing, only tell what would be removed.
    pub dry_run: bool,
    /// Go on although the folder does not look like a node's.
    pub force: bool,
    /// Keep runtimes' local storage.
    pub keep_local_storage: bool,
    /// Keep runtimes' state.
    pub keep_runtime_state: bool,
    /// Remove the guard file too. A validator that does this may sign twice and be slashed.
    pub remove_guard: bool,
}

impl Default for ResetOptions {
    fn default() -> Self {
        Self { dry_run: false, force: false, keep_local_storage: true, keep_runtime_state: true, remove_guard: false }
    }
}

/// Why nothing (more) is removed.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The folder does not look like a node's.
    #[error("{path} does not look like a node's data folder: {missing} is missing")]
    NotADataDir {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// Something could not be removed or listed.
    #[error("failed to {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ResetError {
    let path = path.to_owned();
    move |source| ResetError::Io { action, path, source }
}

/// Paths and names in a folder, in order; none if it is not there.
fn list(dir: &Path) -> Result<Vec<(PathBuf, String)>, ResetError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(io("list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io("list", dir))?;
        found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    found.sort();
    Ok(found)
}

fn is_between(name: &str, start: &str, end: &str) -> bool {
    name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
}

/// What is to be removed.
fn targets(data_dir: &Path, options: &ResetOptions) -> Result<Vec<PathBuf>, ResetError> {
    let mut targets = Vec::new();
    for (path, name) in list(data_dir)? {
        match name.as_str() {
            CONSENSUS if options.remove_guard => targets.push(path),
            CONSENSUS => {
                let entries = list(&path)?.into_iter().filter(|(_, name)| name != GUARD_FILE);
                targets.extend(entries.map(|(path, _)| path));
            }
            LEGACY => targets.push(path),
            name if is_between(name, "persistent-store.", ".db") => targets.push(path),
            _ => {}
        }
    }
    for (runtime, _) in list(&data_dir.join(RUNTIMES))? {
        for (path, name) in list(&runtime)? {
            let local = is_between(&name, "worker-local-storage.", ".db") && !options.keep_local_storage;
            let state = is_between(&name, "mkvs_storage.", ".db") && !options.keep_runtime_state;
            if name == HISTORY || local || state {
                targets.push(path);
            }
        }
    }
    Ok(targets)
}

/// Removes the state below a data folder; tells what was (or would be) removed.
///
/// # Errors
/// If the folder does not look like a node's, or something cannot be removed.
pub fn reset(data_dir: &Path, options: &ResetOptions) -> Result<Vec<PathBuf>, ResetError> {
    for missing in [CONSENSUS, IDENTITY] {
        if !options.force && !data_dir.join(missing).exists() {
            return Err(ResetError::NotADataDir { path: data_dir.to_owned(), missing });
        }
    }
    let targets = targets(data_dir, options)?;
    for path in &targets {
        tracing::info!(path = %path.display(), dry_run = options.dry_run, "removing node state");
        if options.dry_run {
            continue;
        }
        let is_dir = fs::symlink_metadata(path).map_err(io("read", path))?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.map_err(io("remove", path))?;
    }
    Ok(targets)
}
