//! Signer sets and their signatures (reference: `mc-crypto-multisig`).

use std::collections::BTreeSet;

use mc_crypto::ed25519;
use wire_mobilecoin::mint::{MultiSig, SignerSet};
use wire_mobilecoin::{Ed25519Key, Ed25519Sig};

/// Most signatures of one multi-signature.
pub const MAX_SIGNATURES: usize = 10;

/// How deep signer sets may nest; deeper ones are not valid.
pub const MAX_DEPTH: usize = 16;

/// Most keys of a signer set and all nested ones together, so that verification is bounded.
pub const MAX_SIGNERS: usize = 256;

/// Whether every threshold is at least one and can be reached.
pub fn is_valid(set: &SignerSet) -> bool {
    count(set, MAX_DEPTH).is_some_and(|keys| keys <= MAX_SIGNERS)
}

/// The keys in the set, if it and its nested sets are well-formed.
fn count(set: &SignerSet, depth: usize) -> Option<usize> {
    let members = set.individual_signers.len() + set.multi_signers.len();
    let reachable = set.threshold >= 1 && set.threshold as usize <= members;
    let mut keys = set.individual_signers.len();
    for nested in &set.multi_signers {
        keys = keys.checked_add(count(nested, depth.checked_sub(1)?)?)?;
    }
    reachable.then_some(keys)
}

/// Verifies signatures of a message; the signers that were found, in order of their keys. None if they do not suffice.
pub fn verify(set: &SignerSet, message: &[u8], signature: &MultiSig) -> Option<Vec<Ed25519Key>> {
    let signatures: BTreeSet<&Ed25519Sig> = signature.signatures.iter().collect();
    if signature.signatures.len() > MAX_SIGNATURES || !is_valid(set) {
        return None;
    }
    verify_set(set, message, &signatures).map(|signers| signers.into_iter().collect())
}

fn verify_set(set: &SignerSet, message: &[u8], signatures: &BTreeSet<&Ed25519Sig>) -> Option<BTreeSet<Ed25519Key>> {
    let distinct: BTreeSet<&Ed25519Key> = set.individual_signers.iter().collect();
    let signed = |key: &Ed25519Key| signatures.iter().any(|signature| ed25519::verify(key, message, signature));
    let mut found: BTreeSet<Ed25519Key> = distinct.into_iter().filter(|key| signed(key)).copied().collect();
    let mut satisfied = found.len();
    for nested in &set.multi_signers {
        if let Some(signers) = verify_set(nested, message, signatures) {
            satisfied += 1;
            found.extend(signers);
        }
    }
    (satisfied >= set.threshold as usize).then_some(found)
}
