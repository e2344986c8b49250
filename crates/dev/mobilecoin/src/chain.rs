//! `blocks.json`, `form_block.json`, `blockchain_config.json`.

use mc_tx::config::{BlockchainConfig, GovernorsMap};
use mc_tx::fees::FeeMap;
use mc_tx::form::{self, FormInputs, MintInput};
use serde_json::Value;
use wire_mobilecoin::address::PublicAddress;
use wire_mobilecoin::block::{Block, BlockContents, BlockMetadata, BlockSignature};
use wire_mobilecoin::mint::SignerSet;
use wire_mobilecoin::tx::{MembershipElement, MembershipProof, Range, Tx};
use wire_mobilecoin::{Ed25519Key, Ed25519Sig, Message};

use crate::case::{Case, Field, decode, from_hex, pairs, same, to_number};
use crate::{Checked, Checker};

pub(crate) const GROUPS: &[(&str, Checker)] = &[
    ("chain", chain),
    ("block_id", block_id),
    ("signature", signature),
    ("metadata", metadata),
    ("append", crate::ledger::append),
    ("form_block", form_block),
    ("refused", refused),
    ("config", blockchain_config),
];

fn chain(case: &Case<'_>) -> Checked {
    let signer: Ed25519Key = case.fixed("block_signer")?;
    let node_key: Ed25519Key = case.fixed("node_key")?;
    let blocks = case.list("blocks")?;
    let mut parent: Option<Block> = None;
    for value in blocks {
        let entry = case.at(value);
        let block = check_block(&entry, &signer, &node_key)
            .map_err(|what| format!("block {}: {what}", entry.field("index")))?;
        if let Some(parent) = parent {
            same("parent", block.parent_id, parent.id)?;
            same("index", block.index, parent.index + 1)?;
        }
        parent = Some(block);
    }
    Ok(())
}

fn check_block(entry: &Case<'_>, signer: &Ed25519Key, node_key: &Ed25519Key) -> Field<Block> {
    let block: Block = entry.message("block_pb")?;
    let contents: BlockContents = entry.message("contents_pb")?;
    entry.expect("id", block.computed_id())?;
    entry.expect("id", block.id)?;
    entry.expect("parent_id", block.parent_id)?;
    entry.expect("contents_hash", contents.hash())?;
    entry.expect("contents_hash", block.contents_hash)?;
    entry.expect("block_sig_digest", block.signed_digest())?;
    entry.expect_number("index", block.index)?;
    entry.expect_number("version", block.version.into())?;
    entry.expect_number("cumulative_txo_count", block.cumulative_txo_count)?;
    entry.expect_number("num_key_images", contents.key_images.len() as u64)?;
    entry.expect_number("num_outputs", contents.outputs.len() as u64)?;
    entry.expect_number("num_mint_txs", contents.mint_txs.len() as u64)?;
    entry.expect_number("num_mint_config_txs", contents.validated_mint_config_txs.len() as u64)?;
    same("root", block.root_element, entry.message("root_element_pb")?)?;
    if !entry.field("signature_pb").is_null() {
        let signature: BlockSignature = entry.message("signature_pb")?;
        same("signer", &signature.signer, signer)?;
        same("signature holds", form::verify_block_signature(&block, &signature), true)?;
    }
    if !entry.field("metadata_pb").is_null() {
        let metadata: BlockMetadata = entry.message("metadata_pb")?;
        entry.expect("metadata_digest", metadata.contents.signed_digest())?;
        same("node key", &metadata.node_key, node_key)?;
        same("metadata hold", form::verify_metadata(&metadata), true)?;
        same("block of the metadata", metadata.contents.block_id, block.id)?;
    }
    Ok(block)
}

fn block_id(case: &Case<'_>) -> Checked {
    let block = Block {
        version: case.number32("version")?,
        parent_id: case.fixed("parent_id")?,
        index: case.number("index")?,
        cumulative_txo_count: case.number("cumulative_txo_count")?,
        root_element: MembershipElement {
            range: Range { from: case.number("root_from")?, to: case.number("root_to")? },
            hash: case.fixed("root_hash")?,
        },
        contents_hash: case.fixed("contents_hash")?,
        ..Block::default()
    };
    case.expect("block_id", block.computed_id())
}

fn signature(case: &Case<'_>) -> Checked {
    let holds = form::verify_block_signature(&case.message("block_pb")?, &case.message("signature_pb")?);
    same("validity", Some(holds), case.field("valid").as_bool())
}

fn metadata(case: &Case<'_>) -> Checked {
    let holds = form::verify_metadata(&case.message("metadata_pb")?);
    same("validity", Some(holds), case.field("valid").as_bool())
}

/// Governors of a list of pairs.
fn governors(value: &Value) -> Field<GovernorsMap> {
    let mut sets: Vec<(u64, SignerSet)> = Vec::new();
    for pair in value.as_array().map_or(&[][..], Vec::as_slice) {
        sets.push((to_number(&pair[0]).ok_or("no token")?, decode(&pair[1])?));
    }
    GovernorsMap::new(sets).map_err(|e| e.to_string())
}

