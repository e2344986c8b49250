//! The tree: opening, reading and lazy loading. Changing it is in `mutate`, committing in `commit`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base_prims::Hash;

use crate::bits;
use crate::cursor::Cursor;
use crate::error::{LoadError, TreeError};
use crate::kv::KvRead;
use crate::node::{Inner, Leaf, Link, NodeId, NodePtr, NodeRef, Side};
use crate::writelog::Pending;

/// Why a node is wanted, so that a remote source can fetch more than one node at once.
#[derive(Clone, Copy, Debug)]
pub enum Hint<'a> {
    /// The node alone.
    Node,
    /// The path to a key, with the siblings of its nodes if they may be needed to collapse a branch.
    Get {
        /// The key looked up.
        key: &'a [u8],
        /// Whether siblings are wanted.
        siblings: bool,
    },
    /// The keys from `key` on.
    Iterate {
        /// Where the iteration is.
        key: &'a [u8],
        /// How many further keys are likely to be read.
        prefetch: u16,
    },
}

/// What a lazily loaded tree asks of whatever holds its nodes (node database, remote proofs).
pub trait NodeSource: Send + Sync {
    /// The node with this name, its children as links that may or may not be loaded.
    ///
    /// # Errors
    /// [`LoadError::Missing`] if the holder does not have it; other variants for failures.
    fn load(&self, ptr: &NodePtr, hint: Hint<'_>) -> Result<NodeRef, LoadError>;

    /// Whether hints are looked at, so that computing them pays.
    fn wants_hints(&self) -> bool {
        false
    }
}

/// A source without nodes: for trees that live in memory only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

impl NodeSource for NoSource {
    fn load(&self, ptr: &NodePtr, _: Hint<'_>) -> Result<NodeRef, LoadError> {
        Err(LoadError::Missing(*ptr))
    }
}

/// How many bytes of unchanged nodes a tree keeps in memory. Changed nodes are always kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// Everything that was loaded; right for trees in memory.
    All,
    /// About this many bytes; less recently used nodes are let go when a change or commit finds more.
    Bytes(usize),
}

impl Default for Retention {
    fn default() -> Self {
        Self::Bytes(64 << 20)
    }
}

/// An authenticated ordered map from byte strings to byte strings.
///
/// Reading takes `&self` and loads what it needs; a tree may be read from many threads at once.
pub struct Tree {
    pub(crate) root: Link,
    pub(crate) source: Arc<dyn NodeSource>,
    pub(crate) retention: Retention,
    /// Bytes of loaded unchanged nodes, roughly.
    pub(crate) held: AtomicUsize,
    /// Stored nodes that are no longer part of the tree.
    pub(crate) removed: Vec<NodeId>,
    /// Number of changes since the last commit.
    pub(crate) changes: usize,
    pub(crate) log: Option<BTreeMap<Vec<u8>, Pending>>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("root", &self.root.hash()).field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::in_memory()
    }
}

impl Clone for Tree {
    /// A tree that shares all nodes with this one until either changes them.
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            source: Arc::clone(&self.source),
            retention: self.retention,
            held: AtomicUsize::new(self.held.load(Ordering::Relaxed)),
            removed: self.removed.clone(),
            changes: self.changes,
            log: self.log.clone(),
        }
    }
}

/// A node that is borrowed from the tree or, where the tree keeps no more nodes, owned.
pub(crate) enum Got<'a> {
    Ref(&'a NodeRef),
    Own(NodeRef),
}

impl Got<'_> {
    pub(crate) fn into_owned(self) -> NodeRef {
        match self {
            Self::Ref(n) => n.clone(),
            Self::Own(n) => n,
        }
    }
}

/// One step of the way to a key.
enum Step<'a> {
    Leaf(&'a Arc<Leaf>),
    Down(&'a Inner, Side, usize),
    Absent,
}

/// Where the way to `key` goes from a node that starts at bit `depth`.
fn step<'a>(node: &'a NodeRef, depth: usize, key: &[u8]) -> Step<'a> {
    match node {
        NodeRef::Leaf(leaf) if leaf.key() == key => Step::Leaf(leaf),
        NodeRef::Leaf(_) => Step::Absent,
        NodeRef::Inner(inner) => {
            let (bits, len) = (key.len() * 8, inner.label.len());
            if len > 0 && bits::common_prefix(key, depth, bits, inner.label.bytes(), len) < len {
                return Step::Absent;
            }
            let end = depth + len;
            let side = if bits == end { Side::Leaf } else { Side::of_bit(bits::bit(key, end)) };
            Step::Down(inner, side, end)
        }
    }
}

