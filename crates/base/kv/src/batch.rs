//! A list of changes that are applied together, in one buffer.

use std::ops::Range;

/// One change of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// Sets a key to a value.
    Put(&'a [u8], &'a [u8]),
    /// Removes a key.
    Delete(&'a [u8]),
}

/// Changes that are applied together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    data: Vec<u8>,
    /// Where each change's key and value are in `data`; no value for a removal.
    ops: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl Batch {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        start..self.data.len()
    }

    /// Sets a key.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> &mut Self {
        let key = self.push(key);
        let value = self.push(value);
        self.ops.push((key, Some(value)));
        self
    }

    /// Removes a key.
    pub fn delete(&mut self, key: &[u8]) -> &mut Self {
        let key = self.push(key);
        self.ops.push((key, None));
        self
    }

    /// The changes in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = Op<'_>> {
        let at = |r: &Range<usize>| self.data.get(r.clone()).unwrap_or_default();
        self.ops.iter().map(move |(key, value)| match value {
            Some(value) => Op::Put(at(key), at(value)),
            None => Op::Delete(at(key)),
        })
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Drops all changes and keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.ops.clear();
    }
}
