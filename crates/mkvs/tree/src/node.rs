//! Nodes, the links between them and their hashes.
//!
//! Hash of a leaf: SHA-512/256 of `00 | key length u32 LE | key | value length u32 LE | value`.
//! Hash of an inner node: SHA-512/256 of `01 | label bits u16 LE | label | H(leaf) | H(left) | H(right)`,
//! where a missing child counts as the hash of the empty string.
//! Source: `go/storage/mkvs/node`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use base_prims::Hash;

use crate::bits;

/// First byte of a leaf's hash preimage and encodings.
pub(crate) const LEAF: u8 = 0;
/// First byte of an inner node's hash preimage and encodings.
pub(crate) const INNER: u8 = 1;
/// Stands for a missing leaf in an inner node's encodings.
pub(crate) const NIL: u8 = 2;

/// Where a node database keeps a node: the version that made it, the batch within it, the place within the batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Version whose commit created the node.
    pub version: u64,
    /// Number of the batch within the version.
    pub batch: u16,
    /// Place within the batch.
    pub index: u32,
}

impl NodeId {
    /// The id of a node that is kept nowhere but in memory.
    pub const NONE: Self = Self { version: u64::MAX, batch: u16::MAX, index: u32::MAX };

    /// Whether some database holds the node.
    pub fn is_stored(&self) -> bool {
        *self != Self::NONE
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_stored() {
            write!(f, "{}.{}.{}", self.version, self.batch, self.index)
        } else {
            f.write_str("(not stored)")
        }
    }
}

/// Names a node: by hash, and by id where a database holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodePtr {
    /// The node's hash.
    pub hash: Hash,
    /// Where it is stored.
    pub id: NodeId,
}

impl NodePtr {
    /// A node known by its hash alone.
    pub fn from_hash(hash: Hash) -> Self {
        Self { hash, id: NodeId::NONE }
    }
}

/// A bit string of up to 65535 bits on the edge into a node. Unused low bits of the last byte are zero.
#[derive(Clone, PartialEq, Eq)]
pub struct Label {
    bits: u16,
    data: LabelData,
}

#[derive(Clone, PartialEq, Eq)]
enum LabelData {
    Short([u8; Label::SHORT]),
    Long(Box<[u8]>),
}

impl Label {
    const SHORT: usize = 14;

    /// The bits `from..to` of a key.
    pub(crate) fn of_key(key: &[u8], from: usize, to: usize) -> Self {
        let len = to.saturating_sub(from);
        let mut out = Vec::new();
        bits::slice(key, from, to, &mut out);
        Self::from_vec(&out, len)
    }

    /// A label from its bytes; `None` if their number does not fit `bits` or an unused bit is set.
    pub fn from_bytes(bytes: &[u8], bits: u16) -> Option<Self> {
        Self::fits(bytes, bits).then(|| Self::from_vec(bytes, usize::from(bits)))
    }

    /// Whether the bytes are those of a label of that many bits.
    pub(crate) fn fits(bytes: &[u8], bits: u16) -> bool {
        let unused_set = match (bytes.last(), bits % 8) {
            (Some(last), used @ 1..) => last & (0xff >> used) != 0,
            _ => false,
        };
        bytes.len() == usize::from(bits).div_ceil(8) && !unused_set
    }

    /// `bits` is at most 65535: it is a difference of key lengths, which [`crate::MAX_KEY_LEN`] bounds.
    fn from_vec(bytes: &[u8], bits: usize) -> Self {
        let bits = u16::try_from(bits).unwrap_or(u16::MAX);
        let data = match bytes.len() {
            n if n <= Self::SHORT => {
                let mut short = [0; Self::SHORT];
                short[..n].copy_from_slice(bytes);
                LabelData::Short(short)
            }
            _ => LabelData::Long(bytes.into()),
        };
        Self { bits, data }
    }

    /// Length in bits.
    pub fn bits(&self) -> u16 {
        self.bits
    }

