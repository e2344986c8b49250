//! One node: the machine, its disk, its application, its evidence pool. Performs effects in order and may crash
//! before any of them, and within the execution of a block.

use std::collections::VecDeque;
use std::sync::Arc;

use base_crypto::ed25519::SecretKey;
use comet_chain::app::{Application, PrepareProposal};
use comet_chain::commit::verify_full;
use comet_chain::evidence::{is_expired, new_duplicate_vote, verify};
use comet_chain::exec::{misbehavior, proposed_block};
use comet_chain::state::State;
use comet_core::guard::Decision;
use comet_core::wal::{TailError, tail};
use comet_core::{Config, Core, Effect, HeldBlock, Input, Message, Reply, Request, Timeout};
use wire_cometbft::Time;
use wire_cometbft::block::{Block, BlockId, Commit};
use wire_cometbft::consensus::ConsensusMessageSum;
use wire_cometbft::evidence::{Evidence, EvidenceSum};
use wire_cometbft::keys::{Address, signing_digest};
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::{SignedMsgType, Vote};
use wire_cometbft::wal::{EndHeight, TimedWalMessage, WalMessage, WalMessageSum};

use crate::disk::{Disk, Stored};
use crate::net::{Have, Net, have, missing, peer_id};

/// Most transactions that wait.
const MAX_TXS: usize = 100;
/// Most items of evidence in a block.
const MAX_EVIDENCE: usize = 4;

/// What an oracle may look at.
#[derive(Debug, Clone)]
pub enum Observed {
    /// A signature left the guard.
    Signed {
        /// Height.
        height: i64,
        /// Round.
        round: i32,
        /// Type of message.
        kind: SignedMsgType,
        /// What was signed.
        bytes: Vec<u8>,
        /// The vote, unless it is a proposal.
        vote: Option<Box<Vote>>,
    },
    /// A block was stored.
    Saved(Arc<HeldBlock>, Box<Commit>),
    /// A block was executed.
    Applied(Box<State>),
    /// Conflicting votes were reported.
    Conflict(Box<Vote>),
    /// The node stopped for good.
    Failed(String),
}

/// What came of handling something.
#[derive(Debug, Default)]
pub struct Output {
    /// To everybody.
    pub broadcasts: Vec<Net>,
    /// To one node.
    pub sends: Vec<(usize, Net)>,
    /// The timer to be armed in place of the one running.
    pub timer: Option<Timeout>,
    /// For the oracles.
    pub observed: Vec<Observed>,
    /// Whether the node crashed on the way.
    pub crashed: bool,
}

/// One node.
pub struct Node {
    /// Its number.
    pub id: usize,
    key: SecretKey,
    address: Address,
    config: Config,
    chain_id: String,
    /// Its disk.
    pub disk: Disk,
    core: Option<Core>,
    effects: VecDeque<Effect>,
    /// Places passed so far where it could have crashed.
    pub points: u64,
    /// The place where it will crash.
    pub crash_at: Option<u64>,
    txs: VecDeque<Vec<u8>>,
    conflicts: Vec<(Vote, Vote)>,
    syncing: Option<i64>,
    /// Whether the guard is off.
    pub unguarded: bool,
}

impl Node {
    /// A node that is not running yet.
    pub fn new(id: usize, key: SecretKey, config: Config, disk: Disk) -> Self {
        let address = Address::of(&key.public());
        let chain_id = disk.state.chain_id.clone();
        Self {
            id,
            key,
            address,
            config,
            chain_id,
            disk,
            core: None,
            effects: VecDeque::new(),
            points: 0,
            crash_at: None,
            txs: VecDeque::new(),
            conflicts: Vec::new(),
            syncing: None,
            unguarded: false,
        }
    }

    /// The machine, if the node runs.
    pub fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    /// Its validator address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a vote without asking the guard.
    pub fn sign_freely(&self, mut vote: Vote) -> Vote {
        vote.signature = self.key.sign(&signing_digest(&vote.sign_bytes(&self.chain_id))).to_vec();
        vote
    }

    /// Signs a proposal without asking the guard.
    pub fn sign_proposal_freely(&self, mut proposal: wire_cometbft::vote::Proposal) -> wire_cometbft::vote::Proposal {
        proposal.signature = self.key.sign(&signing_digest(&proposal.sign_bytes(&self.chain_id))).to_vec();
        proposal
    }

