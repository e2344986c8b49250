//! A node source that fetches nodes of one tree from an untrusted remote.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base_codec::Bytes;
use base_prims::Hash;

use super::{GetPrefixesRequest, GetRequest, IterateRequest, ReadSyncer, Root, TreeId};
use crate::error::LoadError;
use crate::node::{Inner, Link, NodePtr, NodeRef, Side};
use crate::proof::{Proof, Verifier};
use crate::tree::{Hint, NodeSource, Retention, Tree};

/// Fetches nodes of the tree named by a trusted root, verifying every proof before anything of it is used.
///
/// Fetched nodes are cached by hash within a limit, so that one proof serves many loads.
pub struct Remote<S> {
    syncer: S,
    root: Root,
    proof_version: u16,
    cache: Mutex<Cache>,
    // Proofs of one tree share their upper nodes.
    verifier: Mutex<Verifier>,
}

/// Upper nodes whose hashes are remembered, as a power of two: less than a megabyte.
const REMEMBERED: u32 = 12;

/// Two generations of nodes: when the young one has half the limit, it becomes the old one, which is dropped.
struct Cache {
    young: BTreeMap<Hash, NodeRef>,
    old: BTreeMap<Hash, NodeRef>,
    young_bytes: usize,
    limit: usize,
}

impl Cache {
    fn get(&mut self, hash: &Hash) -> Option<NodeRef> {
        if let Some(node) = self.young.get(hash) {
            return Some(node.clone());
        }
        let node = self.old.remove(hash)?;
        self.put(*hash, node.clone());
        Some(node)
    }

    fn put(&mut self, hash: Hash, node: NodeRef) {
        self.young_bytes += node.weight();
        self.young.insert(hash, node);
        if self.young_bytes > self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

impl<S: ReadSyncer> Remote<S> {
    /// A source for the tree that `root` names; `cache_bytes` bounds the cache.
    pub fn new(syncer: S, root: Root, cache_bytes: usize) -> Self {
        let cache = Cache { young: BTreeMap::new(), old: BTreeMap::new(), young_bytes: 0, limit: cache_bytes };
        let verifier = Mutex::new(Verifier::new(REMEMBERED));
        Self { syncer, root, proof_version: 0, cache: Mutex::new(cache), verifier }
    }

    /// Asks for proofs of this version instead of 0, which every peer knows.
    #[must_use]
    pub fn with_proof_version(mut self, version: u16) -> Self {
        self.proof_version = version;
        self
    }

    /// Fetches all pairs under some prefixes into the cache.
    ///
    /// # Errors
    /// If the remote fails or its proof does not verify; nothing of it is then kept.
    pub fn prefetch(&self, prefixes: &[Vec<u8>], limit: u16) -> Result<(), LoadError> {
        if prefixes.is_empty() || limit == 0 {
            return Ok(());
        }
        let request = GetPrefixesRequest {
            tree: TreeId { root: self.root, position: self.root.hash },
            prefixes: prefixes.iter().cloned().map(Bytes).collect(),
            limit,
            proof_version: self.proof_version,
        };
        let proof = self.syncer.get_prefixes(&request).map_err(LoadError::Remote)?;
        self.accept(&self.root.hash, &proof, None).map(drop)
    }

    /// Verifies a proof and caches its nodes; returns the one that was asked for.
    fn accept(&self, position: &Hash, proof: &Proof, wanted: Option<&Hash>) -> Result<Option<NodeRef>, LoadError> {
        let expected = if proof.untrusted_root == *position { position } else { &self.root.hash };
        let verified = {
            // What a panic left behind was verified all the same.
            let mut verifier = self.verifier.lock().unwrap_or_else(PoisonError::into_inner);
            verifier.verify(expected, proof)?
        };
        let mut found = None;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut todo = vec![verified.root];
        while let Some(link) = todo.pop() {
            let Link::Clean(clean) = link else { continue };
            let Some(node) = clean.node.into_inner() else { continue };
            let node = match node {
                NodeRef::Leaf(_) => node,
                NodeRef::Inner(inner) => {
                    let shallow = shallow(&inner);
                    todo.extend(Side::ALL.map(|side| inner.child(side).clone()));
                    NodeRef::Inner(Arc::new(shallow))
                }
            };
            if wanted == Some(&clean.ptr.hash) {
                found = Some(node.clone());
            }
            cache.put(clean.ptr.hash, node);
        }
        Ok(found)
    }
}

/// The node with links that are not loaded.
fn shallow(inner: &Inner) -> Inner {
    let stub = |side| inner.child(side).hash().map_or(Link::Empty, |h| Link::stub(NodePtr::from_hash(h)));
    let leaf = stub(Side::Leaf);
    Inner {
        label: inner.label.clone(),
        leaf: (!leaf.is_empty()).then(|| Box::new(leaf)),
        left: stub(Side::Left),
        right: stub(Side::Right),
    }
}

impl<S: ReadSyncer> NodeSource for Remote<S> {
    fn wants_hints(&self) -> bool {
        true
    }

    fn load(&self, ptr: &NodePtr, hint: Hint<'_>) -> Result<NodeRef, LoadError> {
        if let Some(node) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&ptr.hash) {
            return Ok(node);
        }
        let tree = TreeId { root: self.root, position: ptr.hash };
        let proof_version = self.proof_version;
        let proof = match hint {
            Hint::Iterate { key, prefetch } => {
                self.syncer.iterate(&IterateRequest { tree, key: Bytes(key.to_vec()), prefetch, proof_version })
            }
            Hint::Get { key, siblings } => self.syncer.get(&GetRequest {
                tree,
                key: Bytes(key.to_vec()),
                include_siblings: siblings,
                proof_version,
            }),
            Hint::Node => return Err(LoadError::NotInProof(*ptr)),
        }
        .map_err(LoadError::Remote)?;
        self.accept(&ptr.hash, &proof, Some(&ptr.hash))?.ok_or(LoadError::NotInProof(*ptr))
    }
}

impl Tree {
    /// A tree whose nodes are fetched from an untrusted remote and checked against a trusted root.
    pub fn remote<S: ReadSyncer + 'static>(remote: Arc<Remote<S>>, retention: Retention) -> Self {
        let root = NodePtr::from_hash(remote.root.hash);
        Self::open(root, remote, retention)
    }
}
