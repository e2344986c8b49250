//! Root hashing and committing: only nodes changed since the last commit are touched.
//!
//! Source: `go/storage/mkvs/commit.go`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base_prims::Hash;

use crate::error::TreeError;
use crate::node::{Link, NodeId, NodePtr, NodeRef};
use crate::stored;
use crate::tree::Tree;
use crate::writelog::{Pending, WriteLog};

/// Runs independent pieces of work, perhaps side by side. Pure crates are given one; they never start threads.
pub trait Executor: Sync {
    /// How many pieces can run at once.
    fn width(&self) -> usize;
    /// Runs all tasks and returns when the last one is done.
    fn run<'a>(&self, tasks: Vec<Box<dyn FnOnce() + Send + 'a>>);
}

/// Runs one task after another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl Executor for Sequential {
    fn width(&self) -> usize {
        1
    }

    fn run<'a>(&self, tasks: Vec<Box<dyn FnOnce() + Send + 'a>>) {
        for task in tasks {
            task();
        }
    }
}

/// Nodes made by a commit, encoded for storage, in order of their ids.
#[derive(Debug, Default)]
pub struct NewNodes {
    version: u64,
    batch: u16,
    /// Index of the first node.
    first: u32,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl NewNodes {
    /// No nodes yet, for a batch of a version.
    pub fn new(version: u64, batch: u16) -> Self {
        Self { version, batch, first: 0, bytes: Vec::new(), ends: Vec::new() }
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Encoded size of all nodes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The nodes with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied()).zip(self.first..).map(|((from, to), index)| {
            let id = NodeId { version: self.version, batch: self.batch, index };
            (id, self.bytes.get(from..to).unwrap_or_default())
        })
    }

    /// Hands out the nodes and forgets them; ids go on where they were.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn drain<E>(&mut self, mut each: impl FnMut(NodeId, &[u8]) -> Result<(), E>) -> Result<(), E> {
        self.iter().try_for_each(|(id, bytes)| each(id, bytes))?;
        self.first = self.first.saturating_add(u32::try_from(self.ends.len()).unwrap_or(u32::MAX));
        self.bytes.clear();
        self.ends.clear();
        Ok(())
    }

    /// Adds a node whose children all have ids, and names it.
    pub fn push(&mut self, node: &NodeRef) -> NodeId {
        let index = u32::try_from(self.ends.len()).ok().and_then(|n| self.first.checked_add(n));
        let index = index.expect("2^32 nodes in one batch would be terabytes");
        let id = NodeId { version: self.version, batch: self.batch, index };
        stored::encode(node, &id, &mut self.bytes);
        self.ends.push(self.bytes.len());
        id
    }
}

/// What a commit made.
#[derive(Debug)]
pub struct Committed {
    /// The new root.
    pub root: NodePtr,
    /// Nodes to store.
    pub nodes: NewNodes,
    /// Stored nodes that the new tree no longer uses.
    pub removed: Vec<NodeId>,
    /// Changes since the last commit by key, if the tree keeps a log.
    pub log: Option<WriteLog>,
}

/// Below this many changes hashing is not worth splitting.
const SPLIT_CHANGES: usize = 192;

impl Tree {
    /// The root hash of the tree as it is. Nothing is marked as committed.
    pub fn root_hash(&mut self, exec: &dyn Executor) -> Hash {
        if exec.width() > 1 && self.changes >= SPLIT_CHANGES {
            let mut parts = vec![&mut self.root];
            for _ in 0..16 {
                if parts.len() >= exec.width() * 8 {
                    break;
                }
                parts = parts.into_iter().flat_map(expand).collect();
            }
            let per_task = parts.len().div_ceil(exec.width() * 4).max(1);
            let mut tasks: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
            let mut parts = parts.into_iter().peekable();
            while parts.peek().is_some() {
                let group: Vec<_> = parts.by_ref().take(per_task).collect();
                tasks.push(Box::new(move || {
                    for link in group {
                        hash_link(link);
                    }
                }));
            }
            exec.run(tasks);
        }
        hash_link(&mut self.root)
    }

