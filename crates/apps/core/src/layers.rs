//! State in layers: the committed tree below, the changes of the block above it, those of open sub-transactions on top.

use std::{
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    ops::{Bound, ControlFlow},
};

use mkvs_tree::{KvRead, KvWrite, TreeError};

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Which layer a view reads and writes; 0 is the block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(usize);

/// The layers over a committed state.
///
/// Services mostly use the innermost layer. A service that got hold of its state before a sub-transaction was opened
/// goes on writing below it; such writes stay when the sub-transaction is undone, and are hidden by what it wrote.
pub struct Layers<'a> {
    base: &'a dyn KvRead,
    // Never empty.
    layers: Vec<Changes>,
}

impl<'a> Layers<'a> {
    /// No changes over `base`.
    pub fn new(base: &'a dyn KvRead) -> Self {
        Self { base, layers: vec![Changes::new()] }
    }

    /// The innermost layer.
    pub fn top(&self) -> Level {
        Level(self.layers.len() - 1)
    }

    /// Opens a layer.
    pub fn push(&mut self) {
        self.layers.push(Changes::new());
    }

    /// Closes the innermost layer into the one below. The block's layer is never closed.
    pub fn commit(&mut self) {
        if self.layers.len() > 1
            && let Some(changes) = self.layers.pop()
            && let Some(below) = self.layers.last_mut()
        {
            below.extend(changes);
        }
    }

    /// Drops the innermost layer. The block's layer is never dropped.
    pub fn discard(&mut self) {
        if self.layers.len() > 1 {
            self.layers.pop();
        }
    }

    /// Ends with the changes of the block's layer; open sub-transactions are dropped.
    pub fn into_changes(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.layers.into_iter().next().unwrap_or_default().into_iter()
    }

    /// The changes of the block's layer.
    pub fn changes(&self) -> impl Iterator<Item = (&Vec<u8>, &Option<Vec<u8>>)> {
        self.layers.first().into_iter().flatten()
    }

    /// A view of a layer; an inner layer that is closed by now gives the innermost.
    pub fn view(&mut self, level: Level) -> View<'_, 'a> {
        let level = level.min(self.top());
        View { layers: self, level: level.0 }
    }

    /// The committed state.
    pub fn base(&self) -> &'a dyn KvRead {
        self.base
    }

    fn get_at(&self, level: usize, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        for layer in self.layers[..=level].iter().rev() {
            if let Some(value) = layer.get(key) {
                return Ok(value.clone());
            }
        }
        self.base.get(key)
    }

    fn iterate_at(
        &self,
        level: usize,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        let mut own = Merged::new(&self.layers[..=level], from);
        let mut stopped = false;
        self.base.iterate(from, &mut |key, value| {
            loop {
                match own.peek() {
                    Some(k) if k < key => {
                        if let Some((k, Some(v))) = own.next()
                            && visit(k, v).is_break()
                        {
                            stopped = true;
                            return ControlFlow::Break(());
                        }
                    }
                    Some(k) if k == key => {
                        let flow = match own.next() {
                            Some((k, Some(v))) => visit(k, v),
                            _ => ControlFlow::Continue(()),
                        };
                        stopped = flow.is_break();
                        return flow;
                    }
                    _ => {
                        let flow = visit(key, value);
                        stopped = flow.is_break();
                        return flow;
                    }
                }
            }
        })?;
        while !stopped {
            match own.next() {
                Some((k, Some(v))) => stopped = visit(k, v).is_break(),
                Some((_, None)) => {}
                None => break,
            }
        }
        Ok(())
    }
}

/// The changes of several layers in key order; where several change a key, the innermost counts.
struct Merged<'l> {
    ranges: Vec<Peekable<btree_map::Range<'l, Vec<u8>, Option<Vec<u8>>>>>,
}