    /// Passes a place where the node may crash; tells whether it does.
    fn point(&mut self, out: &mut Output) -> bool {
        self.points += 1;
        out.crashed |= self.crash_at == Some(self.points);
        out.crashed
    }

    /// What a crash leaves: the disk.
    pub fn stop(&mut self) {
        self.core = None;
        self.effects.clear();
        self.crash_at = None;
        self.txs.clear();
        self.conflicts.clear();
        self.syncing = None;
    }

    /// Starts from the disk: brings application and state level with the blocks, replays the log, begins.
    pub fn boot(&mut self, now: Time) -> Output {
        let mut out = Output::default();
        self.disk.repair();
        self.handshake(&mut out);
        if out.crashed {
            return out;
        }
        let state = self.disk.state.clone();
        let height = state.next_height();
        let last = self.disk.blocks.get(&state.last_block_height);
        let seen_commit = last.map(|stored| stored.seen_commit.clone());
        let app_hash = last.map(|stored| stored.block.block().header.app_hash.clone());
        let address = Some(self.address);
        match Core::new(self.config.clone(), address, state, seen_commit.as_ref(), app_hash, now) {
            Ok(core) => self.core = Some(core),
            Err(error) => {
                out.observed.push(Observed::Failed(error.to_string()));
                return out;
            }
        }
        if self.disk.log().is_empty() {
            self.write_end(0, now);
        }
        match tail(&[self.disk.log()], height, 1) {
            Ok(records) => {
                for record in records {
                    self.drive(now, Input::Replay(record), &mut out);
                    if out.crashed {
                        return out;
                    }
                }
            }
            // From here on the height can be replayed.
            Err(TailError::NotFound(before)) => self.write_end(before, now),
            Err(_) => {}
        }
        self.drive(now, Input::Start, &mut out);
        out
    }

    fn write_end(&mut self, height: i64, now: Time) {
        let end = WalMessage::from(WalMessageSum::EndHeight(EndHeight { height }));
        self.disk.append(&TimedWalMessage { time: now, msg: Some(end) }, true);
    }

    fn handshake(&mut self, out: &mut Output) {
        let state_height = self.disk.state.last_block_height;
        if self.disk.height() == state_height + 1 {
            let stored = self.disk.blocks[&(state_height + 1)].clone();
            self.apply(&stored.block, &stored.id(), out);
        }
    }

    /// Executes a block, saves results, commits, saves the state: each step may be the last before a crash.
    fn apply(&mut self, block: &HeldBlock, block_id: &BlockId, out: &mut Output) -> Option<State> {
        let height = block.block().header.height;
        let state = self.disk.state.clone();
        if self.point(out) {
            return None;
        }
        if self.disk.app.height() < height {
            let proposed = proposed_block(block.block(), &state.last_validators, state.initial_height).ok()?;
            let results = self.disk.app.execute(&proposed).ok()?;
            self.disk.results = Some((height, results));
            if self.point(out) {
                return None;
            }
            self.disk.app.commit().ok()?;
            if self.point(out) {
                return None;
            }
        }
        let (of, results) = self.disk.results.clone()?;
        assert_eq!(of, height, "results are those of the block");
        let mut next = state.after(block_id.clone(), &block.block().header, &results).ok()?;
        next.app_hash = self.disk.app.hash();
        self.disk.save_state(next.clone());
        self.after_block(block.block(), &next);
        out.observed.push(Observed::Applied(Box::new(next.clone())));
        if self.point(out) {
            return None;
        }
        Some(next)
    }

    /// Drops what the block carried; turns reported votes into evidence.
    fn after_block(&mut self, block: &Block, state: &State) {
        self.txs.retain(|tx| !block.data.txs.contains(tx));
        let included = &block.evidence.evidence;
        self.disk.evidence.retain(|evidence| {
            let time = self.disk.blocks.get(&evidence.height()).map(|stored| stored.block.block().header.time);
            !included.iter().any(|other| same_fault(other, evidence))
                && time.is_some_and(|time| !is_expired(state, evidence.height(), time))
        });
        for (first, second) in std::mem::take(&mut self.conflicts) {
            let height = first.height;
            let (Some(stored), Some(set)) = (self.disk.blocks.get(&height), self.disk.validators.get(&height)) else {
                continue;
            };
            let time = stored.block.block().header.time;
            if let Some(evidence) = new_duplicate_vote(first, second, time, set) {
                self.add_evidence(EvidenceSum::DuplicateVote(Box::new(evidence)).into());
            }
        }
    }

