//! Cutting several subtrees side by side.
//!
//! Which subtree yields which chunk, and in which order, decides the digests; so the way of splitting is that of the
//! reference (`go/storage/mkvs/checkpoint/{chunk,subtree}.go`): in rounds, split from left to right until there are as
//! many tasks as threads, make one chunk of each task, forget finished tasks.

use base_prims::Hash;
use mkvs_tree::proof::{Builder, Mark};
use mkvs_tree::{Executor, NodeRef, Side, Tree, TreeError};

use super::CheckpointError;
use super::chunk::encode_chunk;
use super::create::{Output, builder};
use crate::error::DbError;

/// Rounds of splitting after which tasks are taken as they are.
const SPLIT_ROUNDS: usize = 10;

/// How far a node was gone through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Not at all.
    Before,
    /// The node itself and its leaf.
    Node,
    /// Also the left subtree, or it is being gone through.
    Left,
    /// Also the right subtree, or it is being gone through.
    Right,
}

/// A node on the way from the root; `None` is the empty tree.
#[derive(Clone)]
struct Place {
    side: Side,
    hash: Hash,
    node: Option<NodeRef>,
}

/// A subtree that is being cut.
struct Task {
    /// Nodes from the root to the subtree, which every chunk of it shows.
    path: Vec<Place>,
    /// From the subtree's top to where the last chunk ended; each is a child of the one before. Nodes that are
    /// finished are not kept here between chunks, so an empty list is a finished task.
    pending: Vec<(Place, Stage)>,
}

pub(crate) fn parallel(
    tree: &Tree,
    root: Hash,
    chunk_size: usize,
    threads: usize,
    exec: &dyn Executor,
    out: &mut Output<'_>,
) -> Result<(), CheckpointError> {
    let node = tree.load(tree.root_link()).map_err(DbError::from)?;
    let mut tasks =
        vec![Task { path: Vec::new(), pending: vec![(Place { side: Side::Leaf, hash: root, node }, Stage::Before)] }];
    while !tasks.is_empty() {
        tasks = split_all(tree, tasks, threads).map_err(DbError::from)?;
        let mut results: Vec<_> = tasks.iter().map(|_| None).collect();
        exec.run(
            tasks
                .iter_mut()
                .zip(&mut results)
                .map(|(task, result)| -> Box<dyn FnOnce() + Send + '_> {
                    Box::new(move || {
                        *result = Some(task.next_chunk(tree, root, chunk_size));
                    })
                })
                .collect(),
        );
        for result in results.into_iter().flatten() {
            out.put(&result.map_err(DbError::from)?)?;
        }
        tasks.retain(|task| !task.pending.is_empty());
    }
    Ok(())
}

/// Splits tasks from left to right until there would be at least `threads`.
fn split_all(tree: &Tree, mut tasks: Vec<Task>, threads: usize) -> Result<Vec<Task>, TreeError> {
    for _ in 0..SPLIT_ROUNDS {
        let mut next = Vec::new();
        let mut rest = tasks.into_iter();
        let mut enough = false;
        while rest.len() > 0 {
            if next.len() + rest.len() >= threads {
                enough = true;
                break;
            }
            if let Some(task) = rest.next() {
                task.split(tree, &mut next)?;
            }
        }
        next.extend(rest);
        tasks = next;
        if enough {
            break;
        }
    }
    Ok(tasks)
}

impl Place {
    /// The child on one side; `None` if there is none.
    fn child(&self, tree: &Tree, side: Side) -> Result<Option<Self>, TreeError> {
        let Some(NodeRef::Inner(inner)) = &self.node else { return Ok(None) };
        let link = inner.child(side);
        let Some(node) = tree.load(link)? else { return Ok(None) };
        let hash = link.hash().ok_or(TreeError::Dirty)?;
        Ok(Some(Self { side, hash, node: Some(node) }))
    }

    fn has(&self, side: Side) -> bool {
        matches!(&self.node, Some(NodeRef::Inner(inner)) if !inner.child(side).is_empty())
    }

