//! Limits that every untrusted length is held against.

/// Largest block in bytes, whatever the parameters say.
pub const MAX_BLOCK_BYTES: usize = 104_857_600;
/// Length of every block part but the last.
pub const BLOCK_PART_BYTES: usize = 65_536;
/// Most parts of one block.
pub const MAX_BLOCK_PARTS: u32 = 1601;
/// Most votes of one set, hence most validators.
pub const MAX_VOTES: usize = 10_000;
/// Longest chain id in bytes.
pub const MAX_CHAIN_ID_BYTES: usize = 50;
/// Longest signature in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 64;
/// Most evidence items in one list; some 300 bytes each, so above what any block of 30 MB can hold.
pub const MAX_EVIDENCE: usize = 100_000;
/// Space reserved for a header within a block.
pub const MAX_HEADER_BYTES: i64 = 626;
/// Space reserved for keys and lengths within a block.
pub const MAX_BLOCK_OVERHEAD_BYTES: i64 = 11;
/// Space reserved for a commit without its signatures.
pub const MAX_COMMIT_OVERHEAD_BYTES: i64 = 94;
/// Space reserved for one signature of a commit, with its key and length.
pub const MAX_COMMIT_SIG_BYTES: i64 = 109 + 2;
/// Largest message of the consensus channels (0x20 to 0x23) and the evidence channel (0x38).
pub const MAX_CONSENSUS_MESSAGE_BYTES: usize = 1 << 20;
/// Largest message of the mempool channel (0x30).
pub const MAX_MEMPOOL_MESSAGE_BYTES: usize = 1_048_584;
/// Largest message of the block sync channel (0x40).
pub const MAX_BLOCKSYNC_MESSAGE_BYTES: usize = MAX_BLOCK_BYTES + 5;
/// Largest message of the snapshot channel (0x60).
pub const MAX_SNAPSHOT_MESSAGE_BYTES: usize = 4_000_000;
/// Largest message of the chunk channel (0x61).
pub const MAX_CHUNK_MESSAGE_BYTES: usize = 16_000_000;
/// Largest message of the peer exchange channel (0x00).
pub const MAX_PEX_MESSAGE_BYTES: usize = 64_000;
/// Largest node info in bytes.
pub const MAX_NODE_INFO_BYTES: usize = 10_240;

/// Bytes left for transactions in a block of `max_block_bytes` with so many validators and evidence bytes;
/// `None` if the block is too small for the rest (the reference panics).
pub fn max_data_bytes(max_block_bytes: i64, evidence_bytes: i64, validators: usize) -> Option<i64> {
    let commit =
        i64::try_from(validators).ok()?.checked_mul(MAX_COMMIT_SIG_BYTES)?.checked_add(MAX_COMMIT_OVERHEAD_BYTES)?;
    let rest = max_block_bytes
        .checked_sub(MAX_BLOCK_OVERHEAD_BYTES + MAX_HEADER_BYTES)?
        .checked_sub(commit)?
        .checked_sub(evidence_bytes)?;
    (rest >= 0).then_some(rest)
}
