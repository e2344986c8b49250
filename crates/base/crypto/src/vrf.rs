//! The verifiable random function ECVRF-EDWARDS25519-SHA512-ELL2 of RFC 9381.
//!
//! The public key is always validated (section 5.4.5): it must be canonical and not of small order. The input alpha is
//! used as it is, without any context. Reference: `curve25519-voi`'s `extra/ecvrf`, used by the beacon.

use crate::ed25519::SecretKey;
use curve25519_dalek::{
    EdwardsPoint, Scalar, edwards::CompressedEdwardsY, scalar::clamp_integer, traits::VartimeMultiscalarMul,
};
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a proof: Gamma (32) ‖ c (16) ‖ s (32).
pub const PROOF_LEN: usize = 80;
/// Bytes of an output (beta).
pub const OUTPUT_LEN: usize = 64;

/// The suite's number.
const SUITE: u8 = 4;
/// Domain separation tag of hashing to the curve; ends with the suite's number.
const H2C_TAG: &[u8] = b"ECVRF_edwards25519_XMD:SHA-512_ELL2_NU_\x04";

/// A decoded proof.
struct Proof {
    gamma: EdwardsPoint,
    gamma_bytes: [u8; 32],
    c: Scalar,
    s: Scalar,
}

impl Proof {
    fn decode(bytes: &[u8; PROOF_LEN]) -> Option<Self> {
        let gamma_bytes: [u8; 32] = bytes[..32].try_into().ok()?;
        let s: [u8; 32] = bytes[48..].try_into().ok()?;
        let c: [u8; 16] = bytes[32..48].try_into().ok()?;
        Some(Self {
            gamma: decode_canonical(&gamma_bytes)?,
            gamma_bytes,
            c: Scalar::from(u128::from_le_bytes(c)),
            s: Option::from(Scalar::from_canonical_bytes(s))?,
        })
    }
}

/// Decodes a point as RFC 8032 does: only its canonical encoding counts.
fn decode_canonical(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*bytes).decompress().filter(|p| p.compress().as_bytes() == bytes)
}

/// The curve point H of an input (`ECVRF_encode_to_curve` with the public key as salt).
fn encode_to_curve(public_key: &[u8; 32], alpha: &[u8]) -> EdwardsPoint {
    EdwardsPoint::encode_to_curve::<Sha512>(&[public_key, alpha], &[H2C_TAG])
}

/// `ECVRF_challenge_generation` over five encoded points, cut to 16 bytes.
fn challenge(points: [&[u8; 32]; 5]) -> [u8; 16] {
    let mut h = Sha512::new_with_prefix([SUITE, 2]);
    for p in points {
        h.update(p);
    }
    let digest = h.chain_update([0]).finalize();
    let mut out = [0; 16];
    out.copy_from_slice(&digest[..16]);
    out
}

/// `ECVRF_proof_to_hash` of a decoded point.
fn output(gamma: &EdwardsPoint) -> [u8; OUTPUT_LEN] {
    let point = gamma.mul_by_cofactor().compress();
    Sha512::new_with_prefix([SUITE, 3]).chain_update(point.as_bytes()).chain_update([0]).finalize().into()
}

/// Proves the output for `alpha` with a key at hand or by whoever holds it, whose answer is checked.
///
/// # Errors
/// If the holder gives no proof: why, in words.
pub fn try_prove(key: &SecretKey, alpha: &[u8]) -> Result<[u8; PROOF_LEN], String> {
    let Some(holder) = key.holder() else { return Ok(prove(key, alpha)) };
    let proof = holder.prove(alpha)?;
    match verify(&key.public(), alpha, &proof) {
        Some(_) => Ok(proof),
        None => Err("its proof does not verify".to_owned()),
    }
}

/// Proves the output for `alpha` with a key at hand. Time does not depend on the secret key.
#[must_use]
pub fn prove(key: &SecretKey, alpha: &[u8]) -> [u8; PROOF_LEN] {
    let mut expanded: Zeroizing<[u8; 64]> = Zeroizing::new(Sha512::digest(key.seed().as_slice()).into());
    let (scalar_half, prefix) = expanded.split_at_mut(32);
    let mut clamped = clamp_integer(scalar_half.try_into().expect("half of 64 bytes"));
    // Points that the secret multiplies have prime order, so reduction of the scalar changes nothing.
    let mut x = Scalar::from_bytes_mod_order(clamped);
    clamped.zeroize();

    let public = key.public();
    let h = encode_to_curve(&public, alpha);
    let h_bytes = h.compress().to_bytes();
    let gamma_bytes = (h * x).compress().to_bytes();
    let mut nonce: [u8; 64] = Sha512::new_with_prefix(&*prefix).chain_update(h_bytes).finalize().into();
    let mut k = Scalar::from_bytes_mod_order_wide(&nonce);
    nonce.zeroize();
    let u = EdwardsPoint::mul_base(&k).compress().to_bytes();
    let v = (h * k).compress().to_bytes();
    let c = challenge([&public, &h_bytes, &gamma_bytes, &u, &v]);
    let s = k + Scalar::from(u128::from_le_bytes(c)) * x;
    x.zeroize();
    k.zeroize();

    let mut proof = [0; PROOF_LEN];
    proof[..32].copy_from_slice(&gamma_bytes);
    proof[32..48].copy_from_slice(&c);
    proof[48..].copy_from_slice(s.as_bytes());
    proof
}

/// The output if `proof` is valid for `alpha` under `public_key`.
#[must_use]
pub fn verify(public_key: &[u8; 32], alpha: &[u8], proof: &[u8; PROOF_LEN]) -> Option<[u8; OUTPUT_LEN]> {
    let y = decode_canonical(public_key).filter(|p| !p.is_small_order())?;
    let proof = Proof::decode(proof)?;
    let h = encode_to_curve(public_key, alpha);
    let u = EdwardsPoint::vartime_double_scalar_mul_basepoint(&proof.c, &-y, &proof.s);
    // Gamma may have a small-order part, on which c and the reduced -c act differently: negate the point instead.
    let v = EdwardsPoint::vartime_multiscalar_mul([&proof.s, &proof.c], [&h, &-proof.gamma]);
    let expected = challenge([
        public_key,
        &h.compress().to_bytes(),
        &proof.gamma_bytes,
        &u.compress().to_bytes(),
        &v.compress().to_bytes(),
    ]);
    (proof.c == Scalar::from(u128::from_le_bytes(expected))).then(|| output(&proof.gamma))
}

/// The output of a proof that is known to be valid; nothing if it cannot be decoded.
#[must_use]
pub fn proof_to_hash(proof: &[u8; PROOF_LEN]) -> Option<[u8; OUTPUT_LEN]> {
    Proof::decode(proof).map(|p| output(&p.gamma))
}

#[cfg(test)]
mod tests;
