//! `merkle.json`, `fee_map.json`, `transactions.json`, `mint.json`.

use mc_tx::error::TxError;
use mc_tx::fees::{FeeMap, priority};
use mc_tx::membership::{self, MemoryTree, leaf_hash, proof_of, root_of};
use mc_tx::validate::{Context, validate, validate_batch};
use mc_tx::{mint, multisig, signature};
use serde_json::Value;
use wire_mobilecoin::Message;
use wire_mobilecoin::mint::{MintConfig, MintConfigTx, MintTx, MultiSig, SignerSet};
use wire_mobilecoin::summary::TxSummary;
use wire_mobilecoin::tx::{MembershipProof, Tx, TxOut};

use crate::case::{Case, Field, from_hex, pairs, same, to_number, verdict};
use crate::{Checked, Checker};

pub(crate) const GROUPS: &[(&str, Checker)] = &[
    ("tree", tree),
    ("root", root),
    ("proof", proof),
    ("derived", derived),
    ("validity", validity),
    ("fee_map", fee_map),
    ("priority", fee_priority),
    ("valid", valid),
    ("invalid", transaction),
    ("multisig", multi_signature),
    ("mint_config_tx", mint_config_tx),
    ("mint_tx", mint_tx),
];

/// The outputs of the file's tree.
fn outputs(case: &Case<'_>) -> Field<Vec<TxOut>> {
    let cases = &case.root["groups"]["tree"]["cases"];
    case.at(&cases[0]).messages("tx_outs_pb")
}

/// The tree of the first outputs.
fn tree_of(case: &Case<'_>, count: u64) -> Field<MemoryTree> {
    let outputs = outputs(case)?;
    let mut tree = MemoryTree::default();
    if count > outputs.len() as u64 {
        return Err(format!("{count} leaves of {}", outputs.len()));
    }
    outputs.iter().take(count as usize).for_each(|out| tree.push(leaf_hash(out)));
    Ok(tree)
}

fn tree(case: &Case<'_>) -> Checked {
    case.expect("nil_hash", membership::nil_hash())?;
    let outputs = outputs(case)?;
    same("leaves", outputs.len(), case.list("leaf_hashes")?.len())?;
    for (out, recorded) in outputs.iter().zip(case.list("leaf_hashes")?) {
        same("leaf hash", leaf_hash(out).0.to_vec(), from_hex(recorded)?)?;
    }
    Ok(())
}

fn root(case: &Case<'_>) -> Checked {
    let Ok(root) = root_of(&tree_of(case, case.number("num_tx_outs")?)?);
    case.expect_number("root_from", root.range.from)?;
    case.expect_number("root_to", root.range.to)?;
    case.expect("root_hash", root.hash)?;
    same("root", root, case.message("root_element_pb")?)
}

fn proof(case: &Case<'_>) -> Checked {
    let tree = tree_of(case, case.number("num_tx_outs")?)?;
    let index = case.number("index")?;
    let Ok(proof) = proof_of(&tree, index);
    let proof = proof.ok_or("no such leaf")?;
    same("elements", proof.elements.len(), case.list("elements")?.len())?;
    case.expect("proof_pb", proof.encode_to_vec())?;
    let Ok(root) = root_of(&tree);
    let out = &outputs(case)?[case.number("tx_out_index")? as usize];
    same("validity", membership::is_valid(out, &proof, &root.hash), Ok(true))
}

fn derived(case: &Case<'_>) -> Checked {
    let proof: MembershipProof = case.message("proof_pb")?;
    let derived = membership::derive_at_index(&proof).map_err(|e| e.to_string())?;
    case.expect("derived_pb", derived.encode_to_vec())?;
    let implied = case.list("implied_root")?;
    let root = membership::root_at_index(&proof).map_err(|e| e.to_string())?;
    same("from", Some(root.range.from), to_number(&implied[0]))?;
    same("to", Some(root.range.to), to_number(&implied[1]))?;
    same("hash", root.hash.0.to_vec(), from_hex(&implied[2])?)
}

fn validity(case: &Case<'_>) -> Checked {
    let out: TxOut = case.message("tx_out_pb")?;
    let ours = membership::is_valid(&out, &case.message("proof_pb")?, &case.fixed("root_hash")?);
    match (case.field("result"), ours) {
        (Value::Bool(recorded), Ok(ours)) => same("validity", ours, *recorded),
        (recorded, Ok(ours)) => Err(format!("ours is {ours}, recorded {recorded}")),
        (recorded, Err(membership::Error::RangeError)) => {
            same("error", Some("RangeError(RangeError)"), recorded["error"].as_str())
        }
        (recorded, Err(error)) => verdict(recorded, Err::<(), _>(error)),
    }
}

fn fee_map(case: &Case<'_>) -> Checked {
    let result = case.field("result");
    match (FeeMap::new(pairs(case.field("map"))?), result["digest"].as_str()) {
        (Ok(map), Some(_)) => case.at(result).expect("digest", map.digest()),
        (ours, _) => verdict(result, ours),
    }
}

