//! Checking many signatures at once.
//!
//! With random 128-bit z, the equations of all signatures add up to
//! -Σ(z·s)B + Σ z·R + Σ(z·h)A = 0 (times the cofactor), which costs one multiplication of many points instead of many.
//! If it fails, every signature is checked alone, so the verdicts are those of [`super::verify`].
//!
//! # Security
//!
//! The z come from a hash of everything that is checked, not from the operating system: someone who could predict them
//! could craft invalid signatures that cancel out, but any change to the signatures changes all z. Finding a batch
//! that passes wrongly takes about 2^128 attempts.

use super::{Claim, PublicKey, PublicKeyCache};
use curve25519_dalek::{EdwardsPoint, Scalar, constants::ED25519_BASEPOINT_POINT, traits::VartimeMultiscalarMul};
use sha2::{Digest, Sha512};
use std::collections::{HashMap, hash_map::Entry};

/// Domain of the hashes that give the coefficients.
const DOMAIN: &[u8] = b"wadi/ed25519 batch coefficients";
/// Below this many signatures a batch is not worth its overhead.
const MIN_BATCH: usize = 2;

/// Collects signatures, then checks them together.
#[derive(Default)]
pub struct BatchVerifier {
    /// In the order of addition; malformed ones are nothing.
    claims: Vec<Option<Claim>>,
    /// Keys seen in this batch: decoded once, and their terms added up.
    keys: HashMap<[u8; 32], Option<PublicKey>>,
}

impl BatchVerifier {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `n` signatures.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        Self { claims: Vec::with_capacity(n), keys: HashMap::with_capacity(n) }
    }

    /// Number of signatures added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Adds a signature. The message is hashed at once and not kept.
    pub fn add(&mut self, public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) {
        let key = *self.keys.entry(*public_key).or_insert_with(|| PublicKey::decode(public_key));
        self.claims.push(key.and_then(|k| Claim::new(k, message, signature)));
    }

    /// Adds a signature, taking the decoded key from a cache or leaving it there.
    pub fn add_cached(
        &mut self,
        cache: &mut PublicKeyCache,
        public_key: &[u8; 32],
        message: &[u8],
        signature: &[u8; 64],
    ) {
        let key = *self.keys.entry(*public_key).or_insert_with(|| cache.get(public_key));
        self.claims.push(key.and_then(|k| Claim::new(k, message, signature)));
    }

    /// Adds an entry that counts as invalid, to keep positions when something else is wrong with it.
    pub fn add_invalid(&mut self) {
        self.claims.push(None);
    }

    /// Whether all signatures hold, and which do, in the order of addition. An empty batch holds.
    ///
    /// Malformed entries do not spoil the batch for the others.
    #[must_use]
    pub fn verify(self) -> (bool, Vec<bool>) {
        let formed: Vec<&Claim> = self.claims.iter().flatten().collect();
        if formed.len() >= MIN_BATCH && hold_together(&formed) {
            let verdicts: Vec<bool> = self.claims.iter().map(Option::is_some).collect();
            return (formed.len() == self.claims.len(), verdicts);
        }
        let verdicts: Vec<bool> = self.claims.iter().map(|c| c.as_ref().is_some_and(Claim::holds)).collect();
        (verdicts.iter().all(|v| *v), verdicts)
    }
}

/// The seed of the coefficients: a hash over each signature's digest (which binds R, A and the message) and s.
fn transcript(claims: &[&Claim]) -> [u8; 64] {
    let mut h = Sha512::new_with_prefix(DOMAIN);
    h.update((claims.len() as u64).to_le_bytes());
    for c in claims {
        h.update(c.digest);
        h.update(c.s.as_bytes());
    }
    h.finalize().into()
}

/// 128-bit coefficients, four from each hash of the seed and a counter.
fn coefficients(seed: [u8; 64]) -> impl Iterator<Item = Scalar> {
    (0u64..).flat_map(move |i| {
        let block: [u8; 64] = Sha512::new_with_prefix(seed).chain_update(i.to_le_bytes()).finalize().into();
        let mut out = [Scalar::ZERO; 4];
        for (z, chunk) in out.iter_mut().zip(block.chunks_exact(16)) {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(chunk);
            *z = Scalar::from(u128::from_le_bytes(bytes));
        }
        out
    })
}

/// The batch equation.
fn hold_together(claims: &[&Claim]) -> bool {
    let n = claims.len();
    let mut scalars = Vec::with_capacity(2 * n + 1);
    let mut points: Vec<EdwardsPoint> = Vec::with_capacity(2 * n + 1);
    scalars.push(Scalar::ZERO);
    points.push(ED25519_BASEPOINT_POINT);
    let mut position = HashMap::with_capacity(n);
    for (c, z) in claims.iter().zip(coefficients(transcript(claims))) {
        scalars[0] += z * c.s;
        scalars.push(-z);
        points.push(c.r);
        let term = z * c.h();
        match position.entry(c.key.bytes) {
            Entry::Occupied(at) => scalars[*at.get()] += term,
            Entry::Vacant(free) => {
                free.insert(points.len());
                scalars.push(term);
                points.push(c.key.minus_a);
            }
        }
    }
    EdwardsPoint::vartime_multiscalar_mul(&scalars, &points).is_small_order()
}
