//! Making transactions, for tests, tools and clients of own networks (reference: `mc-transaction-builder`).
//!
//! Only what a payment takes: no memos' meanings, no fog, no pre-signed inputs.

use std::collections::BTreeSet;

use mc_crypto::amount::Amount;
use mc_crypto::{curve, mlsag, onetime, range};
use rand_core::{CryptoRng, RngCore};
use wire_mobilecoin::address::PublicAddress;
use wire_mobilecoin::tx::{MembershipProof, RingMlsag, SignatureRctBulletproofs, Tx, TxIn, TxOut, TxPrefix};
use wire_mobilecoin::{FogHint, Point, Scalar32};

use crate::signature::signing_digest;
use crate::validate::{has_memos, has_own_range_proofs};

/// Why a transaction cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An output.
    #[error("output: {0}")]
    Output(#[from] onetime::Error),
    /// A range proof.
    #[error("range proof: {0}")]
    Range(#[from] range::Error),
    /// A ring signature.
    #[error("ring signature: {0}")]
    Ring(#[from] mlsag::Error),
    /// The spent output is not in the ring.
    #[error("the spent output is not in its ring")]
    NotInRing,
    /// Inputs are not outputs and fee.
    #[error("values do not balance")]
    Balance,
}

/// An output to spend, with its ring.
#[derive(Clone, Debug)]
pub struct Input {
    /// Ring members with their membership proofs, the spent one among them.
    pub ring: Vec<(TxOut, MembershipProof)>,
    /// Public key of the spent one.
    pub real_public_key: Point,
    /// Its one-time private key.
    pub onetime_private: Scalar32,
    /// Its amount.
    pub amount: Amount,
    /// Blinding of its commitment.
    pub blinding: Scalar32,
}

/// A payment.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The rules.
    pub block_version: u32,
    /// What is spent.
    pub inputs: Vec<Input>,
    /// What is paid to whom.
    pub outputs: Vec<(Amount, PublicAddress)>,
    /// The fee.
    pub fee: Amount,
    /// The tombstone.
    pub tombstone_block: u64,
}

fn random_scalar(rng: &mut (impl RngCore + CryptoRng)) -> Scalar32 {
    let mut bytes = [0u8; 32];
    rng.fill_bytes(&mut bytes);
    curve::reduce(bytes)
}

/// Blindings of pseudo outputs whose sum is that of the outputs, token or not.
fn pseudo_blindings(count: usize, outputs: &[Scalar32], rng: &mut (impl RngCore + CryptoRng)) -> Vec<Scalar32> {
    let mut out: Vec<Scalar32> = (1..count).map(|_| random_scalar(rng)).collect();
    out.push(curve::difference(outputs, &out));
    out
}

/// Makes and signs a transaction.
///
/// # Errors
/// If values do not balance, a ring lacks the spent output, or a key is not on the curve.
pub fn build(payment: &Payment, rng: &mut (impl RngCore + CryptoRng)) -> Result<Tx, Error> {
    let version = payment.block_version;
    let mut inputs = payment.inputs.clone();
    for input in &mut inputs {
        input.ring.sort_by_key(|member| member.0.public_key);
    }
    inputs.sort_by_key(|input| input.ring.first().map(|member| member.0.public_key));
    let mut outputs = Vec::with_capacity(payment.outputs.len());
    for (amount, recipient) in &payment.outputs {
        let secret = random_scalar(rng);
        let memo = has_memos(version).then_some(&[0u8; 66]);
        let out = onetime::create_tx_out(version, *amount, recipient, &secret, FogHint([9; 84]), memo)?;
        let shared = onetime::shared_secret(&secret, &recipient.view_public_key)?;
        let masked = out.masked_amount.as_ref().ok_or(Error::Balance)?;
        let (_, blinding) = Amount::unmask(masked, &shared).map_err(onetime::Error::from)?;
        outputs.push((out, *amount, blinding));
    }
    outputs.sort_by_key(|output| output.0.public_key);
    let tokens: BTreeSet<u64> =
        inputs.iter().map(|i| i.amount.token_id).chain(outputs.iter().map(|o| o.1.token_id)).collect();
    let total = |amounts: &mut dyn Iterator<Item = Amount>, token: u64| -> u128 {
        amounts.filter(|a| a.token_id == token).map(|a| u128::from(a.value)).sum()
    };
    let balanced = |token: u64| {
        let spent = total(&mut inputs.iter().map(|i| i.amount), token);
        spent == total(&mut outputs.iter().map(|o| o.1).chain([payment.fee]), token)
    };
    if !tokens.iter().all(|token| balanced(*token)) {
        return Err(Error::Balance);
    }
    let output_blindings: Vec<Scalar32> = outputs.iter().map(|o| o.2).collect();
    let blindings = pseudo_blindings(inputs.len(), &output_blindings, rng);
    let mut tx = Tx {
        prefix: TxPrefix {
            inputs: inputs
                .iter()
                .map(|input| TxIn {
                    ring: input.ring.iter().map(|m| m.0.clone()).collect(),
                    proofs: input.ring.iter().map(|m| m.1.clone()).collect(),
                    input_rules: None,
                })
                .collect(),
            outputs: outputs.iter().map(|o| o.0.clone()).collect(),
            fee: payment.fee.value,
            tombstone_block: payment.tombstone_block,
            fee_token_id: payment.fee.token_id,
        },
        signature: SignatureRctBulletproofs {
            pseudo_output_commitments: inputs.iter().zip(&blindings).map(|(i, b)| i.amount.commitment(b)).collect(),
            ..SignatureRctBulletproofs::default()
        },
        fee_map_digest: Vec::new(),
    };
    let opened: Vec<(Amount, Scalar32)> =
        inputs.iter().zip(&blindings).map(|(i, b)| (i.amount, *b)).chain(outputs.iter().map(|o| (o.1, o.2))).collect();
    prove_ranges(&mut tx, &opened, inputs.len(), version, &tokens, rng)?;
    let digest = signing_digest(&tx, version).ok_or(Error::Balance)?;
    tx.signature.ring_signatures = inputs
        .iter()
        .zip(&blindings)
        .zip(tx.signature.pseudo_output_commitments.clone())
        .map(|((input, blinding), pseudo)| sign_ring(&digest.message, input, blinding, &pseudo, rng))
        .collect::<Result<_, _>>()?;
    Ok(tx)
}

fn prove_ranges(
    tx: &mut Tx,
    opened: &[(Amount, Scalar32)],
    inputs: usize,
    version: u32,
    tokens: &BTreeSet<u64>,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<(), Error> {
    let prove = |token: Option<u64>, rng: &mut _| {
        let chosen = || opened.iter().filter(move |(amount, _)| token.is_none_or(|token| amount.token_id == token));
        let values: Vec<u64> = chosen().map(|(amount, _)| amount.value).collect();
        let blindings: Vec<Scalar32> = chosen().map(|(_, blinding)| *blinding).collect();
        range::prove(&values, &blindings, token.unwrap_or(tx.prefix.fee_token_id), rng)
    };
    if !has_own_range_proofs(version) {
        tx.signature.range_proof_bytes = prove(None, rng)?;
        return Ok(());
    }
    let proofs = tokens.iter().map(|token| prove(Some(*token), rng)).collect::<Result<_, _>>()?;
    tx.signature.range_proofs = proofs;
    let ids = |part: &[(Amount, Scalar32)]| part.iter().map(|(amount, _)| amount.token_id).collect();
    tx.signature.pseudo_output_token_ids = ids(&opened[..inputs]);
    tx.signature.output_token_ids = ids(&opened[inputs..]);
    Ok(())
}

fn sign_ring(
    message: &[u8],
    input: &Input,
    output_blinding: &Scalar32,
    pseudo_output: &Point,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<RingMlsag, Error> {
    let ring: Vec<mlsag::Member> = input
        .ring
        .iter()
        .map(|(out, _)| mlsag::Member { target_key: out.target_key, commitment: out.commitment().unwrap_or_default() })
        .collect();
    let real_index =
        input.ring.iter().position(|(out, _)| out.public_key == input.real_public_key).ok_or(Error::NotInRing)?;
    let secrets = mlsag::Secrets {
        real_index,
        onetime_private: &input.onetime_private,
        blinding: &input.blinding,
        output_blinding,
    };
    Ok(mlsag::sign(message, &ring, pseudo_output, &secrets, rng)?)
}
