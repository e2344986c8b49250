//! One-time keys of outputs, key images, memos, confirmation numbers (reference: `onetime_keys`, `memo`).

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use hkdf::Hkdf;
use sha2::Sha512;
use wire_mobilecoin::address::PublicAddress;
use wire_mobilecoin::tx::TxOut;
use wire_mobilecoin::{FogHint, Memo, Point, Scalar32};

use crate::amount::{Amount, AmountError};
use crate::curve::{compress, decompress, h256, hash_to_scalar, hp, scalar};
use curve25519_dalek_4::ristretto::RistrettoPoint;
use curve25519_dalek_4::scalar::Scalar;

/// Why an output cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A key is not on the curve.
    #[error("key is not on the curve: {0}")]
    Key(Point),
    /// The amount.
    #[error("amount: {0}")]
    Amount(#[from] AmountError),
}

fn point(key: &Point) -> Result<RistrettoPoint, Error> {
    decompress(key).ok_or(Error::Key(*key))
}

fn hs(point: &RistrettoPoint) -> Scalar {
    hash_to_scalar(&[b"mc_onetime_key_hash_to_scalar", point.compress().as_bytes()])
}

/// An output's public key `r·D`.
///
/// # Errors
/// If the spend key is not on the curve.
pub fn tx_out_public_key(tx_private: &Scalar32, spend_public: &Point) -> Result<Point, Error> {
    Ok(compress(&(scalar(tx_private) * point(spend_public)?)))
}

/// The secret of sender and receiver: `r·C` or `a·R`.
///
/// # Errors
/// If the public key is not on the curve.
pub fn shared_secret(private: &Scalar32, public: &Point) -> Result<Point, Error> {
    Ok(compress(&(scalar(private) * point(public)?)))
}

/// The one-time key `Hs(r·C)·G + D`.
///
/// # Errors
/// If a key is not on the curve.
pub fn target_key(tx_private: &Scalar32, recipient: &PublicAddress) -> Result<Point, Error> {
    let secret = scalar(tx_private) * point(&recipient.view_public_key)?;
    Ok(compress(&(crate::account::base_mul(&hs(&secret)) + point(&recipient.spend_public_key)?)))
}

/// The spend key of the subaddress that an output went to, if it went to the owner of the view key: `P − Hs(a·R)·G`.
///
/// # Errors
/// If a key is not on the curve.
pub fn recover_spend_public(view_private: &Scalar32, tx_out: &TxOut) -> Result<Point, Error> {
    recover(view_private, &tx_out.target_key, &tx_out.public_key)
}

/// [`recover_spend_public`] of bare keys.
///
/// # Errors
/// If a key is not on the curve.
pub fn recover(view_private: &Scalar32, target: &Point, public: &Point) -> Result<Point, Error> {
    let secret = scalar(view_private) * point(public)?;
    Ok(compress(&(point(target)? - crate::account::base_mul(&hs(&secret)))))
}

/// The private one-time key `Hs(a·R) + d`.
///
/// # Errors
/// If the public key is not on the curve.
pub fn onetime_private(
    view_private: &Scalar32,
    subaddress_spend_private: &Scalar32,
    public: &Point,
) -> Result<Scalar32, Error> {
    let secret = scalar(view_private) * point(public)?;
    Ok(Scalar32((hs(&secret) + scalar(subaddress_spend_private)).to_bytes()))
}

/// The key image `x·Hp(x·G)`.
pub fn key_image(onetime_private: &Scalar32) -> Point {
    let x = scalar(onetime_private);
    compress(&(x * hp(crate::account::base_mul(&x).compress().as_bytes())))
}

/// Encrypts or decrypts a memo (AES-256 in counter mode).
pub fn apply_memo_key(shared_secret: &Point, memo: &[u8; 66]) -> [u8; 66] {
    let mut okm = [0u8; 48];
    Hkdf::<Sha512>::new(Some(b"mc-memo-okm"), &shared_secret.0).expand(&[], &mut okm).expect("48 bytes are one block");
    let (key, nonce) = okm.split_at(32);
    let mut out = *memo;
    let mut cipher = ctr::Ctr64BE::<aes::Aes256>::new(key.into(), nonce.into());
    cipher.apply_keystream(&mut out);
    out
}

/// What shows that one knows an output's shared secret.
pub fn confirmation_number(shared_secret: &Point) -> [u8; 32] {
    h256(&[b"mc_tx_out_confirmation_number", &shared_secret.0])
}

/// The leaf hash of an output in the tree of outputs, of the output's hash.
pub fn leaf_hash(tx_out: &TxOut) -> [u8; 32] {
    h256(&[b"mc_tx_out_merkle_leaf", &tx_out.hash().0])
}

/// Makes an output.
///
/// # Errors
/// If a key of the recipient is not on the curve, or the block version has no such token.
pub fn create_tx_out(
    block_version: u32,
    amount: Amount,
    recipient: &PublicAddress,
    tx_private: &Scalar32,
    hint: FogHint,
    memo: Option<&[u8; 66]>,
) -> Result<TxOut, Error> {
    let secret = shared_secret(tx_private, &recipient.view_public_key)?;
    Ok(TxOut {
        masked_amount: Some(amount.mask(block_version, &secret)?),
        target_key: target_key(tx_private, recipient)?,
        public_key: tx_out_public_key(tx_private, &recipient.spend_public_key)?,
        e_fog_hint: hint,
        e_memo: memo.map(|memo| Memo(apply_memo_key(&secret, memo))),
    })
}

/// Reads an output with a view key: the amount and the blinding of its commitment.
///
/// # Errors
/// If the output is of another receiver, or has no amount.
pub fn view_key_match(view_private: &Scalar32, tx_out: &TxOut) -> Result<(Amount, Scalar32), Error> {
    let secret = shared_secret(view_private, &tx_out.public_key)?;
    let masked = tx_out.masked_amount.as_ref().ok_or(AmountError::Missing)?;
    Ok(Amount::unmask(masked, &secret)?)
}
