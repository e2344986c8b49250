//! Merkle proofs: their form, building (`builder`), queries on a tree (`query`) and verification (`verify`).
//!
//! CBOR: `{v?: u16, entries: [bytes or null], untrusted_root: bytes}`, `v` left out when 0. An entry is `null` for an
//! empty subtree, `01 | compact node`, or `02 | hash` for a subtree that is not shown. Entries are in pre-order;
//! children are left, right in version 0 (the leaf is inside its node) and leaf, left, right in version 1.
//! Source: `go/storage/mkvs/syncer/proof.go`.

mod builder;
mod query;
mod verify;

use base_codec::{Bytes, Codec};
use base_prims::Hash;

pub use builder::{Builder, Mark};
pub use verify::{Pairs, ProofError, Verified, Verifier, Verifiers, verify, verify_entries};

/// Entry kind of a node that is shown.
pub(crate) const FULL: u8 = 1;
/// Entry kind of a subtree of which only the hash is shown.
pub(crate) const HASH: u8 = 2;

/// Deepest nesting of a proof that verifies.
pub const MAX_PROOF_DEPTH: usize = 128;

/// The newest proof version.
pub const LATEST_VERSION: u16 = 1;

/// A proof for a (sub)tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Proof {
    /// Version, 0 or 1.
    #[codec(rename = "v", omitempty)]
    pub version: u16,
    /// The hash that the proof claims to be for; never a reason to trust it.
    pub untrusted_root: Hash,
    /// The entries in pre-order; `None` is an empty subtree.
    pub entries: Vec<Option<Bytes>>,
}