impl<'l> Merged<'l> {
    fn new(layers: &'l [Changes], from: &[u8]) -> Self {
        let bounds = (Bound::Included(from), Bound::Unbounded);
        let ranges =
            layers.iter().rev().filter(|l| !l.is_empty()).map(|l| l.range::<[u8], _>(bounds).peekable()).collect();
        Self { ranges }
    }

    fn peek(&mut self) -> Option<&'l [u8]> {
        self.ranges.iter_mut().filter_map(|r| r.peek().map(|(k, _)| k.as_slice())).min()
    }

    fn next(&mut self) -> Option<(&'l [u8], Option<&'l [u8]>)> {
        let key = self.peek()?;
        let mut found = None;
        for range in &mut self.ranges {
            // Innermost first: the first hit counts, the others are passed over.
            if let Some((k, v)) = range.next_if(|(k, _)| k.as_slice() == key)
                && found.is_none()
            {
                found = Some((k.as_slice(), v.as_deref()));
            }
        }
        found
    }
}

/// Reads and writes at one layer.
pub struct View<'l, 'a> {
    layers: &'l mut Layers<'a>,
    level: usize,
}

impl KvRead for View<'_, '_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        self.layers.get_at(self.level, key)
    }

    fn iterate(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), TreeError> {
        self.layers.iterate_at(self.level, from, visit)
    }
}

impl KvWrite for View<'_, '_> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        if key.len() > mkvs_tree::MAX_KEY_LEN {
            return Err(TreeError::KeyTooLong { len: key.len() });
        }
        match self.layers.layers[self.level].get_mut(key) {
            Some(slot) => *slot = Some(value.to_vec()),
            None => {
                self.layers.layers[self.level].insert(key.to_vec(), Some(value.to_vec()));
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.layers.layers[self.level].insert(key.to_vec(), None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mkvs_tree::Tree;

    use super::*;

    fn pairs(view: &View<'_, '_>, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = Vec::new();
        view.iterate(from, &mut |k, v| {
            out.push((k.to_vec(), v.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        out
    }

    fn pair(k: &str, v: &str) -> (Vec<u8>, Vec<u8>) {
        (k.into(), v.into())
    }

    #[test]
    fn inner_layers_hide_outer_ones_and_iteration_merges_all() {
        let mut tree = Tree::in_memory();
        for k in ["a", "c", "e"] {
            tree.insert(k.as_bytes(), b"base").unwrap();
        }
        let mut layers = Layers::new(&tree);
        let outer = layers.top();
        layers.view(outer).insert(b"b", b"0").unwrap();
        layers.view(outer).remove(b"c").unwrap();
        layers.push();
        let top = layers.top();
        layers.view(top).insert(b"c", b"1").unwrap();
        layers.view(top).remove(b"a").unwrap();
        layers.view(top).insert(b"f", b"1").unwrap();
        let view = layers.view(top);
        assert_eq!(pairs(&view, b""), [pair("b", "0"), pair("c", "1"), pair("e", "base"), pair("f", "1")]);
        assert_eq!(pairs(&view, b"c1"), [pair("e", "base"), pair("f", "1")]);
        assert_eq!(pairs(&layers.view(outer), b""), [pair("a", "base"), pair("b", "0"), pair("e", "base")]);
        layers.discard();
        assert_eq!(layers.view(outer).get(b"c").unwrap(), None);
    }

    #[test]
    fn writes_below_an_open_layer_stay_when_it_is_dropped() {
        let tree = Tree::in_memory();
        let mut layers = Layers::new(&tree);
        let outer = layers.top();
        layers.push();
        layers.view(outer).insert(b"outer", b"1").unwrap();
        let top = layers.top();
        layers.view(top).insert(b"inner", b"1").unwrap();
        assert_eq!(layers.view(top).get(b"outer").unwrap().as_deref(), Some(&b"1"[..]));
        layers.discard();
        assert_eq!(layers.view(outer).get(b"inner").unwrap(), None);
        assert_eq!(layers.view(outer).get(b"outer").unwrap().as_deref(), Some(&b"1"[..]));
    }
}
