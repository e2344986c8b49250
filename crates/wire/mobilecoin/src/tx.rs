//! Transactions, outputs, ring signatures and membership proofs (reference: package `external`, `mc-transaction-core`).

use merlin::Transcript;
use prost::{Message, Oneof};

use crate::bytes::{FogHint, Hash, Memo, Point, Scalar32, TxHash};
use crate::digest::{Digestible, Label, aggregate, digest32, none};

/// A hidden amount and the commitment to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct MaskedAmountBody {
    /// Pedersen commitment to the value.
    #[prost(message, required, tag = "1")]
    pub commitment: Point,
    /// The value XOR a mask derived from the shared secret.
    #[prost(fixed64, tag = "2")]
    pub masked_value: u64,
    /// The token id XOR a mask: empty or 8 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub masked_token_id: Vec<u8>,
}

impl MaskedAmountBody {
    fn digest_named(&self, name: &'static str, context: Label, transcript: &mut Transcript) {
        aggregate(context, name, transcript, |fields| {
            fields
                .field("commitment", &self.commitment)
                .field("masked_value", &self.masked_value)
                .field("masked_token_id", &self.masked_token_id);
        });
    }
}

/// A masked amount by the version of its masking.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Oneof)]
pub enum MaskedAmount {
    /// Masks hashed from the shared secret (block versions 0 to 2).
    #[prost(message, tag = "1")]
    V1(MaskedAmountBody),
    /// Masks from a key schedule whose middle step can be given away (block version 3 and later).
    #[prost(message, tag = "6")]
    V2(MaskedAmountBody),
}

impl MaskedAmount {
    /// The fields, which both versions share.
    pub fn body(&self) -> &MaskedAmountBody {
        match self {
            Self::V1(body) | Self::V2(body) => body,
        }
    }

    /// The fields, to be changed.
    pub fn body_mut(&mut self) -> &mut MaskedAmountBody {
        match self {
            Self::V1(body) | Self::V2(body) => body,
        }
    }
}

impl Digestible for MaskedAmount {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        match self {
            Self::V1(body) => body.digest_named("Amount", context, transcript),
            Self::V2(body) => body.digest_named("MaskedAmountV2", context, transcript),
        }
    }
}

/// A transaction output.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct TxOut {
    /// The hidden amount; a valid output has one.
    #[prost(oneof = "MaskedAmount", tags = "1, 6")]
    pub masked_amount: Option<MaskedAmount>,
    /// The one-time key that can spend it.
    #[prost(message, required, tag = "2")]
    pub target_key: Point,
    /// The output's public key, from which the receiver derives the shared secret.
    #[prost(message, required, tag = "3")]
    pub public_key: Point,
    /// Hint for a fog server.
    #[prost(message, required, tag = "4")]
    pub e_fog_hint: FogHint,
    /// Encrypted memo, from block version 1 on.
    #[prost(message, optional, tag = "5")]
    pub e_memo: Option<Memo>,
}

impl TxOut {
    /// The output's hash: the structured digest under `mobilecoin-txout`.
    pub fn hash(&self) -> Hash {
        Hash(digest32(b"mobilecoin-txout", self))
    }

    /// The commitment, if there is an amount.
    pub fn commitment(&self) -> Option<Point> {
        self.masked_amount.as_ref().map(|amount| amount.body().commitment)
    }
}

impl Digestible for TxOut {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TxOut", transcript, |fields| {
            fields
                .field("amount", &self.masked_amount)
                .field("target_key", &self.target_key)
                .field("public_key", &self.public_key)
                .field("e_fog_hint", &self.e_fog_hint)
                .field("e_memo", &self.e_memo);
        });
    }
}

/// A range of output indices, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Range {
    /// First index.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// Last index.
    #[prost(uint64, tag = "2")]
    pub to: u64,
}

impl Digestible for Range {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "Range", transcript, |fields| {
            fields.field("from", &self.from).field("to", &self.to);
        });
    }
}

/// A node of the tree of outputs: the range it covers and its hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct MembershipElement {
    /// Output indices below the node.
    #[prost(message, required, tag = "1")]
    pub range: Range,
    /// The node's hash.
    #[prost(message, required, tag = "2")]
    pub hash: Hash,
}

impl Digestible for MembershipElement {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TxOutMembershipElement", transcript, |fields| {
            fields.field("range", &self.range).field("hash", &self.hash);
        });
    }
}

