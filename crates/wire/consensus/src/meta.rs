//! The block metadata transaction that a proposer appends to every block.

use base_codec::{Bytes, Codec};
use base_prims::Hash;

use crate::{Invalid, invalid};

/// Method name of the block metadata transaction.
pub const METHOD_META: &str = "consensus.Meta";

/// Largest block metadata transaction in bytes; reserved from the space of a proposal.
pub const MAX_META_TX_BYTES: usize = 16_384;

/// What a block leads to, fixed by its proposer. Source: `go/consensus/api/meta.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct BlockMetadata {
    /// State root after the block.
    pub state_root: Hash,
    /// Root of the provable events, 32 bytes.
    pub events_root: Option<Bytes>,
}

impl BlockMetadata {
    /// Checks the shape.
    ///
    /// # Errors
    /// If the events root is not 32 bytes.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        let len = self.events_root.as_ref().map_or(0, |b| b.len());
        if len != 32 {
            invalid!("malformed events root: expected 32 bytes, found {len}");
        }
        Ok(())
    }
}
