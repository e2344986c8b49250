//! The binary hash tree of RFC 6962 and proofs of membership in it.
//!
//! Reference: `cometbft:crypto/merkle/{tree,hash,proof}.go`. A leaf hashes as SHA-256(00 ‖ value), an inner node as
//! SHA-256(01 ‖ left ‖ right); a list splits at the largest power of two below its length; the empty list hashes
//! as SHA-256 of nothing.

use sha2::{Digest, Sha256};

use crate::codec::messages;

/// Length of a hash in bytes.
pub const HASH_SIZE: usize = 32;
/// A SHA-256 hash.
pub type Hash = [u8; HASH_SIZE];
/// Most sibling hashes that a proof may carry.
pub const MAX_AUNTS: usize = 100;

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

fn leaf_hash(value: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(value).finalize().into()
}

fn inner_hash(left: &[u8], right: &[u8]) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Largest power of two below `len`; `len` is at least 2.
fn split_point(len: u64) -> u64 {
    let half = 1 << (63 - len.leading_zeros());
    if half == len { half / 2 } else { half }
}

fn root_of_leaves(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split_point(leaves.len() as u64) as usize);
            inner_hash(&root_of_leaves(left), &root_of_leaves(right))
        }
    }
}

/// Root hash of a list of values.
pub fn root<T: AsRef<[u8]>>(items: &[T]) -> Hash {
    let leaves: Vec<Hash> = items.iter().map(|item| leaf_hash(item.as_ref())).collect();
    root_of_leaves(&leaves)
}

/// Root hash of a list of values and, for each of them, the proof that it is in the list.
pub fn prove<T: AsRef<[u8]>>(items: &[T]) -> (Hash, Vec<Proof>) {
    let leaves: Vec<Hash> = items.iter().map(|item| leaf_hash(item.as_ref())).collect();
    let total = leaves.len() as i64;
    let mut proofs: Vec<Proof> = leaves
        .iter()
        .zip(0..)
        .map(|(leaf, index)| Proof { total, index, leaf_hash: leaf.to_vec(), aunts: Vec::new() })
        .collect();
    let root = collect_aunts(&leaves, &mut proofs);
    (root, proofs)
}

fn collect_aunts(leaves: &[Hash], proofs: &mut [Proof]) -> Hash {
    if leaves.len() < 2 {
        return root_of_leaves(leaves);
    }
    let middle = split_point(leaves.len() as u64) as usize;
    let (left_proofs, right_proofs) = proofs.split_at_mut(middle);
    let left = collect_aunts(&leaves[..middle], left_proofs);
    let right = collect_aunts(&leaves[middle..], right_proofs);
    left_proofs.iter_mut().for_each(|proof| proof.aunts.push(right.to_vec()));
    right_proofs.iter_mut().for_each(|proof| proof.aunts.push(left.to_vec()));
    inner_hash(&left, &right)
}

messages! {
    /// Proof that a value is in a list of which only the root hash is known (`tendermint.crypto.Proof`).
    pub struct Proof {
        /// Length of the list.
        1 => total: i64,
        /// Position of the value.
        2 => index: i64,
        /// Hash of the value as a leaf.
        3 => leaf_hash: Vec<u8>,
        /// Sibling hashes from the leaf up.
        4 => aunts: Vec<Vec<u8>>,
    }
}

/// Why a proof is malformed or does not prove what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Total or index below zero.
    #[error("negative total or index")]
    Negative,
    /// A hash that is not 32 bytes.
    #[error("hash of {0} bytes in proof")]
    HashSize(usize),
    /// More siblings than any list needs.
    #[error("proof with {0} aunts")]
    TooManyAunts(usize),
    /// The leaf hash is not that of the value.
    #[error("leaf hash does not match")]
    LeafMismatch,
    /// Index outside of the list, or a number of siblings that does not fit.
    #[error("proof does not fit its total and index")]
    Shape,
    /// The proof leads to another root.
    #[error("root hash does not match")]
    RootMismatch,
}

