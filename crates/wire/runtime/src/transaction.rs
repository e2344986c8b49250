//! The tree of a round's inputs, outputs and tags.
//!
//! Keys: `T | transaction hash | 01` for inputs, `T | transaction hash | 02` for outputs, `E | tag | transaction hash`
//! for tags, whose hash is zero for those of the block. Values: CBOR lists `[input, batch order]` and `[output]`; a
//! tag's own bytes. A transaction's hash is that of its input. Source: `go/runtime/transaction`.

use base_codec::{Bytes, Codec, cbor};
use base_prims::Hash;
use mkvs_tree::LogEntry;

/// First byte of the keys of inputs and outputs.
pub const PREFIX_TRANSACTION: u8 = b'T';
/// First byte of the keys of tags.
pub const PREFIX_TAG: u8 = b'E';
/// Hash in the keys of tags that belong to no transaction.
pub const BLOCK_TAG_HASH: Hash = Hash::new([0; 32]);

/// Bytes of a transaction's keys.
const TRANSACTION_KEY_BYTES: usize = 1 + Hash::LEN + 1;

/// What lies under a transaction's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactKind {
    /// [`InputArtifacts`].
    Input = 1,
    /// [`OutputArtifacts`].
    Output = 2,
}

/// A transaction's input. CBOR: list of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(array, cbor_only)]
pub struct InputArtifacts {
    /// The transaction itself.
    pub input: Option<Bytes>,
    /// Its position in the batch.
    pub batch_order: u32,
}

/// A transaction's output. CBOR: list of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(array, cbor_only)]
pub struct OutputArtifacts {
    /// The result.
    pub output: Option<Bytes>,
}

/// A tag that a transaction or a block emitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Tag {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The transaction; [`BLOCK_TAG_HASH`] for the block.
    pub tx_hash: Hash,
}

/// A key of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// Of an input or output.
    Transaction {
        /// The transaction.
        hash: Hash,
        /// Which of the two.
        kind: ArtifactKind,
    },
    /// Of a tag.
    Tag {
        /// The tag's key.
        tag: &'a [u8],
        /// The transaction.
        hash: Hash,
    },
}

impl<'a> Key<'a> {
    /// Reads a key. One with an unknown kind of artifact is none.
    ///
    /// As in the reference, bytes after a transaction's kind do not count.
    pub fn parse(key: &'a [u8]) -> Option<Self> {
        let (prefix, rest) = key.split_first()?;
        match *prefix {
            PREFIX_TRANSACTION => {
                let (hash, kind) = rest.split_at_checked(Hash::LEN)?;
                let kind = match *kind {
                    [1, ..] => ArtifactKind::Input,
                    [2, ..] => ArtifactKind::Output,
                    _ => return None,
                };
                Some(Self::Transaction { hash: Hash::try_from(hash).ok()?, kind })
            }
            PREFIX_TAG => {
                let (tag, hash) = rest.split_at_checked(rest.len().checked_sub(Hash::LEN)?)?;
                Some(Self::Tag { tag, hash: Hash::try_from(hash).ok()? })
            }
            _ => None,
        }
    }

    /// The key's bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Transaction { hash, kind } => transaction_key(&hash, kind),
            Self::Tag { tag, hash } => tag_key(tag, &hash),
        }
    }
}

/// Key of a transaction's input or output.
pub fn transaction_key(hash: &Hash, kind: ArtifactKind) -> Vec<u8> {
    let mut out = Vec::with_capacity(TRANSACTION_KEY_BYTES);
    out.push(PREFIX_TRANSACTION);
    out.extend_from_slice(hash.as_bytes());
    out.push(kind as u8);
    out
}

/// Key of a tag of a transaction.
pub fn tag_key(tag: &[u8], hash: &Hash) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + tag.len() + Hash::LEN);
    out.push(PREFIX_TAG);
    out.extend_from_slice(tag);
    out.extend_from_slice(hash.as_bytes());
    out
}

/// Hash of a transaction: that of its input.
pub fn hash(input: &[u8]) -> Hash {
    Hash::of(&[input])
}

/// Why a round's tree or write log is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A key of no known form.
    #[error("transaction: invalid key format")]
    Key,
    /// A value of no known form.
    #[error("transaction: malformed {kind:?} artifacts of {hash}: {source}")]
    Artifacts {
        /// Which.
        kind: ArtifactKind,
        /// The transaction.
        hash: Hash,
        /// What is wrong.
        source: cbor::Error,
    },
    /// An output without input.
    #[error("transaction: malformed transaction tree: output of {hash} without input")]
    OutputWithoutInput {
        /// The transaction.
        hash: Hash,
    },
    /// More transactions than a round may have.
    #[error("transaction: too many inputs or outputs (max: {max})")]
    TooMany {
        /// The limit.
        max: u64,
    },
    /// Larger inputs than a round may have.
    #[error("transaction: input batch too large (max: {max} bytes)")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// Batch orders that are not 0, 1, 2, …
    #[error("transaction: inconsistent order: item {position} has batch order {order}")]
    Order {
        /// The position.
        position: usize,
        /// The order found there.
        order: u32,
    },
    /// A transaction of no bytes.
    #[error("transaction: no input artifact given")]
    EmptyInput,
}

