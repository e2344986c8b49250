//! Validation of transactions (reference: `mc-transaction-core::validation`).

use std::collections::HashSet;

use mc_crypto::range;
use wire_mobilecoin::Point;
use wire_mobilecoin::tx::{MaskedAmount, MembershipProof, Tx, TxIn, TxOut};

use crate::error::{SignatureError, TxError};
use crate::{membership, rules, signature};

/// Members of every ring.
pub const RING_SIZE: usize = 11;
/// Most inputs.
pub const MAX_INPUTS: usize = 16;
/// Most outputs.
pub const MAX_OUTPUTS: usize = 16;
/// How many blocks ahead a tombstone may be.
pub const MAX_TOMBSTONE_BLOCKS: u64 = 20_160;
/// The longest transaction that is decoded, bytes: 16 inputs of 11 members with proofs of 64 levels are below it.
pub const MAX_TX_BYTES: usize = 1 << 20;

/// Outputs carry memos.
pub fn has_memos(block_version: u32) -> bool {
    block_version >= 1
}

/// Amounts carry a token, and mints exist.
pub fn has_tokens(block_version: u32) -> bool {
    block_version >= 2
}

/// Each token has its own range proof; also the version of sorted outputs, input rules and metadata.
pub fn has_own_range_proofs(block_version: u32) -> bool {
    block_version >= 3
}

/// What a transaction is validated against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The block it would be in, or the last block's index for a check ahead of time.
    pub current_block_index: u64,
    /// The rules.
    pub block_version: u32,
    /// The validator's own proof for the highest index of each membership proof, ring by ring.
    pub root_proofs: &'a [MembershipProof],
    /// The smallest fee of the transaction's fee token.
    pub minimum_fee: u64,
}

/// Validates a transaction.
///
/// # Errors
/// The first rule that it breaks.
pub fn validate(tx: &Tx, context: &Context<'_>) -> Result<(), TxError> {
    let outputs = before_signature(tx, context)?;
    signature::verify(tx, &outputs, context.block_version)?;
    after_signature(tx, context)
}