    fn add_evidence(&mut self, evidence: Evidence) {
        let known = self.disk.evidence.iter().any(|other| same_fault(other, &evidence)) || self.committed(&evidence);
        if !known && verify(&evidence, &self.disk.state, &self.disk).is_ok() {
            self.disk.evidence.push(evidence);
        }
    }

    fn committed(&self, evidence: &Evidence) -> bool {
        let blocks = self.disk.blocks.values().map(|stored| stored.block.block());
        // The newest block may be stored but not applied: it does not count against itself.
        let applied = blocks.filter(|block| block.header.height <= self.disk.state.last_block_height);
        applied.flat_map(|block| &block.evidence.evidence).any(|other| same_fault(other, evidence))
    }

    /// Feeds an input and performs what follows.
    pub fn drive(&mut self, now: Time, input: Input, out: &mut Output) {
        let Some(core) = &mut self.core else { return };
        if core.is_halted() {
            return;
        }
        let effects = core.step(now, input);
        self.effects.extend(effects.unwrap_or_else(|misuse| panic!("node {}: {misuse}", self.id)));
        while let Some(effect) = self.effects.pop_front() {
            if self.point(out) {
                return;
            }
            let answer = self.perform(effect, out);
            if out.crashed {
                return;
            }
            let Some(core) = self.core.as_mut().filter(|core| !core.is_halted()) else { return };
            if let Some(answer) = answer {
                let effects = core.step(now, answer);
                self.effects.extend(effects.unwrap_or_else(|misuse| panic!("node {}: {misuse}", self.id)));
            }
        }
        self.point(out);
    }

    fn perform(&mut self, effect: Effect, out: &mut Output) -> Option<Input> {
        match effect {
            Effect::WriteWal { record, sync } => self.disk.append(&record, sync),
            Effect::SyncWal => self.disk.sync(),
            Effect::SignVote(vote) => return self.sign_vote(*vote, out),
            Effect::SignProposal(mut proposal) => {
                match self.disk.guard.check_proposal(&self.chain_id, &proposal).ok()? {
                    Decision::Sign(request) => {
                        proposal.signature = self.key.sign(&signing_digest(request.sign_bytes())).to_vec();
                        self.disk.guard = request.signed(proposal.signature.clone());
                    }
                    Decision::Reuse { timestamp, signature } => {
                        (proposal.timestamp, proposal.signature) = (timestamp, signature);
                    }
                }
                out.observed.push(Observed::Signed {
                    height: proposal.height,
                    round: proposal.round,
                    kind: proposal.kind,
                    bytes: proposal.sign_bytes(&self.chain_id),
                    vote: None,
                });
                return (!self.point(out)).then_some(Input::ProposalSigned(proposal));
            }
            Effect::Broadcast(message) => match message.sum {
                Some(ConsensusMessageSum::Proposal(message)) => out.broadcasts.push(Net::Proposal(message.proposal)),
                Some(ConsensusMessageSum::BlockPart(part)) => out.broadcasts.push(Net::Part(part)),
                Some(ConsensusMessageSum::Vote(message)) => out.broadcasts.extend(message.vote.map(Net::Vote)),
                _ => {}
            },
            Effect::Announce(message) => {
                if let (Some(ConsensusMessageSum::NewValidBlock(_)), Some(core)) = (message.sum, &self.core) {
                    out.broadcasts.push(Net::Have(have(core.round_state())));
                }
            }
            Effect::ScheduleTimeout(timeout) => out.timer = Some(timeout),
            Effect::Request(request) => return self.answer(request, out).map(Input::Reply),
            Effect::SaveBlock { block, parts, seen_commit } => self.save(block, parts, *seen_commit, out),
            Effect::ReportConflictingVotes(first, second) => {
                out.observed.push(Observed::Conflict(second.clone()));
                self.conflicts.push((*first, *second));
            }
            Effect::SwitchToBlockSync { height } => self.syncing = Some(height),
            Effect::Halt(failure) => out.observed.push(Observed::Failed(failure.to_string())),
            Effect::Send { .. } | Effect::StopPeer { .. } | Effect::Refused { .. } => {}
        }
        None
    }

