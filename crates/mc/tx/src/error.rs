//! Why a transaction is refused: names and order of the reference's errors.

use mc_crypto::{mlsag, range};

/// Why the signatures of a transaction are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The block version has one token only.
    #[error("token id is not allowed at this block version")]
    TokenIdNotAllowed,
    /// No input signs the whole transaction.
    #[error("all rings are pre-signed")]
    AllRingsPresigned,
    /// Counts differ: expected, found.
    #[error("length mismatch: {0} expected, {1} found")]
    LengthMismatch(usize, usize),
    /// Token ids of pseudo outputs before they exist.
    #[error("token ids of pseudo outputs are not allowed at this block version")]
    PseudoOutputTokenIdsNotAllowed,
    /// Token ids of outputs before they exist.
    #[error("token ids of outputs are not allowed at this block version")]
    OutputTokenIdsNotAllowed,
    /// Not one token id for each pseudo output.
    #[error("token ids of pseudo outputs are missing")]
    MissingPseudoOutputTokenIds,
    /// Not one token id for each output.
    #[error("token ids of outputs are missing")]
    MissingOutputTokenIds,
    /// The same key image in two signatures.
    #[error("duplicate key image")]
    DuplicateKeyImage,
    /// A commitment is not on the curve.
    #[error("invalid commitment")]
    InvalidCommitment,
    /// The proof of the old place where the new ones are.
    #[error("unexpected range proof")]
    UnexpectedRangeProof,
    /// Proofs of the new place where the old one is.
    #[error("too many range proofs: {0}")]
    TooManyRangeProofs(usize),
    /// Not one range proof for each token: expected, found.
    #[error("{0} range proofs expected, {1} found")]
    MissingRangeProofs(usize, usize),
    /// A range proof is not one.
    #[error("range proof does not decode")]
    RangeProofDeserialization,
    /// A range proof does not hold.
    #[error("range proof does not verify")]
    RangeProof,
    /// Inputs, outputs and fee do not balance.
    #[error("value not conserved")]
    ValueNotConserved,
    /// A ring signature.
    #[error("ring signature: {0}")]
    RingSignature(#[from] mlsag::Error),
}

impl From<range::Error> for SignatureError {
    fn from(error: range::Error) -> Self {
        match error {
            range::Error::Format => Self::RangeProofDeserialization,
            range::Error::Verification | range::Error::Proving => Self::RangeProof,
        }
    }
}

/// Why the rules of an input do not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A required output is not there.
    #[error("missing required output")]
    MissingRequiredOutput,
    /// The tombstone is after the allowed one.
    #[error("tombstone block exceeds the maximum")]
    MaxTombstoneBlockExceeded,
    /// Some but not all parts of a partial fill.
    #[error("unexpected partial fill outputs")]
    UnexpectedPartialFillOutput,
    /// The change of a partial fill is not there.
    #[error("missing partial fill change")]
    MissingPartialFillChange,
    /// An amount cannot be read.
    #[error("revealed amount: {0}")]
    RevealedTxOut(#[from] mc_crypto::amount::AmountError),
    /// A revealed secret has another length than 32 bytes.
    #[error("amount secret of {0} bytes")]
    InvalidAmountSecret(usize),
    /// The change is of nothing.
    #[error("zero partial fill change")]
    ZeroPartialFillChange,
    /// The change is more than the input had.
    #[error("change exceeds the limit")]
    ChangeExceedsLimit,
    /// Change of another token.
    #[error("change token mismatch")]
    ChangeTokenMismatch,
    /// An output is less than its share.
    #[error("fractional output is not as much as required")]
    FractionalOutputAmount,
    /// An output of another token.
    #[error("fractional output token mismatch")]
    FractionalOutputTokenMismatch,
    /// Less was taken than allowed.
    #[error("below the minimum partial fill value")]
    MinPartialFillValue,
}

/// Why a transaction is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    /// No inputs.
    #[error("no inputs")]
    NoInputs,
    /// More inputs than allowed.
    #[error("too many inputs")]
    TooManyInputs,
    /// No outputs.
    #[error("no outputs")]
    NoOutputs,
    /// More outputs than allowed.
    #[error("too many outputs")]
    TooManyOutputs,
    /// A ring has too few members.
    #[error("insufficient ring size")]
    InsufficientRingSize,
    /// A ring has too many members.
    #[error("excessive ring size")]
    ExcessiveRingSize,
    /// An output is twice in rings that must not share one.
    #[error("duplicate ring elements")]
    DuplicateRingElements,
    /// A ring is not in order.
    #[error("unsorted ring elements")]
    UnsortedRingElements,
    /// Inputs are not in order.
    #[error("unsorted inputs")]
    UnsortedInputs,
    /// A ring member has no membership proof.
    #[error("missing membership proof")]
    MissingTxOutMembershipProof,
    /// The validator's own proofs do not fit those of the transaction.
    #[error("invalid ledger context")]
    InvalidLedgerContext,
    /// A membership proof is malformed.
    #[error("membership proof validation error")]
    MembershipProofValidationError,
    /// A membership proof is of another tree.
    #[error("invalid membership proof")]
    InvalidTxOutMembershipProof,
    /// The signatures.
    #[error("invalid transaction signature: {0}")]
    InvalidTransactionSignature(#[from] SignatureError),
    /// An output without an amount.
    #[error("unknown masked amount version")]
    UnknownMaskedAmountVersion,
    /// The fee is below the minimum.
    #[error("fee is too low")]
    TxFeeError,
    /// A key image twice.
    #[error("duplicate key images")]
    DuplicateKeyImages,
    /// An output's public key twice.
    #[error("duplicate output public key")]
    DuplicateOutputPublicKey,
    /// The tombstone has passed.
    #[error("tombstone block exceeded")]
    TombstoneBlockExceeded,
    /// The tombstone is too far away.
    #[error("tombstone block is too far in the future")]
    TombstoneBlockTooFar,
    /// An output without a memo.
    #[error("missing memo")]
    MissingMemo,
    /// A memo before they exist.
    #[error("memos are not allowed")]
    MemosNotAllowed,
    /// An amount without a token id.
    #[error("missing masked token id")]
    MissingMaskedTokenId,
    /// A token id before they exist.
    #[error("masked token id is not allowed")]
    MaskedTokenIdNotAllowed,
    /// Outputs are not in order.
    #[error("unsorted outputs")]
    UnsortedOutputs,
    /// Rules before they exist.
    #[error("input rules are not allowed")]
    InputRulesNotAllowed,
    /// The rules of an input.
    #[error("input rule: {0}")]
    InputRule(#[from] RuleError),
}

impl TxError {
    /// The name of the outermost error, as answers to clients and metrics have it.
    pub fn name(&self) -> String {
        let debug = format!("{self:?}");
        debug.split('(').next().unwrap_or_default().to_owned()
    }
}
