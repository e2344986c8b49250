//! The Ristretto group: hashing to points and scalars, value generators, commitments.

use blake2::{Blake2b512, Digest as _};
use curve25519_dalek_4::constants::{RISTRETTO_BASEPOINT_COMPRESSED, RISTRETTO_BASEPOINT_TABLE};
use curve25519_dalek_4::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek_4::scalar::Scalar;
use wire_mobilecoin::{Point, Scalar32};

/// BLAKE2b-512 of the parts one after another.
pub(crate) fn h512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hasher = Blake2b512::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// BLAKE2b with 32 bytes of output, of the parts one after another.
pub fn h256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake2::Blake2b::<blake2::digest::consts::U32>::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A scalar from the hash of the parts.
pub(crate) fn hash_to_scalar(parts: &[&[u8]]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&h512(parts))
}

/// The bytes as a point on the curve.
pub(crate) fn decompress(point: &Point) -> Option<RistrettoPoint> {
    CompressedRistretto(point.0).decompress()
}

pub(crate) fn compress(point: &RistrettoPoint) -> Point {
    Point(point.compress().to_bytes())
}

/// Whether the bytes are a point on the curve.
pub fn is_point(point: &Point) -> bool {
    decompress(point).is_some()
}

pub(crate) fn scalar(bytes: &Scalar32) -> Scalar {
    Scalar::from_bytes_mod_order(bytes.0)
}

/// The number modulo the group's order.
pub fn reduce(bytes: [u8; 32]) -> Scalar32 {
    Scalar32(Scalar::from_bytes_mod_order(bytes).to_bytes())
}

/// `x·G`.
pub fn public_key(private: &Scalar32) -> Point {
    compress(&(&scalar(private) * RISTRETTO_BASEPOINT_TABLE))
}

const HASH_TO_POINT: &[u8] = b"mc_onetime_key_hash_to_point";

/// Hashes a public key to a point with unknown logarithm.
pub(crate) fn hp(public: &[u8; 32]) -> RistrettoPoint {
    RistrettoPoint::from_uniform_bytes(&h512(&[HASH_TO_POINT, public]))
}

/// Hashes a public key to a point with unknown logarithm.
pub fn hash_to_point(public: &Point) -> Point {
    compress(&hp(&public.0))
}

/// The generator that values of a token are committed with: the hash to a point of the basepoint's bytes, the first
/// eight XOR the token id.
pub(crate) fn value_generator(token_id: u64) -> RistrettoPoint {
    let mut bytes = RISTRETTO_BASEPOINT_COMPRESSED.to_bytes();
    for (byte, id) in bytes.iter_mut().zip(token_id.to_le_bytes()) {
        *byte ^= id;
    }
    hp(&bytes)
}

/// The value generator of a token, compressed.
pub fn pedersen_generator(token_id: u64) -> Point {
    compress(&value_generator(token_id))
}

/// `value·H(token) + blinding·G`.
pub(crate) fn commit_point(value: u64, blinding: &Scalar, token_id: u64) -> RistrettoPoint {
    Scalar::from(value) * value_generator(token_id) + blinding * RISTRETTO_BASEPOINT_TABLE
}

/// `value·H(token) + blinding·G`, compressed.
pub fn commit(value: u64, blinding: &Scalar32, token_id: u64) -> Point {
    compress(&commit_point(value, &scalar(blinding), token_id))
}

/// Whether `Σ outputs + fee·H(fee token) = Σ inputs`; None if a commitment is not a point.
pub fn balances(inputs: &[Point], outputs: &[Point], fee: u64, fee_token_id: u64) -> Option<bool> {
    let sum = |points: &[Point]| -> Option<RistrettoPoint> { points.iter().map(decompress).sum() };
    Some(sum(outputs)? + Scalar::from(fee) * value_generator(fee_token_id) == sum(inputs)?)
}

/// `Σ a − Σ b` modulo the group's order.
pub fn difference(a: &[Scalar32], b: &[Scalar32]) -> Scalar32 {
    let sum = |scalars: &[Scalar32]| scalars.iter().map(scalar).sum::<Scalar>();
    Scalar32((sum(a) - sum(b)).to_bytes())
}
