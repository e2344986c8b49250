//! Minimum fees by token, and the order that fees give (reference: `mc-transaction-core::fee_map`).

use std::collections::BTreeMap;

use merlin::Transcript;
use wire_mobilecoin::digest::{Digestible, Label, aggregate, digest32};

/// A minimum fee is a multiple of this, and not below it.
pub const SMALLEST_MINIMUM_FEE: u64 = 128;

/// The token whose fee must be in the map.
pub const FIRST_TOKEN: u64 = 0;

/// A token id; structured hashing wraps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u64);

impl std::fmt::Debug for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenId({})", self.0)
    }
}

impl Digestible for TokenId {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TokenId", transcript, |fields| {
            fields.field("0", &self.0);
        });
    }
}

/// Why a map is refused. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A fee below [`SMALLEST_MINIMUM_FEE`].
    #[error("fee {1} of {0:?} is too small")]
    InvalidFeeTooSmall(TokenId, u64),
    /// A fee that is not a multiple of [`SMALLEST_MINIMUM_FEE`].
    #[error("fee {1} of {0:?} is not divisible by {SMALLEST_MINIMUM_FEE}")]
    InvalidFeeNotDivisible(TokenId, u64),
    /// No fee for a token that needs one.
    #[error("no fee of {0:?}")]
    MissingFee(TokenId),
}

/// The minimum fee of every token that transactions may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeMap(BTreeMap<TokenId, u64>);

impl FeeMap {
    /// A map of those fees.
    ///
    /// # Errors
    /// If a fee is too small or not divisible, or that of the first token is missing.
    pub fn new(fees: impl IntoIterator<Item = (u64, u64)>) -> Result<Self, Error> {
        let map: BTreeMap<TokenId, u64> = fees.into_iter().map(|(id, fee)| (TokenId(id), fee)).collect();
        for (id, fee) in &map {
            if *fee < SMALLEST_MINIMUM_FEE {
                return Err(Error::InvalidFeeTooSmall(*id, *fee));
            }
            if !fee.is_multiple_of(SMALLEST_MINIMUM_FEE) {
                return Err(Error::InvalidFeeNotDivisible(*id, *fee));
            }
        }
        match map.contains_key(&TokenId(FIRST_TOKEN)) {
            true => Ok(Self(map)),
            false => Err(Error::MissingFee(TokenId(FIRST_TOKEN))),
        }
    }

    /// The minimum fee of a token.
    pub fn get(&self, token_id: u64) -> Option<u64> {
        self.0.get(&TokenId(token_id)).copied()
    }

    /// Tokens and fees in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(id, fee)| (id.0, *fee))
    }

    /// The digest under `mc-fee-map`, by which clients and validators know that theirs are the same.
    pub fn digest(&self) -> [u8; 32] {
        digest32(b"mc-fee-map", self)
    }
}

impl Digestible for FeeMap {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "FeeMap", transcript, |fields| {
            fields.field("map", &self.0);
        });
    }
}

/// Where a transaction stands in the queue: the fee in units of 1/128 of the minimum.
pub fn priority(fee: u64, minimum_fee: u64) -> u64 {
    fee.checked_div(minimum_fee / SMALLEST_MINIMUM_FEE).unwrap_or(u64::MAX)
}
