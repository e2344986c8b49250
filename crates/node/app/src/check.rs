//! The pool's view of the state: the committed state with the effects of the transactions that were checked since.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use mkvs_tree::{KvRead, TreeError};

use crate::store::Change;

/// Changes by checked transactions since the last commit.
#[derive(Default)]
pub(crate) struct CheckState(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl CheckState {
    /// The state with the changes over it.
    pub(crate) fn over<'a>(&'a self, base: &'a dyn KvRead) -> CheckView<'a> {
        CheckView { base, changes: &self.0 }
    }

    /// Adds the changes of a checked transaction.
    pub(crate) fn keep(&mut self, changes: Vec<Change>) {
        self.0.extend(changes);
    }
}

/// A state with changes over it, for reading.
pub(crate) struct CheckView<'a> {
    base: &'a dyn KvRead,
    changes: &'a BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl KvRead for CheckView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }

    fn iterate(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), TreeError> {
        let range = self.changes.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let changes: mkvs_tree::Changes = range.map(|(k, v)| (k.clone(), v.clone())).collect();
        mkvs_tree::Overlay::with_changes(self.base, changes).iterate(from, visit)
    }
}
