//! Cutting a tree into chunks.

use std::io;

use base_prims::Hash;
use mkvs_tree::proof::Builder;
use mkvs_tree::{Executor, Root, Tree};

use super::chunk::encode_chunk;
use super::subtree;
use super::{CheckpointError, Metadata, VERSION};
use crate::db::NodeDb;
use crate::error::DbError;

/// Takes the chunks of a checkpoint under construction.
pub trait ChunkSink {
    /// Keeps a chunk.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn put(&mut self, index: u64, chunk: &[u8]) -> io::Result<()>;
}

impl ChunkSink for Vec<Vec<u8>> {
    fn put(&mut self, _: u64, chunk: &[u8]) -> io::Result<()> {
        self.push(chunk.to_vec());
        Ok(())
    }
}

/// Gives chunks their numbers and collects their digests.
pub(crate) struct Output<'a> {
    sink: &'a mut dyn ChunkSink,
    digests: Vec<Hash>,
}

impl Output<'_> {
    pub(crate) fn put(&mut self, (bytes, digest): &(Vec<u8>, Hash)) -> Result<(), CheckpointError> {
        let index = self.digests.len() as u64;
        self.sink.put(index, bytes).map_err(|source| CheckpointError::Sink { index, source })?;
        self.digests.push(*digest);
        Ok(())
    }
}

/// Makes a checkpoint of a stored root, with chunks of about `chunk_size` bytes.
///
/// `threads` 0 cuts in sequence; more cuts up to as many subtrees side by side. Only with the same chunk size and
/// number of threads do two nodes make the same checkpoint; 0 and 1 give the same. `exec` does not matter for that.
///
/// # Errors
/// If the root is not stored, or reading or keeping fails.
pub fn create(
    db: &NodeDb,
    root: &Root,
    chunk_size: u64,
    threads: u16,
    exec: &dyn Executor,
    sink: &mut dyn ChunkSink,
) -> Result<Metadata, CheckpointError> {
    let tree = db.read(root)?;
    let chunk_size = usize::try_from(chunk_size).unwrap_or(usize::MAX);
    let mut out = Output { sink, digests: Vec::new() };
    if threads == 0 {
        sequential(&tree, root.hash, chunk_size, &mut out)?;
    } else {
        subtree::parallel(&tree, root.hash, chunk_size, usize::from(threads), exec, &mut out)?;
    }
    Ok(Metadata { version: VERSION, root: *root, chunks: out.digests })
}

/// A builder of version 0 proofs, which chunks are made of.
pub(crate) fn builder() -> Builder {
    Builder::new(0).expect("version 0 is known")
}

/// Walks over all keys; a chunk ends with the key that makes its proof big enough.
fn sequential(tree: &Tree, root: Hash, chunk_size: usize, out: &mut Output<'_>) -> Result<(), CheckpointError> {
    let mut offset = Some(Vec::new());
    while let Some(from) = offset.take() {
        let mut cursor = tree.cursor().with_proof(builder());
        cursor.seek(&from).map_err(DbError::from)?;
        while cursor.leaf().is_some() && cursor.proof_builder().is_some_and(|b| b.size() < chunk_size) {
            cursor.advance().map_err(DbError::from)?;
        }
        if let Some(builder) = cursor.proof_builder() {
            let proof = builder.build(root).map_err(DbError::from)?;
            out.put(&encode_chunk(&proof.entries))?;
        }
        if cursor.leaf().is_some() {
            // The current pair is the chunk's last one.
            cursor.advance().map_err(DbError::from)?;
            offset = cursor.key().map(<[u8]>::to_vec);
        }
    }
    Ok(())
}