fn read_config(case: &Case<'_>) -> Field<BlockchainConfig> {
    let signature = match case.field("governors_signature") {
        Value::Null => None,
        value => Some(Ed25519Sig::try_from(from_hex(value)?.as_slice()).map_err(|e| e.to_string())?),
    };
    Ok(BlockchainConfig {
        fee_map: FeeMap::new(pairs(case.field("fee_map"))?).map_err(|e| e.to_string())?,
        governors: governors(case.field("governors"))?,
        governors_signature: signature,
        block_version: case.number32("block_version")?,
    })
}

fn blockchain_config(case: &Case<'_>) -> Checked {
    let config = read_config(case)?;
    let root: Ed25519Key = case.fixed("minting_trust_root_public")?;
    if case.field("digest").is_string() {
        case.expect("digest", config.digest())?;
    }
    if case.field("fee_map_digest").is_string() {
        case.expect("fee_map_digest", config.fee_map.digest())?;
    }
    if case.field("peer_prologue").is_string() {
        case.expect_text("peer_prologue", config.peer_prologue(case.text("peer_responder_id")?))?;
    }
    match case.value.get("error") {
        None => Ok(()),
        Some(Value::Null) => config.check(&root).map_err(|e| format!("{e:?}, recorded as valid")),
        Some(_) => case.expect_error(config.check(&root)),
    }
}

/// What a block is formed from, as recorded.
fn form_inputs(case: &Case<'_>) -> Field<FormInputs> {
    let proof: Option<MembershipProof> = match case.field("root_proof_pb") {
        Value::Null => None,
        value => Some(decode(value)?),
    };
    let txs: Vec<Tx> = case.messages("txs_pb")?;
    let with_proofs = |tx: Tx| {
        let count = tx.prefix.inputs.iter().map(|input| input.ring.len()).sum();
        let proofs = proof.clone().map_or_else(Vec::new, |proof| vec![proof; count]);
        (tx, proofs)
    };
    let mut mint_txs = Vec::new();
    for value in case.list("mint_txs")? {
        let mint = case.at(value);
        mint_txs.push(MintInput {
            tx: mint.message("mint_tx_pb")?,
            config_tx: mint.message("mint_config_tx_pb")?,
            config: mint.message("mint_config_pb")?,
        });
    }
    Ok(FormInputs {
        txs: txs.into_iter().map(with_proofs).collect(),
        mint_config_txs: case.messages("mint_config_txs_pb")?,
        mint_txs,
    })
}

fn form(case: &Case<'_>) -> Field<Result<(Block, BlockContents), form::Error>> {
    let parent: Block = case.message("parent_block_pb")?;
    let root: MembershipElement = case.message("root_element_pb")?;
    let inputs = form_inputs(case)?;
    let settings = case.at(case.field("config"));
    let config = match settings.field("fee_map") {
        // Only the version is recorded where only the version matters.
        Value::Null => BlockchainConfig {
            fee_map: FeeMap::new([(0, 128)]).map_err(|e| e.to_string())?,
            governors: GovernorsMap::default(),
            governors_signature: None,
            block_version: settings.number32("block_version")?,
        },
        _ => read_config(&settings)?,
    };
    let recipient = match settings.field("fee_view_public") {
        Value::Null => PublicAddress::default(),
        _ => PublicAddress {
            view_public_key: settings.fixed("fee_view_public")?,
            spend_public_key: settings.fixed("fee_spend_public")?,
            ..PublicAddress::default()
        },
    };
    Ok(form::form_block(&parent, &root, &inputs, &config, &recipient))
}

fn form_block(case: &Case<'_>) -> Checked {
    let (block, contents) = form(case)?.map_err(|e| format!("{e:?}"))?;
    case.expect_number("num_outputs", contents.outputs.len() as u64)?;
    let recorded: BlockContents = case.message("contents_pb")?;
    for (ours, recorded) in contents.outputs.iter().zip(&recorded.outputs) {
        same("output", ours, recorded)?;
    }
    case.expect("contents_pb", contents.encode_to_vec())?;
    case.expect("contents_hash", contents.hash())?;
    case.expect("block_pb", block.encode_to_vec())?;
    case.expect("block_id", block.id)?;
    same("signature holds", form::verify_block_signature(&block, &case.message("signature_pb")?), true)
}

fn refused(case: &Case<'_>) -> Checked {
    let recorded = case.text("error")?;
    match form(case)? {
        Ok(_) => Err(format!("accepted, recorded {recorded}")),
        // Texts are recorded without what follows a colon.
        Err(error) if format!("{error:?}").starts_with(recorded.trim_end_matches("\")")) => Ok(()),
        Err(error) => Err(format!("ours is {error:?}, recorded {recorded}")),
    }
}
