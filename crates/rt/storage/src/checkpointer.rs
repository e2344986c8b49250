//! When to make checkpoints and which to drop. Source: `go/storage/mkvs/checkpoint/checkpointer.go`.

use std::collections::{BTreeMap, BTreeSet};

use mkvs_db::checkpoint::{CheckpointError, Files, Metadata, VERSION};
use mkvs_tree::{Executor, Root};
use wire_consensus::roothash::Header;

use crate::error::StorageError;
use crate::storage::{Storage, roots_of};

/// Subtrees of a checkpoint made in parallel; all nodes must use the same. Source: `chunkerThreads`.
pub const CHUNKER_THREADS: u16 = 12;
/// Roots of a round.
const ROOTS: usize = 2;
/// Most checkpoints made at once, whatever the descriptor says.
const MAX_AT_ONCE: u64 = 64;

/// Parameters: those of the runtime's descriptor, and its first round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointerParams {
    /// Rounds between checkpoints; 0 disables them.
    pub interval: u64,
    /// Checkpoints to keep, the first round's left out.
    pub num_kept: u64,
    /// The runtime's first round.
    pub initial: u64,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rounds to make checkpoints of, in this order; stop at the first that fails.
    pub create: Vec<u64>,
    /// Roots whose checkpoints are to be deleted, after that.
    pub delete: Vec<Root>,
}

/// Decides about checkpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checkpointer;

impl Checkpointer {
    /// What to do when `round` became final, with the checkpoints there are and the earliest round in the database.
    pub fn plan(existing: &[Metadata], round: u64, earliest: u64, params: CheckpointerParams) -> Plan {
        let mut by_round: BTreeMap<u64, Vec<Root>> = BTreeMap::new();
        for metadata in existing {
            by_round.entry(metadata.root.version).or_default().push(metadata.root);
        }
        let Some(since) = round.checked_sub(params.initial).filter(|_| params.interval > 0) else {
            return Plan::default();
        };
        let complete = by_round.iter().filter(|(_, roots)| roots.len() == ROOTS).map(|(round, _)| *round);
        let first = complete.max().map_or(0, |last| last.saturating_add(1)).max(earliest).max(params.initial);
        let mut create = Vec::new();
        let mut next = Some(since / params.interval * params.interval + params.initial);
        while let Some(at) = next.filter(|at| *at >= first)
            && (create.len() as u64) < params.num_kept.clamp(1, MAX_AT_ONCE)
        {
            create.push(at);
            next = at.checked_sub(params.interval);
        }
        // As in the reference: what is made now counts only the next time.
        let mut old: BTreeSet<u64> = by_round.keys().copied().collect();
        old.remove(&params.initial);
        let keep = usize::try_from(params.num_kept).unwrap_or(usize::MAX);
        let excess = old.len().saturating_sub(keep);
        let delete = old.iter().take(excess).filter_map(|round| by_round.get(round)).flatten().copied().collect();
        Plan { create, delete }
    }

    /// Makes the checkpoints of both roots of a block, in chunks of about `chunk_bytes` by `threads` subtrees (0 or
    /// [`CHUNKER_THREADS`]), as long as `go_on` says so. If one fails, neither is left. Blocks on the disk, for long.
    ///
    /// # Errors
    /// If a root is not there, or reading or writing fails.
    pub fn make(
        storage: &Storage,
        files: &Files,
        header: &Header,
        chunk_bytes: u64,
        threads: u16,
        exec: &dyn Executor,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), StorageError> {
        let roots = roots_of(header);
        for root in &roots {
            if let Err(e) = files.create_while(storage.db(), root, chunk_bytes, threads, exec, go_on) {
                Self::delete(files, &roots)?;
                return Err(e.into());
            }
        }
        Ok(())
    }

