//! Reading the state of one version after another, fetching and reporting only what changed.
//!
//! The nodes of the last version read are kept by hash. A node's hash covers the keys below it, so a node of the next
//! version that is already known heads an unchanged subtree and is not gone below; what is not known is fetched with a
//! proof that is verified before anything of it is used. All nodes of one version are in memory: this is for test
//! networks, not for a state of gigabytes.

use std::collections::{BTreeMap, HashMap, HashSet};

use base_codec::Bytes;
use base_prims::Hash;
use mkvs_tree::{
    Label, NodeRef, Proof, Root, Side, proof,
    sync::{GetPrefixesRequest, IterateRequest, TreeId},
};

use crate::{Error, api::Proofs};

/// Pairs that one request asks for beside the wanted one: those next to a change have often changed too.
const PREFETCH: u16 = 4;

/// A key with its new value; `None` if it was removed.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// What a version changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Changed keys in order; all keys, if no version was read before.
    pub changes: Vec<Change>,
    /// Number of keys in the whole state.
    pub keys: u64,
}

/// What of a node is kept.
#[derive(Debug)]
enum Entry {
    Leaf { key: Vec<u8>, value: Vec<u8> },
    Inner { label: Label, children: [Option<Hash>; 3] },
}

/// A string of bits, the path from the root to a node.
#[derive(Clone, Debug, Default)]
struct Path {
    bytes: Vec<u8>,
    bits: usize,
}

impl Path {
    fn push(&mut self, bit: bool) {
        if self.bits.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let (true, Some(last)) = (bit, self.bytes.last_mut()) {
            *last |= 0x80 >> (self.bits % 8);
        }
        self.bits += 1;
    }

    fn join(&self, label: &Label) -> Self {
        let mut out = self.clone();
        for i in 0..usize::from(label.bits()) {
            let byte = label.bytes().get(i / 8).copied().unwrap_or(0);
            out.push(byte & (0x80 >> (i % 8)) != 0);
        }
        out
    }

    /// The smallest key below a child on that side of the node at this path.
    fn first_key(&self, side: Side) -> Vec<u8> {
        let mut out = self.clone();
        if side == Side::Right {
            out.push(true);
        }
        out.bytes
    }
}

/// Reads versions of a state in order.
#[derive(Debug, Default)]
pub struct StateReader {
    root: Option<Hash>,
    nodes: HashMap<Hash, Entry>,
    keys: u64,
}

impl StateReader {
    /// A reader that knows no version yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on to the state that `root` names, and tells how it differs from the one before.
    pub(crate) fn advance(&mut self, root: Root, source: &mut dyn Proofs) -> Result<Difference, Error> {
        let mut walk = Walk { root, source, known: &self.nodes, fetched: HashMap::new() };
        if self.root.is_none() && !root.hash.is_empty_hash() {
            walk.fetch_all()?;
        }
        let (fresh, shared) = walk.run()?;
        let mut changes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for entry in fresh.values() {
            if let Entry::Leaf { key, value } = entry {
                changes.insert(key.clone(), Some(value.clone()));
            }
        }
        let mut keys = self.keys.saturating_add(changes.len() as u64);
        // What the version before had and this one has not; shared subtrees are left alone.
        let mut todo: Vec<Hash> = self.root.into_iter().filter(|h| !h.is_empty_hash()).collect();
        while let Some(hash) = todo.pop() {
            if shared.contains(&hash) {
                continue;
            }
            match self.nodes.remove(&hash) {
                Some(Entry::Inner { children, .. }) => todo.extend(children.into_iter().flatten()),
                Some(Entry::Leaf { key, .. }) => {
                    keys = keys.saturating_sub(1);
                    changes.entry(key).or_insert(None);
                }
                None => {}
            }
        }
        self.nodes.extend(fresh);
        self.root = Some(root.hash);
        self.keys = keys;
        Ok(Difference { changes: changes.into_iter().collect(), keys })
    }
}

/// One walk over the new nodes of a version.
struct Walk<'a> {
    root: Root,
    source: &'a mut dyn Proofs,
    known: &'a HashMap<Hash, Entry>,
    fetched: HashMap<Hash, Entry>,
}

impl Walk<'_> {
    /// New nodes by hash, and the hashes of known nodes under which nothing changed.
    fn run(mut self) -> Result<(HashMap<Hash, Entry>, HashSet<Hash>), Error> {
        let (mut fresh, mut shared) = (HashMap::new(), HashSet::new());
        let mut todo = Vec::new();
        if !self.root.hash.is_empty_hash() {
            todo.push((self.root.hash, Path::default(), Vec::new()));
        }
        while let Some((hash, path, first_key)) = todo.pop() {
            if self.known.contains_key(&hash) {
                shared.insert(hash);
                continue;
            }
            if !self.fetched.contains_key(&hash) {
                self.fetch(hash, first_key)?;
            }
            let entry = self.fetched.remove(&hash).ok_or_else(|| self.bad("a proof does not show its own root"))?;
            if let Entry::Inner { label, children } = &entry {
                let path = path.join(label);
                for (side, child) in Side::ALL.into_iter().zip(children) {
                    if let Some(child) = child {
                        todo.push((*child, path.clone(), path.first_key(side)));
                    }
                }
            }
            fresh.insert(hash, entry);
        }
        Ok((fresh, shared))
    }

    fn bad(&self, reason: impl ToString) -> Error {
        Error::State { version: self.root.version, reason: reason.to_string() }
    }

    /// Fetches as much of the whole state as one answer may hold.
    fn fetch_all(&mut self) -> Result<(), Error> {
        let request = GetPrefixesRequest {
            tree: TreeId { root: self.root, position: self.root.hash },
            prefixes: vec![Bytes::default()],
            limit: u16::MAX,
            proof_version: 0,
        };
        let proof = self.source.prefixes(&request)?;
        self.accept(&proof, self.root.hash)
    }

    fn fetch(&mut self, position: Hash, key: Vec<u8>) -> Result<(), Error> {
        let request = IterateRequest {
            tree: TreeId { root: self.root, position },
            key: Bytes(key),
            prefetch: PREFETCH,
            proof_version: 0,
        };
        let proof = self.source.iterate(&request)?;
        self.accept(&proof, position)
    }

    /// Verifies a proof for the node at `position` or for the whole tree, and keeps its nodes.
    fn accept(&mut self, proof: &Proof, position: Hash) -> Result<(), Error> {
        let expected = if proof.untrusted_root == position { position } else { self.root.hash };
        let verified = proof::verify(&expected, proof).map_err(|e| self.bad(e))?;
        let mut todo = vec![verified.root];
        while let Some(link) = todo.pop() {
            let (Some(hash), Some(node)) = (link.hash(), link.node()) else { continue };
            let entry = match node {
                NodeRef::Leaf(leaf) => Entry::Leaf { key: leaf.key().to_vec(), value: leaf.value().to_vec() },
                NodeRef::Inner(inner) => {
                    todo.extend(Side::ALL.map(|side| inner.child(side).clone()));
                    let child = |side| inner.child(side).hash().filter(|h: &Hash| !h.is_empty_hash());
                    Entry::Inner { label: inner.label().clone(), children: Side::ALL.map(child) }
                }
            };
            if !self.known.contains_key(&hash) {
                self.fetched.insert(hash, entry);
            }
        }
        Ok(())
    }
}
