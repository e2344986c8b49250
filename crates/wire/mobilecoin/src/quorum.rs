//! Node ids and quorum sets (reference: package `quorum_set`, `mc-consensus-scp-types`).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use merlin::Transcript;
use prost::{Message, Oneof};
use serde::{Deserialize, Serialize};

use crate::bytes::Ed25519Key;
use crate::digest::{Digestible, Label, aggregate, digest32, variant};

/// How deep quorum sets may nest; deeper ones are not valid. The reference has no limit of its own but its decoder's.
pub const MAX_DEPTH: usize = 32;

/// The name of a node: host and port, at least one colon in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResponderId {
    /// The text.
    #[prost(string, tag = "1")]
    pub name: String,
}

impl ResponderId {
    /// The id with that text, if it has a colon.
    pub fn parse(text: &str) -> Option<Self> {
        text.contains(':').then(|| Self { name: text.to_owned() })
    }
}

impl Digestible for ResponderId {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "ResponderId", transcript, |fields| {
            fields.always("0", &self.name);
        });
    }
}

/// A node: its name and message key. Two ids with the same key are the same node.
#[derive(Clone, Message, Serialize, Deserialize)]
pub struct NodeId {
    /// The name.
    #[prost(message, required, tag = "1")]
    pub responder_id: ResponderId,
    /// The key that signs its messages.
    #[prost(message, required, tag = "2")]
    pub public_key: Ed25519Key,
}

impl PartialEq for NodeId {
    fn eq(&self, other: &Self) -> bool {
        self.public_key == other.public_key
    }
}

impl Eq for NodeId {}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.public_key.cmp(&other.public_key)
    }
}

impl Hash for NodeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.public_key.hash(state);
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.responder_id.name, self.public_key)
    }
}

impl Digestible for NodeId {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "NodeID", transcript, |fields| {
            fields.field("responder_id", &self.responder_id).field("public_key", &self.public_key);
        });
    }
}

/// A member of a quorum set.
#[derive(Clone, PartialEq, Eq, Hash, Oneof, Serialize, Deserialize)]
#[serde(tag = "type", content = "args")]
pub enum Member {
    /// A node.
    #[prost(message, tag = "1")]
    Node(NodeId),
    /// A nested set.
    #[prost(message, tag = "2")]
    InnerSet(QuorumSet),
}

impl Digestible for Member {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        match self {
            Self::Node(node) => {
                variant(context, "QuorumSetMember", 0, transcript);
                node.digest_under(b"Node", transcript);
            }
            Self::InnerSet(set) => {
                variant(context, "QuorumSetMember", 1, transcript);
                set.digest_under(b"InnerSet", transcript);
            }
        }
    }
}

/// A member as protobuf carries it.
#[derive(Clone, PartialEq, Eq, Hash, Message, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuorumSetMember {
    /// The member; one without is not valid.
    #[prost(oneof = "Member", tags = "1, 2")]
    pub member: Option<Member>,
}

impl Digestible for QuorumSetMember {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "QuorumSetMemberWrapper", transcript, |fields| {
            fields.field("member", &self.member);
        });
    }
}

/// Which sets of nodes convince a node: any `threshold` of the members. Equality here is of the order too, as is the
/// digest; [`QuorumSet::equivalent`] ignores it.
#[derive(Clone, PartialEq, Eq, Hash, Message, Serialize, Deserialize)]
pub struct QuorumSet {
    /// How many members it takes.
    #[prost(uint32, tag = "1")]
    pub threshold: u32,
    /// The members.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<QuorumSetMember>,
}

impl QuorumSet {
    /// A set of nodes and nested sets.
    pub fn new(threshold: u32, members: Vec<Member>) -> Self {
        Self { threshold, members: members.into_iter().map(|m| QuorumSetMember { member: Some(m) }).collect() }
    }

    /// The members that are there.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter_map(|m| m.member.as_ref())
    }

    /// Whether every threshold can be reached and no member is missing or nests too deep.
    pub fn is_valid(&self) -> bool {
        self.is_valid_within(MAX_DEPTH)
    }

    fn is_valid_within(&self, depth: usize) -> bool {
        let member_valid = |member: &QuorumSetMember| match &member.member {
            None => false,
            Some(Member::Node(_)) => true,
            Some(Member::InnerSet(set)) => depth > 0 && set.is_valid_within(depth - 1),
        };
        self.threshold as usize <= self.members.len() && self.members.iter().all(member_valid)
    }

    /// The set with members in one order of all, so that sets which mean the same are equal.
    pub fn sorted(&self) -> Self {
        let mut members: Vec<QuorumSetMember> = self
            .members()
            .map(|member| match member {
                Member::Node(_) => member.clone(),
                Member::InnerSet(set) => Member::InnerSet(set.sorted()),
            })
            .map(|member| QuorumSetMember { member: Some(member) })
            .collect();
        members.sort_by_cached_key(|m| match &m.member {
            Some(Member::Node(node)) => (0, node.public_key.0.to_vec()),
            Some(Member::InnerSet(set)) => (1, digest32(b"", set).to_vec()),
            None => (2, Vec::new()),
        });
        Self { threshold: self.threshold, members }
    }

    /// Whether the sets are equal but for the order of their members.
    pub fn equivalent(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }

    /// All nodes in it, nested ones too.
    pub fn nodes(&self) -> Vec<&NodeId> {
        let mut out = Vec::new();
        for member in self.members() {
            match member {
                Member::Node(node) => out.push(node),
                Member::InnerSet(set) => out.extend(set.nodes()),
            }
        }
        out
    }
}

impl Digestible for QuorumSet {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "QuorumSet", transcript, |fields| {
            fields.field("threshold", &self.threshold).field("members", &self.members);
        });
    }
}
