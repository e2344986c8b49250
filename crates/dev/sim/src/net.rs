//! What nodes send each other, and what a node sends to one that lacks something.
//!
//! In place of the reactor's per-peer bookkeeping, nodes tell what they have now and then, and peers send what is missing.

use std::sync::Arc;

use comet_core::vote_set::VoteSet;
use comet_core::{Core, HeldBlock, PeerId, RoundState};
use wire_cometbft::bits::BitArray;
use wire_cometbft::block::{BlockId, Commit, PartSetHeader};
use wire_cometbft::consensus::BlockPart;
use wire_cometbft::evidence::Evidence;
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};

use crate::disk::{Disk, Stored};
use crate::rng::mix;

/// Which votes of one round and type a node has.
#[derive(Debug, Clone, PartialEq)]
pub struct HaveVotes {
    /// Round.
    pub round: i32,
    /// Prevotes or precommits.
    pub kind: SignedMsgType,
    /// Who voted.
    pub bits: BitArray,
    /// Whether one block (or none) has two thirds.
    pub majority: bool,
}

/// What a node has.
#[derive(Debug, Clone, PartialEq)]
pub struct Have {
    /// Height.
    pub height: i64,
    /// Round.
    pub round: i32,
    /// Whether it has this round's proposal.
    pub proposal: bool,
    /// The parts it collects, and which are there.
    pub parts: Option<(PartSetHeader, BitArray)>,
    /// Its votes.
    pub votes: Vec<HaveVotes>,
}

/// A message between nodes.
#[derive(Debug, Clone, PartialEq)]
pub enum Net {
    /// A proposal.
    Proposal(Proposal),
    /// A block part.
    Part(BlockPart),
    /// A vote.
    Vote(Vote),
    /// What the sender has.
    Have(Have),
    /// The sender claims two thirds for a block.
    Claim {
        /// Height.
        height: i64,
        /// Round.
        round: i32,
        /// Prevote or precommit.
        kind: SignedMsgType,
        /// The block.
        block_id: BlockId,
    },
    /// Evidence.
    Evidence(Box<Evidence>),
    /// A transaction.
    Tx(Vec<u8>),
    /// Asks for a committed block.
    BlockRequest(i64),
    /// A committed block.
    Block(Arc<HeldBlock>, Arc<PartSet>, Box<Commit>),
}

impl Net {
    /// A number that differs between messages that differ in what matters.
    pub fn digest(&self) -> u64 {
        let fields: [u64; 5] = match self {
            Self::Proposal(p) => [1, p.height as u64, p.round as u64, first(&p.block_id.hash), first(&p.signature)],
            Self::Part(p) => {
                [2, p.height as u64, p.round as u64, u64::from(p.part.index), first(&p.part.proof.leaf_hash)]
            }
            Self::Vote(v) => {
                let place = (v.round as u64) << 32 | (v.kind.0 as u64) << 16 | v.validator_index as u64;
                [3, v.height as u64, place, first(&v.block_id.hash), first(&v.signature)]
            }
            Self::Have(h) => [4, h.height as u64, h.round as u64, u64::from(h.proposal), h.votes.len() as u64],
            Self::Claim { height, round, kind, block_id } => {
                [5, *height as u64, *round as u64, kind.0 as u64, first(&block_id.hash)]
            }
            Self::Evidence(evidence) => [6, evidence.height() as u64, 0, 0, 0],
            Self::Tx(tx) => [7, first(tx), tx.len() as u64, 0, 0],
            Self::BlockRequest(height) => [8, *height as u64, 0, 0, 0],
            Self::Block(block, ..) => [9, first(block.hash()), 0, 0, 0],
        };
        fields.into_iter().fold(0, mix)
    }
}

fn first(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(bytes.len() as u64, |sum, byte| sum << 8 ^ u64::from(*byte))
}

/// A node's peer id.
pub fn peer_id(node: usize) -> PeerId {
    PeerId::new(&format!("node{node}"))
}