/// Checks the keys of a round's write log and its limits.
///
/// # Errors
/// The first entry that is wrong or too much.
pub fn validate_io_write_log(
    log: &[LogEntry],
    max_batch_size: u64,
    max_batch_size_bytes: u64,
) -> Result<(), TreeError> {
    let (mut inputs, mut outputs, mut bytes) = (0u64, 0u64, 0u64);
    for entry in log {
        match Key::parse(&entry.key).ok_or(TreeError::Key)? {
            Key::Transaction { kind: ArtifactKind::Input, .. } => {
                inputs += 1;
                bytes = bytes.saturating_add(entry.value.as_ref().map_or(0, |v| v.len()) as u64);
            }
            Key::Transaction { .. } => outputs += 1,
            Key::Tag { .. } => {}
        }
        if inputs > max_batch_size || outputs > max_batch_size {
            return Err(TreeError::TooMany { max: max_batch_size });
        }
        if bytes > max_batch_size_bytes {
            return Err(TreeError::TooLarge { max: max_batch_size_bytes });
        }
    }
    Ok(())
}

/// The pairs of a batch of inputs: what the input root is the root of.
///
/// # Errors
/// If one is empty or there are more than 2^32.
pub fn input_pairs(batch: &[Bytes]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, TreeError> {
    batch
        .iter()
        .enumerate()
        .map(|(position, input)| {
            if input.is_empty() {
                return Err(TreeError::EmptyInput);
            }
            let batch_order = u32::try_from(position).map_err(|_| TreeError::TooMany { max: u64::from(u32::MAX) })?;
            let value = cbor::to_vec(&InputArtifacts { input: Some(input.clone()), batch_order });
            Ok((transaction_key(&hash(input), ArtifactKind::Input), value))
        })
        .collect()
}

/// A transaction with what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The transaction itself.
    pub input: Vec<u8>,
    /// Its result, if there is one.
    pub output: Option<Vec<u8>>,
    /// Its position in the batch.
    pub batch_order: u32,
}

/// Collects transactions from a tree's pairs in key order.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    transactions: Vec<(Hash, Transaction)>,
}

impl Collector {
    /// Takes the next pair; returns whether it was one of a transaction. The first that is not ends the transactions.
    ///
    /// # Errors
    /// If the value is malformed, or an output has no input before it.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<bool, TreeError> {
        let Some(Key::Transaction { hash, kind }) = Key::parse(key) else {
            return Ok(false);
        };
        let malformed = |source| TreeError::Artifacts { kind, hash, source };
        match kind {
            ArtifactKind::Input => {
                let artifacts: InputArtifacts = cbor::from_slice(value).map_err(malformed)?;
                let transaction = Transaction {
                    input: artifacts.input.unwrap_or_default().0,
                    output: None,
                    batch_order: artifacts.batch_order,
                };
                self.transactions.push((hash, transaction));
            }
            ArtifactKind::Output => {
                let artifacts: OutputArtifacts = cbor::from_slice(value).map_err(malformed)?;
                match self.transactions.last_mut() {
                    Some((of, transaction)) if *of == hash => {
                        transaction.output = artifacts.output.map(|output| output.0);
                    }
                    _ => return Err(TreeError::OutputWithoutInput { hash }),
                }
            }
        }
        Ok(true)
    }

    /// How many transactions there are so far.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// The transactions in batch order; equal orders stay in key order.
    pub fn into_transactions(self) -> Vec<Transaction> {
        let mut out: Vec<Transaction> = self.transactions.into_iter().map(|(_, t)| t).collect();
        out.sort_by_key(|t| t.batch_order);
        out
    }

    /// The inputs in batch order, which must be 0, 1, 2, …
    ///
    /// # Errors
    /// If it is not.
    pub fn into_batch(self) -> Result<Vec<Bytes>, TreeError> {
        self.into_transactions()
            .into_iter()
            .enumerate()
            .map(|(position, t)| {
                if u32::try_from(position) != Ok(t.batch_order) {
                    return Err(TreeError::Order { position, order: t.batch_order });
                }
                Ok(Bytes(t.input))
            })
            .collect()
    }
}
