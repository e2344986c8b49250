//! Restoring a checkpoint into a database.

use std::collections::BTreeSet;

use base_prims::Hash;

use super::{CheckpointError, Metadata, decode_chunk};
use crate::db::NodeDb;

/// Takes the chunks of one checkpoint, in any order, each from whoever has it.
///
/// The caller starts a multipart insert of the version before and finalizes or aborts it afterwards, so that several
/// roots of one version can be restored.
#[derive(Debug)]
pub struct Restorer {
    db: NodeDb,
    current: Option<(Metadata, BTreeSet<u64>)>,
}

impl Restorer {
    /// Restores into `db`.
    pub fn new(db: NodeDb) -> Self {
        Self { db, current: None }
    }

    /// Begins to restore a checkpoint.
    ///
    /// # Errors
    /// If another one is being restored, or the metadata is not sound.
    pub fn start(&mut self, metadata: Metadata) -> Result<(), CheckpointError> {
        if self.current.is_some() {
            return Err(CheckpointError::RestoreInProgress);
        }
        metadata.validate()?;
        let pending = (0..metadata.chunks.len() as u64).collect();
        self.current = Some((metadata, pending));
        Ok(())
    }

    /// Forgets the checkpoint that is being restored.
    pub fn abort(&mut self) {
        self.current = None;
    }

    /// The checkpoint that is being restored.
    pub fn current(&self) -> Option<&Metadata> {
        self.current.as_ref().map(|(metadata, _)| metadata)
    }

    /// Chunks that are still missing.
    pub fn pending(&self) -> impl Iterator<Item = u64> + '_ {
        self.current.iter().flat_map(|(_, pending)| pending.iter().copied())
    }

    /// Verifies and adds a chunk; says whether the checkpoint is now complete.
    ///
    /// # Errors
    /// [`CheckpointError::ChunkCorrupted`]: fetch the chunk again. [`CheckpointError::ChunkInvalid`]: the whole
    /// checkpoint is bad, and the restore has ended. In both cases nothing of the chunk is kept.
    pub fn restore_chunk(&mut self, index: u64, bytes: &[u8]) -> Result<bool, CheckpointError> {
        let Some((metadata, pending)) = &mut self.current else { return Err(CheckpointError::NoRestore) };
        let chunk = metadata.chunk(index).ok_or(CheckpointError::ChunkNotFound(index))?;
        if !pending.contains(&index) {
            return Err(CheckpointError::ChunkAlreadyRestored(index));
        }
        let got = Hash::of(&[bytes]);
        if got != chunk.digest {
            return Err(CheckpointError::ChunkCorrupted { index, expected: chunk.digest, got });
        }
        let part = match decode_chunk(bytes, &chunk.root.hash) {
            Ok(verified) => verified,
            Err(reason) => {
                self.current = None;
                return Err(CheckpointError::ChunkInvalid { index, reason });
            }
        };
        self.db.put_part(&part)?;
        if pending.len() > 1 {
            pending.remove(&index);
            return Ok(false);
        }
        let root = metadata.root;
        match self.db.complete_part(&root) {
            Ok(()) => {
                self.current = None;
                Ok(true)
            }
            Err(crate::DbError::Incomplete(hash)) => {
                self.current = None;
                Err(CheckpointError::ChunkInvalid { index, reason: format!("no chunk has node {hash}") })
            }
            Err(e) => Err(e.into()),
        }
    }
}
