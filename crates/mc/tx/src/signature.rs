//! The signatures of a transaction: range proofs, balance, ring signatures (reference: `ring_ct::rct_bulletproofs`).

use std::collections::{BTreeSet, HashSet};

use mc_crypto::range::{self, Statement};
use mc_crypto::{curve, mlsag};
use merlin::Transcript;
use wire_mobilecoin::Point;
use wire_mobilecoin::digest::{Digestible as _, finish};
use wire_mobilecoin::summary::TxSummary;
use wire_mobilecoin::tx::{Tx, append_list};

use crate::error::SignatureError;
use crate::validate::has_own_range_proofs;

/// A range proof statement that owns its commitments.
pub(crate) struct RangeStatement<'a> {
    proof: &'a [u8],
    commitments: Vec<Point>,
    token_id: u64,
}

impl RangeStatement<'_> {
    pub(crate) fn borrow(&self) -> Statement<'_> {
        Statement { proof: self.proof, commitments: &self.commitments, token_id: self.token_id }
    }
}

/// What the ring signatures of inputs without rules sign.
///
/// None only where there is not one pseudo output for each input.
pub fn signing_digest(tx: &Tx, block_version: u32) -> Option<SigningDigest> {
    let signature = &tx.signature;
    let prefix_hash = tx.prefix.hash();
    if block_version < 2 {
        let mut message = prefix_hash.0.to_vec();
        signature.pseudo_output_commitments.iter().for_each(|c| message.extend_from_slice(&c.0));
        message.extend_from_slice(&signature.range_proof_bytes);
        return Some(SigningDigest { extended: None, message });
    }
    let mut transcript = Transcript::new(b"mc_extended_message");
    prefix_hash.0.digest_under(b"message", &mut transcript);
    append_list(b"pseudo_output_commitments", &signature.pseudo_output_commitments, &mut transcript);
    if !signature.range_proof_bytes.is_empty() {
        signature.range_proof_bytes.digest_under(b"range_proof_bytes", &mut transcript);
    }
    if !signature.range_proofs.is_empty() {
        signature.range_proofs.digest_under(b"range_proofs", &mut transcript);
    }
    let extended = finish(transcript);
    if block_version < 3 {
        return Some(SigningDigest { extended: Some(extended), message: extended.to_vec() });
    }
    let summary = TxSummary::of(&tx.prefix, &signature.pseudo_output_commitments)?;
    let mut transcript = Transcript::new(b"mc_extended_message_and_tx_summary");
    extended.digest_under(b"extended_message", &mut transcript);
    summary.digest_under(b"tx_summary", &mut transcript);
    Some(SigningDigest { extended: Some(extended), message: finish(transcript).to_vec() })
}

/// See [`signing_digest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningDigest {
    /// The digest without the summary, from block version 2 on.
    pub extended: Option<[u8; 32]>,
    /// What is signed.
    pub message: Vec<u8>,
}

/// Everything up to the range proofs, which are returned.
pub(crate) fn before_range_proofs<'a>(
    tx: &'a Tx,
    outputs: &[Point],
    block_version: u32,
) -> Result<Vec<RangeStatement<'a>>, SignatureError> {
    let signature = &tx.signature;
    let inputs = &tx.prefix.inputs;
    let pseudo_outputs = &signature.pseudo_output_commitments;
    let fee_token = tx.prefix.fee_token_id;
    if block_version < 2 && fee_token != 0 {
        return Err(SignatureError::TokenIdNotAllowed);
    }
    if inputs.iter().all(|input| input.input_rules.is_some()) {
        return Err(SignatureError::AllRingsPresigned);
    }
    let same_length = |found: usize| match found == inputs.len() {
        true => Ok(()),
        false => Err(SignatureError::LengthMismatch(inputs.len(), found)),
    };
    same_length(signature.ring_signatures.len())?;
    same_length(pseudo_outputs.len())?;
    check_token_id_lists(tx, outputs.len(), block_version)?;
    let mut seen = HashSet::new();
    if !signature.ring_signatures.iter().all(|ring| seen.insert(ring.key_image)) {
        return Err(SignatureError::DuplicateKeyImage);
    }
    if !outputs.iter().chain(pseudo_outputs).all(curve::is_point) {
        return Err(SignatureError::InvalidCommitment);
    }
    if has_own_range_proofs(block_version) {
        return statements_by_token(tx, outputs);
    }
    if !signature.range_proofs.is_empty() {
        return Err(SignatureError::TooManyRangeProofs(signature.range_proofs.len()));
    }
    Ok(vec![RangeStatement {
        proof: &signature.range_proof_bytes,
        commitments: pseudo_outputs.iter().chain(outputs).copied().collect(),
        token_id: fee_token,
    }])
}

