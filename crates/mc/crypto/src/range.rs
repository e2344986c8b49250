//! Aggregated 64-bit range proofs (Bulletproofs), verified alone or many at once.
//!
//! The statement is that each commitment hides a value below 2^64 under the token's generator. The proof format and
//! transcript are those of the published `bulletproofs` crate, which makes the proofs; verification is our own, since that
//! of the crate takes one proof at a time: here the generators, which are nearly all the work, are paid for once per batch.

use std::sync::OnceLock;

use bulletproofs::{BulletproofGens, PedersenGens, RangeProof};
use curve25519_dalek_4::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek_4::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek_4::scalar::Scalar;
use curve25519_dalek_4::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use merlin::Transcript;
use rand_core::{CryptoRng, RngCore};
use sha3_010::digest::{ExtendableOutput as _, Update as _, XofReader as _};
use wire_mobilecoin::{Point, Scalar32};

use crate::curve::{decompress, scalar, value_generator};

/// Bits of a value.
const BITS: usize = 64;

/// Most commitments of one proof, after padding.
pub const MAX_PARTIES: usize = 64;

const LABEL: &[u8] = b"mc_bulletproof_transcript";

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not a proof.
    #[error("range proof does not decode")]
    Format,
    /// The proof does not hold.
    #[error("range proof does not verify")]
    Verification,
    /// Proving failed: no values, too many, or counts differ.
    #[error("range proof cannot be made")]
    Proving,
}

/// A proof with what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// The proof.
    pub proof: &'a [u8],
    /// The commitments; the last stands for those that are missing to a power of two.
    pub commitments: &'a [Point],
    /// The token.
    pub token_id: u64,
}

/// The vectors of generators of one party.
struct Party {
    g: Vec<RistrettoPoint>,
    h: Vec<RistrettoPoint>,
}

/// The generators of a party: 64 points each from an extendable hash of the letter and the party's number.
fn party(index: usize) -> &'static Party {
    static PARTIES: [OnceLock<Party>; MAX_PARTIES] = [const { OnceLock::new() }; MAX_PARTIES];
    PARTIES[index].get_or_init(|| {
        let chain = |letter: u8| {
            let mut label = [letter, 0, 0, 0, 0];
            label[1..].copy_from_slice(&(index as u32).to_le_bytes());
            let mut hasher = sha3_010::Shake256::default();
            hasher.update(b"GeneratorsChain");
            hasher.update(&label);
            let mut reader = hasher.finalize_xof();
            let mut next = || {
                let mut bytes = [0u8; 64];
                reader.read(&mut bytes);
                RistrettoPoint::from_uniform_bytes(&bytes)
            };
            (0..BITS).map(|_| next()).collect()
        };
        Party { g: chain(b'G'), h: chain(b'H') }
    })
}

/// A decoded proof.
struct Parsed {
    a: CompressedRistretto,
    s: CompressedRistretto,
    t1: CompressedRistretto,
    t2: CompressedRistretto,
    t_x: Scalar,
    t_x_blinding: Scalar,
    e_blinding: Scalar,
    rounds: Vec<(CompressedRistretto, CompressedRistretto)>,
    ipp_a: Scalar,
    ipp_b: Scalar,
}

/// The most rounds that the format allows; with 64 parties there are 12.
const MAX_ROUNDS: usize = 31;

impl Parsed {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || chunks.len() < 9 || !(chunks.len() - 9).is_multiple_of(2) {
            return None;
        }
        let point = |i: usize| CompressedRistretto(chunks[i]);
        let number = |i: usize| Option::<Scalar>::from(Scalar::from_canonical_bytes(chunks[i]));
        let last = chunks.len();
        let rounds: Vec<_> = (7..last - 2).step_by(2).map(|i| (point(i), point(i + 1))).collect();
        if rounds.len() > MAX_ROUNDS {
            return None;
        }
        Some(Self {
            a: point(0),
            s: point(1),
            t1: point(2),
            t2: point(3),
            t_x: number(4)?,
            t_x_blinding: number(5)?,
            e_blinding: number(6)?,
            rounds,
            ipp_a: number(last - 2)?,
            ipp_b: number(last - 1)?,
        })
    }
}

fn append_u64(transcript: &mut Transcript, label: &'static [u8], value: u64) {
    transcript.append_u64(label, value);
}

/// Appends a point that must not be the identity.
fn append_point(transcript: &mut Transcript, label: &'static [u8], point: &CompressedRistretto) -> Option<()> {
    if point.is_identity() {
        return None;
    }
    transcript.append_message(label, point.as_bytes());
    Some(())
}

