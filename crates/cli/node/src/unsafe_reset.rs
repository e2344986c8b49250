//! `oasis-node unsafe-reset`: removes a node's state and keeps its keys. Reference:
//! `go/oasis-node/cmd/node/unsafe_reset.go`.
//!
//! The file that tells which votes were cast is part of the state there, and goes with it: a node that validates must
//! not be reset while its network goes on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use node_hosting::LOCAL_STORAGE;
use node_storage::{CHECKPOINTS, HISTORY, STORAGE};

use crate::args::Session;
use crate::tool::{Done, Failure, OrFail as _, end};

const MODULE: &str = "cmd/unsafe-reset";
/// Public key of the node: the directory is a node's.
const IDENTITY: &str = "identity_pub.pem";
/// Folders of the consensus layer, today's and those of older releases.
const CONSENSUS: [&str; 2] = ["consensus", "tendermint"];
/// Folder of runtimes.
const RUNTIMES: &str = "runtimes";

/// Options of `unsafe-reset`.
#[derive(clap::Args)]
pub(crate) struct ResetArgs {
    /// Data directory.
    #[arg(long, value_name = "DIR")]
    datadir: Option<PathBuf>,
    /// Only show what would be removed.
    #[arg(short = 'n', long = "dry_run")]
    dry_run: bool,
    /// Also in a directory that does not look like a node's.
    #[arg(long)]
    force: bool,
    /// Keep the local storage of runtimes.
    #[arg(long = "preserve.local_storage", num_args = 0..=1, require_equals = true, default_value = "true",
        default_missing_value = "true", action = clap::ArgAction::Set)]
    preserve_local_storage: bool,
    /// Keep the state of runtimes.
    #[arg(long = "preserve.mkvs_database", num_args = 0..=1, require_equals = true, default_value = "true",
        default_missing_value = "true", action = clap::ArgAction::Set)]
    preserve_mkvs_database: bool,
}

pub(crate) fn run(args: &ResetArgs, session: &Session) -> ExitCode {
    end(reset(args, session))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = found.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a reset removes.
fn doomed(dir: &Path, args: &ResetArgs) -> Vec<PathBuf> {
    let store =
        |name: &str| name.starts_with("persistent-store.") && name.ends_with(".db") || name == "persistent-store.db";
    let mut paths: Vec<_> = entries(dir)
        .into_iter()
        .filter(|path| {
            let name = name_of(path);
            store(&name) || CONSENSUS.contains(&name.as_str())
        })
        .collect();
    for runtime in entries(&dir.join(RUNTIMES)) {
        paths.extend(entries(&runtime).into_iter().filter(|path| {
            let name = name_of(path);
            name == "history.db"
                || name == HISTORY
                || !args.preserve_local_storage && (name == LOCAL_STORAGE || name.starts_with("worker-local-storage."))
                || !args.preserve_mkvs_database
                    && (name == STORAGE || name == CHECKPOINTS || name.starts_with("mkvs_storage."))
        }));
    }
    paths
}

fn reset(args: &ResetArgs, session: &Session) -> Done {
    let dir = match &args.datadir {
        Some(dir) if !dir.as_os_str().is_empty() => dir.clone(),
        _ if !session.config.common.data_dir.is_empty() => session.data_dir(),
        _ => return Err(Failure::new(MODULE, "data directory must be set")),
    };
    let is_node = CONSENSUS.iter().any(|name| dir.join(name).exists()) && dir.join(IDENTITY).exists();
    if !is_node && !args.force {
        let text = format!(
            "{} holds no `consensus` and {IDENTITY}; use --force if it is a node's all the same",
            dir.display()
        );
        return Err(Failure::because(MODULE, "data directory does not look like a node's", text));
    }
    // The lock fails if a node runs there.
    let _lock = base_service::data_dir::DataDir::open(&dir).or_fail(MODULE, "failed to lock data directory")?;
    for path in doomed(&dir, args) {
        tracing::info!(module = MODULE, path = %path.display(), dry_run = args.dry_run, "removing");
        if args.dry_run {
            continue;
        }
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.or_fail(MODULE, &format!("failed to remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_goes_through_the_folders_of_runtimes() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join(RUNTIMES).join("80");
        let ours = [HISTORY, STORAGE, CHECKPOINTS, LOCAL_STORAGE, "executor"];
        let theirs = ["history.db", "mkvs_storage.badger.db", "worker-local-storage.badger.db"];
        for name in ours.iter().chain(&theirs) {
            std::fs::create_dir_all(runtime.join(name)).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("persistent-store.db")).unwrap();
        let gone = |local, state| {
            let args = ResetArgs {
                datadir: None,
                dry_run: true,
                force: true,
                preserve_local_storage: local,
                preserve_mkvs_database: state,
            };
            doomed(dir.path(), &args).iter().map(|path| name_of(path)).collect::<Vec<_>>()
        };
        assert_eq!(gone(true, true), ["persistent-store.db", "history", "history.db"]);
        assert_eq!(
            gone(false, true),
            ["persistent-store.db", "history", "history.db", "local", "worker-local-storage.badger.db"]
        );
        let state =
            ["persistent-store.db", "checkpoints", "history", "history.db", "mkvs_storage.badger.db", "storage"];
        assert_eq!(gone(true, false), state);
    }
}