fn check_token_id_lists(tx: &Tx, outputs: usize, block_version: u32) -> Result<(), SignatureError> {
    let signature = &tx.signature;
    let (pseudo_ids, output_ids) = (&signature.pseudo_output_token_ids, &signature.output_token_ids);
    if has_own_range_proofs(block_version) {
        if pseudo_ids.len() != signature.pseudo_output_commitments.len() {
            return Err(SignatureError::MissingPseudoOutputTokenIds);
        }
        if output_ids.len() != outputs {
            return Err(SignatureError::MissingOutputTokenIds);
        }
    } else {
        if !pseudo_ids.is_empty() {
            return Err(SignatureError::PseudoOutputTokenIdsNotAllowed);
        }
        if !output_ids.is_empty() {
            return Err(SignatureError::OutputTokenIdsNotAllowed);
        }
    }
    Ok(())
}

/// One statement for each token, in ascending order.
fn statements_by_token<'a>(tx: &'a Tx, outputs: &[Point]) -> Result<Vec<RangeStatement<'a>>, SignatureError> {
    let signature = &tx.signature;
    if !signature.range_proof_bytes.is_empty() {
        return Err(SignatureError::UnexpectedRangeProof);
    }
    let (pseudo_ids, output_ids) = (&signature.pseudo_output_token_ids, &signature.output_token_ids);
    let fee_token = tx.prefix.fee_token_id;
    let tokens: BTreeSet<u64> = pseudo_ids.iter().chain(output_ids).copied().chain([fee_token]).collect();
    if tokens.len() != signature.range_proofs.len() {
        return Err(SignatureError::MissingRangeProofs(tokens.len(), signature.range_proofs.len()));
    }
    let of_token = |token: u64| {
        let pseudo = signature.pseudo_output_commitments.iter().zip(pseudo_ids);
        let out = outputs.iter().zip(output_ids);
        pseudo.chain(out).filter(move |(_, id)| **id == token).map(|(commitment, _)| *commitment)
    };
    let statement = |(token_id, proof): (u64, &'a Vec<u8>)| RangeStatement {
        proof,
        commitments: of_token(token_id).collect(),
        token_id,
    };
    Ok(tokens.into_iter().zip(&signature.range_proofs).map(statement).collect())
}

/// Everything after the range proofs: balance and ring signatures.
pub(crate) fn after_range_proofs(tx: &Tx, outputs: &[Point], block_version: u32) -> Result<(), SignatureError> {
    let signature = &tx.signature;
    let pseudo_outputs = &signature.pseudo_output_commitments;
    let balanced = curve::balances(pseudo_outputs, outputs, tx.prefix.fee, tx.prefix.fee_token_id)
        .ok_or(SignatureError::InvalidCommitment)?;
    if !balanced {
        return Err(SignatureError::ValueNotConserved);
    }
    let digest = signing_digest(tx, block_version)
        .ok_or(SignatureError::LengthMismatch(tx.prefix.inputs.len(), pseudo_outputs.len()))?;
    for ((input, ring_signature), pseudo_output) in
        tx.prefix.inputs.iter().zip(&signature.ring_signatures).zip(pseudo_outputs)
    {
        let ring: Vec<mlsag::Member> = input
            .ring
            .iter()
            .map(|member| mlsag::Member {
                target_key: member.target_key,
                commitment: member.commitment().unwrap_or_default(),
            })
            .collect();
        let rules_digest = input.signed_digest();
        let message = rules_digest.as_ref().map_or(digest.message.as_slice(), |d| d.as_slice());
        mlsag::verify(message, &ring, pseudo_output, ring_signature)?;
    }
    Ok(())
}

/// The signatures of a transaction, all of them.
pub(crate) fn verify(tx: &Tx, outputs: &[Point], block_version: u32) -> Result<(), SignatureError> {
    for statement in before_range_proofs(tx, outputs, block_version)? {
        range::verify(&statement.borrow())?;
    }
    after_range_proofs(tx, outputs, block_version)
}
