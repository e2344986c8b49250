//! State snapshots for the engine: checkpoints of the state, served and restored. Source:
//! `go/consensus/cometbft/abci/snapshots.go`.
//!
//! A snapshot of format 1 is a checkpoint: its metadata is the checkpoint's, in CBOR, its hash that of the metadata.

use base_codec::cbor;
use base_prims::{Hash, Namespace};
use comet_chain::app::{ApplyChunkOutcome, ApplyChunkResult, Fatal, OfferSnapshotResult, Snapshot, Snapshots};
use mkvs_db::checkpoint::{CheckpointError, Metadata, VERSION};
use mkvs_tree::RootType;

use crate::{EngineApp, StoreError};

/// The only format of snapshots: that of checkpoints.
pub const SNAPSHOT_FORMAT: u32 = 1;

fn outcome(outcome: ApplyChunkOutcome) -> ApplyChunkResult {
    ApplyChunkResult { outcome, refetch_chunks: Vec::new(), reject_senders: Vec::new() }
}

/// The checkpoint that an offered snapshot stands for, if all of it fits together.
fn checkpoint_of(snapshot: &Snapshot, app_hash: &Hash) -> Result<Metadata, String> {
    if Hash::of(&[&snapshot.metadata]).as_bytes()[..] != snapshot.hash[..] {
        return Err("hash does not match metadata".to_owned());
    }
    let metadata: Metadata = cbor::from_slice(&snapshot.metadata).map_err(|e| format!("malformed metadata: {e}"))?;
    metadata.validate().map_err(|e| format!("invalid metadata: {e}"))?;
    let root = &metadata.root;
    if metadata.chunks.len() as u64 != u64::from(snapshot.chunks) {
        return Err(format!("{} chunks offered, {} in metadata", snapshot.chunks, metadata.chunks.len()));
    }
    if root.hash != *app_hash {
        return Err(format!("root {} does not match the trusted {app_hash}", root.hash));
    }
    if root.namespace != Namespace::ZERO || root.root_type != RootType::STATE || root.version != snapshot.height {
        return Err(format!("snapshot of height {} is for root {root}", snapshot.height));
    }
    Ok(metadata)
}

impl EngineApp {
    /// Drops what was restored so far.
    fn drop_restore(&mut self) -> Result<(), Fatal> {
        self.restorer.abort();
        self.db.abort_multipart().map_err(StoreError::from)?;
        Ok(())
    }

    /// Makes a restored tree the state of the node, if it is of the right network.
    fn finish_restore(&mut self, metadata: &Metadata) -> Result<(), String> {
        let tree = self.db.read(&metadata.root).map_err(|e| e.to_string())?;
        let found = apps_core::params::chain_context(&tree).map_err(|e| e.to_string())?;
        if found != *self.app.mux().chain() {
            return Err(format!("state belongs to chain {found}, expected {}", self.app.mux().chain()));
        }
        self.db.finalize(&[metadata.root]).map_err(|e| e.to_string())?;
        // There are no blocks to make it again from.
        self.db.sync().map_err(|e| e.to_string())
    }
}

impl Snapshots for EngineApp {
    fn list(&mut self) -> Result<Vec<Snapshot>, Fatal> {
        let checkpoints = match self.files.list(None) {
            Ok(checkpoints) => checkpoints,
            Err(error) => {
                tracing::error!(%error, "failed to list checkpoints");
                return Ok(Vec::new());
            }
        };
        let snapshot = |m: Metadata| {
            let metadata = cbor::to_vec(&m);
            Some(Snapshot {
                height: m.root.version,
                format: u32::from(m.version),
                chunks: u32::try_from(m.chunks.len()).ok()?,
                hash: Hash::of(&[&metadata]).as_bytes().to_vec(),
                metadata,
            })
        };
        // The newest first.
        Ok(checkpoints.into_iter().rev().filter_map(snapshot).collect())
    }

