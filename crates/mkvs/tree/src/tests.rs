//! Tests of the whole crate: outside vectors (`vectors`), and properties against an ordered map (`prop`).

mod prop;
mod remote;
mod vectors;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::{KvRead, KvWrite, Sequential, Tree, TreeError};

/// The model every store is compared with.
pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

impl KvRead for Model {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn iterate(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), TreeError> {
        for (k, v) in self.range(from.to_vec()..) {
            if visit(k, v).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl KvWrite for Model {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        BTreeMap::insert(self, key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        BTreeMap::remove(self, key);
        Ok(())
    }
}

/// All pairs from `from` on.
pub(crate) fn pairs(store: &(impl KvRead + ?Sized), from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    store
        .iterate(from, &mut |k, v| {
            out.push((k.to_vec(), v.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    out
}

/// A tree with these pairs, committed in memory.
pub(crate) fn tree_of<K: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (K, V)>) -> Tree {
    let mut tree = Tree::in_memory();
    for (k, v) in pairs {
        tree.insert(k.as_ref(), v.as_ref()).unwrap();
    }
    tree.commit(1, 0, &Sequential);
    tree
}
