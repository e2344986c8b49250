//! The archive's files and their names (reference: package `blockchain`, `mc-ledger-distribution`).
//!
//! The published messages carry responder ids as plain strings, where databases wrap them; all else is the same.

use prost::{Message, Oneof};

use crate::block::{
    AttestationEvidence, Block, BlockContents, BlockData, BlockMetadata, BlockMetadataContents, BlockSignature,
};
use crate::bytes::{Ed25519Key, Ed25519Sig, Hash};
use crate::quorum::{Member, NodeId, QuorumSet, QuorumSetMember, ResponderId};

/// Sizes of merged files that writers make and readers try, the largest first.
pub const MERGE_BUCKETS: [u64; 3] = [10_000, 1_000, 100];

/// The path of a block's file below the archive's root: the index in 16 hex digits, its first 7 bytes as folders.
pub fn block_path(index: u64) -> String {
    let name = format!("{index:016x}");
    let folders: Vec<&str> = (0..7).map(|i| &name[2 * i..2 * i + 2]).collect();
    format!("{}/{name}.pb", folders.join("/"))
}

/// The path of the file that holds `bucket` blocks from `first_index` on.
pub fn merged_path(bucket: u64, first_index: u64) -> String {
    format!("merged-{bucket}/{}", block_path(first_index))
}

/// A node as published.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PublishedNode {
    /// Its name.
    #[prost(string, tag = "1")]
    pub responder_id: String,
    /// Its key.
    #[prost(message, required, tag = "2")]
    pub public_key: Ed25519Key,
}

/// A member of a quorum set as published.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum PublishedMember {
    /// A node.
    #[prost(message, tag = "1")]
    Node(PublishedNode),
    /// A nested set.
    #[prost(message, tag = "2")]
    InnerSet(PublishedQuorumSet),
}

/// The message around a member.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PublishedQuorumSetMember {
    /// The member.
    #[prost(oneof = "PublishedMember", tags = "1, 2")]
    pub member: Option<PublishedMember>,
}

/// A quorum set as published.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PublishedQuorumSet {
    /// How many members it takes.
    #[prost(uint32, tag = "1")]
    pub threshold: u32,
    /// The members.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<PublishedQuorumSetMember>,
}

impl From<PublishedQuorumSet> for QuorumSet {
    fn from(set: PublishedQuorumSet) -> Self {
        let member = |member: PublishedMember| match member {
            PublishedMember::Node(node) => Member::Node(NodeId {
                responder_id: ResponderId { name: node.responder_id },
                public_key: node.public_key,
            }),
            PublishedMember::InnerSet(inner) => Member::InnerSet(inner.into()),
        };
        let members = set.members.into_iter().map(|m| QuorumSetMember { member: m.member.map(member) });
        Self { threshold: set.threshold, members: members.collect() }
    }
}

impl From<QuorumSet> for PublishedQuorumSet {
    fn from(set: QuorumSet) -> Self {
        let member = |member: Member| match member {
            Member::Node(node) => PublishedMember::Node(PublishedNode {
                responder_id: node.responder_id.name,
                public_key: node.public_key,
            }),
            Member::InnerSet(inner) => PublishedMember::InnerSet(inner.into()),
        };
        let members = set.members.into_iter().map(|m| PublishedQuorumSetMember { member: m.member.map(member) });
        Self { threshold: set.threshold, members: members.collect() }
    }
}

/// Contents of metadata as published.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PublishedMetadataContents {
    /// The block.
    #[prost(message, required, tag = "1")]
    pub block_id: Hash,
    /// The node's quorum set then.
    #[prost(message, required, tag = "2")]
    pub quorum_set: PublishedQuorumSet,
    /// Evidence for the enclave.
    #[prost(oneof = "AttestationEvidence", tags = "3, 5")]
    pub attestation_evidence: Option<AttestationEvidence>,
    /// The node.
    #[prost(string, tag = "4")]
    pub responder_id: String,
}

/// Metadata as published.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PublishedMetadata {
    /// What the node says.
    #[prost(message, required, tag = "1")]
    pub contents: PublishedMetadataContents,
    /// The node's message key.
    #[prost(message, required, tag = "2")]
    pub node_key: Ed25519Key,
    /// Its signature.
    #[prost(message, required, tag = "3")]
    pub signature: Ed25519Sig,
}

impl From<PublishedMetadata> for BlockMetadata {
    fn from(metadata: PublishedMetadata) -> Self {
        let contents = metadata.contents;
        Self {
            contents: BlockMetadataContents {
                block_id: contents.block_id,
                quorum_set: contents.quorum_set.into(),
                attestation_evidence: contents.attestation_evidence,
                responder_id: ResponderId { name: contents.responder_id },
            },
            node_key: metadata.node_key,
            signature: metadata.signature,
        }
    }
}

impl From<BlockMetadata> for PublishedMetadata {
    fn from(metadata: BlockMetadata) -> Self {
        let contents = metadata.contents;
        Self {
            contents: PublishedMetadataContents {
                block_id: contents.block_id,
                quorum_set: contents.quorum_set.into(),
                attestation_evidence: contents.attestation_evidence,
                responder_id: contents.responder_id.name,
            },
            node_key: metadata.node_key,
            signature: metadata.signature,
        }
    }
}

/// The first version of a block's file.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ArchiveBlockV1 {
    /// Header.
    #[prost(message, required, tag = "1")]
    pub block: Block,
    /// Contents.
    #[prost(message, required, tag = "2")]
    pub contents: BlockContents,
    /// Signature.
    #[prost(message, optional, tag = "3")]
    pub signature: Option<BlockSignature>,
    /// Metadata.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<PublishedMetadata>,
}

impl From<ArchiveBlockV1> for BlockData {
    fn from(v1: ArchiveBlockV1) -> Self {
        Self { block: v1.block, contents: v1.contents, signature: v1.signature, metadata: v1.metadata.map(Into::into) }
    }
}

impl From<BlockData> for ArchiveBlock {
    fn from(data: BlockData) -> Self {
        let BlockData { block, contents, signature, metadata } = data;
        Self { v1: Some(ArchiveBlockV1 { block, contents, signature, metadata: metadata.map(Into::into) }) }
    }
}

/// A file of the archive.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ArchiveBlock {
    /// The only version so far.
    #[prost(message, optional, tag = "1")]
    pub v1: Option<ArchiveBlockV1>,
}

/// A file of the archive that holds several blocks.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ArchiveBlocks {
    /// The blocks in order.
    #[prost(message, repeated, tag = "1")]
    pub blocks: Vec<ArchiveBlock>,
}
