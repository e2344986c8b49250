//! Signatures that are verified together before somebody asks for them one by one.
//!
//! What a block's transactions hold in signatures can mostly be told without any state. Collected as [`Claim`]s they
//! are verified in one batch, on whatever thread has time; execution then asks [`KnownSignatures::holds`], which
//! verifies what was not in the batch. The verdict of a signature is the same either way.

use std::collections::HashSet;

use base_crypto::{
    context::{self, ChainContext, Context},
    ed25519::{BatchVerifier, PublicKeyCache},
};
use base_prims::{PublicKey, RawSignature};

/// A signature over a message whose context was applied, not verified yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who is said to have signed.
    pub key: PublicKey,
    /// The message as `base_crypto::context::prepare` gives it.
    pub prepared: [u8; 32],
    /// The signature.
    pub signature: RawSignature,
}

impl Claim {
    /// A claim over `message` under `context`; nothing if the context is unusable.
    pub fn new(
        key: PublicKey,
        context: &Context,
        chain: Option<&ChainContext>,
        suffix: Option<&[u8]>,
        message: &[u8],
        signature: RawSignature,
    ) -> Option<Self> {
        let prepared = context::prepare(context, chain, suffix, message).ok()?;
        Some(Self { key, prepared, signature })
    }

    fn id(&self) -> [u8; 128] {
        id(&self.key, &self.prepared, &self.signature)
    }
}

fn id(key: &PublicKey, prepared: &[u8; 32], signature: &RawSignature) -> [u8; 128] {
    let mut id = [0; 128];
    id[..32].copy_from_slice(key.as_bytes());
    id[32..64].copy_from_slice(prepared);
    id[64..].copy_from_slice(signature.as_bytes());
    id
}

/// Signatures that were verified and hold.
#[derive(Clone, Debug, Default)]
pub struct KnownSignatures(HashSet<[u8; 128]>);

impl KnownSignatures {
    /// Verifies all claims in one batch. Returns which hold, in their order, beside the set of those.
    #[must_use]
    pub fn verify(claims: &[Claim], keys: &mut PublicKeyCache) -> (Self, Vec<bool>) {
        let mut batch = BatchVerifier::with_capacity(claims.len());
        for claim in claims {
            if claim.key.is_reserved() {
                batch.add_invalid();
            } else {
                batch.add_cached(keys, claim.key.as_bytes(), &claim.prepared, claim.signature.as_bytes());
            }
        }
        let (_, verdicts) = batch.verify();
        let good = claims.iter().zip(&verdicts).filter(|(_, good)| **good).map(|(claim, _)| claim.id());
        (Self(good.collect()), verdicts)
    }

    /// Whether the signature holds: known already, or verified now.
    #[must_use]
    pub fn holds(&self, key: &PublicKey, prepared: &[u8; 32], signature: &RawSignature) -> bool {
        self.0.contains(&id(key, prepared, signature)) || key.verify_prepared(prepared, signature)
    }

    /// Number of known signatures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use base_crypto::ed25519::SecretKey;

    use super::*;

    fn claim(seed: u8, message: &[u8]) -> Claim {
        let key = SecretKey::from_seed(&[seed; 32]);
        let prepared = context::prepare(&context::REGISTER_NODE, None, None, message).unwrap();
        let signature = RawSignature::new(key.sign(&prepared));
        let public = PublicKey::new(key.public());
        let claim = Claim::new(public, &context::REGISTER_NODE, None, None, message, signature).unwrap();
        assert_eq!(claim.prepared, prepared);
        claim
    }

    #[test]
    fn only_what_holds_is_known_and_the_rest_is_verified_when_asked() {
        let (good, other) = (claim(1, b"a"), claim(2, b"b"));
        let forged = Claim { signature: other.signature, ..good };
        let reserved = Claim { key: PublicKey::default(), ..good };
        let claims = [good, forged, reserved, other];
        let (known, verdicts) = KnownSignatures::verify(&claims, &mut PublicKeyCache::new(16));
        assert_eq!(verdicts, [true, false, false, true]);
        assert_eq!(known.len(), 2);
        let none = KnownSignatures::default();
        assert!(none.is_empty());
        for set in [&known, &none] {
            for (claim, verdict) in claims.iter().zip(&verdicts) {
                assert_eq!(set.holds(&claim.key, &claim.prepared, &claim.signature), *verdict);
            }
        }
        // Known is the signature with its key and message, not the signature.
        assert!(!known.holds(&other.key, &good.prepared, &good.signature));
        assert!(!known.holds(&good.key, &other.prepared, &good.signature));
    }

    #[test]
    fn a_context_bound_to_chains_needs_one() {
        let signature = RawSignature::new([0; 64]);
        assert_eq!(Claim::new(PublicKey::default(), &context::CONSENSUS_TX, None, None, b"", signature), None);
    }
}
