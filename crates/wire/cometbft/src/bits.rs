//! Sets of small numbers (parts held, votes seen) as nodes tell each other.
//!
//! Reference: `cometbft:libs/bits/bit_array.go`, `proto/tendermint/libs/bits/types.proto`.

use crate::codec::messages;

messages! {
    /// A row of bits, lowest bit first within each word. Use the methods: peers may send rows whose words do
    /// not fit their length, which [`BitArray::validate_basic`] refuses.
    pub struct BitArray {
        /// Number of bits.
        1 => bits: i64,
        /// The words, ⌈bits / 64⌉ of them.
        2 => elems: Vec<u64>,
    }
}

/// The number of bits and the number of words disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{bits} bits in {words} words")]
pub struct BitArrayError {
    /// Number of bits stated.
    pub bits: i64,
    /// Number of words found.
    pub words: usize,
}

impl BitArray {
    /// So many bits, none set.
    pub fn new(bits: usize) -> Self {
        Self { bits: i64::try_from(bits).unwrap_or(i64::MAX), elems: vec![0; bits.div_ceil(64)] }
    }

    /// Checks that bits and words agree; refuses a negative number of bits.
    pub fn validate_basic(&self) -> Result<(), BitArrayError> {
        let wanted = usize::try_from(self.bits).ok().map(|bits| bits.div_ceil(64));
        if wanted == Some(self.elems.len()) {
            return Ok(());
        }
        Err(BitArrayError { bits: self.bits, words: self.elems.len() })
    }

    /// Number of bits.
    pub fn len(&self) -> usize {
        usize::try_from(self.bits).unwrap_or(0)
    }

    /// Whether there are no bits at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a bit is set; outside of the row: no.
    pub fn get(&self, index: usize) -> bool {
        index < self.len() && self.elems.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Sets or clears a bit; `false` if it lies outside of the row.
    pub fn set(&mut self, index: usize, value: bool) -> bool {
        if index >= self.len() {
            return false;
        }
        let Some(word) = self.elems.get_mut(index / 64) else {
            return false;
        };
        if value {
            *word |= 1 << (index % 64);
        } else {
            *word &= !(1 << (index % 64));
        }
        true
    }

    /// Places of the bits that are set.
    pub fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len().min(self.elems.len().saturating_mul(64))).filter(|&index| self.get(index))
    }

    /// Whether every bit is set; true of an empty row.
    pub fn is_full(&self) -> bool {
        (0..self.len()).all(|index| self.get(index))
    }

    /// The bits set here or in `other`, in a row as long as the longer one.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let mut out = Self::new(self.len().max(other.len()));
        self.ones().chain(other.ones()).for_each(|index| {
            out.set(index, true);
        });
        out
    }

    /// The bits set here and in `other`, in a row as long as the shorter one.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut out = Self::new(self.len().min(other.len()));
        self.ones().filter(|&index| other.get(index)).for_each(|index| {
            out.set(index, true);
        });
        out
    }

    /// The bits set here and not in `other`, in a row as long as this one.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut out = Self::new(self.len());
        self.ones().filter(|&index| !other.get(index)).for_each(|index| {
            out.set(index, true);
        });
        out
    }
}

impl FromIterator<bool> for BitArray {
    fn from_iter<I: IntoIterator<Item = bool>>(bits: I) -> Self {
        let mut out = Self::default();
        for (index, bit) in bits.into_iter().enumerate() {
            if index % 64 == 0 {
                out.elems.push(0);
            }
            out.bits += 1;
            out.set(index, bit);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_operations() {
        let a: BitArray = (0..70).map(|i| i % 2 == 0).collect();
        let b: BitArray = (0..66).map(|i| i % 3 == 0).collect();
        a.validate_basic().unwrap();
        assert_eq!((a.len(), a.elems.len()), (70, 2));
        assert_eq!(a.or(&b).ones().count(), 35 + 11);
        assert_eq!(a.and(&b).ones().collect::<Vec<_>>(), (0..66).step_by(6).collect::<Vec<_>>());
        assert_eq!(a.without(&b).len(), 70);
        assert!(!a.get(70) && !a.clone().set(70, true));
        assert!((0..65).map(|_| true).collect::<BitArray>().is_full());
    }

    #[test]
    fn rows_that_lie_about_their_length_are_refused() {
        for (bits, words) in [(-1, 0), (1, 0), (64, 2), (i64::MAX, 1)] {
            let row = BitArray { bits, elems: vec![u64::MAX; words] };
            assert!(row.validate_basic().is_err());
            let _ = (row.get(1000), row.ones().count());
        }
    }
}
