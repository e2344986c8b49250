//! Linkable ring signatures over a key row and a commitment row (reference: `mc-crypto-ring-signature`).

use curve25519_dalek_4::ristretto::RistrettoPoint;
use curve25519_dalek_4::scalar::Scalar;
use curve25519_dalek_4::traits::VartimeMultiscalarMul as _;
use rand_core::{CryptoRng, RngCore};
use wire_mobilecoin::tx::RingMlsag;
use wire_mobilecoin::{Point, Scalar32};

use crate::curve::{compress, decompress, hash_to_scalar, hp, scalar};

/// Why a signature is refused. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not two responses for each ring member.
    #[error("{1} responses, {0} expected")]
    LengthMismatch(usize, usize),
    /// The index of the spent member is not in the ring.
    #[error("no member {0} in the ring")]
    IndexOutOfBounds(usize),
    /// A key or commitment is not on the curve.
    #[error("invalid curve point")]
    InvalidCurvePoint,
    /// The key image is not on the curve.
    #[error("invalid key image")]
    InvalidKeyImage,
    /// The loop does not close.
    #[error("invalid signature")]
    InvalidSignature,
    /// The spent value is not that of the pseudo output.
    #[error("value not conserved")]
    ValueNotConserved,
}

/// A ring member: one-time key and commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// One-time key.
    pub target_key: Point,
    /// Commitment to its amount.
    pub commitment: Point,
}

/// A ring member on the curve.
struct Opened {
    target: RistrettoPoint,
    hashed: RistrettoPoint,
    /// Pseudo output commitment minus the member's.
    difference: RistrettoPoint,
}

fn open(ring: &[Member], output_commitment: &Point) -> Result<Vec<Opened>, Error> {
    let output = decompress(output_commitment).ok_or(Error::InvalidCurvePoint)?;
    ring.iter()
        .map(|member| {
            let target = decompress(&member.target_key).ok_or(Error::InvalidCurvePoint)?;
            let commitment = decompress(&member.commitment).ok_or(Error::InvalidCurvePoint)?;
            Ok(Opened { target, hashed: hp(&member.target_key.0), difference: output - commitment })
        })
        .collect()
}

fn challenge(message: &[u8], image: &Point, l0: &RistrettoPoint, r0: &RistrettoPoint, l1: &RistrettoPoint) -> Scalar {
    hash_to_scalar(&[
        b"mc_ring_mlsag_challenge",
        message,
        &image.0,
        l0.compress().as_bytes(),
        r0.compress().as_bytes(),
        l1.compress().as_bytes(),
    ])
}

/// One step of the loop, over public values only.
fn step(
    message: &[u8],
    image: (&Point, &RistrettoPoint),
    member: &Opened,
    c: &Scalar,
    r0: &Scalar,
    r1: &Scalar,
) -> Scalar {
    let l0 = RistrettoPoint::vartime_double_scalar_mul_basepoint(c, &member.target, r0);
    let right = RistrettoPoint::vartime_multiscalar_mul([r0, c], [&member.hashed, image.1]);
    let l1 = RistrettoPoint::vartime_double_scalar_mul_basepoint(c, &member.difference, r1);
    challenge(message, image.0, &l0, &right, &l1)
}

/// Verifies a ring signature of a message with the commitment of its pseudo output.
///
/// # Errors
/// The first reason to refuse it.
pub fn verify(message: &[u8], ring: &[Member], output_commitment: &Point, signature: &RingMlsag) -> Result<(), Error> {
    let expected = ring.len().saturating_mul(2);
    if signature.responses.len() != expected {
        return Err(Error::LengthMismatch(expected, signature.responses.len()));
    }
    let image = decompress(&signature.key_image).ok_or(Error::InvalidKeyImage)?;
    let members = open(ring, output_commitment)?;
    let c_zero = scalar(&signature.c_zero);
    let mut c = c_zero;
    for (member, responses) in members.iter().zip(signature.responses.chunks_exact(2)) {
        c = step(message, (&signature.key_image, &image), member, &c, &scalar(&responses[0]), &scalar(&responses[1]));
    }
    if c == c_zero { Ok(()) } else { Err(Error::InvalidSignature) }
}

/// What the signer knows of the spent member.
pub struct Secrets<'a> {
    /// Position in the ring.
    pub real_index: usize,
    /// Private one-time key.
    pub onetime_private: &'a Scalar32,
    /// Blinding of the member's commitment.
    pub blinding: &'a Scalar32,
    /// Blinding of the pseudo output's commitment.
    pub output_blinding: &'a Scalar32,
}

fn random_scalar(rng: &mut (impl RngCore + CryptoRng)) -> Scalar {
    let mut wide = [0u8; 64];
    rng.fill_bytes(&mut wide);
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// Signs a message for a ring.
///
/// # Errors
/// If a key is not on the curve, the index is outside, or the amounts differ.
pub fn sign(
    message: &[u8],
    ring: &[Member],
    output_commitment: &Point,
    secrets: &Secrets<'_>,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<RingMlsag, Error> {
    let size = ring.len();
    if secrets.real_index >= size {
        return Err(Error::IndexOutOfBounds(secrets.real_index));
    }
    let members = open(ring, output_commitment)?;
    let real = &members[secrets.real_index];
    let x = scalar(secrets.onetime_private);
    let z = scalar(secrets.output_blinding) - scalar(secrets.blinding);
    if crate::account::base_mul(&z) != real.difference {
        return Err(Error::ValueNotConserved);
    }
    let image_point = x * real.hashed;
    let image = compress(&image_point);
    let (alpha0, alpha1) = (random_scalar(rng), random_scalar(rng));
    let mut responses = vec![Scalar::ZERO; 2 * size];
    let mut challenges = vec![Scalar::ZERO; size];
    let mut index = (secrets.real_index + 1) % size;
    challenges[index] = challenge(
        message,
        &image,
        &crate::account::base_mul(&alpha0),
        &(alpha0 * real.hashed),
        &crate::account::base_mul(&alpha1),
    );
    while index != secrets.real_index {
        let (r0, r1) = (random_scalar(rng), random_scalar(rng));
        let next = (index + 1) % size;
        challenges[next] = step(message, (&image, &image_point), &members[index], &challenges[index], &r0, &r1);
        (responses[2 * index], responses[2 * index + 1]) = (r0, r1);
        index = next;
    }
    let c = challenges[index];
    (responses[2 * index], responses[2 * index + 1]) = (alpha0 - c * x, alpha1 - c * z);
    Ok(RingMlsag {
        c_zero: Scalar32(challenges[0].to_bytes()),
        responses: responses.iter().map(|r| Scalar32(r.to_bytes())).collect(),
        key_image: image,
    })
}
