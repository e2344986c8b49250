//! Whose values a node votes for in a round of nomination.

use std::collections::BTreeSet;

use sha3::{Digest as _, Sha3_256};
use wire_mobilecoin::quorum::{NodeId, QuorumSet};
use wire_mobilecoin::scp::SlotIndex;

use crate::quorum::weight;

/// What is hashed: whether a node is a neighbour, or how high its priority is.
#[derive(Clone, Copy)]
enum Purpose {
    Neighbour = 1,
    Priority = 2,
}

fn hash(slot: SlotIndex, purpose: Purpose, round: u32, node: &NodeId) -> [u8; 32] {
    let mut hasher = Sha3_256::new();
    hasher.update(slot.to_be_bytes());
    hasher.update([purpose as u8]);
    hasher.update(round.to_be_bytes());
    hasher.update(node.public_key.0);
    hasher.finalize().into()
}

/// Whether `hash < (2^256 − 1)·numerator/denominator`, by long arithmetic over 64-bit limbs.
fn is_below(hash: &[u8; 32], numerator: u64, denominator: u64) -> bool {
    if denominator == 0 {
        return false;
    }
    // floor((2^256 − 1)·numerator / denominator), most significant limb first, with a carry limb in front.
    let mut product = [0u64; 5];
    let mut carry = 0u128;
    for limb in (0..4).rev() {
        let value = u128::from(u64::MAX) * u128::from(numerator) + carry;
        product[limb + 1] = value as u64;
        carry = value >> 64;
    }
    product[0] = carry as u64;
    let mut remainder = 0u128;
    let mut bound = [0u64; 5];
    for (limb, out) in product.iter().zip(&mut bound) {
        let value = (remainder << 64) | u128::from(*limb);
        *out = (value / u128::from(denominator)) as u64;
        remainder = value % u128::from(denominator);
    }
    let limbs: [u64; 5] = std::array::from_fn(|i| match i {
        0 => 0,
        _ => u64::from_be_bytes(std::array::from_fn(|j| hash[8 * (i - 1) + j])),
    });
    limbs < bound
}

/// The leader that a round adds: of the neighbours that are not leaders yet, the one with the highest priority.
pub fn next_leader(
    slot: SlotIndex,
    round: u32,
    local: &NodeId,
    set: &QuorumSet,
    leaders: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    let others: BTreeSet<&NodeId> = set.nodes().into_iter().filter(|node| *node != local).collect();
    std::iter::once(local)
        .chain(others)
        .filter(|node| !leaders.contains(*node))
        .filter(|node| {
            let (numerator, denominator) = if *node == local { (1, 1) } else { weight(set, node) };
            is_below(&hash(slot, Purpose::Neighbour, round, node), numerator, denominator)
        })
        .max_by_key(|node| (hash(slot, Purpose::Priority, round, node), node.public_key))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_fractions_of_the_range() {
        let quarter = [[0x3f; 1].as_slice(), &[0xff; 31]].concat();
        let quarter: [u8; 32] = quarter.try_into().unwrap();
        assert!(!is_below(&quarter, 1, 4) && is_below(&quarter, 1, 3) && is_below(&quarter, 2, 7));
        assert!(is_below(&[0; 32], 1, 1) && !is_below(&[0; 32], 0, 1) && !is_below(&[0xff; 32], 1, 1));
        assert!(!is_below(&[0; 32], 1, 0) && is_below(&[0xff; 32], u64::MAX, 1));
    }
}
