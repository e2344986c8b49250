//! Membership proofs in the tree of all outputs (reference: `mc-transaction-core::membership_proofs`).
//!
//! The tree's leaves are the outputs in ledger order, padded with a fixed nil hash to a power of two.

use mc_crypto::curve::h256;
use wire_mobilecoin::Hash;
use wire_mobilecoin::tx::{MembershipElement, MembershipProof, Range, TxOut};

/// The most elements of a proof: a leaf and a sibling for each level of a tree of 2^64 leaves.
pub const MAX_ELEMENTS: usize = 65;

/// Why a proof cannot be judged. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A range whose end is before its start.
    #[error("invalid range")]
    RangeError,
    /// The first element is not the leaf of the index.
    #[error("leaf hash of {0} is missing")]
    MissingLeafHash(u64),
    /// The leaf is not that of the output.
    #[error("leaf hash of {0} is incorrect")]
    IncorrectLeafHash(u64),
    /// An element that is not next to what precedes it.
    #[error("unexpected element {0}")]
    UnexpectedMembershipElement(usize),
    /// The index or the root do not fit the highest index.
    #[error("highest index does not fit")]
    HighestIndexMismatch,
    /// More elements than any tree has levels.
    #[error("{0} elements are too many")]
    TooManyElements(usize),
}

/// The hash of a leaf.
pub fn leaf_hash(tx_out: &TxOut) -> Hash {
    Hash(mc_crypto::onetime::leaf_hash(tx_out))
}

/// The hash of a node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(h256(&[b"mc_tx_out_merkle_node", &left.0, &right.0]))
}

/// The hash of everything that is not there.
pub fn nil_hash() -> Hash {
    Hash(h256(&[b"mc_tx_out_merkle_nil"]))
}

/// The last index of the smallest complete tree that holds the index.
pub fn root_end(index: u64) -> u64 {
    match index {
        0 => 0,
        _ => u64::MAX >> index.leading_zeros(),
    }
}

/// The root that the elements of a proof imply.
///
/// # Errors
/// If they do not combine to a tree that holds the index and the highest index.
pub fn implied_root(proof: &MembershipProof) -> Result<MembershipElement, Error> {
    if proof.elements.len() > MAX_ELEMENTS {
        return Err(Error::TooManyElements(proof.elements.len()));
    }
    if proof.index > proof.highest_index {
        return Err(Error::HighestIndexMismatch);
    }
    if proof.elements.iter().any(|e| e.range.from > e.range.to) {
        return Err(Error::RangeError);
    }
    let leaf_range = Range { from: proof.index, to: proof.index };
    let (leaf, rest) = proof
        .elements
        .split_first()
        .filter(|(leaf, _)| leaf.range == leaf_range)
        .ok_or(Error::MissingLeafHash(proof.index))?;
    let mut root = *leaf;
    for (index, element) in rest.iter().enumerate() {
        let follows = |a: &Range, b: &Range| a.to.checked_add(1) == Some(b.from);
        root = if follows(&root.range, &element.range) {
            MembershipElement {
                range: Range { from: root.range.from, to: element.range.to },
                hash: node_hash(&root.hash, &element.hash),
            }
        } else if follows(&element.range, &root.range) {
            MembershipElement {
                range: Range { from: element.range.from, to: root.range.to },
                hash: node_hash(&element.hash, &root.hash),
            }
        } else {
            return Err(Error::UnexpectedMembershipElement(index + 1));
        };
    }
    if root.range.from != 0 || root.range.to < proof.highest_index {
        return Err(Error::HighestIndexMismatch);
    }
    Ok(root)
}

/// Whether the proof shows that the output is in the tree of that root.
///
/// # Errors
/// If the proof is malformed or about another output.
pub fn is_valid(tx_out: &TxOut, proof: &MembershipProof, root: &Hash) -> Result<bool, Error> {
    let implied = implied_root(proof)?;
    let leaf = proof.elements.first().ok_or(Error::MissingLeafHash(proof.index))?;
    if leaf.hash != leaf_hash(tx_out) {
        return Err(Error::IncorrectLeafHash(proof.index));
    }
    Ok(implied.hash == *root)
}

/// The proof of the same index in the tree in which that index was the last leaf.
///
/// # Errors
/// If the proof is malformed.
pub fn derive_at_index(proof: &MembershipProof) -> Result<MembershipProof, Error> {
    if proof.elements.len() > MAX_ELEMENTS {
        return Err(Error::TooManyElements(proof.elements.len()));
    }
    if proof.elements.iter().any(|e| e.range.from > e.range.to) {
        return Err(Error::RangeError);
    }
    let end = root_end(proof.index);
    let elements = proof.elements.iter().filter(|e| e.range.to <= end).map(|e| MembershipElement {
        range: e.range,
        hash: if e.range.from > proof.index { nil_hash() } else { e.hash },
    });
    Ok(MembershipProof { index: proof.index, highest_index: proof.index, elements: elements.collect() })
}

/// The root of the tree in which the proof's index was the last leaf.
///
/// # Errors
/// If the proof is malformed.
pub fn root_at_index(proof: &MembershipProof) -> Result<MembershipElement, Error> {
    implied_root(&derive_at_index(proof)?)
}

/// Where the hashes of a tree come from.
pub trait Tree {
    /// What reading can fail with.
    type Error;

