//! What the node tells of its engine.

use comet_core::vote_set::VoteSet;
use comet_core::{PeerId, RoundState, Step};
use comet_net::{PeerCounts, PeerStatus};
use comet_sync::SyncStatus;
use wire_cometbft::Time;
use wire_cometbft::keys::Address;
use wire_cometbft::merkle::Hash;

use crate::driver::StopReason;

/// What the engine is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It restores a snapshot.
    StateSync,
    /// It fetches blocks.
    BlockSync,
    /// It takes part in rounds.
    Consensus,
    /// It has stopped.
    Stopped(StopReason),
}

/// Where the round machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundStatus {
    /// Height being decided.
    pub height: i64,
    /// Round.
    pub round: i32,
    /// Step.
    pub step: Step,
    /// Proposer of the round.
    pub proposer: Option<Address>,
    /// Whether the round's proposal is here.
    pub has_proposal: bool,
    /// Parts of the block that are here, and all of them; `None`: none are collected.
    pub parts: Option<(usize, u32)>,
    /// Power that prevoted in this round.
    pub prevotes: i64,
    /// Power that precommitted in this round.
    pub precommits: i64,
    /// Power of all validators.
    pub total_power: i64,
    /// Round in which this node is locked, -1: it is not.
    pub locked_round: i32,
}

fn power(rs: &RoundState, votes: Option<&VoteSet>) -> i64 {
    let voters = votes.into_iter().flat_map(VoteSet::votes);
    let validators = voters.filter_map(|vote| rs.validators.get(usize::try_from(vote.validator_index).ok()?));
    validators.map(|validator| validator.voting_power).fold(0, i64::saturating_add)
}

impl RoundStatus {
    pub(crate) fn of(rs: &RoundState) -> Self {
        Self {
            height: rs.height,
            round: rs.round,
            step: rs.step,
            proposer: rs.validators.proposer().map(|proposer| proposer.address),
            has_proposal: rs.proposal.is_some(),
            parts: rs.proposal_block_parts.as_ref().map(|parts| (parts.count(), parts.header().total)),
            prevotes: power(rs, rs.votes.prevotes(rs.round)),
            precommits: power(rs, rs.votes.precommits(rs.round)),
            total_power: rs.validators.total_voting_power(),
            locked_round: rs.locked_round,
        }
    }

    /// What the machine waits for, in words.
    pub fn waits_for(&self) -> String {
        let Self { height, round, total_power, .. } = self;
        let place = format!("height {height}, round {round}");
        let votes = |what: &str, power: i64| {
            let needed = total_power.saturating_mul(2) / 3 + 1;
            format!("{place}: {what} of power {power} of {total_power}, {needed} needed")
        };
        match self.step {
            Step::NewHeight | Step::NewRound => format!("{place}: waiting for the round to begin"),
            Step::Propose => {
                let proposer = self.proposer.map_or_else(String::new, |address| format!(" of validator {address}"));
                match self.parts {
                    Some((got, all)) if self.has_proposal => {
                        format!("{place}: {got} of {all} parts of the block{proposer}")
                    }
                    _ => format!("{place}: waiting for the proposal{proposer}"),
                }
            }
            Step::Prevote | Step::PrevoteWait => votes("prevotes", self.prevotes),
            Step::Precommit | Step::PrecommitWait => votes("precommits", self.precommits),
            Step::Commit => {
                let (got, all) = self.parts.unwrap_or((0, 0));
                format!("{place}: committed, {got} of {all} parts of the block")
            }
        }
    }
}

/// A vote or a proposal that this node should have signed and did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// Its height.
    pub height: i64,
    /// Its round.
    pub round: i32,
    /// Why.
    pub reason: String,
}

/// State of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineStatus {
    /// This node's id.
    pub node_id: PeerId,
    /// What the engine is doing.
    pub phase: Phase,
    /// Lowest height stored; 0: none.
    pub earliest_height: i64,
    /// Newest height applied; 0: none.
    pub latest_height: i64,
    /// Hash of that block.
    pub latest_hash: Option<Hash>,
    /// Time of that block.
    pub latest_time: Option<Time>,
    /// State root of the application after that block, as in the next header.
    pub latest_app_hash: Vec<u8>,
    /// This node's validator address; `None`: it has no key.
    pub address: Option<Address>,
    /// Whether it is a validator of the next height.
    pub is_validator: bool,
    /// Where block sync stands, if it runs.
    pub sync: Option<SyncStatus>,
    /// Where the round machine stands, if it runs.
    pub round: Option<RoundStatus>,
    /// How many peers there are.
    pub counts: PeerCounts,
    /// The peers.
    pub peers: Vec<PeerStatus>,
    /// Heights that peers work on, as they announced; 0: nothing announced.
    pub peer_heights: Vec<i64>,
    /// Transactions that wait.
    pub waiting_txs: usize,
    /// The last vote or proposal, if it was not signed.
    pub unsigned: Option<Unsigned>,
    /// What progress waits for, in words.
    pub waits_for: String,
}

impl EngineStatus {
    /// Whether the node is not yet level with the network.
    pub fn is_syncing(&self) -> bool {
        matches!(self.phase, Phase::StateSync | Phase::BlockSync)
    }
}

/// In words, what progress waits for.
pub(crate) fn waits_for(phase: &Phase, sync: Option<&SyncStatus>, round: Option<&RoundStatus>, peers: usize) -> String {
    match (phase, sync, round) {
        (Phase::Stopped(reason), _, _) => reason.to_string(),
        (Phase::StateSync, _, _) => format!("restoring a snapshot, {peers} peers"),
        (Phase::BlockSync, Some(sync), _) => {
            format!("fetching block {} of {}, {} peers have blocks", sync.next, sync.peers_at, sync.peers)
        }
        (Phase::BlockSync, None, _) => format!("about to fetch blocks, {peers} peers"),
        (Phase::Consensus, _, Some(round)) if peers == 0 => format!("{}; no peers", round.waits_for()),
        (Phase::Consensus, _, Some(round)) => round.waits_for(),
        (Phase::Consensus, _, None) => "replaying the log".to_owned(),
    }
}