fn challenge(transcript: &mut Transcript, label: &'static [u8]) -> Scalar {
    let mut wide = [0u8; 64];
    transcript.challenge_bytes(label, &mut wide);
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// `Σ base^i` for `i` below a power of two.
fn geometric_sum(base: &Scalar, len: usize) -> Scalar {
    let mut sum = Scalar::ONE;
    let mut factor = *base;
    let mut done = 1;
    while done < len {
        sum += factor * sum;
        factor *= factor;
        done *= 2;
    }
    sum
}

/// The sum that must vanish, gathered over the statements of a batch.
struct Sum {
    scalars: Vec<Scalar>,
    points: Vec<RistrettoPoint>,
    blinding: Scalar,
    g: Vec<Scalar>,
    h: Vec<Scalar>,
}

impl Sum {
    fn new() -> Self {
        Self { scalars: Vec::new(), points: Vec::new(), blinding: Scalar::ZERO, g: Vec::new(), h: Vec::new() }
    }

    fn push(&mut self, scalar: Scalar, point: RistrettoPoint) {
        self.scalars.push(scalar);
        self.points.push(point);
    }

    fn push_compressed(&mut self, scalar: Scalar, point: &CompressedRistretto) -> Option<()> {
        self.push(scalar, point.decompress()?);
        Some(())
    }

    fn vanishes(mut self) -> bool {
        self.push(self.blinding, RISTRETTO_BASEPOINT_POINT);
        let parties = self.g.len() / BITS;
        let mut points: Vec<&RistrettoPoint> = self.points.iter().collect();
        points.extend((0..parties).flat_map(|j| &party(j).g));
        points.extend((0..parties).flat_map(|j| &party(j).h));
        RistrettoPoint::vartime_multiscalar_mul(self.scalars.iter().chain(&self.g).chain(&self.h), points).is_identity()
    }
}

/// Adds a statement's equation with a weight; None if it cannot hold.
fn add(sum: &mut Sum, statement: &Statement<'_>, parsed: &Parsed, weight: &mut impl FnMut() -> Scalar) -> Option<()> {
    let given = statement.commitments.len();
    let m = given.checked_next_power_of_two().filter(|m| given > 0 && *m <= MAX_PARTIES)?;
    let nm = BITS * m;
    if parsed.rounds.len() != nm.trailing_zeros() as usize {
        return None;
    }
    let last = statement.commitments.last()?;
    let padded = || statement.commitments.iter().chain(std::iter::repeat(last)).take(m);

    let mut transcript = Transcript::new(LABEL);
    transcript.append_message(b"dom-sep", b"rangeproof v1");
    append_u64(&mut transcript, b"n", BITS as u64);
    append_u64(&mut transcript, b"m", m as u64);
    for commitment in padded() {
        transcript.append_message(b"V", &commitment.0);
    }
    append_point(&mut transcript, b"A", &parsed.a)?;
    append_point(&mut transcript, b"S", &parsed.s)?;
    let y = challenge(&mut transcript, b"y");
    let z = challenge(&mut transcript, b"z");
    append_point(&mut transcript, b"T_1", &parsed.t1)?;
    append_point(&mut transcript, b"T_2", &parsed.t2)?;
    let x = challenge(&mut transcript, b"x");
    transcript.append_message(b"t_x", parsed.t_x.as_bytes());
    transcript.append_message(b"t_x_blinding", parsed.t_x_blinding.as_bytes());
    transcript.append_message(b"e_blinding", parsed.e_blinding.as_bytes());
    let w = challenge(&mut transcript, b"w");
    transcript.append_message(b"dom-sep", b"ipp v1");
    append_u64(&mut transcript, b"n", nm as u64);
    let mut us = Vec::with_capacity(parsed.rounds.len());
    for (l, r) in &parsed.rounds {
        append_point(&mut transcript, b"L", l)?;
        append_point(&mut transcript, b"R", r)?;
        us.push(challenge(&mut transcript, b"u"));
    }
    let mut inverses = us.clone();
    inverses.push(y);
    Scalar::batch_invert(&mut inverses);
    let y_inverse = inverses.pop()?;

    // The commitment to the polynomial and the inner product are two equations, joined by a weight of their own.
    let rho = weight();
    let c = weight();
    let zz = z * z;
    sum.push_compressed(rho, &parsed.a)?;
    sum.push_compressed(rho * x, &parsed.s)?;
    sum.push_compressed(rho * c * x, &parsed.t1)?;
    sum.push_compressed(rho * c * x * x, &parsed.t2)?;
    for ((u, u_inverse), (l, r)) in us.iter().zip(&inverses).zip(&parsed.rounds) {
        sum.push_compressed(rho * u * u, l)?;
        sum.push_compressed(rho * u_inverse * u_inverse, r)?;
    }
    let mut z_power = zz;
    let mut last_power = Scalar::ZERO;
    for (index, commitment) in padded().enumerate() {
        // The repeated last commitment is one point with the sum of their weights.
        last_power += rho * c * z_power;
        if index + 1 < given || index + 1 == m {
            sum.push(last_power, decompress(commitment)?);
            last_power = Scalar::ZERO;
        }
        z_power *= z;
    }
    let delta = (z - zz) * geometric_sum(&y, nm) - z * zz * Scalar::from(u64::MAX) * geometric_sum(&z, m);
    let base = w * (parsed.t_x - parsed.ipp_a * parsed.ipp_b) + c * (delta - parsed.t_x);
    sum.push(rho * base, value_generator(statement.token_id));
    sum.blinding -= rho * (parsed.e_blinding + c * parsed.t_x_blinding);
    add_generators(sum, parsed, &Challenges { y_inverse, z, rho, us: &us, inverses: &inverses }, m);
    Some(())
}

struct Challenges<'a> {
    y_inverse: Scalar,
    z: Scalar,
    rho: Scalar,
    us: &'a [Scalar],
    inverses: &'a [Scalar],
}

