//! Hidden amounts, both versions (reference: `masked_amount`).

use curve25519_dalek_4::scalar::Scalar;
use hkdf::Hkdf;
use merlin::Transcript;
use sha2::Sha512;
use wire_mobilecoin::digest::{Digestible, Label, aggregate};
use wire_mobilecoin::tx::{MaskedAmount, MaskedAmountBody};
use wire_mobilecoin::{Point, Scalar32};

use crate::curve::{commit_point, compress, h512, hash_to_scalar};

/// Why an amount cannot be masked or unmasked. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The unmasked value does not give the commitment: another receiver, or altered.
    #[error("commitment is inconsistent with the amount")]
    InconsistentCommitment,
    /// The masked token id has a length that its version does not know.
    #[error("masked token id of {0} bytes")]
    InvalidMaskedTokenId(usize),
    /// The block version has no tokens but the first.
    #[error("token {0} cannot be masked at this block version")]
    TokenIdNotSupported(u64),
    /// There is no amount.
    #[error("no amount")]
    Missing,
}

/// A value of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount {
    /// In the smallest unit.
    pub value: u64,
    /// The token.
    pub token_id: u64,
}

/// A token id where structured hashing wraps it.
struct TokenId(u64);

impl Digestible for TokenId {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TokenId", transcript, |fields| {
            fields.field("0", &self.0);
        });
    }
}

impl Digestible for Amount {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "Amount", transcript, |fields| {
            fields.field("value", &self.value).field("token_id", &TokenId(self.token_id));
        });
    }
}

/// What hides an amount.
struct Masks {
    value: u64,
    token_id: u64,
    blinding: Scalar,
}

fn first_eight(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

impl Masks {
    fn v1(secret: &Point) -> Self {
        Self {
            value: first_eight(hash_to_scalar(&[b"mc_amount_value", &secret.0]).as_bytes()),
            token_id: first_eight(&h512(&[b"mc_amount_token_id", &secret.0])),
            blinding: hash_to_scalar(&[b"mc_amount_blinding", &secret.0]),
        }
    }

    fn v2(amount_shared_secret: &[u8; 32]) -> Self {
        let hkdf = Hkdf::<Sha512>::new(Some(b"mc_amount_blinding_factors"), amount_shared_secret);
        let mut value = [0u8; 8];
        let mut token_id = [0u8; 8];
        let mut blinding = [0u8; 64];
        let expand = |info: &[u8], out: &mut [u8]| hkdf.expand(info, out).expect("up to 64 bytes are one block");
        expand(b"mc_amount_value", &mut value);
        expand(b"mc_amount_token_id", &mut token_id);
        expand(b"mc_amount_blinding", &mut blinding);
        Self {
            value: u64::from_le_bytes(value),
            token_id: u64::from_le_bytes(token_id),
            blinding: Scalar::from_bytes_mod_order_wide(&blinding),
        }
    }
}

/// The middle step of the second version's key schedule; whoever has it can read this amount and nothing else.
pub fn amount_shared_secret(shared_secret: &Point) -> [u8; 32] {
    let hash = h512(&[b"mc_amount_shared_secret", &shared_secret.0]);
    std::array::from_fn(|i| hash[i])
}

impl Amount {
    /// Hides the amount as the block version does.
    ///
    /// # Errors
    /// If the block version has no such token.
    pub fn mask(self, block_version: u32, shared_secret: &Point) -> Result<MaskedAmount, AmountError> {
        if block_version < 2 && self.token_id != 0 {
            return Err(AmountError::TokenIdNotSupported(self.token_id));
        }
        let masks = match block_version {
            0..=2 => Masks::v1(shared_secret),
            _ => Masks::v2(&amount_shared_secret(shared_secret)),
        };
        let body = MaskedAmountBody {
            commitment: compress(&commit_point(self.value, &masks.blinding, self.token_id)),
            masked_value: self.value ^ masks.value,
            masked_token_id: match block_version {
                0 | 1 => Vec::new(),
                _ => (self.token_id ^ masks.token_id).to_le_bytes().to_vec(),
            },
        };
        Ok(if block_version < 3 { MaskedAmount::V1(body) } else { MaskedAmount::V2(body) })
    }

    /// Reads a hidden amount; the blinding of the commitment comes with it.
    ///
    /// # Errors
    /// If the token id has a wrong length or the commitment is another.
    pub fn unmask(masked: &MaskedAmount, shared_secret: &Point) -> Result<(Self, Scalar32), AmountError> {
        let (amount, blinding) = Self::unmask_fields(masked, shared_secret)?;
        check(amount, blinding, masked)
    }

    /// Reads a hidden amount of the second version with its own secret.
    ///
    /// # Errors
    /// If it is of the first version, the token id has a wrong length or the commitment is another.
    pub fn unmask_with_amount_secret(
        masked: &MaskedAmount,
        secret: &[u8; 32],
    ) -> Result<(Self, Scalar32), AmountError> {
        let MaskedAmount::V2(body) = masked else {
            return Err(AmountError::InvalidMaskedTokenId(masked.body().masked_token_id.len()));
        };
        let (amount, blinding) = open_v2(body, secret)?;
        check(amount, blinding, masked)
    }

    /// Reads the fields without looking at the commitment.
    ///
    /// # Errors
    /// If the token id has a wrong length.
    pub fn unmask_fields(masked: &MaskedAmount, shared_secret: &Point) -> Result<(Self, Scalar32), AmountError> {
        match masked {
            MaskedAmount::V1(body) => {
                let masks = Masks::v1(shared_secret);
                let token_id = match body.masked_token_id.as_slice() {
                    [] => 0,
                    id => u64::from_le_bytes(length_8(id)?) ^ masks.token_id,
                };
                Ok((Self { value: body.masked_value ^ masks.value, token_id }, Scalar32(masks.blinding.to_bytes())))
            }
            MaskedAmount::V2(body) => open_v2(body, &amount_shared_secret(shared_secret)),
        }
    }

    /// The commitment to the amount.
    pub fn commitment(self, blinding: &Scalar32) -> Point {
        crate::curve::commit(self.value, blinding, self.token_id)
    }
}

fn length_8(id: &[u8]) -> Result<[u8; 8], AmountError> {
    id.try_into().map_err(|_| AmountError::InvalidMaskedTokenId(id.len()))
}

fn open_v2(body: &MaskedAmountBody, secret: &[u8; 32]) -> Result<(Amount, Scalar32), AmountError> {
    let masks = Masks::v2(secret);
    let token_id = u64::from_le_bytes(length_8(&body.masked_token_id)?) ^ masks.token_id;
    Ok((Amount { value: body.masked_value ^ masks.value, token_id }, Scalar32(masks.blinding.to_bytes())))
}

fn check(amount: Amount, blinding: Scalar32, masked: &MaskedAmount) -> Result<(Amount, Scalar32), AmountError> {
    if amount.commitment(&blinding) == masked.body().commitment {
        Ok((amount, blinding))
    } else {
        Err(AmountError::InconsistentCommitment)
    }
}
