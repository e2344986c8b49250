//! Verification of a whole ledger.

use std::collections::HashSet;

use mc_tx::form;
use mc_tx::membership::{MemoryTree, Tree as _, leaf_hash, root_of};

use crate::{Error, LedgerDb};

/// What was verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blocks.
    pub blocks: u64,
    /// Outputs.
    pub tx_outs: u64,
    /// Key images.
    pub key_images: u64,
    /// Block signatures that hold.
    pub signatures: u64,
}

/// The first thing that is wrong with a ledger.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A block.
    #[error("block {index}: {what}")]
    Block {
        /// Which.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// The indices beside the blocks.
    #[error("{0}")]
    Index(String),
    /// Reading failed.
    #[error(transparent)]
    Ledger(#[from] Error),
}

/// Goes through all blocks: chain, hashes, signatures, metadata, the root before each block, key images and outputs, and
/// the tables that point to them. `progress` is called with the number of blocks done.
///
/// # Errors
/// The first problem.
pub fn verify(db: &LedgerDb, mut progress: impl FnMut(u64)) -> Result<Verified, Problem> {
    let mut done = Verified::default();
    let mut tree = MemoryTree::default();
    let mut images = HashSet::new();
    let mut parent: Option<wire_mobilecoin::block::Block> = None;
    let num_blocks = db.num_blocks()?;
    for index in 0..num_blocks {
        let data = db.block_data(index)?;
        let block = data.block;
        let check = |holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(Problem::Block { index, what: what.to_owned() }),
        };
        check(block.index == index, "its index is another")?;
        check(block.id == block.computed_id(), "its id is wrong")?;
        check(block.contents_hash == data.contents.hash(), "its contents are others")?;
        check(parent.is_none_or(|p| p.id == block.parent_id), "it has another parent")?;
        check(parent.is_none_or(|p| p.version <= block.version), "its version is lower than its parent's")?;
        let Ok(root) = root_of(&tree);
        check(root == block.root_element, "its root is not that of the outputs before it")?;
        if let Some(signature) = &data.signature {
            check(form::verify_block_signature(&block, signature), "its signature does not hold")?;
            done.signatures += 1;
        }
        if let Some(metadata) = &data.metadata {
            check(form::verify_metadata(metadata), "its metadata do not hold")?;
            check(metadata.contents.block_id == block.id, "its metadata are of another block")?;
        }
        for image in &data.contents.key_images {
            check(images.insert(*image), "a key image is spent twice")?;
            check(db.block_of_key_image(image)? == Some(index), "a key image is not found")?;
        }
        for out in &data.contents.outputs {
            let Ok(position) = tree.num_leaves();
            check(db.tx_out_index_by_public_key(&out.public_key)? == Some(position), "an output is not found by key")?;
            check(db.tx_out_index_by_hash(&out.hash())? == Some(position), "an output is not found by hash")?;
            check(db.block_of_tx_out(position)? == index, "an output is in another block")?;
            tree.push(leaf_hash(out));
        }
        let Ok(total) = tree.num_leaves();
        check(block.cumulative_txo_count == total, "its count of outputs is wrong")?;
        done.tx_outs = total;
        done.key_images = images.len() as u64;
        parent = Some(block);
        done.blocks = index + 1;
        progress(done.blocks);
    }
    let Ok(root) = root_of(&tree);
    if db.root_element()? != root {
        return Err(Problem::Index("the stored tree is not that of the outputs".into()));
    }
    if db.num_tx_outs()? != done.tx_outs {
        return Err(Problem::Index("the stored number of outputs is wrong".into()));
    }
    Ok(done)
}