    /// How many leaves there are.
    fn num_leaves(&self) -> Result<u64, Self::Error>;

    /// The hash of a complete subtree, if there is a real leaf in it; ranges without one are never asked for.
    fn hash_of(&self, range: Range) -> Result<Hash, Self::Error>;
}

fn hash_or_nil<T: Tree>(tree: &T, num_leaves: u64, range: Range) -> Result<Hash, T::Error> {
    if range.from >= num_leaves { Ok(nil_hash()) } else { tree.hash_of(range) }
}

/// The root of a tree; of an empty one the default element.
///
/// # Errors
/// If reading fails.
pub fn root_of<T: Tree>(tree: &T) -> Result<MembershipElement, T::Error> {
    let num_leaves = tree.num_leaves()?;
    let Some(last) = num_leaves.checked_sub(1) else {
        return Ok(MembershipElement::default());
    };
    let range = Range { from: 0, to: root_end(last) };
    Ok(MembershipElement { range, hash: tree.hash_of(range)? })
}

/// The proof that a leaf is in a tree; None if it has no such leaf.
///
/// # Errors
/// If reading fails.
pub fn proof_of<T: Tree>(tree: &T, index: u64) -> Result<Option<MembershipProof>, T::Error> {
    let num_leaves = tree.num_leaves()?;
    let Some(last) = num_leaves.checked_sub(1).filter(|last| index <= *last) else {
        return Ok(None);
    };
    let leaf = Range { from: index, to: index };
    let mut elements = vec![MembershipElement { range: leaf, hash: tree.hash_of(leaf)? }];
    let levels = u64::BITS - last.leading_zeros();
    for level in 0..levels {
        let sibling = (index >> level) ^ 1;
        let from = sibling << level;
        let range = Range { from, to: from + ((1u64 << level) - 1) };
        elements.push(MembershipElement { range, hash: hash_or_nil(tree, num_leaves, range)? });
    }
    Ok(Some(MembershipProof { index, highest_index: last, elements }))
}

/// The ranges whose hashes change when a leaf is added at an index, the leaf first, the root of the new tree last.
pub fn ranges_above(index: u64) -> Vec<Range> {
    let levels = u64::BITS - index.leading_zeros();
    (0..=levels)
        .map(|level| {
            let from = index.checked_shr(level).unwrap_or(0).checked_shl(level).unwrap_or(0);
            Range { from, to: from + 1u64.checked_shl(level).map_or(u64::MAX, |size| size - 1) }
        })
        .collect()
}

/// A tree in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    /// Hashes by level from the leaves up, of subtrees with a real leaf.
    levels: Vec<Vec<Hash>>,
}

impl MemoryTree {
    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        self.levels[0].push(leaf);
        let mut index = self.levels[0].len() - 1;
        let mut level = 0;
        while self.levels[level].len() > 1 || level + 1 < self.levels.len() {
            let left = index & !1;
            let right = self.levels[level].get(left + 1).copied().unwrap_or_else(nil_hash);
            let hash = node_hash(&self.levels[level][left], &right);
            index /= 2;
            level += 1;
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            match self.levels[level].get_mut(index) {
                Some(slot) => *slot = hash,
                None => self.levels[level].push(hash),
            }
        }
    }
}

impl Tree for MemoryTree {
    type Error = std::convert::Infallible;

    fn num_leaves(&self) -> Result<u64, Self::Error> {
        Ok(self.levels.first().map_or(0, |leaves| leaves.len() as u64))
    }

    fn hash_of(&self, range: Range) -> Result<Hash, Self::Error> {
        let size = range.to - range.from + 1;
        let level = size.trailing_zeros() as usize;
        let index = (range.from >> level) as usize;
        Ok(self.levels.get(level).and_then(|hashes| hashes.get(index)).copied().unwrap_or_else(nil_hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_of_trees_of_any_size_hold_and_altered_ones_do_not() {
        let mut tree = MemoryTree::default();
        let outs: Vec<TxOut> =
            (0..40u8).map(|i| TxOut { public_key: wire_mobilecoin::Point([i; 32]), ..TxOut::default() }).collect();
        for (count, out) in outs.iter().enumerate() {
            tree.push(leaf_hash(out));
            let root = root_of(&tree).unwrap();
            for (index, out) in outs.iter().enumerate().take(count + 1) {
                let proof = proof_of(&tree, index as u64).unwrap().unwrap();
                assert_eq!(is_valid(out, &proof, &root.hash), Ok(true));
                for changed in 1..proof.elements.len() {
                    let mut bad = proof.clone();
                    bad.elements[changed].hash.0[3] ^= 1;
                    assert_eq!(is_valid(out, &bad, &root.hash), Ok(false));
                }
            }
            assert_eq!(proof_of(&tree, count as u64 + 1).unwrap(), None);
        }
    }

    #[test]
    fn ranges_above_a_leaf_end_with_the_root() {
        assert_eq!(ranges_above(0), [Range { from: 0, to: 0 }]);
        assert_eq!(ranges_above(5), [(5, 5), (4, 5), (4, 7), (0, 7)].map(|(from, to)| Range { from, to }));
        assert_eq!(ranges_above(u64::MAX).last(), Some(&Range { from: 0, to: u64::MAX }));
        assert_eq!((root_end(0), root_end(1), root_end(2), root_end(4)), (0, 1, 3, 7));
    }
}
