//! Checking a proof against a trusted root.

use std::sync::Arc;

use base_codec::Bytes;
use base_prims::Hash;

use super::{FULL, HASH, LATEST_VERSION, MAX_PROOF_DEPTH, Proof};
use crate::commit::Executor;
use crate::node::{Inner, Label, Leaf, Link, NodePtr, NodeRef};
use crate::wire::{self, Pair, RawNode, WireError};
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
    same_root(root, proof)?;
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
    let (root, Build(leaves)) = check(root, version, entries, Build(Vec::new()), None)?;
    Ok(Verified { root, leaves })
}

/// Key and value of each pair that a proof shows, in the proof's own bytes.
pub type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Verifies many proofs and remembers inner nodes that it has hashed, so that those that proofs of one tree, or of
/// versions of one tree, have in common are hashed once. What it accepts does not depend on what it remembers: that a
/// node has a hash stays true whoever showed it.
pub struct Verifier {
    seen: Seen,
}

impl Default for Verifier {
    /// Remembers up to 32,768 nodes, about 5 MiB.
    fn default() -> Self {
        Self::new(15)
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("slots", &self.seen.slots.len()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Remembers up to `2^log2_nodes` nodes (at most `2^24`), of about 160 bytes each.
    pub fn new(log2_nodes: u32) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(1 << log2_nodes.min(24), || None);
        Self { seen: Seen { slots } }
    }

    /// See [`verify`].
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(&mut self, root: &Hash, proof: &Proof) -> Result<Verified, ProofError> {
        same_root(root, proof)?;
        let (root, Build(leaves)) =
            check(root, proof.version, &proof.entries, Build(Vec::new()), Some(&mut self.seen))?;
        Ok(Verified { root, leaves })
    }

    /// As [`Verifier::verify`], but gives just the pairs that the proof shows, in key order, and builds no nodes.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn pairs<'a>(&mut self, root: &Hash, proof: &'a Proof) -> Result<Pairs<'a>, ProofError> {
        same_root(root, proof)?;
        let (_, Read(pairs)) = check(root, proof.version, &proof.entries, Read(Vec::new()), Some(&mut self.seen))?;
        Ok(pairs)
    }
}

/// Several [`Verifier`]s, for many proofs at once on several threads.
#[derive(Debug)]
pub struct Verifiers(Vec<Verifier>);

impl Verifiers {
    /// As many as the executor runs tasks at once, each of which remembers up to `2^log2_nodes` nodes.
    pub fn new(exec: &dyn Executor, log2_nodes: u32) -> Self {
        Self((0..exec.width().max(1)).map(|_| Verifier::new(log2_nodes)).collect())
    }

    /// What [`Verifier::pairs`] gives for each proof and the root that it must be for, in their order. A bad proof does
    /// not spoil the others.
    pub fn pairs<'a>(
        &mut self,
        exec: &dyn Executor,
        proofs: &[(Hash, &'a Proof)],
    ) -> Vec<Result<Pairs<'a>, ProofError>> {
        let size = proofs.len().div_ceil(self.0.len().max(1)).max(1);
        let mut results: Vec<Vec<_>> = Vec::new();
        results.resize_with(self.0.len(), Vec::new);
        let tasks = self.0.iter_mut().zip(proofs.chunks(size)).zip(&mut results).map(|((verifier, proofs), out)| {
            let task = move || *out = proofs.iter().map(|(root, proof)| verifier.pairs(root, proof)).collect();
            Box::new(task) as Box<dyn FnOnce() + Send + '_>
        });
        exec.run(tasks.collect());
        results.into_iter().flatten().collect()
    }
}

fn same_root(root: &Hash, proof: &Proof) -> Result<(), ProofError> {
    if proof.untrusted_root == *root {
        Ok(())
    } else {
        Err(ProofError::OtherRoot { expected: *root, got: proof.untrusted_root })
    }
}

/// Inner nodes by hash, each in the one slot that its hash names; the last one stays.
struct Seen {
    /// A power of two of them.
    slots: Vec<Option<Known>>,
}

/// What an inner node's hash is made of.
struct Known {
    hash: Hash,
    label: Label,
    /// Hashes of leaf, left and right.
    children: [Hash; 3],
}

impl Seen {
    fn slot(&self, hash: &Hash) -> usize {
        let first = hash.as_bytes().first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        // The number of slots has fewer bits than any index.
        first as usize & self.slots.len().wrapping_sub(1)
    }

    fn get(&self, hash: &Hash) -> Option<&Known> {
        self.slots.get(self.slot(hash))?.as_ref().filter(|known| known.hash == *hash)
    }

    fn put(&mut self, known: Known) {
        let slot = self.slot(&known.hash);
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(known);
        }
    }
}

