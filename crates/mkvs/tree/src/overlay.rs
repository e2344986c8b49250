//! Changes held back over another store until they are committed or dropped.
//!
//! Source: `go/storage/mkvs/overlay.go`.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::{Bound, ControlFlow};

use crate::error::TreeError;
use crate::kv::{KvRead, KvWrite};

/// A set of changes: the new value of each key, `None` for a removed one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Changes {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of changed keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The changes by key.
    pub fn iter(&self) -> btree_map::Iter<'_, Vec<u8>, Option<Vec<u8>>> {
        self.0.iter()
    }

    /// What becomes of a key; `None` if it is not changed.
    pub fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.0.get(key).map(Option::as_deref)
    }

    /// Changes a key.
    pub fn set(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        match self.0.get_mut(key) {
            Some(slot) => *slot = value,
            None => {
                self.0.insert(key.to_vec(), value);
            }
        }
    }

    /// Adds later changes on top of these.
    pub fn merge(&mut self, later: Self) {
        if self.0.is_empty() {
            self.0 = later.0;
        } else {
            self.0.extend(later.0);
        }
    }

    /// Writes all changes to a store.
    ///
    /// # Errors
    /// If the store fails; it may then hold some of the changes.
    pub fn apply_to(&self, store: &mut (impl KvWrite + ?Sized)) -> Result<(), TreeError> {
        for (key, value) in &self.0 {
            match value {
                Some(value) => store.insert(key, value)?,
                None => store.remove(key)?,
            }
        }
        Ok(())
    }
}

impl FromIterator<(Vec<u8>, Option<Vec<u8>>)> for Changes {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl IntoIterator for Changes {
    type Item = (Vec<u8>, Option<Vec<u8>>);
    type IntoIter = btree_map::IntoIter<Vec<u8>, Option<Vec<u8>>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A store over another: reads fall through, writes stay here until committed; dropping it discards them.
///
/// The base may be owned or borrowed, and may itself be an overlay. A base that can only be read is fine: the changes
/// are then taken out with [`Overlay::into_changes`].
#[derive(Debug)]
pub struct Overlay<B> {
    base: B,
    changes: Changes,
}

impl<B: KvRead> Overlay<B> {
    /// An overlay without changes.
    pub fn new(base: B) -> Self {
        Self { base, changes: Changes::new() }
    }

    /// An overlay that starts with changes.
    pub fn with_changes(base: B, changes: Changes) -> Self {
        Self { base, changes }
    }

    /// The store below.
    pub fn base(&self) -> &B {
        &self.base
    }

    /// The changes so far.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Ends the overlay and hands out its changes, not applied to anything.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// Drops all changes.
    pub fn discard(&mut self) {
        self.changes = Changes::new();
    }
}

impl<B: KvWrite> Overlay<B> {
    /// Writes all changes to the base and starts anew.
    ///
    /// # Errors
    /// If the base fails; the changes then stay here too.
    pub fn commit(&mut self) -> Result<(), TreeError> {
        self.changes.apply_to(&mut self.base)?;
        self.changes = Changes::new();
        Ok(())
    }

    /// The store below, for writing past the overlay.
    pub fn base_mut(&mut self) -> &mut B {
        &mut self.base
    }
}

impl<B: KvRead> KvRead for Overlay<B> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        match self.changes.get(key) {
            Some(changed) => Ok(changed.map(<[u8]>::to_vec)),
            None => self.base.get(key),
        }
    }

    fn iterate(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), TreeError> {
        let mut own = self.changes.0.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)).peekable();
        let mut stopped = false;
        self.base.iterate(from, &mut |key, value| {
            // Own pairs that come before the base's; the base's pair itself only if it is not changed here.
            while let Some((k, v)) = own.next_if(|(k, _)| k.as_slice() < key) {
                if let Some(v) = v
                    && visit(k, v).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match own.next_if(|(k, _)| k.as_slice() == key) {
                Some((_, None)) => ControlFlow::Continue(()),
                Some((k, Some(v))) => visit(k, v),
                None => visit(key, value),
            };
            stopped = flow.is_break();
            flow
        })?;
        if !stopped {
            for (k, v) in own {
                if let Some(v) = v
                    && visit(k, v).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl<B: KvRead> KvWrite for Overlay<B> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        if key.len() > crate::MAX_KEY_LEN {
            return Err(TreeError::KeyTooLong { len: key.len() });
        }
        self.changes.set(key, Some(value.to_vec()));
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.changes.set(key, None);
        Ok(())
    }
}
