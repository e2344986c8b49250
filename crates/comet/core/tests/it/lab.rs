//! One machine among four validators whose messages the test makes up.

use std::collections::VecDeque;
use std::sync::Arc;

use base_crypto::ed25519::SecretKey;
use comet_chain::app::{
    BlockParams, BlockResults, ConsensusParams, EvidenceParams, InitChainResult, ValidatorParams, ValidatorUpdate,
    Verdict, VersionParams,
};
use comet_chain::state::State;
use comet_core::guard::{Decision, LastSigned};
use comet_core::{
    Config, Core, Effect, HeldBlock, Input, Message, Misuse, PeerId, Refusal, Reply, Request, RoundState, Step, Timeout,
};
use wire_cometbft::block::{Block, BlockId, Commit};
use wire_cometbft::consensus::{BlockPart, ConsensusMessageSum, NewValidBlock};
use wire_cometbft::keys::{Address, signing_digest};
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};
use wire_cometbft::wal::{WalMessageSum, WalReader, encode_record};
use wire_cometbft::{Duration, Time};

pub(crate) const PREVOTE: SignedMsgType = SignedMsgType::PREVOTE;
pub(crate) const PRECOMMIT: SignedMsgType = SignedMsgType::PRECOMMIT;
const CHAIN: &str = "lab";

/// A block that the test made.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) parts: PartSet,
    pub(crate) id: BlockId,
}

pub(crate) struct Lab {
    pub(crate) core: Core,
    pub(crate) now: Time,
    config: Config,
    genesis: State,
    keys: Vec<SecretKey>,
    pub(crate) me: usize,
    guard: LastSigned,
    pub(crate) verdict: Verdict,
    pub(crate) timer: Option<Timeout>,
    pub(crate) votes: Vec<Vote>,
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) valid_blocks: Vec<NewValidBlock>,
    pub(crate) saved: Vec<(Arc<HeldBlock>, Commit)>,
    pub(crate) conflicts: usize,
    pub(crate) refused: Vec<Refusal>,
    pub(crate) other: Vec<Effect>,
    pub(crate) log: Vec<u8>,
}

pub(crate) fn at(millis: i64) -> Time {
    Time::UNIX_EPOCH.saturating_add(Duration::from_millis(1_000_000_000 + millis))
}

fn genesis(keys: &[SecretKey]) -> State {
    let params = ConsensusParams {
        block: BlockParams { max_bytes: 200_000, max_gas: -1 },
        evidence: EvidenceParams {
            max_age_num_blocks: 100,
            max_age_duration: Duration::from_secs(1000),
            max_bytes: 50_000,
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 1 },
    };
    let members: Vec<_> = keys.iter().map(|key| ValidatorUpdate { pub_key: key.public(), power: 10 }).collect();
    let mut state = State::genesis(CHAIN.into(), 1, at(0), params, &members).unwrap();
    state.apply_init_chain(&InitChainResult { app_hash: vec![1], ..InitChainResult::default() }).unwrap();
    state
}

impl Lab {
    /// The machine's node proposes in `my_round` (of the first height) and in every fourth after it.
    pub(crate) fn new(my_round: u32) -> Self {
        Self::with(my_round, Config { timeout_commit: Duration::from_secs(1), ..Config::default() })
    }

    pub(crate) fn with(my_round: u32, config: Config) -> Self {
        let mut keys: Vec<SecretKey> = (1..=4).map(|seed| SecretKey::from_seed(&[seed; 32])).collect();
        let genesis = genesis(&keys);
        keys.sort_by_key(|key| genesis.validators.validators().iter().position(|v| v.pub_key == key.public()));
        let rotated = match my_round {
            0 => genesis.validators.clone(),
            round => genesis.validators.incremented(round).unwrap(),
        };
        let me = rotated.find(&rotated.proposer().unwrap().address).unwrap().0;
        let now = at(1000);
        let address = Address::of(&keys[me].public());
        let core = Core::new(config.clone(), Some(address), genesis.clone(), None, None, now).unwrap();
        let mut lab = Self {
            core,
            now,
            config,
            genesis,
            keys,
            me,
            guard: LastSigned::default(),
            verdict: Verdict::Accept,
            timer: None,
            votes: vec![],
            proposals: vec![],
            valid_blocks: vec![],
            saved: vec![],
            conflicts: 0,
            refused: vec![],
            other: vec![],
            log: vec![],
        };
        lab.input(Input::Start);
        lab
    }