    /// Length in bits, as an index.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.bits)
    }

    /// The bytes, as many as the bits need.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            LabelData::Short(b) => &b[..usize::from(self.bits).div_ceil(8).min(Self::SHORT)],
            LabelData::Long(b) => b,
        }
    }

    /// Bit at a position.
    pub(crate) fn bit(&self, pos: usize) -> bool {
        bits::bit(self.bytes(), pos)
    }

    /// This label's bits `from..`.
    pub(crate) fn suffix(&self, from: usize) -> Self {
        Self::of_key(self.bytes(), from, self.len())
    }

    /// This label's bits `..to`.
    pub(crate) fn prefix(&self, to: usize) -> Self {
        Self::of_key(self.bytes(), 0, to)
    }

    /// This label followed by `other`.
    pub(crate) fn join(&self, other: &Self) -> Self {
        let len = self.len() + other.len();
        Self::from_vec(&bits::concat(self.bytes(), self.len(), other.bytes(), other.len()), len)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("b")?;
        (0..self.len()).try_for_each(|i| f.write_str(if self.bit(i) { "1" } else { "0" }))
    }
}

/// A key with its value, in one allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    key_len: u32,
    data: Box<[u8]>,
}

impl Leaf {
    /// A leaf; key and value lengths are the caller's to check.
    pub(crate) fn new(key: &[u8], value: &[u8]) -> Self {
        let mut data = Vec::with_capacity(key.len() + value.len());
        data.extend_from_slice(key);
        data.extend_from_slice(value);
        Self { key_len: u32::try_from(key.len()).unwrap_or(u32::MAX), data: data.into() }
    }

    fn split(&self) -> (&[u8], &[u8]) {
        self.data.split_at((self.key_len as usize).min(self.data.len()))
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.split().0
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.split().1
    }

    /// The node's hash.
    pub fn hash(&self) -> Hash {
        let (key, value) = self.split();
        Self::hash_of(key, value)
    }

    /// The hash of a leaf.
    pub(crate) fn hash_of(key: &[u8], value: &[u8]) -> Hash {
        // Lengths fit: keys are bounded and values are checked on insertion and decoding.
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        Hash::of(&[&[LEAF], &len(key), key, &len(value), value])
    }

    /// Bytes of memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        48 + self.data.len()
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leaf({:02x?} = {:02x?})", self.key(), self.value())
    }
}

/// A node with a label, at most one leaf whose key ends here, and up to two subtrees.
#[derive(Clone, Debug)]
pub struct Inner {
    pub(crate) label: Label,
    pub(crate) leaf: Option<Box<Link>>,
    pub(crate) left: Link,
    pub(crate) right: Link,
}

impl Drop for Inner {
    /// Frees whole subtrees without recursion: a path can be thousands of nodes long.
    fn drop(&mut self) {
        let mut todo = Vec::new();
        self.take_unshared(&mut todo);
        while let Some(mut inner) = todo.pop() {
            inner.take_unshared(&mut todo);
        }
    }
}

impl Inner {
    /// Moves out the branches below that nobody else holds.
    fn take_unshared(&mut self, out: &mut Vec<Self>) {
        for link in [&mut self.left, &mut self.right] {
            if matches!(link.node(), Some(NodeRef::Inner(_)))
                && let Some(NodeRef::Inner(inner)) = std::mem::take(link).into_node()
                && let Some(inner) = Arc::into_inner(inner)
            {
                out.push(inner);
            }
        }
    }
}

/// A child of an inner node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The leaf whose key ends at the node.
    Leaf,
    /// Keys that go on with a zero bit.
    Left,
    /// Keys that go on with a one bit.
    Right,
}

impl Side {
    /// All sides, in key order.
    pub const ALL: [Self; 3] = [Self::Leaf, Self::Left, Self::Right];

    /// The subtree for keys with this bit after the node's path.
    pub(crate) fn of_bit(bit: bool) -> Self {
        if bit { Self::Right } else { Self::Left }
    }
}

impl Inner {
    /// The label on the edge into this node.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// Names of the children that are unchanged since the last commit.
    pub fn children(&self) -> impl Iterator<Item = NodePtr> {
        Side::ALL.into_iter().filter_map(|side| match self.child(side) {
            Link::Clean(clean) => Some(clean.ptr),
            _ => None,
        })
    }

    /// Makes the child on one side a stored node that is not in memory.
    pub fn set_stored(&mut self, side: Side, ptr: NodePtr) {
        *self.child_mut(side) = Link::stub(ptr);
    }

