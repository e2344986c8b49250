//! What a hardware wallet is shown of a transaction; signed with it from block version 3 on (reference: `TxSummary`).

use merlin::Transcript;
use prost::Message;

use crate::bytes::Point;
use crate::digest::{Digestible, Label, aggregate};
use crate::tx::{MaskedAmount, TxPrefix};

/// An output in short.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TxOutSummary {
    /// The hidden amount.
    #[prost(oneof = "MaskedAmount", tags = "1, 6")]
    pub masked_amount: Option<MaskedAmount>,
    /// The one-time key.
    #[prost(message, required, tag = "2")]
    pub target_key: Point,
    /// The output's public key.
    #[prost(message, required, tag = "3")]
    pub public_key: Point,
    /// Whether rules of an input demand it.
    #[prost(bool, tag = "4")]
    pub associated_to_input_rules: bool,
}

impl Digestible for TxOutSummary {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TxOutSummary", transcript, |fields| {
            fields
                .field("masked_amount", &self.masked_amount)
                .field("target_key", &self.target_key)
                .field("public_key", &self.public_key)
                .field("associated_to_input_rules", &self.associated_to_input_rules);
        });
    }
}

/// An input in short.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TxInSummary {
    /// The pseudo output's commitment.
    #[prost(message, required, tag = "1")]
    pub pseudo_output_commitment: Point,
    /// Digest of the input's rules, or empty.
    #[prost(bytes = "vec", tag = "2")]
    pub input_rules_digest: Vec<u8>,
}

impl Digestible for TxInSummary {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TxInSummary", transcript, |fields| {
            fields
                .field("pseudo_output_commitment", &self.pseudo_output_commitment)
                .field("input_rules_digest", &self.input_rules_digest);
        });
    }
}

/// A transaction in short.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TxSummary {
    /// Outputs.
    #[prost(message, repeated, tag = "1")]
    pub outputs: Vec<TxOutSummary>,
    /// Inputs.
    #[prost(message, repeated, tag = "2")]
    pub inputs: Vec<TxInSummary>,
    /// Fee.
    #[prost(uint64, tag = "3")]
    pub fee: u64,
    /// Token of the fee.
    #[prost(uint64, tag = "4")]
    pub fee_token_id: u64,
    /// Block index from which the transaction is void.
    #[prost(uint64, tag = "5")]
    pub tombstone_block: u64,
}

impl TxSummary {
    /// The summary of a prefix with the commitments of its pseudo outputs; None if the counts differ.
    pub fn of(prefix: &TxPrefix, pseudo_output_commitments: &[Point]) -> Option<Self> {
        if prefix.inputs.len() != pseudo_output_commitments.len() {
            return None;
        }
        let rules = || prefix.inputs.iter().filter_map(|input| input.input_rules.as_ref());
        let outputs = prefix.outputs.iter().map(|out| TxOutSummary {
            masked_amount: out.masked_amount.clone(),
            target_key: out.target_key,
            public_key: out.public_key,
            associated_to_input_rules: rules().any(|r| {
                let partial = r.partial_fill_outputs.iter().chain(&r.partial_fill_change);
                r.required_outputs.iter().any(|o| o == out)
                    || partial.into_iter().any(|p| p.tx_out.public_key == out.public_key)
            }),
        });
        let inputs = prefix.inputs.iter().zip(pseudo_output_commitments).map(|(input, commitment)| TxInSummary {
            pseudo_output_commitment: *commitment,
            input_rules_digest: input.input_rules.as_ref().map_or_else(Vec::new, |r| r.digest().to_vec()),
        });
        Some(Self {
            outputs: outputs.collect(),
            inputs: inputs.collect(),
            fee: prefix.fee,
            fee_token_id: prefix.fee_token_id,
            tombstone_block: prefix.tombstone_block,
        })
    }
}

impl Digestible for TxSummary {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TxSummary", transcript, |fields| {
            fields
                .field("outputs", &self.outputs)
                .field("inputs", &self.inputs)
                .field("fee", &self.fee)
                .field("fee_token_id", &self.fee_token_id)
                .field("tombstone_block", &self.tombstone_block);
        });
    }
}