/// What the machine has.
pub fn have(rs: &RoundState) -> Have {
    let mut votes = Vec::new();
    for round in rs.votes.rounds() {
        for kind in [SignedMsgType::PREVOTE, SignedMsgType::PRECOMMIT] {
            if let Some(set) = rs.votes.get(round, kind) {
                let majority = set.two_thirds_majority().is_some();
                votes.push(HaveVotes { round, kind, bits: set.bits(), majority });
            }
        }
    }
    Have {
        height: rs.height,
        round: rs.round,
        proposal: rs.proposal.is_some(),
        parts: rs.proposal_block_parts.as_ref().map(|parts| (parts.header().clone(), parts.present().collect())),
        votes,
    }
}

/// What to send to a peer that has this.
pub fn missing(core: &Core, disk: &Disk, theirs: &Have) -> Vec<Net> {
    let rs = core.round_state();
    let mut out = Vec::new();
    if theirs.height < rs.height {
        if let Some(stored) = disk.blocks.get(&theirs.height) {
            missing_stored(stored, theirs, &mut out);
        }
        return out;
    }
    if theirs.height > rs.height {
        return out;
    }
    if let Some(proposal) = rs.proposal.as_ref().filter(|proposal| proposal.round == theirs.round && !theirs.proposal) {
        out.push(Net::Proposal(proposal.clone()));
    }
    let sets = [&rs.proposal_block_parts, &rs.valid_block_parts, &rs.locked_block_parts];
    if let Some(parts) = sets.into_iter().flatten().find(|parts| wants(theirs, parts)) {
        missing_parts(parts, rs.height, theirs, &mut out);
    }
    for round in rs.votes.rounds() {
        for kind in [SignedMsgType::PREVOTE, SignedMsgType::PRECOMMIT] {
            if let Some(set) = rs.votes.get(round, kind) {
                missing_votes(set, theirs, &mut out);
            }
        }
    }
    out
}

fn wants(theirs: &Have, parts: &PartSet) -> bool {
    theirs.parts.as_ref().is_some_and(|(header, _)| header == parts.header())
}

fn missing_parts(parts: &PartSet, height: i64, theirs: &Have, out: &mut Vec<Net>) {
    let Some((_, bits)) = theirs.parts.as_ref().filter(|(header, _)| header == parts.header()) else { return };
    for index in (0..bits.len()).filter(|&index| !bits.get(index)) {
        if let Some(part) = parts.part(index) {
            out.push(Net::Part(BlockPart { height, round: theirs.round, part: part.clone() }));
        }
    }
}

fn missing_votes(set: &VoteSet, theirs: &Have, out: &mut Vec<Net>) {
    let (round, kind) = (set.round(), set.kind());
    let known = theirs.votes.iter().find(|votes| (votes.round, votes.kind) == (round, kind));
    // Far behind what the peer is at, votes matter only if they decided something.
    if round + 1 < theirs.round && set.two_thirds_majority().is_none() {
        return;
    }
    if known.is_some_and(|known| known.majority) {
        return;
    }
    let claimed = set.two_thirds_majority().filter(|_| known.is_some());
    if let Some(block_id) = claimed {
        out.push(Net::Claim { height: set.height(), round, kind, block_id: block_id.clone() });
    }
    for vote in set.votes() {
        let index = usize::try_from(vote.validator_index).unwrap_or(usize::MAX);
        let there = known.is_some_and(|known| known.bits.get(index));
        // A peer may hold another vote of an equivocating validator.
        if !there || claimed.is_some_and(|block_id| vote.block_id == *block_id) {
            out.push(Net::Vote(Vote::clone(vote)));
        }
    }
}

fn missing_stored(stored: &Stored, theirs: &Have, out: &mut Vec<Net>) {
    let commit = &stored.seen_commit;
    let (height, round, kind) = (commit.height, commit.round, SignedMsgType::PRECOMMIT);
    let known = theirs.votes.iter().find(|votes| (votes.round, votes.kind) == (round, kind));
    if known.is_none_or(|known| !known.majority) {
        if known.is_some() {
            out.push(Net::Claim { height, round, kind, block_id: commit.block_id.clone() });
        }
        let entries = commit.signatures.iter().enumerate().filter(|(_, entry)| entry.is_for_block());
        out.extend(entries.filter_map(|(index, _)| commit.vote(index)).map(Net::Vote));
    }
    missing_parts(&stored.parts, height, theirs, out);
}