/// Proof that an output is in the ledger at an index.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct MembershipProof {
    /// Index of the output.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Index of the last output of the tree that the proof is about.
    #[prost(uint64, tag = "2")]
    pub highest_index: u64,
    /// The leaf, then the sibling at each level.
    #[prost(message, repeated, tag = "3")]
    pub elements: Vec<MembershipElement>,
}

impl Digestible for MembershipProof {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TxOutMembershipProof", transcript, |fields| {
            fields
                .field("index", &self.index)
                .field("highest_index", &self.highest_index)
                .field("elements", &self.elements);
        });
    }
}

/// An output whose amount is given away with the secret that unmasks it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct RevealedTxOut {
    /// The output.
    #[prost(message, required, tag = "1")]
    pub tx_out: TxOut,
    /// The amount's shared secret, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub amount_shared_secret: Vec<u8>,
}

impl Digestible for RevealedTxOut {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "RevealedTxOut", transcript, |fields| {
            fields.field("tx_out", &self.tx_out).field("amount_shared_secret", &self.amount_shared_secret);
        });
    }
}

/// What the signer of an input demands of the transaction that uses it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct InputRules {
    /// Outputs that must be there.
    #[prost(message, repeated, tag = "1")]
    pub required_outputs: Vec<TxOut>,
    /// Highest allowed tombstone block; 0 is no limit.
    #[prost(fixed64, tag = "2")]
    pub max_tombstone_block: u64,
    /// Outputs that must be there in proportion to what is taken.
    #[prost(message, repeated, tag = "3")]
    pub partial_fill_outputs: Vec<RevealedTxOut>,
    /// The change that would go back if nothing were taken.
    #[prost(message, optional, tag = "4")]
    pub partial_fill_change: Option<RevealedTxOut>,
    /// Smallest part that may be taken.
    #[prost(fixed64, tag = "5")]
    pub min_partial_fill_value: u64,
}

impl InputRules {
    /// The digest under `mc-input-rules`, as the summary carries it.
    pub fn digest(&self) -> [u8; 32] {
        digest32(b"mc-input-rules", self)
    }
}

impl Digestible for InputRules {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "InputRules", transcript, |fields| {
            fields
                .field("required_outputs", &self.required_outputs)
                .field("max_tombstone_block", &self.max_tombstone_block)
                .field("partial_fill_outputs", &self.partial_fill_outputs)
                .field("partial_fill_change", &self.partial_fill_change)
                .field("min_partial_fill_value", &self.min_partial_fill_value);
        });
    }
}

/// An input: a ring of outputs of which one is spent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct TxIn {
    /// The ring.
    #[prost(message, repeated, tag = "1")]
    pub ring: Vec<TxOut>,
    /// A membership proof for each ring member.
    #[prost(message, repeated, tag = "2")]
    pub proofs: Vec<MembershipProof>,
    /// Rules of a pre-signed input.
    #[prost(message, optional, tag = "3")]
    pub input_rules: Option<InputRules>,
}

impl TxIn {
    /// What the ring signature of an input with rules signs: the digest without the proofs under
    /// `mc-input-rules-digest`. None without rules.
    pub fn signed_digest(&self) -> Option<[u8; 32]> {
        self.input_rules.as_ref()?;
        let without_proofs =
            Self { ring: self.ring.clone(), proofs: Vec::new(), input_rules: self.input_rules.clone() };
        Some(digest32(b"mc-input-rules-digest", &without_proofs))
    }
}

impl Digestible for TxIn {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TxIn", transcript, |fields| {
            fields.field("ring", &self.ring).field("proofs", &self.proofs).field("input_rules", &self.input_rules);
        });
    }
}

/// What a transaction does, without the signatures.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct TxPrefix {
    /// Inputs.
    #[prost(message, repeated, tag = "1")]
    pub inputs: Vec<TxIn>,
    /// Outputs.
    #[prost(message, repeated, tag = "2")]
    pub outputs: Vec<TxOut>,
    /// Fee in the smallest unit of the fee token.
    #[prost(uint64, tag = "3")]
    pub fee: u64,
    /// Block index from which the transaction is void.
    #[prost(uint64, tag = "4")]
    pub tombstone_block: u64,
    /// Token of the fee.
    #[prost(fixed64, tag = "5")]
    pub fee_token_id: u64,
}

