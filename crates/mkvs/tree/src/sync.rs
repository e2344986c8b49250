//! Reading a remote tree through proofs.
//!
//! Requests (CBOR maps): get `{tree: {root, position}, key, include_siblings?, proof_version?}`, prefixes
//! `{tree, prefixes, limit, proof_version?}`, iterate `{tree, key, prefetch, proof_version?}`; the response is
//! `{proof}`. Source: `go/storage/mkvs/syncer`.

mod remote;

use std::fmt;

use base_codec::{Bytes, Codec};
use base_prims::Namespace;

use crate::proof::Proof;

pub use remote::Remote;

base_codec::int_type! {
    /// What a tree is used for; roots of different types never mix.
    int pub struct RootType: u8 {
        /// State: each version builds on the one before.
        STATE = 1 => "state-root",
        /// Inputs and outputs of a round: each version starts empty.
        IO = 2 => "io-root",
    }
}

/// Names a tree. CBOR: `{ns, hash, version, root_type}`; source: `go/storage/mkvs/node/node.go`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Codec)]
pub struct Root {
    /// Whose tree it is.
    #[codec(rename = "ns")]
    pub namespace: Namespace,
    /// Version (block height or round).
    pub version: u64,
    /// What it is used for.
    pub root_type: RootType,
    /// The root hash.
    pub hash: base_prims::Hash,
}

impl Root {
    /// Whether this root may be built on `base`: same namespace and type, same version or the next one.
    pub fn follows(&self, base: &Self) -> bool {
        self.root_type == base.root_type
            && self.namespace == base.namespace
            && (self.version == base.version || base.version.checked_add(1) == Some(self.version))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of version {} in {}", self.root_type, self.hash, self.version, self.namespace)
    }
}

/// A tree and where in it the asker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Codec)]
pub struct TreeId {
    /// The tree.
    pub root: Root,
    /// Hash of the node from which the proof may start.
    pub position: base_prims::Hash,
}

/// Asks for a key.
#[derive(Clone, PartialEq, Eq, Debug, Default, Codec)]
pub struct GetRequest {
    /// The tree.
    pub tree: TreeId,
    /// The key.
    pub key: Bytes,
    /// Whether the siblings of the path's nodes are wanted too.
    #[codec(omitempty)]
    pub include_siblings: bool,
    /// The proof version wanted.
    #[codec(omitempty)]
    pub proof_version: u16,
}

/// Asks for all pairs under some prefixes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Codec)]
pub struct GetPrefixesRequest {
    /// The tree.
    pub tree: TreeId,
    /// The prefixes.
    pub prefixes: Vec<Bytes>,
    /// Most pairs wanted.
    pub limit: u16,
    /// The proof version wanted.
    #[codec(omitempty)]
    pub proof_version: u16,
}

/// Asks for pairs in key order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Codec)]
pub struct IterateRequest {
    /// The tree.
    pub tree: TreeId,
    /// Where to start.
    pub key: Bytes,
    /// How many pairs after the first are wanted.
    pub prefetch: u16,
    /// The proof version wanted.
    #[codec(omitempty)]
    pub proof_version: u16,
}

/// The answer to each of the three requests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Codec)]
pub struct ProofResponse {
    /// The proof.
    pub proof: Proof,
}

/// Somebody who answers questions about a tree with proofs, and need not be trusted.
pub trait ReadSyncer: Send + Sync {
    /// Proves a key.
    ///
    /// # Errors
    /// A text for the log.
    fn get(&self, request: &GetRequest) -> Result<Proof, String>;
    /// Proves all pairs under some prefixes.
    ///
    /// # Errors
    /// A text for the log.
    fn get_prefixes(&self, request: &GetPrefixesRequest) -> Result<Proof, String>;
    /// Proves pairs in key order.
    ///
    /// # Errors
    /// A text for the log.
    fn iterate(&self, request: &IterateRequest) -> Result<Proof, String>;
}

/// Answers the three questions from a tree that is at hand.
///
/// `limit` bounds the size of a proof in bytes.
#[derive(Debug)]
pub struct Server<'t> {
    tree: &'t crate::Tree,
    root: Root,
    limit: usize,
}

impl<'t> Server<'t> {
    /// Answers for `tree`, which is the one that `root` names.
    pub fn new(tree: &'t crate::Tree, root: Root, limit: usize) -> Self {
        Self { tree, root, limit }
    }

    fn builder(&self, tree: &TreeId, version: u16) -> Result<crate::proof::Builder, String> {
        if tree.root != self.root {
            return Err("mkvs: invalid root".into());
        }
        let builder =
            crate::proof::Builder::new(version).ok_or_else(|| format!("mkvs: unsupported proof version: {version}"))?;
        Ok(builder.with_limit(self.limit))
    }
}

impl ReadSyncer for Server<'_> {
    fn get(&self, r: &GetRequest) -> Result<Proof, String> {
        let builder = self.builder(&r.tree, r.proof_version)?.at_position(r.tree.position);
        self.tree.prove_get(&r.key, r.include_siblings, builder).map_err(|e| e.to_string())
    }

    fn get_prefixes(&self, r: &GetPrefixesRequest) -> Result<Proof, String> {
        let builder = self.builder(&r.tree, r.proof_version)?;
        self.tree.prove_prefixes(&r.prefixes, r.limit, builder).map_err(|e| e.to_string())
    }

    fn iterate(&self, r: &IterateRequest) -> Result<Proof, String> {
        let builder = self.builder(&r.tree, r.proof_version)?;
        self.tree.prove_iterate(&r.key, r.prefetch, builder).map_err(|e| e.to_string())
    }
}