    fn load_chunk(&mut self, height: u64, format: u32, chunk: u32) -> Result<Option<Vec<u8>>, Fatal> {
        if format != SNAPSHOT_FORMAT {
            return Ok(None);
        }
        let found = self.files.list(Some(height)).and_then(|checkpoints| match checkpoints.as_slice() {
            [one] => {
                let chunk = one.chunk(chunk.into()).ok_or(CheckpointError::ChunkNotFound(chunk.into()))?;
                self.files.chunk(&chunk).map(Some)
            }
            _ => Ok(None),
        });
        Ok(found.unwrap_or_else(|error| {
            tracing::error!(%error, height, chunk, "failed to read a chunk");
            None
        }))
    }

    fn offer(&mut self, snapshot: &Snapshot, app_hash: &[u8]) -> Result<OfferSnapshotResult, Fatal> {
        if snapshot.format != SNAPSHOT_FORMAT || u32::from(VERSION) != SNAPSHOT_FORMAT {
            return Ok(OfferSnapshotResult::RejectFormat);
        }
        let Ok(app_hash) = <[u8; 32]>::try_from(app_hash) else {
            tracing::error!(length = app_hash.len(), "trusted state root is malformed");
            return Ok(OfferSnapshotResult::Abort);
        };
        let metadata = match checkpoint_of(snapshot, &Hash::new(app_hash)) {
            Ok(metadata) => metadata,
            Err(reason) => {
                tracing::warn!(height = snapshot.height, reason, "refused a snapshot");
                return Ok(OfferSnapshotResult::Reject);
            }
        };
        // An earlier snapshot that is not complete is given up.
        self.drop_restore()?;
        let root = metadata.root;
        let started = match self.db.start_multipart(root.version) {
            Ok(()) => self.restorer.start(metadata),
            Err(e) => Err(e.into()),
        };
        if let Err(error) = started {
            tracing::error!(%error, "failed to start restoring a snapshot");
            return Ok(OfferSnapshotResult::Abort);
        }
        tracing::info!(%root, "restoring the state from a snapshot");
        Ok(OfferSnapshotResult::Accept)
    }

    fn apply_chunk(&mut self, index: u32, chunk: &[u8], sender: &str) -> Result<ApplyChunkResult, Fatal> {
        let Some(metadata) = self.restorer.current().cloned() else {
            tracing::error!("a chunk came without a snapshot, giving up state sync");
            self.drop_restore()?;
            return Ok(outcome(ApplyChunkOutcome::Abort));
        };
        let done = match self.restorer.restore_chunk(index.into(), chunk) {
            Ok(done) => done,
            Err(CheckpointError::ChunkAlreadyRestored(_)) => false,
            Err(error @ CheckpointError::ChunkCorrupted { .. }) => {
                tracing::warn!(%error, sender, "corrupted chunk");
                let refetch_chunks = vec![index];
                return Ok(ApplyChunkResult { refetch_chunks, ..outcome(ApplyChunkOutcome::Retry) });
            }
            Err(error @ CheckpointError::ChunkInvalid { .. }) => {
                // The chunk is what the metadata says, so the snapshot is bad, and whoever sent it knew.
                tracing::warn!(%error, sender, "bad snapshot");
                self.drop_restore()?;
                let reject_senders = vec![sender.to_owned()];
                return Ok(ApplyChunkResult { reject_senders, ..outcome(ApplyChunkOutcome::RejectSnapshot) });
            }
            Err(error) => {
                tracing::error!(%error, "failed to restore a chunk, giving up state sync");
                self.drop_restore()?;
                return Ok(outcome(ApplyChunkOutcome::Abort));
            }
        };
        if done {
            if let Err(error) = self.finish_restore(&metadata) {
                tracing::error!(error, "failed to finalize the restored state");
                self.drop_restore()?;
                return Ok(outcome(ApplyChunkOutcome::Abort));
            }
            if let Err(error) = self.adopt() {
                tracing::error!(%error, "failed to go on from the restored state");
                return Ok(outcome(ApplyChunkOutcome::Abort));
            }
            tracing::info!(root = %metadata.root, "state synced");
        }
        Ok(outcome(ApplyChunkOutcome::Accept))
    }
}
