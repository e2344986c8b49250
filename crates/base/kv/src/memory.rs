//! A store in memory.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, PoisonError, RwLock};

use crate::{Batch, Durability, KvError, KvStats, KvStore, Op, Order};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store that is gone when it is dropped.
#[derive(Debug, Default)]
pub struct Memory {
    /// Shared with running scans; a write during a scan copies it.
    map: RwLock<Arc<Map>>,
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self { map: RwLock::new(self.snapshot()) }
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn snapshot(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn apply(&self, batch: &Batch) -> Result<(), KvError> {
        for op in batch.iter() {
            let (Op::Put(key, _) | Op::Delete(key)) = op;
            if key.is_empty() || key.len() > 500 {
                return Err(KvError::Key { len: key.len() });
            }
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let map = Arc::make_mut(&mut map);
        for op in batch.iter() {
            match op {
                Op::Put(key, value) => {
                    map.insert(key.to_vec(), value.to_vec());
                }
                Op::Delete(key) => {
                    map.remove(key);
                }
            }
        }
        Ok(())
    }
}

impl KvStore for Memory {
    fn get_with(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        let map = self.snapshot();
        Ok(map.get(key).map(|value| visit(value)).is_some())
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), KvError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let map = self.snapshot();
        let mut range = map.range::<[u8], _>((Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded)));
        let mut next = || match order {
            Order::Forward => range.next(),
            Order::Reverse => range.next_back(),
        };
        while let Some((key, value)) = next() {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &Batch, _: Durability) -> Result<(), KvError> {
        self.apply(batch)
    }

    fn sync(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn compact(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn stats(&self) -> Result<KvStats, KvError> {
        let map = self.snapshot();
        let used = map.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum();
        Ok(KvStats { used_bytes: used, disk_bytes: used })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn conforms() {
        crate::conformance::run(&mut super::Memory::new);
    }
}
