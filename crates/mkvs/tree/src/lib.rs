//! The authenticated key-value tree under every state root: a binary Patricia trie over key bits.
//!
//! Layer L1 (pure). Reference counterpart: `go/storage/mkvs` without its databases and checkpoints.
//!
//! What it does not do: it keeps nothing on disk, starts no threads and talks to nobody. Nodes that are not in memory
//! come from a [`NodeSource`], parallel hashing is asked of an [`Executor`], proofs of a remote tree are asked of a
//! [`sync::ReadSyncer`]; all three are arguments. Versions, pruning and checkpoints live in `mkvs_db`.
//!
//! Main types: [`Tree`], [`Cursor`], [`Overlay`], [`Proof`] with [`proof::Builder`] and [`proof::verify`],
//! [`sync::Remote`], [`WriteLog`]; the traits [`KvRead`] and [`KvWrite`] are what services program against.
//!
//! Invariants:
//! * The root hash depends on the set of key-value pairs alone, not on the order of operations or on what is cached.
//! * Every inner node has at least two of {leaf, left, right}; a label has no set bits beyond its length.
//! * Only what changed since the last commit is hashed again.
//! * Nothing from a remote is kept before its hash was checked against a trusted root.
//!
//! Tested with the reference's published golden hashes, proofs and operation scripts, with every recorded chain (each
//! height's difference must give the recorded root), and with property tests against an ordered map.

mod bits;
mod commit;
mod cursor;
mod error;
mod kv;
mod mutate;
mod node;
mod overlay;
pub mod proof;
mod retain;
pub mod stored;
pub mod sync;
#[cfg(test)]
mod tests;
mod tree;
pub mod wire;
pub mod writelog;

pub use commit::{Committed, Executor, NewNodes, Sequential};
pub use cursor::Cursor;
pub use error::{LoadError, TreeError};
pub use kv::{KvRead, KvWrite, Visit, prefix_end, scan_prefix};
pub use node::{Inner, Label, Leaf, Link, NodeId, NodePtr, NodeRef, Side};
pub use overlay::{Changes, Overlay};
pub use proof::Proof;
pub use stored::StoredError;
pub use sync::{Root, RootType};
pub use tree::{Hint, NoSource, NodeSource, Retention, Tree};
pub use wire::WireError;
pub use writelog::{LogEntry, WriteLog};

/// Longest key in bytes: a key's length in bits must fit 16 bits (`go/storage/mkvs/node/depth.go`).
pub const MAX_KEY_LEN: usize = 8191;
