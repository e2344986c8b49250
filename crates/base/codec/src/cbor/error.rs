//! Why bytes were refused.

use super::Kind;

/// Why bytes were refused. Offsets count bytes from the start of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input ends inside an item.
    #[error("unexpected end of input at byte {offset}")]
    UnexpectedEnd {
        /// Where the missing byte would be.
        offset: usize,
    },
    /// Bytes follow the item, and the caller wanted none.
    #[error("{count} trailing bytes after the item that ends at byte {offset}")]
    TrailingBytes {
        /// Where the item ends.
        offset: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// Arrays and maps nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("nesting deeper than {max} levels at byte {offset}")]
    TooDeep {
        /// Where the array or map that is one too many begins.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// An array or map with more than [`MAX_ITEMS`](super::MAX_ITEMS) items or pairs.
    #[error("{count} items at byte {offset} are more than {max}")]
    TooManyItems {
        /// Where the array or map begins.
        offset: usize,
        /// How many it announces.
        count: u64,
        /// The limit.
        max: u64,
    },
    /// An item of indefinite length.
    #[error("indefinite length at byte {offset}")]
    IndefiniteLength {
        /// Where the item begins.
        offset: usize,
    },
    /// A tag.
    #[error("tag at byte {offset}")]
    Tag {
        /// Where the tag begins.
        offset: usize,
    },
    /// A first byte that begins no item, or a one-byte simple value below 32.
    #[error("malformed item head 0x{head:02x} at byte {offset}")]
    MalformedHead {
        /// Where the item begins.
        offset: usize,
        /// Its first byte.
        head: u8,
    },
    /// An item of a kind that the type cannot be read from.
    #[error("expected {expected}, found {found} at byte {offset}")]
    WrongKind {
        /// Where the item begins.
        offset: usize,
        /// What was wanted.
        expected: &'static str,
        /// What is there.
        found: Kind,
    },
    /// An integer outside the range of its type.
    #[error("integer {value} at byte {offset} does not fit {target}")]
    IntegerRange {
        /// Where the integer begins.
        offset: usize,
        /// Its value.
        value: i128,
        /// The type it was to be stored in.
        target: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("text at byte {offset} is not utf-8")]
    InvalidUtf8 {
        /// Where the text begins.
        offset: usize,
    },
    /// A map key that occurred before in the same map.
    #[error("duplicate map key at byte {offset}")]
    DuplicateKey {
        /// Where the second key begins.
        offset: usize,
    },
    /// A struct key that names no field (or a field that was set under a name of another case).
    #[error("unknown field {name:?} at byte {offset}")]
    UnknownField {
        /// Where the key begins.
        offset: usize,
        /// The key, at most 64 bytes of it, or the integer.
        name: String,
    },
    /// A list for a struct encoded as a list has another number of elements.
    #[error("expected a list of {expected} elements, found {found} at byte {offset}")]
    WrongLength {
        /// Where the list begins.
        offset: usize,
        /// The number of fields.
        expected: usize,
        /// The number of elements.
        found: u64,
    },
    /// The item is of the right kind, but its type refused the value.
    #[error("{reason} at byte {offset}")]
    Invalid {
        /// Where the item begins.
        offset: usize,
        /// The type's reason.
        reason: String,
    },
}

impl Error {
    /// A type's own refusal of the item at `offset`.
    pub fn invalid(offset: usize, reason: impl ToString) -> Self {
        Self::Invalid { offset, reason: reason.to_string() }
    }
}
