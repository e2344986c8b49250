//! Blocks cut into parts for gossip, with a proof for each part.
//!
//! Reference: `cometbft:types/part_set.go`.

use crate::block::PartSetHeader;
use crate::codec::messages;
use crate::limits::{BLOCK_PART_BYTES, MAX_BLOCK_PARTS};
use crate::merkle::{self, Proof, ProofError};

messages! {
    /// One part of an encoded block (`tendermint.types.Part`).
    pub struct Part {
        /// Place in the block.
        1 => index: u32,
        /// The bytes: 65,536 of them, fewer in the last part.
        2 => bytes: Vec<u8>,
        /// Proof that this part is at this place.
        3 => proof: Proof,
    }
}

/// Why a part is malformed or not of this set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// More than 65,536 bytes, or fewer although it is not the last part.
    #[error("part of {0} bytes")]
    Size(usize),
    /// Part and proof name different places.
    #[error("part index {index} is not proof index {proof}")]
    IndexMismatch {
        /// The part's place.
        index: u32,
        /// The proof's place.
        proof: i64,
    },
    /// No such place in this set.
    #[error("unexpected part index {0}")]
    UnexpectedIndex(u32),
    /// More parts than any block has.
    #[error("part set of {0} parts")]
    TooManyParts(u32),
    /// The proof is malformed or does not lead to the set's hash.
    #[error("invalid part proof: {0}")]
    Proof(#[from] ProofError),
    /// The proof is for a set of another size.
    #[error("proof is for {0} parts")]
    TotalMismatch(i64),
}

impl Part {
    /// Checks sizes, places and the proof's shape.
    pub fn validate_basic(&self) -> Result<(), PartError> {
        self.proof.validate_basic()?;
        let len = self.bytes.len();
        if len > BLOCK_PART_BYTES {
            return Err(PartError::Size(len));
        }
        // Overflow cannot happen: the total is not negative.
        if i64::from(self.index) < self.proof.total - 1 && len != BLOCK_PART_BYTES {
            return Err(PartError::Size(len));
        }
        if i64::from(self.index) != self.proof.index {
            return Err(PartError::IndexMismatch { index: self.index, proof: self.proof.index });
        }
        Ok(())
    }
}

/// The parts of one block, all or as many as have come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSet {
    header: PartSetHeader,
    parts: Vec<Option<Part>>,
    count: usize,
    byte_size: usize,
}

impl PartSet {
    /// Cuts an encoded block into parts of `part_size` bytes (not zero; the protocol's is 65,536).
    pub fn from_bytes(bytes: &[u8], part_size: usize) -> Self {
        let chunks: Vec<&[u8]> = bytes.chunks(part_size.max(1)).collect();
        let (root, proofs) = merkle::prove(&chunks);
        let parts: Vec<Option<Part>> = (0u32..)
            .zip(chunks.iter().zip(proofs))
            .map(|(index, (chunk, proof))| Some(Part { index, bytes: chunk.to_vec(), proof }))
            .collect();
        let header = PartSetHeader { total: u32::try_from(parts.len()).unwrap_or(u32::MAX), hash: root.to_vec() };
        Self { header, count: parts.len(), parts, byte_size: bytes.len() }
    }

    /// An empty set to be filled; refuses more parts than the largest block has.
    pub fn from_header(header: PartSetHeader) -> Result<Self, PartError> {
        if header.total > MAX_BLOCK_PARTS {
            return Err(PartError::TooManyParts(header.total));
        }
        let parts = vec![None; header.total as usize];
        Ok(Self { header, parts, count: 0, byte_size: 0 })
    }

    /// Number of parts and root hash.
    pub fn header(&self) -> &PartSetHeader {
        &self.header
    }

    /// Adds a part after checking its proof; `false` if it was there already.
    pub fn add(&mut self, part: Part) -> Result<bool, PartError> {
        let slot = self.parts.get_mut(part.index as usize).ok_or(PartError::UnexpectedIndex(part.index))?;
        if slot.is_some() {
            return Ok(false);
        }
        if part.proof.total != i64::from(self.header.total) {
            return Err(PartError::TotalMismatch(part.proof.total));
        }
        // DEVIATION: the reference checks this agreement only when it decodes the part.
        if part.proof.index != i64::from(part.index) {
            return Err(PartError::IndexMismatch { index: part.index, proof: part.proof.index });
        }
        part.proof.verify(&self.header.hash, &part.bytes)?;
        self.count += 1;
        self.byte_size += part.bytes.len();
        *slot = Some(part);
        Ok(true)
    }

    /// The part at a place, if it has come in.
    pub fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)?.as_ref()
    }

    /// Whether each part has come in, in order.
    pub fn present(&self) -> impl Iterator<Item = bool> + '_ {
        self.parts.iter().map(Option::is_some)
    }

    /// Number of parts that have come in.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Total bytes of the parts that have come in.
    pub fn byte_size(&self) -> usize {
        self.byte_size
    }

    /// Whether every part has come in.
    pub fn is_complete(&self) -> bool {
        self.count == self.parts.len()
    }

    /// The block's bytes; `None` before every part has come in.
    pub fn assemble(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.byte_size);
        for part in &self.parts {
            bytes.extend_from_slice(&part.as_ref()?.bytes);
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Message;

    #[test]
    fn cut_and_put_together_again() {
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let set = PartSet::from_bytes(&bytes, BLOCK_PART_BYTES);
        assert_eq!((set.header().total, set.count(), set.byte_size()), (4, 4, 200_000));
        assert_eq!(set.assemble().unwrap(), bytes);

        let mut other = PartSet::from_header(set.header().clone()).unwrap();
        for index in [2, 0, 3, 1] {
            assert!(!other.is_complete() && other.assemble().is_none());
            let part = set.part(index).unwrap().clone();
            part.validate_basic().unwrap();
            assert_eq!(Part::decode(&part.encode_to_vec()).unwrap(), part);
            let mut wrong = part.clone();
            wrong.bytes[5] ^= 1;
            assert_eq!(other.add(wrong), Err(PartError::Proof(ProofError::LeafMismatch)));
            let mut elsewhere = part.clone();
            elsewhere.index = (elsewhere.index + 1) % 4;
            assert!(elsewhere.validate_basic().is_err());
            assert!(!matches!(other.clone().add(elsewhere), Ok(true)));
            assert_eq!(other.add(part.clone()), Ok(true));
            assert_eq!(other.add(part), Ok(false));
        }
        assert!(other.is_complete());
        assert_eq!(other.assemble().unwrap(), bytes);
    }

    #[test]
    fn sets_and_parts_are_bounded() {
        assert!(PartSet::from_header(PartSetHeader { total: MAX_BLOCK_PARTS + 1, hash: vec![0; 32] }).is_err());
        let mut part = PartSet::from_bytes(&[1; 70_000], 70_000).part(0).unwrap().clone();
        assert_eq!(part.validate_basic(), Err(PartError::Size(70_000)));
        part.proof.total = 2;
        part.bytes.truncate(5);
        assert_eq!(part.validate_basic(), Err(PartError::Size(5)));
    }
}
