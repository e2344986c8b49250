//! Validation of mints and mint configurations, without the ledger (reference: `mc-transaction-core::mint`).

use wire_mobilecoin::mint::{MintConfig, MintConfigTx, MintTx, SignerSet};

use crate::fees::TokenId;
use crate::multisig;
use crate::validate::{TombstoneError, check_tombstone, has_own_range_proofs, has_tokens};

/// Bytes of a nonce.
pub const NONCE_LENGTH: usize = 64;

/// A block version as errors show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockVersion(pub u32);

/// Why a mint or a mint configuration is refused. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Mints do not exist at this version.
    #[error("invalid block version: {0:?}")]
    InvalidBlockVersion(BlockVersion),
    /// A token that cannot be minted, or not the configuration's.
    #[error("invalid token id: {0:?}")]
    InvalidTokenId(TokenId),
    /// The nonce is not 64 bytes long.
    #[error("invalid nonce length: {0}")]
    InvalidNonceLength(usize),
    /// A signer set that nobody can satisfy, or nested where that does not exist.
    #[error("invalid signer set")]
    InvalidSignerSet,
    /// The tombstone has passed.
    #[error("tombstone block exceeded")]
    TombstoneBlockExceeded,
    /// The tombstone is too far away.
    #[error("tombstone block is too far in the future")]
    TombstoneBlockTooFar,
    /// Signatures do not suffice.
    #[error("invalid signature")]
    InvalidSignature,
    /// More than the configuration allows.
    #[error("amount exceeds the mint limit")]
    AmountExceedsMintLimit,
    /// A fog hint where that does not exist.
    #[error("minting to fog is not supported")]
    MintingToFogNotSupported,
}

impl From<TombstoneError> for Error {
    fn from(error: TombstoneError) -> Self {
        match error {
            TombstoneError::Exceeded => Self::TombstoneBlockExceeded,
            TombstoneError::TooFar => Self::TombstoneBlockTooFar,
        }
    }
}

fn check_common(token_id: u64, nonce: &[u8], block_version: u32) -> Result<(), Error> {
    if !has_tokens(block_version) {
        return Err(Error::InvalidBlockVersion(BlockVersion(block_version)));
    }
    if token_id == 0 {
        return Err(Error::InvalidTokenId(TokenId(token_id)));
    }
    if nonce.len() != NONCE_LENGTH {
        return Err(Error::InvalidNonceLength(nonce.len()));
    }
    Ok(())
}

/// Validates a mint configuration against the token's governors; the tombstone only where an index is given.
///
/// # Errors
/// The first rule that it breaks.
pub fn validate_mint_config_tx(
    tx: &MintConfigTx,
    current_block_index: Option<u64>,
    block_version: u32,
    governors: &SignerSet,
) -> Result<(), Error> {
    let prefix = &tx.prefix;
    check_common(prefix.token_id, &prefix.nonce, block_version)?;
    for config in &prefix.configs {
        if config.token_id != prefix.token_id {
            return Err(Error::InvalidTokenId(TokenId(config.token_id)));
        }
        let nested = !config.signer_set.multi_signers.is_empty();
        if !multisig::is_valid(&config.signer_set) || (nested && !has_own_range_proofs(block_version)) {
            return Err(Error::InvalidSignerSet);
        }
    }
    if let Some(index) = current_block_index {
        check_tombstone(index, prefix.tombstone_block)?;
    }
    multisig::verify(governors, &prefix.hash().0, &tx.signature).map(drop).ok_or(Error::InvalidSignature)
}

/// Validates a mint against the configuration that it is minted under.
///
/// # Errors
/// The first rule that it breaks.
pub fn validate_mint_tx(
    tx: &MintTx,
    current_block_index: u64,
    block_version: u32,
    config: &MintConfig,
) -> Result<(), Error> {
    let prefix = &tx.prefix;
    check_common(prefix.token_id, &prefix.nonce, block_version)?;
    if prefix.e_fog_hint.is_some() && !has_own_range_proofs(block_version) {
        return Err(Error::MintingToFogNotSupported);
    }
    check_tombstone(current_block_index, prefix.tombstone_block)?;
    if prefix.token_id != config.token_id {
        return Err(Error::InvalidTokenId(TokenId(prefix.token_id)));
    }
    if prefix.amount > config.mint_limit {
        return Err(Error::AmountExceedsMintLimit);
    }
    multisig::verify(&config.signer_set, &prefix.hash().0, &tx.signature).map(drop).ok_or(Error::InvalidSignature)
}