impl TxPrefix {
    /// The digest under `mobilecoin-tx-prefix`.
    pub fn hash(&self) -> Hash {
        Hash(digest32(b"mobilecoin-tx-prefix", self))
    }
}

impl Digestible for TxPrefix {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "TxPrefix", transcript, |fields| {
            fields
                .field("inputs", &self.inputs)
                .field("outputs", &self.outputs)
                .field("fee", &self.fee)
                .field("tombstone_block", &self.tombstone_block);
            if self.fee_token_id != 0 {
                fields.field("fee_token_id", &self.fee_token_id);
            }
        });
    }
}

/// A linkable ring signature over keys and commitments.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct RingMlsag {
    /// The first challenge.
    #[prost(message, required, tag = "1")]
    pub c_zero: Scalar32,
    /// Two responses for each ring member.
    #[prost(message, repeated, tag = "2")]
    pub responses: Vec<Scalar32>,
    /// The key image of the spent output.
    #[prost(message, required, tag = "3")]
    pub key_image: Point,
}

impl Digestible for RingMlsag {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "RingMLSAG", transcript, |fields| {
            fields
                .field("c_zero", &self.c_zero)
                .field("responses", &self.responses)
                .field("key_image", &self.key_image);
        });
    }
}

/// All signatures and proofs of a transaction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct SignatureRctBulletproofs {
    /// One ring signature for each input.
    #[prost(message, repeated, tag = "1")]
    pub ring_signatures: Vec<RingMlsag>,
    /// One commitment for each input, equal in value to the spent output.
    #[prost(message, repeated, tag = "2")]
    pub pseudo_output_commitments: Vec<Point>,
    /// The range proof over all commitments (block versions 0 to 2).
    #[prost(bytes = "vec", tag = "3")]
    pub range_proof_bytes: Vec<u8>,
    /// One range proof for each token (block version 3 and later).
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub range_proofs: Vec<Vec<u8>>,
    /// Token of each pseudo output (block version 3 and later).
    #[prost(fixed64, repeated, tag = "5")]
    pub pseudo_output_token_ids: Vec<u64>,
    /// Token of each output (block version 3 and later).
    #[prost(fixed64, repeated, tag = "6")]
    pub output_token_ids: Vec<u64>,
}

impl Digestible for SignatureRctBulletproofs {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "SignatureRctBulletproofs", transcript, |fields| {
            fields
                .field("ring_signatures", &self.ring_signatures)
                .field("pseudo_output_commitments", &self.pseudo_output_commitments)
                .always("range_proof_bytes", &self.range_proof_bytes)
                .field("range_proofs", &self.range_proofs)
                .field("pseudo_output_token_ids", &self.pseudo_output_token_ids)
                .field("output_token_ids", &self.output_token_ids);
        });
    }
}

/// A transaction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Tx {
    /// What it does.
    #[prost(message, required, tag = "1")]
    pub prefix: TxPrefix,
    /// Why it is allowed to.
    #[prost(message, required, tag = "2")]
    pub signature: SignatureRctBulletproofs,
    /// Digest of the fee map that the sender knew, or empty.
    #[prost(bytes = "vec", tag = "3")]
    pub fee_map_digest: Vec<u8>,
}

impl Tx {
    /// The digest under `mobilecoin-tx`.
    pub fn hash(&self) -> TxHash {
        TxHash(digest32(b"mobilecoin-tx", self))
    }

    /// The key images, one for each ring signature.
    pub fn key_images(&self) -> Vec<Point> {
        self.signature.ring_signatures.iter().map(|s| s.key_image).collect()
    }

    /// The highest index of every membership proof, ring by ring.
    pub fn highest_indices(&self) -> Vec<u64> {
        self.prefix.inputs.iter().flat_map(|i| i.proofs.iter().map(|p| p.highest_index)).collect()
    }
}

impl Digestible for Tx {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "Tx", transcript, |fields| {
            fields
                .field("prefix", &self.prefix)
                .field("signature", &self.signature)
                .field("fee_map_digest", &self.fee_map_digest);
        });
    }
}

/// A list of values in a transcript that is none when it is empty; for messages that are signed field by field.
pub fn append_list<T: Digestible>(context: Label, items: &[T], transcript: &mut Transcript) {
    match items {
        [] => none(context, transcript),
        _ => crate::digest::sequence(context, items.iter(), transcript),
    }
}