    /// In round 0 of the first height, at the step `Propose` or after.
    pub(crate) fn started(my_round: u32) -> Self {
        let mut lab = Self::new(my_round);
        lab.expire(Step::NewHeight);
        lab
    }

    pub(crate) fn rs(&self) -> &RoundState {
        self.core.round_state()
    }

    /// Height, round and step.
    pub(crate) fn place(&self) -> (i64, i32, Step) {
        (self.rs().height, self.rs().round, self.rs().step)
    }

    pub(crate) fn others(&self) -> [usize; 3] {
        let mut others = (0..4).filter(|&index| index != self.me);
        [(); 3].map(|()| others.next().unwrap())
    }

    pub(crate) fn try_input(&mut self, input: Input) -> Result<(), Misuse> {
        let mut effects = VecDeque::from(self.core.step(self.now, input)?);
        while let Some(effect) = effects.pop_front() {
            if let Some(answer) = self.perform(effect) {
                effects.extend(self.core.step(self.now, answer)?);
            }
        }
        Ok(())
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.try_input(input).unwrap();
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::WriteWal { record, .. } => self.log.extend(encode_record(&record).unwrap()),
            Effect::SyncWal => {}
            Effect::SignVote(mut vote) => {
                match self.guard.check_vote(CHAIN, &vote).ok()? {
                    Decision::Sign(request) => {
                        vote.signature = self.keys[self.me].sign(&signing_digest(request.sign_bytes())).to_vec();
                        self.guard = request.signed(vote.signature.clone());
                    }
                    Decision::Reuse { timestamp, signature } => {
                        (vote.timestamp, vote.signature) = (timestamp, signature)
                    }
                }
                return Some(Input::VoteSigned(vote));
            }
            Effect::SignProposal(mut proposal) => {
                let digest = signing_digest(&proposal.sign_bytes(CHAIN));
                proposal.signature = self.keys[self.me].sign(&digest).to_vec();
                return Some(Input::ProposalSigned(proposal));
            }
            Effect::Broadcast(message) => match message.sum.unwrap() {
                ConsensusMessageSum::Vote(message) => self.votes.push(message.vote.unwrap()),
                ConsensusMessageSum::Proposal(message) => self.proposals.push(message.proposal),
                _ => {}
            },
            Effect::Announce(message) => {
                if let ConsensusMessageSum::NewValidBlock(message) = message.sum.unwrap() {
                    self.valid_blocks.push(message);
                }
            }
            Effect::ScheduleTimeout(timeout) => self.timer = Some(timeout),
            Effect::Request(request) => return Some(Input::Reply(self.answer(request))),
            Effect::SaveBlock { block, seen_commit, .. } => self.saved.push((block, *seen_commit)),
            Effect::ReportConflictingVotes(..) => self.conflicts += 1,
            Effect::Refused { reason, .. } => self.refused.push(*reason),
            Effect::Send { .. } | Effect::StopPeer { .. } | Effect::SwitchToBlockSync { .. } | Effect::Halt(_) => {
                self.other.push(effect);
            }
        }
        None
    }

    fn answer(&self, request: Request) -> Reply {
        let state = self.core.state();
        match request {
            Request::BuildProposal { last_commit, proposer, .. } => {
                let block = state.make_block(vec![b"mine".to_vec()], *last_commit, vec![], proposer).unwrap();
                Reply::Built(Some(Box::new(block)))
            }
            Request::CheckEvidence(_) => Reply::EvidenceChecked(Ok(())),
            Request::ProcessProposal(_) => Reply::Processed(self.verdict),
            Request::Apply { block, block_id } => {
                let mut next = state.after(block_id, &block.block().header, &BlockResults::default()).unwrap();
                next.app_hash = vec![1];
                Reply::Applied(Box::new(next))
            }
        }
    }

    /// Lets the timer expire, which must be for this step.
    pub(crate) fn expire(&mut self, step: Step) {
        let timeout = self.timer.take().expect("a timer runs");
        assert_eq!(timeout.step, step);
        self.now = self.now.saturating_add(timeout.duration);
        self.input(Input::Timeout(timeout));
    }

    /// A block for the current state with a transaction of its own.
    pub(crate) fn make(&self, tag: u8) -> Made {
        self.make_with(tag, |_| {})
    }

    pub(crate) fn make_with(&self, tag: u8, change: impl FnOnce(&mut Block)) -> Made {
        let proposer = self.rs().validators.proposer().unwrap().address;
        let last_commit = self.rs().last_commit.as_ref().and_then(|votes| votes.make_commit()).unwrap_or_default();
        let mut block = self.core.state().make_block(vec![vec![tag]], last_commit, vec![], proposer).unwrap();
        change(&mut block);
        let parts = block.part_set();
        Made { id: block.id().unwrap(), parts }
    }

    /// The current round's proposal, signed by whoever's turn it is.
    pub(crate) fn proposal(&self, made: &Made, pol_round: i32) -> Proposal {
        let proposer = self.rs().validators.proposer().unwrap().pub_key;
        let mut proposal = Proposal {
            kind: SignedMsgType::PROPOSAL,
            height: self.rs().height,
            round: self.rs().round,
            pol_round,
            block_id: made.id.clone(),
            timestamp: self.now,
            signature: vec![],
        };
        let key = self.keys.iter().find(|key| key.public() == proposer).unwrap();
        proposal.signature = key.sign(&signing_digest(&proposal.sign_bytes(CHAIN))).to_vec();
        proposal
    }

    pub(crate) fn receive(&mut self, message: Message) {
        self.receive_from("peer", message);
    }

    pub(crate) fn receive_from(&mut self, peer: &str, message: Message) {
        self.input(Input::Message { peer: PeerId::new(peer), message: Box::new(message) });
    }

    pub(crate) fn propose(&mut self, made: &Made, pol_round: i32) {
        let proposal = self.proposal(made, pol_round);
        self.receive(Message::Proposal(proposal));
        self.parts(made);
    }

    pub(crate) fn parts(&mut self, made: &Made) {
        for index in 0..made.parts.count() {
            let part = made.parts.part(index).unwrap().clone();
            let (height, round) = (self.rs().height, self.rs().round);
            self.receive(Message::BlockPart(BlockPart { height, round, part }));
        }
    }

    pub(crate) fn vote(
        &self,
        who: usize,
        kind: SignedMsgType,
        height: i64,
        round: i32,
        block: Option<&BlockId>,
    ) -> Vote {
        let mut vote = Vote {
            kind,
            height,
            round,
            block_id: block.cloned().unwrap_or_default(),
            timestamp: self.now,
            validator_address: Address::of(&self.keys[who].public()).0.to_vec(),
            validator_index: i32::try_from(who).unwrap(),
            signature: vec![],
        };
        vote.signature = self.keys[who].sign(&signing_digest(&vote.sign_bytes(CHAIN))).to_vec();
        vote
    }

    /// Votes of others for this height.
    pub(crate) fn votes_of(&mut self, who: &[usize], kind: SignedMsgType, round: i32, block: Option<&BlockId>) {
        for &who in who {
            let vote = self.vote(who, kind, self.rs().height, round, block);
            self.receive(Message::Vote(vote));
        }
    }

    /// The last vote of this node: round, type, block.
    pub(crate) fn last_vote(&self) -> (i32, SignedMsgType, Option<BlockId>) {
        let vote = self.votes.last().expect("voted");
        (vote.round, vote.kind, (!vote.block_id.is_zero()).then(|| vote.block_id.clone()))
    }

    /// The machine that comes back after a crash now.
    pub(crate) fn restarted(&self) -> Core {
        let address = Address::of(&self.keys[self.me].public());
        let mut core =
            Core::new(self.config.clone(), Some(address), self.genesis.clone(), None, None, self.now).unwrap();
        for record in WalReader::new(&self.log) {
            let record = record.unwrap();
            assert!(!matches!(record.msg.as_ref().unwrap().sum, Some(WalMessageSum::EndHeight(_))));
            let mut effects = VecDeque::from(core.step(self.now, Input::Replay(record)).unwrap());
            while let Some(effect) = effects.pop_front() {
                if let Effect::Request(request) = effect {
                    let reply = self.answer(request);
                    effects.extend(core.step(self.now, Input::Reply(reply)).unwrap());
                }
            }
        }
        core
    }
}
