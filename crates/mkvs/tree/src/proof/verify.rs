//! Checking a proof against a trusted root.

use std::sync::Arc;

use base_codec::Bytes;
use base_prims::Hash;

use super::{FULL, HASH, LATEST_VERSION, MAX_PROOF_DEPTH, Proof};
use crate::node::{Inner, Leaf, Link, NodePtr, NodeRef};
use crate::wire::{self, WireError, WireNode};
use crate::writelog::{LogEntry, WriteLog};

/// Why a proof does not prove anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The version is not known.
    #[error("unsupported proof version {0}")]
    Version(u16),
    /// The proof says it is for another root.
    #[error("proof is for another root: expected {expected}, got {got}")]
    OtherRoot {
        /// The trusted root.
        expected: Hash,
        /// What the proof says.
        got: Hash,
    },
    /// There are no entries.
    #[error("proof is empty")]
    Empty,
    /// The entries end before the tree is complete.
    #[error("proof ends too early")]
    Truncated,
    /// Entries are left over.
    #[error("{0} entries of the proof are unused")]
    Unused(usize),
    /// The tree is nested too deeply.
    #[error("proof is deeper than {MAX_PROOF_DEPTH} nodes")]
    TooDeep,
    /// An entry is neither node nor hash.
    #[error("entry {index} of the proof is malformed")]
    Entry {
        /// Position of the entry.
        index: usize,
    },
    /// An entry holds no valid node.
    #[error("entry {index} of the proof holds no node")]
    Node {
        /// Position of the entry.
        index: usize,
        /// What is wrong with it.
        source: WireError,
    },
    /// The entries hash to another root.
    #[error("proof has a bad root: expected {expected}, got {got}")]
    BadRoot {
        /// The trusted root.
        expected: Hash,
        /// What the entries hash to.
        got: Hash,
    },
}

/// A verified proof: the part of the tree that it shows.
#[derive(Debug)]
pub struct Verified {
    /// The subtree; nodes that were not shown are links that are not loaded.
    pub root: Link,
    leaves: Vec<Arc<Leaf>>,
}

impl Verified {
    /// The pairs that the proof shows, in key order.
    pub fn into_write_log(self) -> WriteLog {
        let entry = |l: Arc<Leaf>| LogEntry { key: Bytes(l.key().to_vec()), value: Some(Bytes(l.value().to_vec())) };
        self.leaves.into_iter().map(entry).collect()
    }

    /// The leaves that the proof shows, in key order.
    pub fn leaves(&self) -> &[Arc<Leaf>] {
        &self.leaves
    }
}

/// Verifies a proof against the trusted hash of the (sub)tree it must be for.
///
/// # Errors
/// Says what is wrong with the proof; nothing of it is kept.
pub fn verify(root: &Hash, proof: &Proof) -> Result<Verified, ProofError> {
    if proof.untrusted_root != *root {
        return Err(ProofError::OtherRoot { expected: *root, got: proof.untrusted_root });
    }
    verify_entries(root, proof.version, &proof.entries)
}

/// As [`verify`], for entries that come without a claimed root.
///
/// # Errors
/// Says what is wrong with the proof; nothing of it is kept.
pub fn verify_entries<B: AsRef<[u8]>>(
    root: &Hash,
    version: u16,
    entries: &[Option<B>],
) -> Result<Verified, ProofError> {
    if version > LATEST_VERSION {
        return Err(ProofError::Version(version));
    }
    if entries.is_empty() {
        return Err(ProofError::Empty);
    }
    let mut reader = Reader { version, entries, next: 0, leaves: Vec::new() };
    let link = reader.subtree(0, false)?;
    let unused = entries.len() - reader.next;
    if unused > 0 {
        return Err(ProofError::Unused(unused));
    }
    let got = link.hash().unwrap_or(Hash::EMPTY);
    if got != *root {
        return Err(ProofError::BadRoot { expected: *root, got });
    }
    Ok(Verified { root: link, leaves: reader.leaves })
}

struct Reader<'a, B> {
    version: u16,
    entries: &'a [Option<B>],
    next: usize,
    leaves: Vec<Arc<Leaf>>,
}

impl<B: AsRef<[u8]>> Reader<'_, B> {
    /// Reads the subtree at the next entry; with `leaf_only` it may not be an inner node.
    fn subtree(&mut self, depth: usize, leaf_only: bool) -> Result<Link, ProofError> {
        let index = self.next;
        let entry = self.entries.get(index).ok_or(ProofError::Truncated)?;
        if depth > MAX_PROOF_DEPTH {
            return Err(ProofError::TooDeep);
        }
        self.next += 1;
        let Some(entry) = entry else { return Ok(Link::Empty) };
        let node = match entry.as_ref().split_first() {
            Some((&HASH, hash)) => {
                let hash: [u8; 32] = hash.try_into().map_err(|_| ProofError::Entry { index })?;
                return Ok(Link::stub(NodePtr::from_hash(Hash::new(hash))));
            }
            Some((&FULL, node)) => wire::decode(node).map_err(|source| ProofError::Node { index, source })?,
            _ => return Err(ProofError::Entry { index }),
        };
        match node {
            WireNode::Leaf(leaf) => Ok(self.leaf(leaf)),
            WireNode::Inner { .. } if leaf_only => Err(ProofError::Entry { index }),
            WireNode::Inner { children: Some(_), .. } => Err(ProofError::Entry { index }),
            WireNode::Inner { leaf: Some(_), .. } if self.version > 0 => Err(ProofError::Entry { index }),
            WireNode::Inner { label, leaf, children: None } => {
                let leaf = match leaf {
                    Some(leaf) => self.leaf(leaf),
                    None if self.version > 0 => self.subtree(depth + 1, true)?,
                    None => Link::Empty,
                };
                let left = self.subtree(depth + 1, false)?;
                let right = self.subtree(depth + 1, false)?;
                let leaf = (!leaf.is_empty()).then(|| Box::new(leaf));
                let node = NodeRef::Inner(Arc::new(Inner { label, leaf, left, right }));
                let hash = node.hash().ok_or(ProofError::Entry { index })?;
                Ok(Link::loaded(NodePtr::from_hash(hash), node))
            }
        }
    }

    fn leaf(&mut self, leaf: Arc<Leaf>) -> Link {
        self.leaves.push(Arc::clone(&leaf));
        Link::loaded(NodePtr::from_hash(leaf.hash()), NodeRef::Leaf(leaf))
    }
}