/// What becomes of the nodes of a proof.
trait Sink<'a> {
    /// What stands for a subtree.
    type Link;
    fn hash(link: &Self::Link) -> Hash;
    fn empty(&mut self) -> Self::Link;
    fn stub(&mut self, hash: Hash) -> Self::Link;
    fn leaf(&mut self, pair: Pair<'a>, hash: Hash) -> Self::Link;
    /// `None` if the label is none.
    fn inner(&mut self, label: (u16, &'a [u8]), children: [Self::Link; 3], hash: Hash) -> Option<Self::Link>;
}

/// Builds the subtree.
struct Build(Vec<Arc<Leaf>>);

impl<'a> Sink<'a> for Build {
    type Link = Link;

    fn hash(link: &Link) -> Hash {
        link.hash().unwrap_or(Hash::EMPTY)
    }

    fn empty(&mut self) -> Link {
        Link::Empty
    }

    fn stub(&mut self, hash: Hash) -> Link {
        Link::stub(NodePtr::from_hash(hash))
    }

    fn leaf(&mut self, (key, value): Pair<'a>, hash: Hash) -> Link {
        let leaf = Arc::new(Leaf::new(key, value));
        self.0.push(Arc::clone(&leaf));
        Link::loaded(NodePtr::from_hash(hash), NodeRef::Leaf(leaf))
    }

    fn inner(&mut self, (bits, label): (u16, &'a [u8]), children: [Link; 3], hash: Hash) -> Option<Link> {
        let [leaf, left, right] = children;
        let leaf = (!leaf.is_empty()).then(|| Box::new(leaf));
        let node = NodeRef::Inner(Arc::new(Inner { label: Label::from_bytes(label, bits)?, leaf, left, right }));
        Some(Link::loaded(NodePtr::from_hash(hash), node))
    }
}

/// Reads the pairs and builds nothing.
struct Read<'a>(Pairs<'a>);

impl<'a> Sink<'a> for Read<'a> {
    type Link = Hash;

    fn hash(link: &Hash) -> Hash {
        *link
    }

    fn empty(&mut self) -> Hash {
        Hash::EMPTY
    }

    fn stub(&mut self, hash: Hash) -> Hash {
        hash
    }

    fn leaf(&mut self, pair: Pair<'a>, hash: Hash) -> Hash {
        self.0.push(pair);
        hash
    }

    fn inner(&mut self, _: (u16, &'a [u8]), _: [Hash; 3], hash: Hash) -> Option<Hash> {
        Some(hash)
    }
}

fn check<'a, B: AsRef<[u8]>, S: Sink<'a>>(
    root: &Hash,
    version: u16,
    entries: &'a [Option<B>],
    sink: S,
    seen: Option<&mut Seen>,
) -> Result<(S::Link, S), ProofError> {
    if version > LATEST_VERSION {
        return Err(ProofError::Version(version));
    }
    if entries.is_empty() {
        return Err(ProofError::Empty);
    }
    let mut reader = Reader { version, entries, next: 0, sink, seen };
    let link = reader.subtree(0, false, Some(*root))?;
    let unused = entries.len() - reader.next;
    if unused > 0 {
        return Err(ProofError::Unused(unused));
    }
    let got = S::hash(&link);
    if got != *root {
        return Err(ProofError::BadRoot { expected: *root, got });
    }
    Ok((link, reader.sink))
}

struct Reader<'a, 's, B, S> {
    version: u16,
    entries: &'a [Option<B>],
    next: usize,
    sink: S,
    seen: Option<&'s mut Seen>,
}

impl<'a, B: AsRef<[u8]>, S: Sink<'a>> Reader<'a, '_, B, S> {
    /// Reads the subtree at the next entry; with `leaf_only` it may not be an inner node. `wanted` is the hash that it
    /// must have, where that is known from above; it saves hashing and is not relied on.
    fn subtree(&mut self, depth: usize, leaf_only: bool, wanted: Option<Hash>) -> Result<S::Link, ProofError> {
        let index = self.next;
        let entries = self.entries;
        let entry = entries.get(index).ok_or(ProofError::Truncated)?;
        if depth > MAX_PROOF_DEPTH {
            return Err(ProofError::TooDeep);
        }
        self.next += 1;
        let Some(entry) = entry else { return Ok(self.sink.empty()) };
        let node = match entry.as_ref().split_first() {
            Some((&HASH, hash)) => {
                let hash: [u8; 32] = hash.try_into().map_err(|_| ProofError::Entry { index })?;
                return Ok(self.sink.stub(Hash::new(hash)));
            }
            Some((&FULL, node)) => wire::parse(node).map_err(|source| ProofError::Node { index, source })?,
            _ => return Err(ProofError::Entry { index }),
        };
        match node {
            RawNode::Leaf(pair) => Ok(self.leaf(pair)),
            RawNode::Inner { .. } if leaf_only => Err(ProofError::Entry { index }),
            RawNode::Inner { children: Some(_), .. } => Err(ProofError::Entry { index }),
            RawNode::Inner { leaf: Some(_), .. } if self.version > 0 => Err(ProofError::Entry { index }),
            RawNode::Inner { bits, label, leaf, children: None } => {
                let seen = wanted.and_then(|hash| self.seen.as_ref()?.get(&hash));
                let seen = seen.filter(|known| known.label.bits() == bits && known.label.bytes() == label);
                let known = seen.map(|known| (known.hash, known.children));
                let below = |side: usize| known.and_then(|(_, children)| children.get(side).copied());
                let leaf = match leaf {
                    Some(pair) => self.leaf(pair),
                    None if self.version > 0 => self.subtree(depth + 1, true, None)?,
                    None => self.sink.empty(),
                };
                let left = self.subtree(depth + 1, false, below(1))?;
                let right = self.subtree(depth + 1, false, below(2))?;
                let children = [S::hash(&leaf), S::hash(&left), S::hash(&right)];
                let hash = match known {
                    Some((hash, same)) if same == children => hash,
                    _ => {
                        let [a, b, c] = &children;
                        let hash = Inner::hash_of(bits, label, [a, b, c]);
                        if let (Some(seen), Some(label)) = (&mut self.seen, Label::from_bytes(label, bits)) {
                            seen.put(Known { hash, label, children });
                        }
                        hash
                    }
                };
                self.sink.inner((bits, label), [leaf, left, right], hash).ok_or(ProofError::Entry { index })
            }
        }
    }

    fn leaf(&mut self, pair: Pair<'a>) -> S::Link {
        self.sink.leaf(pair, Leaf::hash_of(pair.0, pair.1))
    }
}