    /// The child on one side.
    pub fn child(&self, side: Side) -> &Link {
        match side {
            Side::Leaf => self.leaf.as_deref().unwrap_or(&Link::Empty),
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    pub(crate) fn child_mut(&mut self, side: Side) -> &mut Link {
        match side {
            Side::Leaf => self.leaf.get_or_insert_with(|| Box::new(Link::Empty)),
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }

    /// The node's hash, given its children's.
    pub(crate) fn hash_with(&self, leaf: &Hash, left: &Hash, right: &Hash) -> Hash {
        Self::hash_of(self.label.bits, self.label.bytes(), [leaf, left, right])
    }

    /// The hash of an inner node with this label, given its children's.
    pub(crate) fn hash_of(bits: u16, label: &[u8], [leaf, left, right]: [&Hash; 3]) -> Hash {
        // One buffer and one call: the usual node fills a single block of the hash function.
        let mut buf = [0u8; 160];
        let total = 3 + label.len() + 96;
        if let Some(out) = buf.get_mut(..total) {
            out[0] = INNER;
            out[1..3].copy_from_slice(&bits.to_le_bytes());
            out[3..3 + label.len()].copy_from_slice(label);
            let hashes = &mut out[3 + label.len()..];
            hashes[..32].copy_from_slice(leaf.as_bytes());
            hashes[32..64].copy_from_slice(left.as_bytes());
            hashes[64..].copy_from_slice(right.as_bytes());
            return Hash::of(&[out]);
        }
        Hash::of(&[&[INNER], &bits.to_le_bytes(), label, leaf.as_bytes(), left.as_bytes(), right.as_bytes()])
    }

    /// Bytes of memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        let label = self.label.bytes().len();
        std::mem::size_of::<Self>()
            + 32
            + if label > Label::SHORT { label } else { 0 }
            + self.leaf.as_ref().map_or(0, |_| std::mem::size_of::<Link>() + 16)
    }
}

/// A node in memory.
#[derive(Clone, Debug)]
pub enum NodeRef {
    /// A key with its value.
    Leaf(Arc<Leaf>),
    /// A branch.
    Inner(Arc<Inner>),
}

impl NodeRef {
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Leaf(n) => n.weight(),
            Self::Inner(n) => n.weight(),
        }
    }

    /// The node's hash if no child changed since it was last hashed.
    pub fn hash(&self) -> Option<Hash> {
        match self {
            Self::Leaf(n) => Some(n.hash()),
            Self::Inner(n) => {
                let of = |side| n.child(side).hash();
                Some(n.hash_with(&of(Side::Leaf)?, &of(Side::Left)?, &of(Side::Right)?))
            }
        }
    }
}

/// What a node, or a tree, holds of a child.
#[derive(Debug, Default)]
pub enum Link {
    /// No child.
    #[default]
    Empty,
    /// A child changed since the last commit; its hash, if computed since.
    Dirty(NodeRef, Option<Hash>),
    /// An unchanged child, in memory or not.
    Clean(CleanLink),
}

/// An unchanged child: its name, and the node itself where it is in memory.
#[derive(Debug)]
pub struct CleanLink {
    pub(crate) ptr: NodePtr,
    /// Used since the last sweep.
    used: AtomicBool,
    pub(crate) node: OnceLock<NodeRef>,
}

impl Clone for CleanLink {
    fn clone(&self) -> Self {
        Self { ptr: self.ptr, used: AtomicBool::new(true), node: self.node.clone() }
    }
}

impl Clone for Link {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Dirty(n, h) => Self::Dirty(n.clone(), *h),
            Self::Clean(c) => Self::Clean(c.clone()),
        }
    }
}

impl CleanLink {
    /// The node's name.
    pub fn ptr(&self) -> &NodePtr {
        &self.ptr
    }

    /// The node, if it is in memory; it counts as used.
    pub(crate) fn touch(&self) -> Option<&NodeRef> {
        let node = self.node.get()?;
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Some(node)
    }

    /// Whether the node was used since the last call.
    pub(crate) fn take_used(&mut self) -> bool {
        std::mem::replace(self.used.get_mut(), false)
    }
}