    /// Gives every changed node an id of this version and batch, encodes it, and makes the tree unchanged.
    ///
    /// The nodes must then be stored; if that fails the tree must not be used any further.
    pub fn commit(&mut self, version: u64, batch: u16, exec: &dyn Executor) -> Committed {
        self.root_hash(exec);
        let mut nodes = NewNodes::new(version, batch);
        let mut weight = 0;
        let root = persist(&mut self.root, &mut nodes, &mut weight);
        self.held.fetch_add(weight, Ordering::Relaxed);
        self.changes = 0;
        let log = self.log.as_mut().map(Pending::drain);
        let removed = std::mem::take(&mut self.removed);
        self.shrink(4);
        Committed { root, nodes, removed, log }
    }

    /// As [`Tree::commit`], but only if the tree has the expected root.
    ///
    /// # Errors
    /// [`TreeError::RootMismatch`]; the tree then still has its changes.
    pub fn commit_known(
        &mut self,
        expected: Hash,
        version: u64,
        batch: u16,
        exec: &dyn Executor,
    ) -> Result<Committed, TreeError> {
        let computed = self.root_hash(exec);
        if computed != expected {
            return Err(TreeError::RootMismatch { expected, computed });
        }
        Ok(self.commit(version, batch, exec))
    }

    /// The pairs that were changed since the last commit, if the tree keeps a log.
    pub fn pending_log(&self) -> Option<WriteLog> {
        self.log.as_ref().map(Pending::list)
    }
}

/// The children of a changed inner node that need hashing, or the link itself.
fn expand(link: &mut Link) -> Vec<&mut Link> {
    if !matches!(link, Link::Dirty(NodeRef::Inner(_), None)) {
        return vec![link];
    }
    let Link::Dirty(NodeRef::Inner(inner), None) = link else { return Vec::new() };
    let inner = Arc::make_mut(inner);
    inner
        .leaf
        .as_deref_mut()
        .into_iter()
        .chain([&mut inner.left, &mut inner.right])
        .filter(|l| l.hash().is_none())
        .collect()
}

/// Hashes whatever is not hashed yet below a link.
fn hash_link(link: &mut Link) -> Hash {
    link.post_order(
        true,
        &mut |link| match link {
            Link::Dirty(NodeRef::Leaf(leaf), hash @ None) => {
                *hash = Some(leaf.hash());
                false
            }
            Link::Dirty(_, None) => true,
            _ => false,
        },
        &mut |link| {
            if let Link::Dirty(node, hash) = link {
                *hash = node.hash();
            }
        },
    );
    // Nothing is left without a hash.
    link.hash().unwrap_or(Hash::EMPTY)
}

/// Encodes changed nodes, children first, and turns their links into unchanged ones. All must be hashed.
fn persist(link: &mut Link, out: &mut NewNodes, weight: &mut usize) -> NodePtr {
    let store = |link: &mut Link, out: &mut NewNodes, weight: &mut usize| {
        if let Link::Dirty(node, Some(hash)) = std::mem::take(link) {
            *weight += node.weight();
            let ptr = NodePtr { hash, id: out.push(&node) };
            *link = Link::loaded(ptr, node);
        }
    };
    // Both visitors write to the same place, one after the other.
    let state = std::cell::RefCell::new((out, weight));
    link.post_order(
        true,
        &mut |link| match link {
            Link::Dirty(NodeRef::Leaf(_), _) => {
                let (out, weight) = &mut *state.borrow_mut();
                store(link, out, weight);
                false
            }
            Link::Dirty(..) => true,
            _ => false,
        },
        &mut |link| {
            let (out, weight) = &mut *state.borrow_mut();
            store(link, out, weight);
        },
    );
    match link {
        Link::Clean(clean) => clean.ptr,
        _ => NodePtr::from_hash(Hash::EMPTY),
    }
}
