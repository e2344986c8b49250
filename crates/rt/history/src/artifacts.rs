//! Inputs, outputs and tags of a round, out of the tree under its I/O root. Source: `go/runtime/transaction`.
//!
//! What lies in the tree and how is in `wire_runtime::transaction`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use base_codec::{Bytes, cbor};
use base_prims::Hash;
use mkvs_tree::{KvRead, KvWrite, Sequential, Tree, scan_prefix};
use wire_runtime::transaction::{
    ArtifactKind, Collector, InputArtifacts, Key, OutputArtifacts, PREFIX_TAG, PREFIX_TRANSACTION, Tag, Transaction,
    TreeError as FormatError, input_pairs, tag_key, transaction_key,
};

/// Most bytes that an input's value has besides the input: heads of list and byte string, and the batch order.
const INPUT_OVERHEAD: usize = 15;

/// A round's tree cannot be read, or a batch makes none.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactsError {
    /// The tree.
    #[error(transparent)]
    Tree(#[from] mkvs_tree::TreeError),
    /// What lies in it.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// There is no such transaction.
    #[error("transaction: not found")]
    NotFound,
}

/// Calls `visit` with the pairs under a prefix until it fails or says stop.
fn visit<T: KvRead + ?Sized>(
    tree: &T,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, FormatError>,
) -> Result<(), ArtifactsError> {
    let mut failed = None;
    scan_prefix(tree, prefix, &mut |key, value| match visit(key, value) {
        Ok(flow) => flow,
        Err(e) => {
            failed = Some(e);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), |e| Err(e.into()))
}

fn collect<T: KvRead + ?Sized>(
    tree: &T,
    mut may: impl FnMut(&Collector, &[u8], &[u8]) -> Result<(), FormatError>,
) -> Result<Collector, ArtifactsError> {
    let mut all = Collector::default();
    visit(tree, &[PREFIX_TRANSACTION], |key, value| {
        may(&all, key, value)?;
        Ok(if all.push(key, value)? { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(all)
}

/// All transactions of a round, in batch order.
///
/// # Errors
/// If the tree cannot be read.
pub fn transactions<T: KvRead + ?Sized>(tree: &T) -> Result<Vec<Transaction>, ArtifactsError> {
    Ok(collect(tree, |_, _, _| Ok(()))?.into_transactions())
}

/// The inputs of a round in batch order, within limits; 0 is no limit.
///
/// # Errors
/// If there are too many, they are too large, their order has gaps, or the tree cannot be read.
pub fn input_batch<T: KvRead + ?Sized>(tree: &T, max: u64, max_bytes: u64) -> Result<Vec<Bytes>, ArtifactsError> {
    let mut bytes = 0u64;
    let all = collect(tree, |so_far, key, value| {
        if matches!(Key::parse(key), Some(Key::Transaction { kind: ArtifactKind::Input, .. })) {
            bytes = bytes.saturating_add(value.len().saturating_sub(INPUT_OVERHEAD) as u64);
        }
        if max > 0 && so_far.len() as u64 > max {
            return Err(FormatError::TooMany { max });
        }
        if max_bytes > 0 && bytes > max_bytes {
            return Err(FormatError::TooLarge { max: max_bytes });
        }
        Ok(())
    })?;
    if max > 0 && all.len() as u64 > max {
        return Err(FormatError::TooMany { max }.into());
    }
    let batch = all.into_batch()?;
    if max_bytes > 0 && batch.iter().map(|input| input.len() as u64).sum::<u64>() > max_bytes {
        return Err(FormatError::TooLarge { max: max_bytes }.into());
    }
    Ok(batch)
}

/// One transaction.
///
/// # Errors
/// If it is not there, or the tree cannot be read.
pub fn transaction<T: KvRead + ?Sized>(tree: &T, hash: &Hash) -> Result<Transaction, ArtifactsError> {
    let malformed = |kind| move |source| FormatError::Artifacts { kind, hash: *hash, source };
    let input = tree.get(&transaction_key(hash, ArtifactKind::Input))?.ok_or(ArtifactsError::NotFound)?;
    let input: InputArtifacts = cbor::from_slice(&input).map_err(malformed(ArtifactKind::Input))?;
    let output = match tree.get(&transaction_key(hash, ArtifactKind::Output))? {
        Some(bytes) => {
            let output: OutputArtifacts = cbor::from_slice(&bytes).map_err(malformed(ArtifactKind::Output))?;
            output.output.map(|o| o.0)
        }
        None => None,
    };
    Ok(Transaction { input: input.input.unwrap_or_default().0, output, batch_order: input.batch_order })
}

/// Those of the transactions that are there.
///
/// # Errors
/// If the tree cannot be read.
pub fn some_transactions<T: KvRead + ?Sized>(
    tree: &T,
    hashes: &[Hash],
) -> Result<BTreeMap<Hash, Transaction>, ArtifactsError> {
    let mut out = BTreeMap::new();
    for hash in hashes {
        match transaction(tree, hash) {
            Ok(found) => drop(out.insert(*hash, found)),
            Err(ArtifactsError::NotFound) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// All tags of a round, in key order.
///
/// # Errors
/// If the tree cannot be read.
pub fn tags<T: KvRead + ?Sized>(tree: &T) -> Result<Vec<Tag>, ArtifactsError> {
    let mut out = Vec::new();
    visit(tree, &[PREFIX_TAG], |key, value| {
        let Some(Key::Tag { tag, hash }) = Key::parse(key) else { return Err(FormatError::Key) };
        out.push(Tag { key: Bytes(tag.to_vec()), value: Bytes(value.to_vec()), tx_hash: hash });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(out)
}

/// The tags of a round with exactly this key.
///
/// # Errors
/// If the tree cannot be read.
pub fn tags_of<T: KvRead + ?Sized>(tree: &T, wanted: &[u8]) -> Result<Vec<Tag>, ArtifactsError> {
    let mut prefix = vec![PREFIX_TAG];
    prefix.extend_from_slice(wanted);
    let mut out = Vec::new();
    visit(tree, &prefix, |key, value| {
        // Longer keys have the prefix too.
        if let Some(Key::Tag { tag, hash }) = Key::parse(key)
            && tag == wanted
        {
            out.push(Tag { key: Bytes(tag.to_vec()), value: Bytes(value.to_vec()), tx_hash: hash });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(out)
}

/// The tree of a batch's inputs; its root is what a proposal names.
///
/// # Errors
/// If an input is empty or there are too many.
pub fn input_tree(batch: &[Bytes]) -> Result<Tree, ArtifactsError> {
    let mut tree = Tree::in_memory();
    for (key, value) in input_pairs(batch)? {
        tree.insert(&key, &value)?;
    }
    Ok(tree)
}

/// Root of the tree of a batch's inputs.
///
/// # Errors
/// As [`input_tree`].
pub fn input_root(batch: &[Bytes]) -> Result<Hash, ArtifactsError> {
    Ok(input_tree(batch)?.root_hash(&Sequential))
}

/// Adds outputs, in batch order, and tags to the tree of a batch's inputs.
///
/// # Errors
/// If the tree fails.
pub fn add_outputs(tree: &mut Tree, batch: &[Bytes], outputs: &[Bytes], tags: &[Tag]) -> Result<(), ArtifactsError> {
    for (input, output) in batch.iter().zip(outputs) {
        let key = transaction_key(&wire_runtime::transaction::hash(input), ArtifactKind::Output);
        tree.insert(&key, &cbor::to_vec(&OutputArtifacts { output: Some(output.clone()) }))?;
    }
    for tag in tags {
        tree.insert(&tag_key(&tag.key, &tag.tx_hash), &tag.value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
