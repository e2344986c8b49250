//! Which of the blocks held are the chain's: each is proven by the commit in the next one.
//!
//! Reference: the loop of `cometbft:blocksync/reactor.go`. The reference checks the next block's commit lightly, and in
//! full once more when that next block is validated; here it is checked in full once, many consecutive blocks with one
//! set of validators in one batch.
//!
//! The chain of sets is that of adjacent light verification: a proven header names the validators of the next height, so
//! blocks can be proven far ahead of the state as long as the set does not change.

use std::sync::Arc;

use comet_chain::commit::{PendingCommit, Scope, check_full, verify_light};
use comet_chain::signature::{Claim, verify_batch};
use comet_chain::validators::ValidatorSet;
use comet_core::PeerId;
use wire_cometbft::block::{BasicError, Block, BlockId, Commit};
use wire_cometbft::part_set::PartSet;

/// A block that came in, decoded and well-formed, with its parts made anew from its fields.
#[derive(Debug)]
pub struct Candidate {
    /// The block.
    pub block: Block,
    /// Its id.
    pub id: BlockId,
    /// Its parts.
    pub parts: PartSet,
    /// Memory that it takes, about.
    pub bytes: u64,
    /// Who sent it.
    pub peer: PeerId,
}

impl Candidate {
    /// Checks a block from a peer for shape, and cuts it into parts.
    ///
    /// # Consensus
    /// The parts are those of the encoding of what was decoded, whatever the bytes received looked like.
    pub fn new(block: Block, peer: PeerId) -> Result<Self, BasicError> {
        block.validate_basic()?;
        let parts = block.part_set();
        let hash = block.hash().ok_or(BasicError::Missing("header hash"))?;
        let id = BlockId { hash: hash.to_vec(), part_set_header: parts.header().clone() };
        let bytes = memory(&block, &parts);
        Ok(Self { block, id, parts, bytes, peer })
    }

    /// Height in the header.
    pub fn height(&self) -> i64 {
        self.block.header.height
    }

    /// The commit for the block before.
    pub fn last_commit(&self) -> Option<&Commit> {
        self.block.last_commit.as_ref()
    }
}

/// Memory of a transaction, a signature, an item of evidence beyond its encoded bytes, at least.
const ITEM_OVERHEAD: usize = 64;

fn memory(block: &Block, parts: &PartSet) -> u64 {
    let signatures = block.last_commit.as_ref().map_or(0, |commit| commit.signatures.len());
    let items = block.data.txs.len() + signatures + block.evidence.evidence.len() * 16 + parts.count() * 8 + 32;
    // Once in the parts, once decoded.
    (parts.byte_size() * 2 + items * ITEM_OVERHEAD) as u64
}

/// A block that the network committed.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The block.
    pub block: Arc<Candidate>,
    /// The commit for it, every signature of it checked.
    pub commit: Commit,
    /// Hash of the set by which the block's own last commit was checked in full; `None` if it was not.
    pub last_commit_checked_by: Option<[u8; 32]>,
}

/// What must be true of the next block to be proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its height.
    pub height: i64,
    /// Hash of its validators, from the proven header before it (or the state).
    pub validators_hash: Vec<u8>,
    /// The block before.
    pub last_block_id: BlockId,
    /// Hash of the set by which its last commit was checked in full; `None` if it was not.
    pub last_commit_checked_by: Option<[u8; 32]>,
}

/// What came out of a run of blocks.
#[derive(Debug)]
pub struct Outcome {
    /// Blocks proven, in order.
    pub proven: Vec<Proven>,
    /// What is expected of the block after them.
    pub expected: Expected,
    /// Height of a block that cannot be the chain's, and why; `None` if the run ended otherwise.
    pub bad: Option<(i64, String)>,
}

/// What a step between two consecutive blocks shows before signatures are looked at.
enum Shape {
    Pending(PendingCommit),
    Bad(i64, String),
}

