//! Blocks, their contents, signatures and metadata, and the archive's files (reference: package `blockchain`).

use merlin::Transcript;
use prost::{Message, Oneof};

use crate::attest::{DcapEvidence, VerificationReport};
use crate::bytes::{Ed25519Key, Ed25519Sig, Hash, Point};
use crate::digest::{Digestible, Label, aggregate, digest32, finish};
use crate::mint::{MintTx, ValidatedMintConfigTx};
use crate::quorum::{QuorumSet, ResponderId};
use crate::tx::{MembershipElement, TxOut};

/// The highest block version that exists.
pub const MAX_BLOCK_VERSION: u32 = 4;

/// A block's header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Block {
    /// Hash of the other fields.
    #[prost(message, required, tag = "1")]
    pub id: Hash,
    /// Rules in force, 0 to [`MAX_BLOCK_VERSION`].
    #[prost(uint32, tag = "2")]
    pub version: u32,
    /// Id of the block before; zero for the origin.
    #[prost(message, required, tag = "3")]
    pub parent_id: Hash,
    /// Position in the chain, from 0.
    #[prost(uint64, tag = "4")]
    pub index: u64,
    /// Outputs in this and all earlier blocks.
    #[prost(uint64, tag = "5")]
    pub cumulative_txo_count: u64,
    /// Root of the tree of all outputs before this block.
    #[prost(message, required, tag = "6")]
    pub root_element: MembershipElement,
    /// Hash of the contents.
    #[prost(message, required, tag = "7")]
    pub contents_hash: Hash,
}

impl Block {
    /// The id that the other fields give: a transcript labelled `mobilecoin-block-id` of them in order.
    pub fn computed_id(&self) -> Hash {
        let mut transcript = Transcript::new(b"mobilecoin-block-id");
        self.version.digest_under(b"version", &mut transcript);
        self.parent_id.digest_under(b"parent_id", &mut transcript);
        self.index.digest_under(b"index", &mut transcript);
        self.cumulative_txo_count.digest_under(b"cumulative_txo_count", &mut transcript);
        self.root_element.digest_under(b"root_element", &mut transcript);
        self.contents_hash.digest_under(b"contents_hash", &mut transcript);
        Hash(finish(transcript))
    }

    /// What a block signature signs: the digest of all fields under `block-sig`.
    pub fn signed_digest(&self) -> [u8; 32] {
        digest32(b"block-sig", self)
    }
}

impl Digestible for Block {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "Block", transcript, |fields| {
            fields
                .field("id", &self.id)
                .field("version", &self.version)
                .field("parent_id", &self.parent_id)
                .field("index", &self.index)
                .field("cumulative_txo_count", &self.cumulative_txo_count)
                .field("root_element", &self.root_element)
                .field("contents_hash", &self.contents_hash);
        });
    }
}

/// What a block adds to the ledger.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BlockContents {
    /// Key images of the spent outputs.
    #[prost(message, repeated, tag = "1")]
    pub key_images: Vec<Point>,
    /// New outputs.
    #[prost(message, repeated, tag = "2")]
    pub outputs: Vec<TxOut>,
    /// Changes of mint configurations.
    #[prost(message, repeated, tag = "3")]
    pub validated_mint_config_txs: Vec<ValidatedMintConfigTx>,
    /// Mints.
    #[prost(message, repeated, tag = "4")]
    pub mint_txs: Vec<MintTx>,
}

impl BlockContents {
    /// The digest under `block_contents`.
    pub fn hash(&self) -> Hash {
        Hash(digest32(b"block_contents", self))
    }
}

impl Digestible for BlockContents {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "BlockContents", transcript, |fields| {
            fields
                .field("key_images", &self.key_images)
                .field("outputs", &self.outputs)
                .field("validated_mint_config_txs", &self.validated_mint_config_txs)
                .field("mint_txs", &self.mint_txs);
        });
    }
}

/// An enclave's signature of a block.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BlockSignature {
    /// Over [`Block::signed_digest`].
    #[prost(message, required, tag = "1")]
    pub signature: Ed25519Sig,
    /// The enclave's signing key.
    #[prost(message, required, tag = "2")]
    pub signer: Ed25519Key,
    /// Seconds since 1970 when the node stored it; not signed.
    #[prost(uint64, tag = "3")]
    pub signed_at: u64,
}

/// Proof that an enclave ran.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum AttestationEvidence {
    /// A report signed by Intel's former service.
    #[prost(message, tag = "3")]
    VerificationReport(VerificationReport),
    /// A quote with what is needed to verify it.
    #[prost(message, tag = "5")]
    DcapEvidence(DcapEvidence),
}

impl Digestible for AttestationEvidence {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        match self {
            Self::VerificationReport(report) => report.digest_under(context, transcript),
            Self::DcapEvidence(evidence) => evidence.digest_under(context, transcript),
        }
    }
}

/// What a node says of a block.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BlockMetadataContents {
    /// The block.
    #[prost(message, required, tag = "1")]
    pub block_id: Hash,
    /// The node's quorum set then.
    #[prost(message, required, tag = "2")]
    pub quorum_set: QuorumSet,
    /// Evidence for the enclave.
    #[prost(oneof = "AttestationEvidence", tags = "3, 5")]
    pub attestation_evidence: Option<AttestationEvidence>,
    /// The node.
    #[prost(message, required, tag = "4")]
    pub responder_id: ResponderId,
}

impl BlockMetadataContents {
    /// What the node signs: the digest under `block_metadata`.
    pub fn signed_digest(&self) -> [u8; 32] {
        digest32(b"block_metadata", self)
    }
}

impl Digestible for BlockMetadataContents {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "BlockMetadataContents", transcript, |fields| {
            fields
                .field("block_id", &self.block_id)
                .field("quorum_set", &self.quorum_set)
                .field("verification_report", &self.attestation_evidence)
                .field("responder_id", &self.responder_id);
        });
    }
}

/// What a node says of a block, signed with its message key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BlockMetadata {
    /// What it says.
    #[prost(message, required, tag = "1")]
    pub contents: BlockMetadataContents,
    /// The node's message key.
    #[prost(message, required, tag = "2")]
    pub node_key: Ed25519Key,
    /// Over [`BlockMetadataContents::signed_digest`].
    #[prost(message, required, tag = "3")]
    pub signature: Ed25519Sig,
}

/// A block with all that belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockData {
    /// Header.
    pub block: Block,
    /// Contents.
    pub contents: BlockContents,
    /// The signature of the node that this comes from; the origin has none, nor have blocks that were caught up with.
    pub signature: Option<BlockSignature>,
    /// Metadata, from block version 3 on.
    pub metadata: Option<BlockMetadata>,
}
