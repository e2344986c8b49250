//! Messages of the consensus protocol (reference: `mc-consensus-scp-types`).

use std::collections::BTreeSet;

use merlin::Transcript;
use serde::{Deserialize, Serialize};

use crate::digest::{Digestible, Label, aggregate, variant};
use crate::quorum::{NodeId, QuorumSet};

/// Position of a block that is being agreed on.
pub type SlotIndex = u64;

/// What a value of the protocol must be able to do.
pub trait Value: Clone + Ord + std::fmt::Debug + Digestible {}

impl<T: Clone + Ord + std::fmt::Debug + Digestible> Value for T {}

/// A counter and the values it stands for. Ordered by counter, then values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot<V> {
    /// Counter.
    #[serde(rename = "N")]
    pub n: u32,
    /// Values in order.
    #[serde(rename = "X")]
    pub x: Vec<V>,
}

impl<V> Ballot<V> {
    /// A ballot.
    pub fn new(n: u32, x: Vec<V>) -> Self {
        Self { n, x }
    }
}

impl<V: Digestible> Digestible for Ballot<V> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "Ballot", transcript, |fields| {
            fields.field("N", &self.n).field("X", &self.x);
        });
    }
}

/// Votes in nomination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(deserialize = "V: Ord + Deserialize<'de>"))]
pub struct Nominate<V> {
    /// Voted for.
    #[serde(rename = "X")]
    pub x: BTreeSet<V>,
    /// Accepted.
    #[serde(rename = "Y")]
    pub y: BTreeSet<V>,
}

impl<V: Digestible> Digestible for Nominate<V> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "NominatePayload", transcript, |fields| {
            fields.field("X", &self.x).field("Y", &self.y);
        });
    }
}

/// Votes to prepare a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prepare<V> {
    /// The current ballot.
    #[serde(rename = "B")]
    pub b: Ballot<V>,
    /// The highest accepted prepared ballot.
    #[serde(rename = "P")]
    pub p: Option<Ballot<V>>,
    /// The highest accepted prepared one that is not compatible with it.
    #[serde(rename = "PP")]
    pub pp: Option<Ballot<V>>,
    /// Lowest counter voted to commit, 0 for none.
    #[serde(rename = "CN")]
    pub cn: u32,
    /// Highest counter confirmed prepared, 0 for none.
    #[serde(rename = "HN")]
    pub hn: u32,
}

impl<V: Digestible> Digestible for Prepare<V> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "PreparePayload", transcript, |fields| {
            fields
                .field("B", &self.b)
                .field("P", &self.p)
                .field("PP", &self.pp)
                .field("CN", &self.cn)
                .field("HN", &self.hn);
        });
    }
}

/// Votes to commit a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Commit<V> {
    /// The current ballot.
    #[serde(rename = "B")]
    pub b: Ballot<V>,
    /// Counter of the highest accepted prepared ballot.
    #[serde(rename = "PN")]
    pub pn: u32,
    /// Lowest counter accepted committed.
    #[serde(rename = "CN")]
    pub cn: u32,
    /// Highest counter accepted committed.
    #[serde(rename = "HN")]
    pub hn: u32,
}

impl<V: Digestible> Digestible for Commit<V> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "CommitPayload", transcript, |fields| {
            fields.field("B", &self.b).field("PN", &self.pn).field("CN", &self.cn).field("HN", &self.hn);
        });
    }
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Externalize<V> {
    /// Lowest confirmed committed ballot.
    #[serde(rename = "C")]
    pub c: Ballot<V>,
    /// Highest counter confirmed committed.
    #[serde(rename = "HN")]
    pub hn: u32,
}

impl<V: Digestible> Digestible for Externalize<V> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "ExternalizePayload", transcript, |fields| {
            fields.field("C", &self.c).field("HN", &self.hn);
        });
    }
}

/// What a node states.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(deserialize = "V: Ord + Deserialize<'de>"))]
pub enum Topic<V> {
    /// It nominates values.
    Nominate(Nominate<V>),
    /// It nominates values and prepares a ballot.
    NominatePrepare(Nominate<V>, Prepare<V>),
    /// It prepares a ballot.
    Prepare(Prepare<V>),
    /// It commits a ballot.
    Commit(Commit<V>),
    /// It is done.
    Externalize(Externalize<V>),
}

impl<V: Digestible> Digestible for Topic<V> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        const NAME: &str = "Topic";
        match self {
            Self::Nominate(nominate) => {
                variant(context, NAME, 0, transcript);
                nominate.digest_under(b"Nominate", transcript);
            }
            Self::NominatePrepare(nominate, prepare) => {
                variant(context, NAME, 1, transcript);
                aggregate(b"NominatePrepare", "", transcript, |fields| {
                    fields.field("0", nominate).field("1", prepare);
                });
            }
            Self::Prepare(prepare) => {
                variant(context, NAME, 2, transcript);
                prepare.digest_under(b"Prepare", transcript);
            }
            Self::Commit(commit) => {
                variant(context, NAME, 3, transcript);
                commit.digest_under(b"Commit", transcript);
            }
            Self::Externalize(externalize) => {
                variant(context, NAME, 4, transcript);
                externalize.digest_under(b"Externalize", transcript);
            }
        }
    }
}

/// A message of a node about a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(deserialize = "V: Ord + Deserialize<'de>"))]
pub struct Msg<V> {
    /// Who states it.
    pub sender_id: NodeId,
    /// About which slot.
    pub slot_index: SlotIndex,
    /// The sender's quorum set.
    pub quorum_set: QuorumSet,
    /// What is stated.
    pub topic: Topic<V>,
}

impl<V: Digestible> Digestible for Msg<V> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "Msg", transcript, |fields| {
            fields
                .field("sender_id", &self.sender_id)
                .field("slot_index", &self.slot_index)
                .field("quorum_set", &self.quorum_set)
                .field("topic", &self.topic);
        });
    }
}