fn check_pair(set: &ValidatorSet, chain_id: &str, expected: &Expected, first: &Candidate, second: &Candidate) -> Shape {
    let (height, next) = (first.height(), second.height());
    if height != expected.height || next != height.saturating_add(1) {
        return Shape::Bad(height, format!("height {height} where {} was expected", expected.height));
    }
    let header = &first.block.header;
    if header.chain_id != chain_id {
        return Shape::Bad(height, "another chain".into());
    }
    if header.validators_hash != expected.validators_hash {
        return Shape::Bad(height, "validators are not those that the header before named".into());
    }
    if header.last_block_id != expected.last_block_id {
        return Shape::Bad(height, "last block is not the block before".into());
    }
    let Some(commit) = second.last_commit() else {
        return Shape::Bad(next, "no last commit".into());
    };
    match check_full(set, chain_id, &first.id, height, commit) {
        Ok(pending) => Shape::Pending(pending),
        Err(error) => Shape::Bad(blame(set, chain_id, first, second), error.to_string()),
    }
}

/// Which block is at fault if the commit in `second` does not prove `first` in full.
///
/// # Consensus
/// The set is certain, so a commit that two thirds of it did not sign, for whatever block, makes `second` wrong. One that
/// they signed for another block makes `first` wrong. One that they signed for `first`, but that has a bad entry besides, no
/// validator would have accepted: `second` is wrong.
///
/// DEVIATION: the reference bans the senders of both blocks whichever of the two is wrong.
fn blame(set: &ValidatorSet, chain_id: &str, first: &Candidate, second: &Candidate) -> i64 {
    let signed =
        |commit: &Commit| verify_light(set, chain_id, &commit.block_id, first.height(), commit, Scope::Enough).is_ok();
    match second.last_commit() {
        Some(commit) if commit.block_id != first.id && signed(commit) => first.height(),
        _ => second.height(),
    }
}

/// Proves as many blocks as `set` allows: each but the last of `run` by the commit in the one after it. `run` is in order of
/// height, and `set` is the one that `expected` names.
pub fn prove(set: &ValidatorSet, chain_id: &str, mut expected: Expected, run: &[Arc<Candidate>]) -> Outcome {
    let set_hash = set.hash();
    let mut pending: Vec<PendingCommit> = Vec::with_capacity(run.len());
    let mut claims: Vec<Claim> = Vec::new();
    let mut next = expected.clone();
    let mut bad = None;
    for pair in run.windows(2) {
        let [first, second] = pair else { break };
        // The set changes here: the rest waits for the new one.
        if next.validators_hash != set_hash {
            break;
        }
        match check_pair(set, chain_id, &next, first, second) {
            Shape::Pending(commit) => {
                claims.extend_from_slice(commit.claims());
                pending.push(commit);
                next = after(first, set_hash);
            }
            Shape::Bad(height, reason) => {
                bad = Some((height, reason));
                break;
            }
        }
    }
    let valid = verify_batch(&claims);
    let mut rest = valid.as_slice();
    let mut proven = Vec::with_capacity(pending.len());
    for (commit, pair) in pending.into_iter().zip(run.windows(2)) {
        let [first, second] = pair else { break };
        let (own, others) = rest.split_at(commit.claims().len().min(rest.len()));
        rest = others;
        if let Err(error) = commit.finish(own) {
            bad = Some((blame(set, chain_id, first, second), error.to_string()));
            break;
        }
        proven.push(Proven {
            block: Arc::clone(first),
            commit: second.last_commit().cloned().unwrap_or_default(),
            last_commit_checked_by: expected.last_commit_checked_by,
        });
        expected = after(first, set_hash);
    }
    Outcome { proven, expected, bad }
}

/// What is expected of the block after one that is proven.
fn after(block: &Candidate, set_hash: [u8; 32]) -> Expected {
    Expected {
        height: block.height().saturating_add(1),
        validators_hash: block.block.header.next_validators_hash.clone(),
        last_block_id: block.id.clone(),
        last_commit_checked_by: Some(set_hash),
    }
}