    fn save(&mut self, block: Arc<HeldBlock>, parts: Arc<PartSet>, seen_commit: Commit, out: &mut Output) {
        out.observed.push(Observed::Saved(Arc::clone(&block), Box::new(seen_commit.clone())));
        let height = block.block().header.height;
        self.disk.blocks.entry(height).or_insert(Stored { block, parts, seen_commit });
    }

    fn sign_vote(&mut self, mut vote: Vote, out: &mut Output) -> Option<Input> {
        if self.unguarded {
            self.disk.guard = Default::default();
        }
        match self.disk.guard.check_vote(&self.chain_id, &vote).ok()? {
            Decision::Sign(request) => {
                vote.signature = self.key.sign(&signing_digest(request.sign_bytes())).to_vec();
                self.disk.guard = request.signed(vote.signature.clone());
            }
            Decision::Reuse { timestamp, signature } => (vote.timestamp, vote.signature) = (timestamp, signature),
        }
        out.observed.push(Observed::Signed {
            height: vote.height,
            round: vote.round,
            kind: vote.kind,
            bytes: vote.sign_bytes(&self.chain_id),
            vote: Some(Box::new(vote.clone())),
        });
        (!self.point(out)).then_some(Input::VoteSigned(Box::new(vote)))
    }

    fn answer(&mut self, request: Request, out: &mut Output) -> Option<Reply> {
        Some(match request {
            Request::BuildProposal { height, last_commit, proposer, .. } => {
                let evidence: Vec<Evidence> = self.disk.evidence.iter().take(MAX_EVIDENCE).cloned().collect();
                let request = PrepareProposal {
                    txs: self.txs.iter().cloned().collect(),
                    misbehavior: misbehavior(&evidence),
                    height,
                    proposer_address: proposer,
                    ..PrepareProposal::default()
                };
                let txs = self.disk.app.prepare_proposal(&request).ok()?;
                Reply::Built(self.disk.state.make_block(txs, *last_commit, evidence, proposer).ok().map(Box::new))
            }
            Request::CheckEvidence(block) => Reply::EvidenceChecked(self.check_evidence(block.block())),
            Request::ProcessProposal(block) => {
                let state = &self.disk.state;
                let proposed = proposed_block(block.block(), &state.last_validators, state.initial_height).ok()?;
                Reply::Processed(self.disk.app.process_proposal(&proposed).ok()?)
            }
            Request::Apply { block, block_id } => Reply::Applied(Box::new(self.apply(&block, &block_id, out)?)),
        })
    }