impl Proof {
    /// Checks ranges and lengths.
    pub fn validate_basic(&self) -> Result<(), ProofError> {
        if self.total < 0 || self.index < 0 {
            return Err(ProofError::Negative);
        }
        if self.leaf_hash.len() != HASH_SIZE {
            return Err(ProofError::HashSize(self.leaf_hash.len()));
        }
        if self.aunts.len() > MAX_AUNTS {
            return Err(ProofError::TooManyAunts(self.aunts.len()));
        }
        match self.aunts.iter().find(|aunt| aunt.len() != HASH_SIZE) {
            Some(aunt) => Err(ProofError::HashSize(aunt.len())),
            None => Ok(()),
        }
    }

    /// Checks that `value` stands at `index` of the list of `total` values with the root hash `root`.
    pub fn verify(&self, root: &[u8], value: &[u8]) -> Result<(), ProofError> {
        if self.total < 0 || self.index < 0 {
            return Err(ProofError::Negative);
        }
        let leaf = leaf_hash(value);
        if self.leaf_hash != leaf {
            return Err(ProofError::LeafMismatch);
        }
        if self.compute_root(leaf)? != root { Err(ProofError::RootMismatch) } else { Ok(()) }
    }

    fn compute_root(&self, leaf: Hash) -> Result<Hash, ProofError> {
        let (Ok(mut index), Ok(mut total)) = (u64::try_from(self.index), u64::try_from(self.total)) else {
            return Err(ProofError::Negative);
        };
        if index >= total {
            return Err(ProofError::Shape);
        }
        // From the root down: which side the value is on; at most 63 levels.
        let mut on_right = Vec::new();
        while total > 1 {
            let left = split_point(total);
            on_right.push(index >= left);
            if index >= left {
                index -= left;
                total -= left;
            } else {
                total = left;
            }
        }
        if on_right.len() != self.aunts.len() {
            return Err(ProofError::Shape);
        }
        Ok(on_right
            .iter()
            .rev()
            .zip(&self.aunts)
            .fold(leaf, |hash, (&right, aunt)| if right { inner_hash(aunt, &hash) } else { inner_hash(&hash, aunt) }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_6962_hashes() {
        let check = |items: &[&[u8]], expected: &str| assert_eq!(hex::encode(root(items)), expected);
        check(&[], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        check(&[b""], "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        check(&[b"L123456"], "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56");
        assert_eq!(
            hex::encode(inner_hash(b"N123", b"N456")),
            "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
        );
    }

    proptest! {
        #[test]
        fn every_proof_verifies_and_no_changed_one_does(
            items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..40),
            pick in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let (hash, proofs) = prove(&items);
            prop_assert_eq!(hash, root(&items));
            let at = pick.index(items.len());
            let proof = &proofs[at];
            proof.validate_basic().unwrap();
            proof.verify(&hash, &items[at]).unwrap();

            let mut value = items[at].clone();
            value.push(0);
            prop_assert!(proof.verify(&hash, &value).is_err());
            if !proof.aunts.is_empty() {
                let mut changed = proof.clone();
                let aunt = flip.index(changed.aunts.len());
                changed.aunts[aunt][usize::from(bit)] ^= 1 << bit;
                prop_assert_eq!(changed.verify(&hash, &items[at]), Err(ProofError::RootMismatch));
                let mut short = proof.clone();
                short.aunts.pop();
                prop_assert_eq!(short.verify(&hash, &items[at]), Err(ProofError::Shape));
            }
            let mut longer = proof.clone();
            longer.aunts.push(vec![0; 32]);
            prop_assert!(longer.verify(&hash, &items[at]).is_err());
            let mut outside = proof.clone();
            outside.index = outside.total;
            prop_assert_eq!(outside.verify(&hash, &items[at]), Err(ProofError::Shape));
        }

        #[test]
        fn arbitrary_proofs_never_panic(total in any::<i64>(), index in any::<i64>(), count in 0usize..110) {
            let leaf = leaf_hash(b"x");
            let proof = Proof { total, index, leaf_hash: leaf.to_vec(), aunts: vec![vec![7; 32]; count] };
            let _ = proof.validate_basic();
            let _ = proof.verify(&leaf, b"x");
        }
    }
}
