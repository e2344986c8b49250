//! Validators that break the rules, each in its own way.
//!
//! A hostile node is an honest one whose messages pass through a [`Behaviour`]; twins are two honest nodes with one key.

use comet_core::Timeout;
use wire_cometbft::block::{BlockId, PartSetHeader};
use wire_cometbft::consensus::BlockPart;
use wire_cometbft::vote::{SignedMsgType, Vote};

use crate::net::Net;
use crate::node::Node;
use crate::rng::Rng;

/// How a hostile node differs from an honest one.
pub trait Behaviour {
    /// What it sends to `to` in place of `message`.
    fn send(&mut self, node: &Node, to: usize, message: Net, rng: &mut Rng) -> Vec<Net>;

    /// Whether it forgets everything about the height before this timer's step.
    fn forgets(&mut self, _timeout: &Timeout, _rng: &mut Rng) -> bool {
        false
    }
}

/// Sends nothing.
pub struct Silent;

/// Votes for two things: one half of the nodes gets one vote, the other half another; proposes likewise.
pub struct Equivocator;

/// Votes as honest nodes do, but forgets its lock and what it signed whenever a round ends.
pub struct Amnesiac;

/// Floods others with votes of rounds far ahead, and of the next ones.
pub struct FutureRound;

/// Sends block parts that are not those of the block, with each part and in place of some.
pub struct BadPart;

fn is_own(node: &Node, vote: &Vote) -> bool {
    vote.validator_address == node.address().0
}

fn other_block(of: &BlockId) -> BlockId {
    if of.is_zero() {
        let hash = vec![0xee; 32];
        return BlockId { hash: hash.clone(), part_set_header: PartSetHeader { total: 1, hash } };
    }
    BlockId::default()
}

impl Behaviour for Silent {
    fn send(&mut self, _node: &Node, _to: usize, _message: Net, _rng: &mut Rng) -> Vec<Net> {
        Vec::new()
    }
}

impl Behaviour for Equivocator {
    fn send(&mut self, node: &Node, to: usize, message: Net, rng: &mut Rng) -> Vec<Net> {
        match message {
            Net::Vote(vote) if is_own(node, &vote) => {
                let other = Vote { block_id: other_block(&vote.block_id), ..vote.clone() };
                let other = Net::Vote(node.sign_freely(other));
                match (to % 2, rng.below(4)) {
                    (_, 0) => vec![Net::Vote(vote), other],
                    (0, _) => vec![Net::Vote(vote)],
                    _ => vec![other],
                }
            }
            Net::Proposal(mut proposal) if to % 2 == 1 && proposal.block_id.part_set_header.total > 0 => {
                proposal.block_id.hash.rotate_left(1);
                vec![Net::Proposal(node.sign_proposal_freely(proposal))]
            }
            message => vec![message],
        }
    }
}

impl Behaviour for Amnesiac {
    fn send(&mut self, _node: &Node, _to: usize, message: Net, _rng: &mut Rng) -> Vec<Net> {
        vec![message]
    }

    fn forgets(&mut self, timeout: &Timeout, rng: &mut Rng) -> bool {
        timeout.step == comet_core::Step::PrecommitWait || rng.below(20) == 0
    }
}

impl Behaviour for FutureRound {
    fn send(&mut self, node: &Node, _to: usize, message: Net, rng: &mut Rng) -> Vec<Net> {
        let mut out = vec![message];
        if let Some(Net::Vote(vote)) = out.first().cloned().filter(|m| matches!(m, Net::Vote(v) if is_own(node, v))) {
            for _ in 0..3 {
                let ahead = if rng.below(2) == 0 { 1 + rng.below(3) } else { 1 + rng.below(1 << 30) };
                let kind = if rng.below(2) == 0 { SignedMsgType::PREVOTE } else { SignedMsgType::PRECOMMIT };
                let round = vote.round.saturating_add(i32::try_from(ahead).unwrap_or(i32::MAX));
                let block_id = if rng.below(2) == 0 { vote.block_id.clone() } else { other_block(&vote.block_id) };
                out.push(Net::Vote(node.sign_freely(Vote { round, kind, block_id, ..vote.clone() })));
            }
        }
        out
    }
}

impl Behaviour for BadPart {
    fn send(&mut self, _node: &Node, _to: usize, message: Net, rng: &mut Rng) -> Vec<Net> {
        let Net::Part(part) = message else { return vec![message] };
        let mut spoiled = part.part.clone();
        match rng.below(4) {
            0 => {
                if let Some(byte) = spoiled.bytes.first_mut() {
                    *byte ^= 1;
                }
            }
            1 => spoiled.proof.leaf_hash.rotate_left(3),
            2 => spoiled.proof.aunts.push(vec![0; 32]),
            _ => spoiled.index += 1,
        }
        let bad = Net::Part(BlockPart { part: spoiled, ..part.clone() });
        if rng.below(3) == 0 { vec![bad] } else { vec![bad, Net::Part(part)] }
    }
}
