//! Messages of the protocols `diffsync`, `checkpointsync`, `storagesync` (the old one, which has the methods of both) and
//! `storagepub`. Source: `go/worker/storage/p2p`.
//!
//! Identifiers are in `p2p_net::ids`, frames and errors in `p2p_net::rpc`. The requests of `storagepub` are
//! [`GetRequest`], [`GetPrefixesRequest`] and [`IterateRequest`], each answered with a [`ProofResponse`].

use base_codec::{Bytes, Codec};
use base_prims::Hash;
use mkvs_tree::{LogEntry, Root};

pub use mkvs_db::checkpoint::{ChunkMetadata, Metadata};
pub use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse};

/// Method of `diffsync` and `storagesync`: [`GetDiffRequest`] to [`GetDiffResponse`].
pub const GET_DIFF: &str = "GetDiff";
/// Method of `checkpointsync` and `storagesync`: [`GetCheckpointsRequest`] to [`GetCheckpointsResponse`].
pub const GET_CHECKPOINTS: &str = "GetCheckpoints";
/// Method of `checkpointsync` and `storagesync`: [`ChunkMetadata`] to [`GetChunkResponse`].
pub const GET_CHECKPOINT_CHUNK: &str = "GetCheckpointChunk";
/// Method of `storagepub`: [`GetRequest`] to [`ProofResponse`].
pub const GET: &str = "Get";
/// Method of `storagepub`: [`GetPrefixesRequest`] to [`ProofResponse`].
pub const GET_PREFIXES: &str = "GetPrefixes";
/// Method of `storagepub`: [`IterateRequest`] to [`ProofResponse`].
pub const ITERATE: &str = "Iterate";

/// Asks what changed between two roots. CBOR `{start_root, end_root}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct GetDiffRequest {
    /// Where to begin.
    pub start_root: Root,
    /// Where to end.
    pub end_root: Root,
}

/// What changed. CBOR `{write_log?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct GetDiffResponse {
    /// The changes.
    #[codec(omitempty)]
    pub write_log: Vec<LogEntry>,
}

/// Asks which checkpoints there are. CBOR `{version}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct GetCheckpointsRequest {
    /// Their form, [`mkvs_db::checkpoint::VERSION`].
    pub version: u16,
}

/// The checkpoints. CBOR `{checkpoints?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct GetCheckpointsResponse {
    /// Their metadata.
    #[codec(omitempty)]
    pub checkpoints: Vec<Metadata>,
}

/// A chunk. CBOR `{chunk?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct GetChunkResponse {
    /// Its bytes.
    #[codec(omitempty)]
    pub chunk: Bytes,
}

/// Digest of a chunk, as metadata have it.
pub fn digest(chunk: &[u8]) -> Hash {
    Hash::of(&[chunk])
}

#[cfg(test)]
mod tests {
    use base_codec::cbor;

    use super::*;

    fn hex<T: cbor::Encode>(value: &T) -> String {
        cbor::to_vec(value).iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn forms() {
        assert_eq!(hex(&GetDiffResponse::default()), "a0");
        let entry = LogEntry { key: Bytes(vec![1]), value: None };
        // {"write_log": [[h'01', null]]}
        assert_eq!(
            hex(&GetDiffResponse { write_log: vec![entry] }),
            "a16977726974655f6c6f678182 4101f6".replace(' ', "")
        );
        assert_eq!(hex(&GetCheckpointsRequest { version: 1 }), "a16776657273696f6e01");
        assert_eq!(hex(&GetCheckpointsResponse::default()), "a0");
        assert_eq!(hex(&GetChunkResponse { chunk: Bytes(vec![7]) }), "a1656368756e6b4107");
        let request = GetDiffRequest::default();
        // {"end_root": …, "start_root": …}: the shorter name first.
        assert!(hex(&request).starts_with("a268656e645f726f6f74a4"), "{}", hex(&request));
        let bytes = cbor::to_vec(&request);
        assert_eq!(cbor::from_slice::<GetDiffRequest>(&bytes), Ok(request));
        let chunk = ChunkMetadata { version: 1, index: 3, ..ChunkMetadata::default() };
        assert!(hex(&chunk).starts_with("a464726f6f74a4"), "{}", hex(&chunk));
    }
}