    /// Deletes checkpoints; that there are none is no error.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn delete(files: &Files, roots: &[Root]) -> Result<(), StorageError> {
        for root in roots {
            match files.delete(VERSION, root) {
                Ok(()) | Err(CheckpointError::NotFound(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base_prims::Hash;
    use mkvs_tree::RootType;

    use super::*;

    fn existing(rounds: &[u64]) -> Vec<Metadata> {
        let root = |version, root_type| Root { version, root_type, hash: Hash::EMPTY, ..Root::default() };
        let both = |r: &u64| [root(*r, RootType::IO), root(*r, RootType::STATE)];
        let metadata = |root| Metadata { version: 1, root, chunks: vec![] };
        rounds.iter().flat_map(both).map(metadata).collect()
    }

    #[test]
    fn checkpoints_are_made_and_deleted() {
        let chain = crate::testing::chain(6);
        let storage = crate::testing::full(&chain);
        let dir = tempfile::tempdir().unwrap();
        let (files, exec) = (Files::new(dir.path()), mkvs_db::Threads::new(1));
        let header = &chain[6].header;
        let made = |files: &Files| files.list(None).unwrap().iter().map(|m| m.root).collect::<Vec<_>>();
        let stopped = Checkpointer::make(&storage, &files, header, 300, 0, &exec, &|| false);
        assert!(stopped.is_err() && made(&files).is_empty());
        Checkpointer::make(&storage, &files, header, 300, 0, &exec, &|| true).unwrap();
        let mut both = roots_of(header).to_vec();
        both.sort_unstable();
        assert_eq!(made(&files), both);
        // Rounds without inputs have both too: the reference counts them.
        Checkpointer::make(&storage, &files, &chain[5].header, 300, CHUNKER_THREADS, &exec, &|| true).unwrap();
        assert_eq!(made(&files).len(), 4);
        let params = CheckpointerParams { interval: 1, num_kept: 1, initial: crate::testing::FIRST };
        let plan = Checkpointer::plan(&files.list(None).unwrap(), header.round, 0, params);
        assert_eq!((plan.create.len(), plan.delete.len()), (0, 2));
        Checkpointer::delete(&files, &plan.delete).unwrap();
        Checkpointer::delete(&files, &plan.delete).unwrap();
        assert_eq!(made(&files), both);
        let gone = Header { round: 99, ..header.clone() };
        assert!(Checkpointer::make(&storage, &files, &gone, 300, 0, &exec, &|| true).is_err());
    }

    #[test]
    fn which_rounds() {
        let params = CheckpointerParams { interval: 10, num_kept: 2, initial: 3 };
        let plan = |have: &[u64], round, earliest| {
            let plan = Checkpointer::plan(&existing(have), round, earliest, params);
            let mut deleted: Vec<u64> = plan.delete.iter().map(|r| r.version).collect();
            deleted.dedup();
            (plan.create, deleted)
        };
        assert_eq!(plan(&[], 2, 0), (vec![], vec![]), "before the first round");
        assert_eq!(plan(&[], 3, 0), (vec![3], vec![]));
        assert_eq!(plan(&[3], 12, 0), (vec![], vec![]));
        assert_eq!(plan(&[3], 13, 0), (vec![13], vec![]));
        assert_eq!(plan(&[3], 57, 0), (vec![53, 43], vec![]), "no more than are kept");
        assert_eq!(plan(&[3], 57, 50), (vec![53], vec![]), "no earlier than there are");
        assert_eq!(plan(&[3, 13, 23, 33], 43, 0), (vec![43], vec![13]), "the first one stays");
        assert_eq!(plan(&[13, 23, 33, 43], 44, 0), (vec![], vec![13, 23]));
        let off = CheckpointerParams { interval: 0, ..params };
        assert_eq!(Checkpointer::plan(&existing(&[3, 13, 23, 33]), 50, 0, off), Plan::default());
        let mut half = existing(&[3, 13]);
        half.pop();
        assert_eq!(Checkpointer::plan(&half, 13, 0, params).create, [13], "unfinished ones are made again");
    }
}