impl Link {
    /// A link to an unchanged node that is not in memory; the empty hash gives no link.
    pub fn stub(ptr: NodePtr) -> Self {
        if ptr.hash.is_empty_hash() {
            return Self::Empty;
        }
        Self::Clean(CleanLink { ptr, used: AtomicBool::new(true), node: OnceLock::new() })
    }

    /// A link to an unchanged node in memory.
    pub(crate) fn loaded(ptr: NodePtr, node: NodeRef) -> Self {
        Self::Clean(CleanLink { ptr, used: AtomicBool::new(true), node: OnceLock::from(node) })
    }

    /// A link to a new leaf.
    pub(crate) fn new_leaf(key: &[u8], value: &[u8]) -> Self {
        Self::Dirty(NodeRef::Leaf(Arc::new(Leaf::new(key, value))), None)
    }

    /// A link to a new or changed inner node.
    pub(crate) fn new_inner(inner: Inner) -> Self {
        Self::Dirty(NodeRef::Inner(Arc::new(inner)), None)
    }

    /// Whether there is no child.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The child's hash unless it changed since it was last computed.
    pub fn hash(&self) -> Option<Hash> {
        match self {
            Self::Empty => Some(Hash::EMPTY),
            Self::Dirty(_, hash) => *hash,
            Self::Clean(c) => Some(c.ptr.hash),
        }
    }

    /// The child itself, if it is in memory.
    pub(crate) fn into_node(self) -> Option<NodeRef> {
        match self {
            Self::Empty => None,
            Self::Dirty(node, _) => Some(node),
            Self::Clean(c) => c.node.into_inner(),
        }
    }

    /// Visits the tree below this link, children before parents, without recursion.
    ///
    /// `enter` sees each link first, may change it, and says whether to go below it; `leave` gets each link that was
    /// gone below, when all its children are done. Only nodes in memory that are not shared can be gone below; a shared
    /// node is copied first if `unshare` is set and skipped otherwise.
    pub(crate) fn post_order(
        &mut self,
        unshare: bool,
        enter: &mut dyn FnMut(&mut Self) -> bool,
        leave: &mut dyn FnMut(&mut Self),
    ) {
        let goes_below = |link: &mut Self, enter: &mut dyn FnMut(&mut Self) -> bool| {
            enter(link)
                && match link.node_mut() {
                    Some(NodeRef::Inner(inner)) => unshare || Arc::get_mut(inner).is_some(),
                    _ => false,
                }
        };
        if !goes_below(self, enter) {
            return;
        }
        // Each entry was taken out of the branch before it, from the side before that branch's `next`.
        let mut stack = vec![(std::mem::take(self), 0usize)];
        while let Some((link, next)) = stack.last_mut() {
            let Some(NodeRef::Inner(inner)) = link.node_mut() else { break };
            if let Some(side) = Side::ALL.get(*next) {
                *next += 1;
                if inner.child(*side).is_empty() {
                    continue;
                }
                let child = Arc::make_mut(inner).child_mut(*side);
                if goes_below(child, enter) {
                    let child = std::mem::take(child);
                    stack.push((child, 0));
                }
                continue;
            }
            let Some((mut link, _)) = stack.pop() else { break };
            leave(&mut link);
            let place = match stack.last_mut() {
                None => Some(&mut *self),
                Some((parent, next)) => match (parent.node_mut(), next.checked_sub(1).and_then(|i| Side::ALL.get(i))) {
                    (Some(NodeRef::Inner(inner)), Some(side)) => Some(Arc::make_mut(inner).child_mut(*side)),
                    _ => None,
                },
            };
            if let Some(place) = place {
                *place = link;
            }
        }
    }

    /// The child, if it is in memory, for changing it.
    pub(crate) fn node_mut(&mut self) -> Option<&mut NodeRef> {
        match self {
            Self::Empty => None,
            Self::Dirty(node, _) => Some(node),
            Self::Clean(c) => c.node.get_mut(),
        }
    }

    /// The child, if it is in memory.
    pub fn node(&self) -> Option<&NodeRef> {
        match self {
            Self::Empty => None,
            Self::Dirty(node, _) => Some(node),
            Self::Clean(c) => c.node.get(),
        }
    }
}