    fn check_evidence(&self, block: &Block) -> Result<(), String> {
        let list = &block.evidence.evidence;
        for (at, evidence) in list.iter().enumerate() {
            if list[..at].iter().any(|other| same_fault(other, evidence)) || self.committed(evidence) {
                return Err("evidence twice".into());
            }
            if !self.disk.evidence.iter().any(|other| other == evidence) {
                verify(evidence, &self.disk.state, &self.disk).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Takes a message from another node.
    pub fn receive(&mut self, now: Time, from: usize, message: Net) -> Output {
        let mut out = Output::default();
        if self.core.is_none() {
            return out;
        }
        let peer = peer_id(from);
        let core_message = |message| Input::Message { peer: peer_id(from), message: Box::new(message) };
        match message {
            Net::Proposal(proposal) if proposal.validate_basic().is_ok() => {
                self.drive(now, core_message(Message::Proposal(proposal)), &mut out);
            }
            Net::Part(part) if part.validate_basic().is_ok() => {
                self.drive(now, core_message(Message::BlockPart(part)), &mut out);
            }
            Net::Vote(vote) if vote.validate_basic().is_ok() => {
                self.drive(now, core_message(Message::Vote(vote)), &mut out);
            }
            Net::Proposal(_) | Net::Part(_) | Net::Vote(_) => {}
            Net::Claim { height, round, kind, block_id } => {
                self.drive(now, Input::Claim { peer, height, round, kind, block_id }, &mut out);
            }
            Net::Have(theirs) => self.receive_have(now, from, &theirs, &mut out),
            Net::Evidence(evidence) => self.add_evidence(*evidence),
            Net::Tx(tx) => {
                self.add_tx(tx);
                self.drive(now, Input::TxsAvailable, &mut out);
            }
            Net::BlockRequest(height) => {
                if let Some(stored) = self.disk.blocks.get(&height) {
                    let Stored { block, parts, seen_commit } = stored.clone();
                    out.sends.push((from, Net::Block(block, parts, Box::new(seen_commit))));
                }
            }
            Net::Block(block, parts, commit) => self.receive_block(now, from, block, parts, *commit, &mut out),
        }
        out
    }

    fn receive_have(&mut self, now: Time, from: usize, theirs: &Have, out: &mut Output) {
        let Some(core) = &self.core else { return };
        out.sends.extend(missing(core, &self.disk, theirs).into_iter().map(|message| (from, message)));
        if theirs.height > core.round_state().height && self.syncing.is_none() {
            self.drive(now, Input::CommitSeen { height: theirs.height - 1 }, out);
            if self.syncing.is_some() {
                out.sends.push((from, Net::BlockRequest(self.disk.state.next_height())));
            }
        }
    }

    /// A block that was asked for: checked by its commit, stored, executed; then the next one, or back to consensus.
    fn receive_block(
        &mut self,
        now: Time,
        from: usize,
        block: Arc<HeldBlock>,
        parts: Arc<PartSet>,
        commit: Commit,
        out: &mut Output,
    ) {
        let state = self.disk.state.clone();
        let height = state.next_height();
        let Some(target) = self.syncing.filter(|_| block.block().header.height == height) else { return };
        let id = block.id(parts.header().clone());
        let sound = verify_full(&state.validators, &state.chain_id, &id, height, &commit).is_ok()
            && state.validate_block(block.block()).is_ok();
        if !sound || self.core.as_ref().is_none_or(|core| core.round_state().height > height) {
            self.syncing = None;
            return;
        }
        let last_header_app_hash = Some(block.block().header.app_hash.clone());
        self.save(Arc::clone(&block), parts, commit.clone(), out);
        if self.point(out) {
            return;
        }
        let Some(state) = self.apply(&block, &id, out) else { return };
        // The machine must not go on at a height that is over: it is told of every block.
        let (state, seen_commit) = (Box::new(state), Box::new(commit));
        self.drive(now, Input::Advanced { state, seen_commit, last_header_app_hash }, out);
        if out.crashed {
            return;
        }
        self.syncing = (height < target).then_some(target);
        if self.syncing.is_some() {
            out.sends.push((from, Net::BlockRequest(height + 1)));
        }
    }

    fn add_tx(&mut self, tx: Vec<u8>) {
        if self.txs.len() < MAX_TXS && !self.txs.contains(&tx) {
            self.txs.push_back(tx);
        }
    }

    /// The timer expired.
    pub fn expire(&mut self, now: Time, timeout: Timeout) -> Output {
        let mut out = Output::default();
        self.drive(now, Input::Timeout(timeout), &mut out);
        out
    }

    /// Tells others what it has.
    pub fn tick(&mut self) -> Output {
        let mut out = Output::default();
        if let Some(core) = &self.core {
            out.broadcasts.push(Net::Have(have(core.round_state())));
            let evidence = self.disk.evidence.iter().cloned().map(|evidence| Net::Evidence(Box::new(evidence)));
            out.broadcasts.extend(evidence);
            // A block that never came is asked for again.
            self.syncing = None;
        }
        out
    }
}

/// Whether two items are about the same validator's same two votes.
fn same_fault(a: &Evidence, b: &Evidence) -> bool {
    match (&a.sum, &b.sum) {
        (Some(EvidenceSum::DuplicateVote(a)), Some(EvidenceSum::DuplicateVote(b))) => {
            (&a.vote_a, &a.vote_b) == (&b.vote_a, &b.vote_b)
        }
        _ => a == b,
    }
}
