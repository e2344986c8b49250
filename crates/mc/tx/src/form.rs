//! Forming blocks from agreed values, and their signatures (reference: `form_block` of the consensus enclave).

use std::collections::HashSet;

use mc_crypto::amount::Amount;
use mc_crypto::{curve, ed25519, onetime};
use merlin::Transcript;
use wire_mobilecoin::address::PublicAddress;
use wire_mobilecoin::block::{Block, BlockContents, BlockMetadata, BlockSignature, MAX_BLOCK_VERSION};
use wire_mobilecoin::digest::{Digestible, Label, finish, sequence};
use wire_mobilecoin::mint::{MintConfig, MintConfigTx, MintTx, ValidatedMintConfigTx};
use wire_mobilecoin::tx::{MembershipElement, MembershipProof, Tx, TxOut};
use wire_mobilecoin::{FogHint, Hash, Scalar32};

use crate::config::BlockchainConfig;
use crate::error::TxError;
use crate::validate::{Context, has_memos, validate_batch};
use crate::{membership, mint};

/// Why no block is formed. Names as in the reference; a text says what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configured version does not follow the parent's.
    #[error("{0}")]
    BlockVersion(String),
    /// The values do not go together.
    #[error("{0}")]
    FormBlock(String),
    /// A transaction.
    #[error("malformed transaction: {0}")]
    MalformedTx(#[from] TxError),
    /// A mint or mint configuration.
    #[error("malformed minting transaction: {0}")]
    MalformedMintingTx(#[from] mint::Error),
    /// A membership proof.
    #[error("invalid membership proof: {0}")]
    InvalidMembershipProof(#[from] membership::Error),
    /// An output cannot be made.
    #[error("output: {0}")]
    Output(#[from] onetime::Error),
}

/// A mint with the configuration that it is minted under and the transaction that set it.
#[derive(Clone, Debug)]
pub struct MintInput {
    /// The mint.
    pub tx: MintTx,
    /// What set the configuration.
    pub config_tx: MintConfigTx,
    /// The configuration.
    pub config: MintConfig,
}

/// What a block is formed from.
#[derive(Clone, Debug, Default)]
pub struct FormInputs {
    /// Transactions, each with the validator's own proofs for its highest indices.
    pub txs: Vec<(Tx, Vec<MembershipProof>)>,
    /// Mint configurations.
    pub mint_config_txs: Vec<MintConfigTx>,
    /// Mints.
    pub mint_txs: Vec<MintInput>,
}

/// Forms the block after a parent: its header and contents. The same inputs give the same block everywhere.
///
/// # Errors
/// The first thing that is not allowed.
pub fn form_block(
    parent: &Block,
    root: &MembershipElement,
    inputs: &FormInputs,
    config: &BlockchainConfig,
    fee_recipient: &PublicAddress,
) -> Result<(Block, BlockContents), Error> {
    let version = config.block_version;
    if version < parent.version || version > MAX_BLOCK_VERSION {
        return Err(Error::BlockVersion(format!(
            "Block version cannot decrease or be unknown: {} after {}",
            version, parent.version
        )));
    }
    let index = parent.index.checked_add(1).ok_or_else(|| Error::FormBlock("Block index overflow".into()))?;
    check_txs(inputs, root, index, config)?;
    let validated = check_mint_configs(&inputs.mint_config_txs, index, config)?;
    check_mints(&inputs.mint_txs, index, version)?;

    let mut outputs: Vec<TxOut> = inputs.txs.iter().flat_map(|(tx, _)| tx.prefix.outputs.iter().cloned()).collect();
    let mut key_images: Vec<_> = inputs.txs.iter().flat_map(|(tx, _)| tx.key_images()).collect();
    check_unique(&outputs, &key_images)?;
    outputs.extend(fee_outputs(parent, inputs, config, fee_recipient)?);
    outputs.extend(minted_outputs(parent, &inputs.mint_txs, version)?);
    outputs.sort_by_key(|output| output.public_key);
    key_images.sort();
    let contents = BlockContents {
        key_images,
        outputs,
        validated_mint_config_txs: validated,
        mint_txs: inputs.mint_txs.iter().map(|mint| mint.tx.clone()).collect(),
    };
    Ok((child(parent, version, root, &contents)?, contents))
}

/// The header of the block that adds these contents to a parent.
///
/// # Errors
/// If a counter overflows.
pub fn child(parent: &Block, version: u32, root: &MembershipElement, contents: &BlockContents) -> Result<Block, Error> {
    let overflow = || Error::FormBlock("Counter overflow".into());
    let mut block = Block {
        id: Hash::default(),
        version,
        parent_id: parent.id,
        index: parent.index.checked_add(1).ok_or_else(overflow)?,
        cumulative_txo_count: parent
            .cumulative_txo_count
            .checked_add(contents.outputs.len() as u64)
            .ok_or_else(overflow)?,
        root_element: *root,
        contents_hash: contents.hash(),
    };
    block.id = block.computed_id();
    Ok(block)
}

/// The header of the first block.
pub fn origin(contents: &BlockContents) -> Block {
    let mut block = Block {
        cumulative_txo_count: contents.outputs.len() as u64,
        contents_hash: contents.hash(),
        ..Block::default()
    };
    block.id = block.computed_id();
    block
}

fn check_txs(
    inputs: &FormInputs,
    root: &MembershipElement,
    index: u64,
    config: &BlockchainConfig,
) -> Result<(), Error> {
    let mut hashes = HashSet::new();
    for (tx, _) in &inputs.txs {
        let hash = tx.hash();
        if !hashes.insert(hash) {
            return Err(Error::FormBlock(format!("Duplicate transaction: {hash}")));
        }
    }
    let mut contexts = Vec::with_capacity(inputs.txs.len());
    for (tx, root_proofs) in &inputs.txs {
        let token = tx.prefix.fee_token_id;
        let minimum_fee = config
            .fee_map
            .get(token)
            .ok_or_else(|| Error::FormBlock(format!("No minimum fee for token id {token}")))?;
        let context =
            Context { current_block_index: index, block_version: config.block_version, root_proofs, minimum_fee };
        contexts.push((tx, context));
    }
    validate_batch(&contexts).into_iter().collect::<Result<(), TxError>>()?;
    let mut known: Option<&MembershipProof> = None;
    for proof in inputs.txs.iter().flat_map(|(_, proofs)| proofs) {
        if known == Some(proof) {
            continue;
        }
        if membership::implied_root(proof)? != *root {
            return Err(Error::FormBlock("Root element of a proof is not that of the ledger".into()));
        }
        known = Some(proof);
    }
    Ok(())
}

fn check_unique(outputs: &[TxOut], key_images: &[wire_mobilecoin::Point]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    if let Some(image) = key_images.iter().find(|image| !seen.insert(**image)) {
        return Err(Error::FormBlock(format!("Duplicate key image: {image}")));
    }
    seen.clear();
    match outputs.iter().find(|out| !seen.insert(out.public_key)) {
        Some(out) => Err(Error::FormBlock(format!("Duplicate output public key: {}", out.public_key))),
        None => Ok(()),
    }
}

fn check_mint_configs(
    txs: &[MintConfigTx],
    index: u64,
    config: &BlockchainConfig,
) -> Result<Vec<ValidatedMintConfigTx>, Error> {
    let mut nonces = HashSet::new();
    let mut out = Vec::with_capacity(txs.len());
    for tx in txs {
        let token = tx.prefix.token_id;
        let governors = config
            .governors
            .get(token)
            .ok_or_else(|| Error::FormBlock(format!("No governors for token id {token}")))?;
        mint::validate_mint_config_tx(tx, Some(index), config.block_version, governors)?;
        if !nonces.insert((&tx.prefix.nonce, token)) {
            return Err(Error::FormBlock(format!("Duplicate MintConfigTx nonce for token id {token}")));
        }
        out.push(ValidatedMintConfigTx { mint_config_tx: tx.clone(), signer_set: governors.clone() });
    }
    Ok(out)
}

fn check_mints(mints: &[MintInput], index: u64, version: u32) -> Result<(), Error> {
    let mut nonces = HashSet::new();
    for MintInput { tx, config_tx, config } in mints {
        let token = tx.prefix.token_id;
        if !config_tx.prefix.configs.contains(config) {
            let nonce: String = tx.prefix.nonce.iter().map(|b| format!("{b:02x}")).collect();
            return Err(Error::FormBlock(format!(
                "MintTx {nonce} referenced a MintConfig that is not part of the MintConfigTx"
            )));
        }
        mint::validate_mint_tx(tx, index, version, config)?;
        if !nonces.insert((&tx.prefix.nonce, token)) {
            return Err(Error::FormBlock(format!("Duplicate MintTx nonce for token id {token}")));
        }
    }
    Ok(())
}

/// Moves entries without a total to the end by the reference's network of swaps; the order of the others depends on it.
fn zeros_last(totals: &mut [(u64, u128)]) {
    for slot in (1..totals.len()).rev() {
        for earlier in 0..slot {
            if totals[earlier].1 == 0 && totals[slot].1 != 0 {
                totals.swap(earlier, slot);
            }
        }
    }
}

fn fee_outputs(
    parent: &Block,
    inputs: &FormInputs,
    config: &BlockchainConfig,
    recipient: &PublicAddress,
) -> Result<Vec<TxOut>, Error> {
    let mut totals: Vec<(u64, u128)> = config.fee_map.iter().map(|(token, _)| (token, 0)).collect();
    for (tx, _) in &inputs.txs {
        if let Some(total) = totals.iter_mut().find(|(token, _)| *token == tx.prefix.fee_token_id) {
            total.1 += u128::from(tx.prefix.fee);
        }
    }
    zeros_last(&mut totals);
    totals.truncate(inputs.txs.len());
    let txs: Vec<&Tx> = inputs.txs.iter().map(|(tx, _)| tx).collect();
    let mut out = Vec::new();
    for (token_id, total) in totals {
        let mut rest = total;
        let mut counter = 0u64;
        loop {
            let value = u64::try_from(rest).unwrap_or(u64::MAX);
            rest -= u128::from(value);
            let amount = Amount { value, token_id };
            let secret = output_secret(b"mc_fees_output_private_key", parent, &Sequence(&txs), amount, counter);
            out.push(make_output(config.block_version, amount, recipient, &secret, FogHint::default())?);
            counter += 1;
            if rest == 0 {
                break;
            }
        }
    }
    Ok(out)
}

fn minted_outputs(parent: &Block, mints: &[MintInput], version: u32) -> Result<Vec<TxOut>, Error> {
    let txs: Vec<&MintTx> = mints.iter().map(|mint| &mint.tx).collect();
    let mut out = Vec::with_capacity(mints.len());
    for (counter, tx) in txs.iter().enumerate() {
        let prefix = &tx.prefix;
        let amount = Amount { value: prefix.amount, token_id: prefix.token_id };
        let recipient = PublicAddress {
            view_public_key: prefix.view_public_key,
            spend_public_key: prefix.spend_public_key,
            ..PublicAddress::default()
        };
        let secret = output_secret(b"mc_minted_output_private_key", parent, &Sequence(&txs), amount, counter as u64);
        out.push(make_output(version, amount, &recipient, &secret, prefix.e_fog_hint.unwrap_or_default())?);
    }
    Ok(out)
}

/// A sequence of borrowed values.
struct Sequence<'a, T>(&'a [&'a T]);

impl<T: Digestible> Digestible for Sequence<'_, T> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        sequence(context, self.0.iter().copied(), transcript);
    }
}

/// The secret key of an output that the block itself makes.
fn output_secret<T: Digestible>(
    label: &'static [u8],
    parent: &Block,
    transactions: &Sequence<'_, T>,
    amount: Amount,
    counter: u64,
) -> Scalar32 {
    let mut transcript = Transcript::new(label);
    parent.id.digest_under(b"parent_block_id", &mut transcript);
    transactions.digest_under(b"transactions", &mut transcript);
    amount.digest_under(b"amount", &mut transcript);
    counter.digest_under(b"counter", &mut transcript);
    curve::reduce(finish(transcript))
}

fn make_output(
    version: u32,
    amount: Amount,
    recipient: &PublicAddress,
    secret: &Scalar32,
    hint: FogHint,
) -> Result<TxOut, Error> {
    let memo = has_memos(version).then_some(&[0u8; 66]);
    Ok(onetime::create_tx_out(version, amount, recipient, secret, hint, memo)?)
}

/// Signs a block.
pub fn sign_block(block: &Block, key: &ed25519::PrivateKey, signed_at: u64) -> BlockSignature {
    BlockSignature { signature: key.sign(&block.signed_digest()), signer: key.public(), signed_at }
}

/// Whether the signature is of the block by the signer that it names.
pub fn verify_block_signature(block: &Block, signature: &BlockSignature) -> bool {
    ed25519::verify(&signature.signer, &block.signed_digest(), &signature.signature)
}

/// Whether the metadata are signed by the node key that they name.
pub fn verify_metadata(metadata: &BlockMetadata) -> bool {
    ed25519::verify(&metadata.node_key, &metadata.contents.signed_digest(), &metadata.signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_go_last() {
        let mut totals = [(0, 0), (1, 5), (2, 0), (3, 7)];
        zeros_last(&mut totals);
        assert!(totals[..2].iter().all(|t| t.1 != 0) && totals[2..].iter().all(|t| t.1 == 0));
        let mut full = [(0, 1), (1, 5)];
        zeros_last(&mut full);
        assert_eq!(full, [(0, 1), (1, 5)]);
    }
}
