//! Collecting nodes into a proof.

use std::sync::Arc;

use base_codec::Bytes;
use base_prims::Hash;

use super::{FULL, HASH, LATEST_VERSION, Proof};
use crate::error::TreeError;
use crate::node::{Leaf, NodeRef, Side};
use crate::tree::{Got, Hint, Tree};
use crate::wire;

/// A place in a proof under construction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u32);

impl Mark {
    /// Above the root.
    pub const ROOT: Self = Self(0);
}

/// A node that the proof shows.
struct Shown {
    hash: Hash,
    node: NodeRef,
    /// The leaf that version 0 writes inside its inner node.
    leaf: Option<Arc<Leaf>>,
    /// Shown children by side; 0 for none.
    children: [u32; 3],
}

/// The nodes that a proof will show.
///
/// What is shown only grows, and every shown node's parent is shown too.
pub struct Builder {
    version: u16,
    /// Where the asker already is; the proof starts there if that node is shown.
    position: Hash,
    start: Option<u32>,
    root: u32,
    /// Index 0 is unused so that 0 can mean "none".
    shown: Vec<Shown>,
    size: usize,
    limit: usize,
}

impl Builder {
    /// A proof that shows nothing yet, of a version up to [`LATEST_VERSION`]; `None` for others.
    pub fn new(version: u16) -> Option<Self> {
        (version <= LATEST_VERSION).then(|| Self {
            version,
            position: Hash::EMPTY,
            start: None,
            root: 0,
            shown: Vec::new(),
            size: 0,
            limit: usize::MAX,
        })
    }

    /// Starts the proof at the node with this hash, if it gets shown, instead of at the root.
    #[must_use]
    pub fn at_position(mut self, position: Hash) -> Self {
        self.position = position;
        self
    }

    /// Fails instead of growing past this many bytes.
    #[must_use]
    pub fn with_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Whether leaves of inner nodes are entries of their own.
    pub(crate) fn version_has_leaf_entries(&self) -> bool {
        self.version > 0
    }

    /// Sum over all shown nodes of one and their encoded size, as the reference counts it.
    ///
    /// The reference counts a leaf twice in version 0 if it was both inside its node and visited; chunk borders depend
    /// on that.
    pub fn size(&self) -> usize {
        self.size
    }

    fn shown(&self, index: u32) -> Option<&Shown> {
        self.shown.get((index as usize).checked_sub(1)?)
    }

    /// Shows a node of `tree`, the child of `parent` on `side`, which has this hash.
    ///
    /// # Errors
    /// If the node's leaf cannot be loaded or the proof grows past its limit.
    pub fn include(
        &mut self,
        tree: &Tree,
        parent: Mark,
        side: Side,
        hash: Hash,
        node: &NodeRef,
    ) -> Result<Mark, TreeError> {
        let known = match self.shown(parent.0) {
            None => self.root,
            Some(parent) => parent.children[side as usize],
        };
        if known != 0 {
            return Ok(Mark(known));
        }
        let leaf = match node {
            NodeRef::Inner(inner) if self.version == 0 => {
                match tree.node(inner.child(Side::Leaf), Hint::Node, false)?.map(Got::into_owned) {
                    Some(NodeRef::Leaf(leaf)) => Some(leaf),
                    _ => None,
                }
            }
            _ => None,
        };
        let shown = Shown { hash, node: node.clone(), leaf, children: [0; 3] };
        self.size += 1 + shown.encoded_len();
        if self.size > self.limit {
            return Err(TreeError::ProofTooLarge { limit: self.limit });
        }
        self.shown.push(shown);
        let index = u32::try_from(self.shown.len()).map_err(|_| TreeError::ProofTooLarge { limit: self.limit })?;
        match parent.0.checked_sub(1).and_then(|i| self.shown.get_mut(i as usize)) {
            None => self.root = index,
            Some(parent) => parent.children[side as usize] = index,
        }
        if hash == self.position {
            self.start = Some(index);
        }
        Ok(Mark(index))
    }

    /// The proof, for a tree with this root.
    ///
    /// # Errors
    /// If a key does not fit the wire form, or the tree has changes that are not hashed.
    pub fn build(&self, root: Hash) -> Result<Proof, TreeError> {
        let (start, untrusted_root) = match self.start {
            Some(start) => (start, self.position),
            None => (self.root, root),
        };
        let mut proof =
            Proof { version: self.version, untrusted_root, entries: Vec::with_capacity(self.shown.len() * 2) };
        // What is still to be written, last first: a shown node, or the hash of one that is not.
        let mut todo = vec![(start, untrusted_root)];
        while let Some((index, hash)) = todo.pop() {
            if hash.is_empty_hash() {
                proof.entries.push(None);
                continue;
            }
            let Some(shown) = self.shown(index) else {
                let mut entry = Vec::with_capacity(33);
                entry.push(HASH);
                entry.extend_from_slice(hash.as_bytes());
                proof.entries.push(Some(Bytes(entry)));
                continue;
            };
            proof.entries.push(Some(Bytes(shown.encode()?)));
            if let NodeRef::Inner(inner) = &shown.node {
                let sides = if self.version == 0 { &Side::ALL[1..] } else { &Side::ALL[..] };
                for side in sides.iter().rev() {
                    let hash = inner.child(*side).hash().ok_or(TreeError::Dirty)?;
                    todo.push((shown.children[*side as usize], hash));
                }
            }
        }
        Ok(proof)
    }
}

impl Shown {
    fn encoded_len(&self) -> usize {
        let leaf_len = |l: &Leaf| 7 + l.key().len() + l.value().len();
        match &self.node {
            NodeRef::Leaf(leaf) => leaf_len(leaf),
            NodeRef::Inner(inner) => 3 + inner.label().bytes().len() + self.leaf.as_deref().map_or(1, leaf_len),
        }
    }

    fn encode(&self) -> Result<Vec<u8>, TreeError> {
        let mut out = Vec::with_capacity(1 + self.encoded_len());
        out.push(FULL);
        match &self.node {
            NodeRef::Leaf(leaf) => wire::encode_leaf(leaf, &mut out)?,
            NodeRef::Inner(inner) => wire::encode_compact(inner, self.leaf.as_deref(), &mut out)?,
        }
        Ok(out)
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hashes = self.shown.iter().map(|s| s.hash);
        f.debug_struct("Builder").field("version", &self.version).field("shown", &hashes.collect::<Vec<_>>()).finish()
    }
}