/// Adds the weights of the generators.
fn add_generators(sum: &mut Sum, parsed: &Parsed, challenges: &Challenges<'_>, m: usize) {
    let nm = BITS * m;
    let Challenges { y_inverse, z, rho, us, inverses } = challenges;
    if sum.g.len() < nm {
        sum.g.resize(nm, Scalar::ZERO);
        sum.h.resize(nm, Scalar::ZERO);
    }
    // s_i is the product of each round's challenge or its inverse, by the bits of i.
    let mut s = Vec::with_capacity(nm);
    s.push(inverses.iter().product::<Scalar>());
    let rounds = us.len();
    for i in 1..nm {
        let top = usize::BITS as usize - 1 - i.leading_zeros() as usize;
        let u = us[rounds - 1 - top];
        s.push(s[i - (1 << top)] * (u * u));
    }
    let two = Scalar::from(2u8);
    let (weighted_a, weighted_b, weighted_z) = (rho * parsed.ipp_a, rho * parsed.ipp_b, rho * z);
    let mut y_power = Scalar::ONE;
    let mut z_power = rho * z * z;
    for j in 0..m {
        let mut two_power = z_power;
        for k in 0..BITS {
            let i = j * BITS + k;
            sum.g[i] -= weighted_z + weighted_a * s[i];
            sum.h[i] += weighted_z + y_power * (two_power - weighted_b * s[nm - 1 - i]);
            y_power *= y_inverse;
            two_power *= two;
        }
        z_power *= z;
    }
}

/// Verifies one statement.
///
/// # Errors
/// If the bytes are not a proof, or it does not hold.
pub fn verify(statement: &Statement<'_>) -> Result<(), Error> {
    verify_batch(std::slice::from_ref(statement))
}

/// Verifies statements together; which of them is wrong shows only when they are verified alone.
///
/// # Errors
/// If the bytes of one are not a proof, or one does not hold.
pub fn verify_batch(statements: &[Statement<'_>]) -> Result<(), Error> {
    let parsed: Vec<Parsed> =
        statements.iter().map(|s| Parsed::read(s.proof).ok_or(Error::Format)).collect::<Result<_, _>>()?;
    // The weights depend on all that is verified, so that no sender can choose proofs whose errors cancel.
    let mut transcript = Transcript::new(b"range proof batch");
    for statement in statements {
        append_u64(&mut transcript, b"token", statement.token_id);
        transcript.append_message(b"proof", statement.proof);
        for commitment in statement.commitments {
            transcript.append_message(b"commitment", &commitment.0);
        }
    }
    let mut weight = || challenge(&mut transcript, b"weight");
    let mut sum = Sum::new();
    for (statement, parsed) in statements.iter().zip(&parsed) {
        add(&mut sum, statement, parsed, &mut weight).ok_or(Error::Verification)?;
    }
    if sum.vanishes() { Ok(()) } else { Err(Error::Verification) }
}

/// Makes a proof for values of a token with the blindings of their commitments, padded like the commitments.
///
/// # Errors
/// If there are no values or too many, or the counts differ.
pub fn prove(
    values: &[u64],
    blindings: &[Scalar32],
    token_id: u64,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Vec<u8>, Error> {
    static GENERATORS: OnceLock<BulletproofGens> = OnceLock::new();
    let m = values.len().next_power_of_two();
    if values.is_empty() || values.len() != blindings.len() || m > MAX_PARTIES {
        return Err(Error::Proving);
    }
    let pad = |i: usize| i.min(values.len() - 1);
    let values: Vec<u64> = (0..m).map(|i| values[pad(i)]).collect();
    let blindings: Vec<Scalar> = (0..m).map(|i| scalar(&blindings[pad(i)])).collect();
    let pedersen = PedersenGens { B: value_generator(token_id), B_blinding: RISTRETTO_BASEPOINT_POINT };
    let generators = GENERATORS.get_or_init(|| BulletproofGens::new(BITS, MAX_PARTIES));
    let mut transcript = Transcript::new(LABEL);
    RangeProof::prove_multiple_with_rng(generators, &pedersen, &mut transcript, &values, &blindings, BITS, rng)
        .map(|(proof, _)| proof.to_bytes())
        .map_err(|_| Error::Proving)
}

#[cfg(test)]
mod tests;