fn fee_priority(case: &Case<'_>) -> Checked {
    case.expect_number("priority", priority(case.number("fee")?, case.number("minimum_fee")?))
}

/// The validator's proofs, one repeated if there is only one.
fn root_proofs(case: &Case<'_>) -> Field<Vec<MembershipProof>> {
    let distinct: Vec<MembershipProof> = case.messages("root_proofs_pb")?;
    let count = case.number("root_proofs_count")? as usize;
    Ok(match distinct.as_slice() {
        [one] => vec![one.clone(); count],
        _ => distinct,
    })
}

fn expect_verdict(recorded: &Value, ours: &Result<(), TxError>) -> Checked {
    verdict(recorded, ours.clone())?;
    match (ours, recorded["code"].as_str()) {
        (Err(error), Some(code)) => same("code", error.name().as_str(), code),
        _ => Ok(()),
    }
}

/// Hashes, digests and the verdict of one transaction.
fn transaction(case: &Case<'_>) -> Checked {
    let tx: Tx = case.message("tx_pb")?;
    let version = case.number32("block_version")?;
    case.expect("tx_hash", tx.hash())?;
    case.expect("prefix_hash", tx.prefix.hash())?;
    case.expect_number("fee", tx.prefix.fee)?;
    case.expect_number("fee_token_id", tx.prefix.fee_token_id)?;
    case.expect_number("tombstone_block", tx.prefix.tombstone_block)?;
    let images: Vec<String> = tx.key_images().iter().map(ToString::to_string).collect();
    let recorded: Vec<String> =
        case.list("key_images")?.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect();
    same("key images", images, recorded)?;
    if case.field("mlsag_signing_digest").is_string() {
        let digest = signature::signing_digest(&tx, version).ok_or("no signing digest")?;
        case.expect("mlsag_signing_digest", &digest.message)?;
        case.expect("extended_message_digest", digest.extended.as_ref().map_or(&[][..], |e| e))?;
    }
    if case.field("tx_summary_pb").is_string() {
        let summary = TxSummary::of(&tx.prefix, &tx.signature.pseudo_output_commitments).ok_or("no summary")?;
        same("summary", &summary, &case.message("tx_summary_pb")?)?;
    }
    let root_proofs = root_proofs(case)?;
    let context = Context {
        current_block_index: case.number("current_block_index")?,
        block_version: version,
        root_proofs: &root_proofs,
        minimum_fee: case.number("minimum_fee")?,
    };
    expect_verdict(case.field("result"), &validate(&tx, &context))?;
    let batch = validate_batch(&[(&tx, context), (&tx, context)]);
    batch.iter().try_for_each(|ours| expect_verdict(case.field("result"), ours))
}

fn valid(case: &Case<'_>) -> Checked {
    transaction(case)?;
    let tx: Tx = case.message("tx_pb")?;
    let root_proofs = root_proofs(case)?;
    let results = case.field("results_by_block_version").as_object().ok_or("no results by version")?;
    for (version, recorded) in results {
        let context = Context {
            current_block_index: case.number("current_block_index")?,
            block_version: version.parse().map_err(|_| "no version")?,
            root_proofs: &root_proofs,
            minimum_fee: case.number("minimum_fee")?,
        };
        expect_verdict(recorded, &validate(&tx, &context)).map_err(|e| format!("version {version}: {e}"))?;
    }
    Ok(())
}

fn multi_signature(case: &Case<'_>) -> Checked {
    let set: SignerSet = case.message("signer_set_pb")?;
    let signature: MultiSig = case.message("multisig_pb")?;
    let message = case.field("message").as_str().map_or_else(Vec::new, |m| hex::decode(m).unwrap_or_default());
    let result = case.field("result");
    match (multisig::verify(&set, &message, &signature), result["signers"].as_array()) {
        (Some(signers), Some(recorded)) => {
            let ours: Vec<String> = signers.iter().map(ToString::to_string).collect();
            let mut recorded: Vec<String> =
                recorded.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect();
            recorded.sort();
            recorded.dedup();
            same("signers", ours, recorded)
        }
        (None, None) => same("error", Some("SignatureError"), result["error"].as_str()),
        (ours, _) => Err(format!("ours is {ours:?}, recorded {result}")),
    }
}

fn mint_config_tx(case: &Case<'_>) -> Checked {
    let tx: MintConfigTx = case.message("tx_pb")?;
    case.expect("prefix_hash", tx.prefix.hash())?;
    let index = to_number(case.field("current_block_index"));
    let governors = case.message("governors_pb")?;
    case.verdict(mint::validate_mint_config_tx(&tx, index, case.number32("block_version")?, &governors))
}

fn mint_tx(case: &Case<'_>) -> Checked {
    let tx: MintTx = case.message("tx_pb")?;
    case.expect("prefix_hash", tx.prefix.hash())?;
    let config: MintConfig = case.message("mint_config_pb")?;
    let (index, version) = (case.number("current_block_index")?, case.number32("block_version")?);
    case.verdict(mint::validate_mint_tx(&tx, index, version, &config))
}
