//! Where a storage begins: at its last final round, at the runtime's first one, or at a checkpoint.
//!
//! Source: `initGenesis` and the start of `Serve` in `go/worker/storage/committee/worker.go`.

use mkvs_tree::{Root, RootType};
use wire_consensus::roothash::Header;

use crate::error::StorageError;
use crate::storage::{Apply, Storage, Synced};

/// How to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The last round that is final here, if any.
    pub synced: Option<Synced>,
    /// Whether nothing of this runtime's chain but its first round is here yet: a checkpoint is worth a try.
    pub fresh: bool,
    /// Whether there is no way but a checkpoint.
    pub checkpoint_required: bool,
}

impl Start {
    /// Whether to look for a checkpoint. With checkpoints disabled only that of the first round counts, and only if
    /// there is no other way.
    pub fn wants_checkpoint(&self, disabled: bool) -> bool {
        self.checkpoint_required || (self.fresh && !disabled)
    }
}

/// Finds out where to go on, and brings the database to the runtime's first round if that is possible.
///
/// `genesis` is the runtime's first block, `block` gives the history's block of a round and `earliest` its earliest one.
///
/// # Errors
/// If the database holds another chain, or fails.
pub fn start(
    storage: &Storage,
    genesis: &Header,
    block: &mut dyn FnMut(u64) -> Option<Header>,
    earliest: Option<&Header>,
) -> Result<Start, StorageError> {
    let latest = storage.db().latest_version();
    let last = latest.and_then(&mut *block).filter(|h| h.round >= genesis.round);
    if let Some(header) = last {
        // What the consensus layer made final is what is final here.
        storage.finalize(&header)?;
        // With the first round alone an earlier start may have been interrupted before it found a checkpoint.
        let fresh = header.round == genesis.round;
        return Ok(Start { synced: Some(Synced::of(&header)), fresh, checkpoint_required: false });
    }
    let mut start = Start { synced: None, fresh: true, checkpoint_required: !init(storage, genesis)? };
    if start.checkpoint_required || block(genesis.round).is_some() {
        return Ok(start);
    }
    // The history begins later. If nothing happened in between, so may we.
    match earliest {
        Some(early) if early.state_root == genesis.state_root && early.io_root.is_empty_hash() => {
            fill(storage, genesis, early.round)?;
            start.synced = Some(Synced::of(early));
        }
        _ => start.checkpoint_required = true,
    }
    Ok(start)
}

/// Brings the database to the state root of the runtime's first round; whether that was possible.
fn init(storage: &Storage, genesis: &Header) -> Result<bool, StorageError> {
    let db = storage.db();
    let target = state(genesis, genesis.round);
    let mut latest = db.latest_version();
    if let Some(mut at) = latest {
        // An old database may have rounds that were not final when its network ended.
        while let Some(next) = at.checked_add(1).filter(|next| *next < genesis.round) {
            let roots: Vec<Root> = db.roots(next)?.into_iter().filter(|r| r.root_type == RootType::STATE).collect();
            if roots.len() != 1 {
                break;
            }
            db.finalize(&roots)?;
            at = next;
        }
        latest = Some(at);
    }
    match latest {
        Some(latest) if latest >= genesis.round => {
            if db.has_root(&target)? {
                Ok(true)
            } else {
                Err(StorageError::IncompatibleGenesis)
            }
        }
        Some(latest) if db.has_root(&state(genesis, latest))? => {
            fill_from(storage, genesis, latest, genesis.round)?;
            Ok(true)
        }
        // The empty state is at hand everywhere.
        None if target.hash.is_empty_hash() => {
            db.finalize(&[target, storage.empty_io(genesis.round)])?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn state(genesis: &Header, version: u64) -> Root {
    Root { namespace: genesis.namespace, version, root_type: RootType::STATE, hash: genesis.state_root }
}

/// Makes versions with the first round's state, up to `to`.
fn fill(storage: &Storage, genesis: &Header, to: u64) -> Result<(), StorageError> {
    let from = storage.db().latest_version().unwrap_or(genesis.round);
    fill_from(storage, genesis, from, to)
}

fn fill_from(storage: &Storage, genesis: &Header, from: u64, to: u64) -> Result<(), StorageError> {
    for version in from..to {
        let (start, end) = (state(genesis, version), state(genesis, version + 1));
        storage.apply(&Apply { start, end, log: &[] })?;
        storage.db().finalize(&[end])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