/// Validates transactions and takes their range proofs together; verdicts are those of [`validate`].
pub fn validate_batch(txs: &[(&Tx, Context<'_>)]) -> Vec<Result<(), TxError>> {
    let mut statements = Vec::new();
    let mut verdicts: Vec<Result<(), TxError>> = Vec::with_capacity(txs.len());
    for (tx, context) in txs {
        let gathered = before_signature(tx, context).and_then(|outputs| {
            let found = signature::before_range_proofs(tx, &outputs, context.block_version)?;
            Ok((outputs, found))
        });
        let verdict = match gathered {
            Err(error) => Err(error),
            Ok((outputs, found)) => {
                let rest = signature::after_range_proofs(tx, &outputs, context.block_version)
                    .map_err(TxError::from)
                    .and_then(|()| after_signature(tx, context));
                match rest {
                    // Its range proofs come first in the order of verdicts.
                    Err(error) => Err(first_range_error(&found).unwrap_or(error)),
                    Ok(()) => {
                        statements.extend(found);
                        Ok(())
                    }
                }
            }
        };
        verdicts.push(verdict);
    }
    let borrowed: Vec<_> = statements.iter().map(signature::RangeStatement::borrow).collect();
    if range::verify_batch(&borrowed).is_ok() {
        return verdicts;
    }
    let alone = |((tx, context), verdict): (&(&Tx, Context<'_>), Result<(), TxError>)| match verdict {
        Ok(()) => validate(tx, context),
        refused => refused,
    };
    txs.iter().zip(verdicts).map(alone).collect()
}

fn first_range_error(statements: &[signature::RangeStatement<'_>]) -> Option<TxError> {
    statements.iter().find_map(|s| range::verify(&s.borrow()).err()).map(|e| SignatureError::from(e).into())
}

/// Shape, rings and membership; returns the outputs' commitments.
fn before_signature(tx: &Tx, context: &Context<'_>) -> Result<Vec<Point>, TxError> {
    let (inputs, outputs) = (&tx.prefix.inputs, &tx.prefix.outputs);
    check_counts(inputs, outputs)?;
    check_ring_elements(inputs)?;
    check_order_of_inputs(inputs)?;
    check_membership(inputs, context.root_proofs)?;
    let amounts_known = |outs: &[TxOut]| outs.iter().all(|out| out.masked_amount.is_some());
    if !amounts_known(outputs) || !inputs.iter().all(|input| amounts_known(&input.ring)) {
        return Err(TxError::UnknownMaskedAmountVersion);
    }
    Ok(outputs.iter().filter_map(TxOut::commitment).collect())
}

fn check_counts(inputs: &[TxIn], outputs: &[TxOut]) -> Result<(), TxError> {
    match inputs.len() {
        0 => return Err(TxError::NoInputs),
        1..=MAX_INPUTS => {}
        _ => return Err(TxError::TooManyInputs),
    }
    match outputs.len() {
        0 => return Err(TxError::NoOutputs),
        1..=MAX_OUTPUTS => {}
        _ => return Err(TxError::TooManyOutputs),
    }
    for input in inputs {
        match input.ring.len() {
            RING_SIZE => {}
            0..RING_SIZE => return Err(TxError::InsufficientRingSize),
            _ => return Err(TxError::ExcessiveRingSize),
        }
    }
    Ok(())
}

/// An output may be in one ring only once, and in only one of the rings without rules.
fn check_ring_elements(inputs: &[TxIn]) -> Result<(), TxError> {
    let mut shared = HashSet::new();
    for input in inputs {
        let mut own = HashSet::new();
        let seen = if input.input_rules.is_some() { &mut own } else { &mut shared };
        if !input.ring.iter().all(|member| seen.insert(member)) {
            return Err(TxError::DuplicateRingElements);
        }
    }
    Ok(())
}

/// Whether public keys strictly increase.
fn is_sorted<'a>(mut outs: impl Iterator<Item = &'a TxOut>) -> bool {
    let Some(mut before) = outs.next() else {
        return true;
    };
    outs.all(|out| std::mem::replace(&mut before, out).public_key < out.public_key)
}

fn check_order_of_inputs(inputs: &[TxIn]) -> Result<(), TxError> {
    if !inputs.iter().all(|input| is_sorted(input.ring.iter())) {
        return Err(TxError::UnsortedRingElements);
    }
    if !is_sorted(inputs.iter().filter_map(|input| input.ring.first())) {
        return Err(TxError::UnsortedInputs);
    }
    Ok(())
}

fn check_membership(inputs: &[TxIn], root_proofs: &[MembershipProof]) -> Result<(), TxError> {
    if inputs.iter().any(|input| input.proofs.len() != input.ring.len()) {
        return Err(TxError::MissingTxOutMembershipProof);
    }
    // Most members share one root.
    let mut roots: Vec<wire_mobilecoin::Hash> = Vec::with_capacity(root_proofs.len());
    for (index, proof) in root_proofs.iter().enumerate() {
        let before = index.checked_sub(1).filter(|before| root_proofs[*before] == *proof);
        let root = match before.and_then(|before| roots.get(before)) {
            Some(root) => *root,
            None => membership::root_at_index(proof).map_err(|_| TxError::MembershipProofValidationError)?.hash,
        };
        roots.push(root);
    }
    let members = || inputs.iter().flat_map(|input| input.ring.iter().zip(&input.proofs));
    if members().count() != root_proofs.len() {
        return Err(TxError::InvalidLedgerContext);
    }
    for ((member, proof), (root_proof, root)) in members().zip(root_proofs.iter().zip(roots)) {
        if root_proof.index != proof.highest_index {
            return Err(TxError::InvalidLedgerContext);
        }
        match membership::is_valid(member, proof, &root) {
            Ok(true) => {}
            Ok(false) => return Err(TxError::InvalidTxOutMembershipProof),
            Err(_) => return Err(TxError::MembershipProofValidationError),
        }
    }
    Ok(())
}

/// Fee, uniqueness, tombstone, memos and tokens, order of outputs, input rules.
fn after_signature(tx: &Tx, context: &Context<'_>) -> Result<(), TxError> {
    let prefix = &tx.prefix;
    let version = context.block_version;
    if prefix.fee < context.minimum_fee {
        return Err(TxError::TxFeeError);
    }
    let mut key_images = HashSet::new();
    if !tx.signature.ring_signatures.iter().all(|ring| key_images.insert(ring.key_image)) {
        return Err(TxError::DuplicateKeyImages);
    }
    let mut public_keys = HashSet::new();
    if !prefix.outputs.iter().all(|out| public_keys.insert(out.public_key)) {
        return Err(TxError::DuplicateOutputPublicKey);
    }
    check_tombstone(context.current_block_index, prefix.tombstone_block).map_err(|e| match e {
        TombstoneError::Exceeded => TxError::TombstoneBlockExceeded,
        TombstoneError::TooFar => TxError::TombstoneBlockTooFar,
    })?;
    for out in &prefix.outputs {
        check_output(out, version)?;
    }
    if has_own_range_proofs(version) {
        if !is_sorted(prefix.outputs.iter()) {
            return Err(TxError::UnsortedOutputs);
        }
        rules::check(prefix)?;
    } else if prefix.inputs.iter().any(|input| input.input_rules.is_some()) {
        return Err(TxError::InputRulesNotAllowed);
    }
    Ok(())
}

/// How a tombstone is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TombstoneError {
    Exceeded,
    TooFar,
}

/// A tombstone is after the current block and not too far.
pub(crate) fn check_tombstone(current_block_index: u64, tombstone: u64) -> Result<(), TombstoneError> {
    if current_block_index >= tombstone {
        return Err(TombstoneError::Exceeded);
    }
    if tombstone > current_block_index.saturating_add(MAX_TOMBSTONE_BLOCKS) {
        return Err(TombstoneError::TooFar);
    }
    Ok(())
}

fn check_output(out: &TxOut, version: u32) -> Result<(), TxError> {
    match (has_memos(version), out.e_memo.is_some()) {
        (true, false) => return Err(TxError::MissingMemo),
        (false, true) => return Err(TxError::MemosNotAllowed),
        _ => {}
    }
    let masked: &MaskedAmount = out.masked_amount.as_ref().ok_or(TxError::UnknownMaskedAmountVersion)?;
    match (has_tokens(version), masked.body().masked_token_id.len()) {
        (true, 8) | (false, 0) => Ok(()),
        (true, _) => Err(TxError::MissingMaskedTokenId),
        (false, _) => Err(TxError::MaskedTokenIdNotAllowed),
    }
}
