//! What the ledger answers with instead of doing what it was asked. Texts are the reference's where it has one.

use wire_mobilecoin::Hash;

/// Why a block is not appended or something is not found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is stored under the key.
    #[error("Record not found")]
    NotFound,
    /// Not the next block.
    #[error("Invalid block index: {0}")]
    InvalidBlockIndex(u64),
    /// Lower than the parent's, or not known.
    #[error("Invalid block version: {0}")]
    InvalidBlockVersion(u32),
    /// Not the last block's id.
    #[error("Invalid parent block ID: {0}")]
    InvalidParentBlockId(Hash),
    /// Not the hash of the header.
    #[error("Invalid block ID: {0}")]
    InvalidBlockId(Hash),
    /// Not the hash that the header has.
    #[error("Invalid block contents")]
    InvalidBlockContents,
    /// A block without outputs.
    #[error("No outputs")]
    NoOutputs,
    /// Fewer outputs than mints.
    #[error("Too few outputs")]
    TooFewOutputs,
    /// A block that spends nothing.
    #[error("No key images were found")]
    NoKeyImages,
    /// An output without an amount.
    #[error("Missing masked amonut")]
    MissingMaskedAmount,
    /// Spent before.
    #[error("Key image has already been spent")]
    KeyImageAlreadySpent,
    /// Used before.
    #[error("Duplicate output public key")]
    DuplicateOutputPublicKey,
    /// A mint nonce that was used before.
    #[error("Duplicate MintTx")]
    DuplicateMintTx,
    /// A mint configuration nonce that was used before.
    #[error("Duplicate MintConfigTx")]
    DuplicateMintConfigTx,
    /// More than a configuration allows: amount, minted so far, limit.
    #[error("Mint limit exceeded: Attempted to mint {0}, currently minted {1} out\nof {2}")]
    MintLimitExceeded(u64, u64, u64),
    /// More than all configurations of the token allow together: amount, minted so far, limit.
    #[error("Total mint limit exceeded: Attempted to mint {0}, currently minted {1} out of {2}")]
    TotalMintLimitExceeded(u64, u64, u64),
    /// No signer set accepts the mint.
    #[error("Signature error")]
    MintSignature,
    /// No metadata where there must be some.
    #[error("Block metadata is required at this block version")]
    BlockMetadataRequired,
    /// The store is of another version.
    #[error("ledger is of version {found}, this program works with {expected}")]
    Version {
        /// Stored.
        found: u64,
        /// Known.
        expected: u64,
    },
    /// Stored bytes are not what they should be.
    #[error("stored {0} does not decode")]
    Corrupt(&'static str),
    /// A number does not fit.
    #[error("capacity exceeded")]
    Capacity,
    /// A file of the archive.
    #[error("archive: {0}")]
    Archive(String),
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The store.
    #[error("store: {0}")]
    Store(#[from] heed::Error),
}
