//! What can go wrong when a tree is read or changed.

use crate::node::NodePtr;
use crate::proof::ProofError;
use crate::wire::WireError;

/// A node could not be had from where it is kept.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The holder does not have the node: its version was pruned, or it never existed.
    #[error("node {} not found (hash {})", .0.id, .0.hash)]
    Missing(NodePtr),
    /// The stored bytes are no node.
    #[error("stored node {} is malformed", ptr.id)]
    Corrupt {
        /// The node asked for.
        ptr: NodePtr,
        /// What is wrong with its bytes.
        source: crate::stored::StoredError,
    },
    /// The storage engine failed.
    #[error("node storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The remote could not be asked, or refused.
    #[error("remote tree failed: {0}")]
    Remote(String),
    /// The remote's proof does not verify.
    #[error("remote tree sent an invalid proof")]
    BadProof(#[from] ProofError),
    /// The remote's proof verifies but lacks the node it was asked for.
    #[error("remote tree sent a proof without the node asked for (hash {})", .0.hash)]
    NotInProof(NodePtr),
}

/// Reading or changing a tree failed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The key does not fit the tree.
    #[error("key of {len} bytes is longer than {max} bytes", max = crate::MAX_KEY_LEN)]
    KeyTooLong {
        /// Length of the key in bytes.
        len: usize,
    },
    /// The value's length does not fit 32 bits.
    #[error("value of {len} bytes is longer than 4294967295 bytes")]
    ValueTooLong {
        /// Length of the value in bytes.
        len: usize,
    },
    /// A proof was asked for that would be too deep to verify.
    #[error("path to the key has more than {max} nodes", max = crate::proof::MAX_PROOF_DEPTH)]
    TooDeep,
    /// A node could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The tree was changed since its last commit and the operation needs an unchanged one.
    #[error("tree has uncommitted changes")]
    Dirty,
    /// The computed root is not the one that was expected.
    #[error("root mismatch: expected {expected}, computed {computed}")]
    RootMismatch {
        /// The root the caller knows.
        expected: base_prims::Hash,
        /// The root of the tree as it is.
        computed: base_prims::Hash,
    },
    /// A proof grew past the limit set by the caller.
    #[error("proof is larger than {limit} bytes")]
    ProofTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A node cannot be written in the wire format.
    #[error("node does not fit the wire format")]
    Wire(#[from] WireError),
    /// The base of an overlay failed with an error of its own.
    #[error("underlying store failed")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}