    fn show(&self, tree: &Tree, builder: &mut Builder, parent: Mark) -> Result<Mark, TreeError> {
        match &self.node {
            None => Ok(parent),
            Some(node) => builder.include(tree, parent, self.side, self.hash, node),
        }
    }
}

impl Task {
    /// Goes on where the last chunk ended until the proof is big enough after a leaf.
    fn next_chunk(&mut self, tree: &Tree, root: Hash, chunk_size: usize) -> Result<(Vec<u8>, Hash), TreeError> {
        let mut builder = builder();
        let mut top = Mark::ROOT;
        for place in &self.path {
            top = place.show(tree, &mut builder, top)?;
        }
        // For each pending node, the mark of its parent.
        let mut parents = Vec::with_capacity(self.pending.len());
        for (place, _) in &self.pending {
            parents.push(top);
            top = place.show(tree, &mut builder, top)?;
        }
        let mut after_leaf = false;
        while !(after_leaf && builder.size() >= chunk_size) {
            let (Some((place, stage)), Some(parent)) = (self.pending.pop(), parents.pop()) else { break };
            let mark = place.show(tree, &mut builder, parent)?;
            match &place.node {
                None => {}
                Some(NodeRef::Leaf(_)) => after_leaf = true,
                Some(NodeRef::Inner(_)) => {
                    let (stage, side) = match stage {
                        Stage::Before => (Stage::Node, Side::Leaf),
                        Stage::Node => (Stage::Left, Side::Left),
                        Stage::Left => (Stage::Right, Side::Right),
                        Stage::Right => continue,
                    };
                    if side == Side::Leaf {
                        after_leaf = false;
                    }
                    let child = place.child(tree, side)?;
                    self.pending.push((place, stage));
                    parents.push(parent);
                    if let Some(child) = child {
                        self.pending.push((child, Stage::Before));
                        parents.push(mark);
                    }
                }
            }
        }
        self.trim();
        Ok(encode_chunk(&builder.build(root)?.entries))
    }

    /// Drops finished nodes from the end of the pending ones.
    fn trim(&mut self) {
        while let Some((place, stage)) = self.pending.last() {
            let unfinished = match (&place.node, stage) {
                (None, _) => false,
                (Some(NodeRef::Leaf(_)), _) | (_, Stage::Before) => true,
                (_, Stage::Node) => place.has(Side::Left) || place.has(Side::Right),
                (_, Stage::Left) => place.has(Side::Right),
                (_, Stage::Right) => false,
            };
            if unfinished {
                break;
            }
            self.pending.pop();
        }
    }

    /// A task for one child of the subtree's top, if there is that child.
    fn below(&self, tree: &Tree, place: &Place, side: Side) -> Result<Option<Self>, TreeError> {
        let Some(child) = place.child(tree, side)? else { return Ok(None) };
        let mut path = self.path.clone();
        path.push(place.clone());
        Ok(Some(Self { path, pending: vec![(child, Stage::Before)] }))
    }

    /// Splits off the children of the subtree's top, as far as they were not begun.
    fn split(mut self, tree: &Tree, out: &mut Vec<Self>) -> Result<(), TreeError> {
        let Some((place, stage)) = self.pending.first().cloned() else { return Ok(()) };
        if !matches!(place.node, Some(NodeRef::Inner(_))) {
            out.push(self);
            return Ok(());
        }
        match stage {
            Stage::Before | Stage::Node if place.has(Side::Left) || place.has(Side::Right) => {
                out.extend(self.below(tree, &place, Side::Left)?);
                out.extend(self.below(tree, &place, Side::Right)?);
                return Ok(());
            }
            Stage::Left if self.pending.len() > 1 => out.extend(self.below(tree, &place, Side::Right)?),
            Stage::Right => {}
            _ => {
                out.push(self);
                return Ok(());
            }
        }
        self.pending.remove(0);
        self.path.push(place);
        out.push(self);
        Ok(())
    }
}
