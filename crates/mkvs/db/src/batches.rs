//! Writing in slices of bounded size.

use base_kv::{Batch, Durability, KvError, KvStore, Op, Order};
use std::ops::ControlFlow;

/// Bytes of one slice, roughly. Small in tests, so that they cut everything.
pub(crate) const SLICE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 16 << 20 };

/// Most operations of one slice.
pub(crate) const SLICE_OPS: usize = if cfg!(test) { 24 } else { 100_000 };

/// Collects changes and writes them whenever a slice is full.
pub(crate) struct Sliced<'a> {
    kv: &'a dyn KvStore,
    batch: Batch,
    /// Written before the first slice, if there is more than one.
    before: Option<Batch>,
}

impl<'a> Sliced<'a> {
    pub(crate) fn new(kv: &'a dyn KvStore) -> Self {
        Self { kv, batch: Batch::new(), before: None }
    }

    /// As [`Sliced::new`], with something to write first if there turns out to be more than one slice.
    pub(crate) fn with_preamble(kv: &'a dyn KvStore, before: Batch) -> Self {
        Self { before: Some(before), ..Self::new(kv) }
    }

    pub(crate) fn op(&mut self, op: Op<'_>) -> Result<(), KvError> {
        match op {
            Op::Put(key, value) => self.batch.put(key, value),
            Op::Delete(key) => self.batch.delete(key),
        };
        if self.batch.bytes() >= SLICE_BYTES || self.batch.len() >= SLICE_OPS {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is collected, to be made durable with a later write.
    pub(crate) fn flush(&mut self) -> Result<(), KvError> {
        if !self.batch.is_empty() {
            if let Some(before) = self.before.take() {
                self.kv.write(&before, Durability::Buffered)?;
            }
            self.kv.write(&self.batch, Durability::Buffered)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Hands out what is collected and not written yet.
    pub(crate) fn into_batch(self) -> Batch {
        self.batch
    }

    /// Deletes every key that starts with `prefix`.
    pub(crate) fn delete_prefix(&mut self, prefix: &[u8]) -> Result<(), KvError> {
        let end = mkvs_tree::prefix_end(prefix);
        let mut from = prefix.to_vec();
        loop {
            let mut keys: Vec<Vec<u8>> = Vec::new();
            self.kv.scan(&from, end.as_deref(), Order::Forward, &mut |key, _| {
                keys.push(key.to_vec());
                if keys.len() < SLICE_OPS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            for key in &keys {
                self.op(Op::Delete(key))?;
            }
            match keys.pop() {
                Some(mut last) if keys.len() + 1 == SLICE_OPS => {
                    last.push(0);
                    from = last;
                }
                _ => return Ok(()),
            }
        }
    }
}