impl Tree {
    /// An empty tree that lives in memory alone.
    pub fn in_memory() -> Self {
        Self::open(NodePtr::from_hash(Hash::EMPTY), Arc::new(NoSource), Retention::All)
    }

    /// The tree under `root`, whose nodes `source` holds; the empty hash opens an empty tree.
    pub fn open(root: NodePtr, source: Arc<dyn NodeSource>, retention: Retention) -> Self {
        Self {
            root: Link::stub(root),
            source,
            retention,
            held: AtomicUsize::new(0),
            removed: Vec::new(),
            changes: 0,
            log: None,
        }
    }

    /// Keeps a log of changes from now on, which [`Tree::commit`] hands out.
    #[must_use]
    pub fn with_write_log(mut self) -> Self {
        self.log.get_or_insert_default();
        self
    }

    /// Whether anything changed since the last commit.
    pub fn is_dirty(&self) -> bool {
        matches!(self.root, Link::Dirty(..)) || !self.removed.is_empty() || self.changes > 0
    }

    /// The root hash if it is known without computing; see [`Tree::root_hash`].
    pub fn known_root(&self) -> Option<Hash> {
        self.root.hash()
    }

    /// Forgets everything in memory, changes included, and goes on from another root.
    pub fn reset(&mut self, root: NodePtr) {
        self.root = Link::stub(root);
        self.held = AtomicUsize::new(0);
        self.removed.clear();
        self.changes = 0;
        if let Some(log) = &mut self.log {
            log.clear();
        }
    }

    /// The node behind a link, loaded if need be. With `keep` it stays in memory even beyond the retention limit.
    pub(crate) fn node<'a>(&self, link: &'a Link, hint: Hint<'_>, keep: bool) -> Result<Option<Got<'a>>, TreeError> {
        let clean = match link {
            Link::Empty => return Ok(None),
            Link::Dirty(node, _) => return Ok(Some(Got::Ref(node))),
            Link::Clean(clean) => clean,
        };
        if let Some(node) = clean.touch() {
            return Ok(Some(Got::Ref(node)));
        }
        let node = self.source.load(&clean.ptr, hint)?;
        let weight = node.weight();
        let room = match self.retention {
            Retention::All => true,
            Retention::Bytes(max) => self.held.load(Ordering::Relaxed).saturating_add(weight) <= max,
        };
        if !room && !keep {
            return Ok(Some(Got::Own(node)));
        }
        self.held.fetch_add(weight, Ordering::Relaxed);
        Ok(Some(Got::Ref(clean.node.get_or_init(|| node))))
    }

    /// The leaf with this key.
    pub(crate) fn find(&self, key: &[u8], hint: Hint<'_>, keep: bool) -> Result<Option<Arc<Leaf>>, TreeError> {
        let (mut link, mut depth) = (&self.root, 0);
        let mut node = loop {
            let node = match self.node(link, hint, keep)? {
                None => return Ok(None),
                Some(Got::Own(node)) => break node,
                Some(Got::Ref(node)) => node,
            };
            match step(node, depth, key) {
                Step::Absent => return Ok(None),
                Step::Leaf(leaf) => return Ok(Some(Arc::clone(leaf))),
                Step::Down(inner, side, end) => (link, depth) = (inner.child(side), end),
            }
        };
        loop {
            let next = match step(&node, depth, key) {
                Step::Absent => return Ok(None),
                Step::Leaf(leaf) => return Ok(Some(Arc::clone(leaf))),
                Step::Down(inner, side, end) => {
                    depth = end;
                    self.node(inner.child(side), hint, keep)?.map(Got::into_owned)
                }
            };
            match next {
                None => return Ok(None),
                Some(next) => node = next,
            }
        }
    }

    /// A cursor over all pairs, not yet at any.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor::new(self)
    }
}

impl KvRead for Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        if key.len() > crate::MAX_KEY_LEN {
            return Ok(None);
        }
        Ok(self.find(key, Hint::Get { key, siblings: false }, false)?.map(|leaf| leaf.value().to_vec()))
    }

    fn iterate(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), TreeError> {
        let mut cursor = self.cursor();
        cursor.seek(from)?;
        while let Some(leaf) = cursor.leaf() {
            if visit(leaf.key(), leaf.value()).is_break() {
                break;
            }
            cursor.advance()?;
        }
        Ok(())
    }
}

impl Tree {
    /// The node behind a link of this tree, loaded if need be; `None` for an empty link.
    ///
    /// # Errors
    /// If the node cannot be loaded.
    pub fn load(&self, link: &Link) -> Result<Option<NodeRef>, TreeError> {
        Ok(self.node(link, Hint::Node, false)?.map(Got::into_owned))
    }

    /// The link to the root node.
    pub fn root_link(&self) -> &Link {
        &self.root
    }
}
