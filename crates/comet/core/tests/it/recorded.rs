//! Logs of reference nodes, taken in record by record: every step, every own vote, every block must come out again.

use std::collections::{BTreeMap, VecDeque};

use comet_chain::app::Verdict;
use comet_core::{Core, Effect, Input, Reply, Request, Timeout};
use dev_testkit::chains::Chain;
use wire_cometbft::block::{Block, BlockId, Commit};
use wire_cometbft::consensus::ConsensusMessageSum;
use wire_cometbft::keys::Address;
use wire_cometbft::vote::Vote;
use wire_cometbft::wal::{TimedWalMessage, WalMessageSum, WalReader};
use wire_cometbft::{Duration, Message, Time};

use crate::chain::{Followed, follow};

/// What was compared.
#[derive(Debug, Default)]
struct Counts {
    records: usize,
    steps: usize,
    ends: usize,
    own_votes: usize,
    own_proposals: usize,
    timeouts: usize,
    committed: usize,
}

type VotePlace = (i64, i32, i32);

fn place(vote: &Vote) -> VotePlace {
    (vote.height, vote.round, vote.kind.0)
}

struct Run<'a> {
    name: &'a str,
    chain: &'a Followed,
    core: Core,
    /// Steps and ends of heights that the machine logged and the record did not confirm yet.
    logged: VecDeque<WalMessageSum>,
    /// Votes that the machine wanted signed, and when.
    wanted: BTreeMap<VotePlace, (Vote, Time)>,
    proposed: BTreeMap<(i64, i32), BlockId>,
    /// Proposals found in the log, to build the same blocks.
    own_proposals: BTreeMap<(i64, i32), BlockId>,
    armed: Vec<Timeout>,
    counts: Counts,
}

impl Run<'_> {
    fn step(&mut self, now: Time, input: Input) {
        let mut effects = VecDeque::from(self.core.step(now, input).unwrap());
        while let Some(effect) = effects.pop_front() {
            if let Some(reply) = self.perform(effect, now) {
                effects.extend(self.core.step(now, Input::Reply(reply)).unwrap());
            }
        }
    }

    fn perform(&mut self, effect: Effect, now: Time) -> Option<Reply> {
        match effect {
            Effect::WriteWal { record, .. } => self.logged.push_back(record.msg.unwrap().sum.unwrap()),
            Effect::SignVote(vote) => {
                self.wanted.insert(place(&vote), (*vote, now));
            }
            Effect::SignProposal(proposal) => {
                self.proposed.insert((proposal.height, proposal.round), proposal.block_id);
            }
            Effect::ScheduleTimeout(timeout) => self.armed.push(timeout),
            Effect::SaveBlock { block, seen_commit, .. } => {
                let height = seen_commit.height;
                let recorded = &self.chain.blocks[usize::try_from(height).unwrap() - 1];
                assert_eq!(block.hash().as_slice(), recorded.hash, "{} height {height}", self.name);
                self.counts.committed += 1;
            }
            Effect::Request(request) => return Some(self.answer(request)),
            Effect::Halt(failure) => panic!("{}: {failure}", self.name),
            Effect::ReportConflictingVotes(..) | Effect::StopPeer { .. } | Effect::SwitchToBlockSync { .. } => {
                panic!("{}: {effect:?}", self.name)
            }
            Effect::SyncWal
            | Effect::Broadcast(_)
            | Effect::Announce(_)
            | Effect::Send { .. }
            | Effect::Refused { .. } => {}
        }
        None
    }

    fn answer(&self, request: Request) -> Reply {
        match request {
            Request::BuildProposal { height, round, last_commit, .. } => {
                let recorded = self.chain.blocks.get(usize::try_from(height).unwrap() - 1);
                let block = recorded.map(|recorded| Block::decode(&recorded.block).unwrap());
                // If the block is this node's own, it carries the commit that the machine hands out.
                let own = self.own_proposals.get(&(height, round));
                if let (Some(block), Some(own)) = (&block, own)
                    && block.id().as_ref() == Some(own)
                {
                    assert_eq!(block.last_commit.as_ref(), Some(&*last_commit), "{} {height}/{round}", self.name);
                }
                Reply::Built(block.map(Box::new))
            }
            Request::CheckEvidence(_) => Reply::EvidenceChecked(Ok(())),
            Request::ProcessProposal(_) => Reply::Processed(Verdict::Accept),
            Request::Apply { block, .. } => {
                let height = usize::try_from(block.block().header.height).unwrap();
                Reply::Applied(Box::new(self.chain.states[height].clone()))
            }
        }
    }

    fn record(&mut self, record: TimedWalMessage) {
        self.counts.records += 1;
        let now = record.time;
        match record.msg.clone().unwrap().sum.unwrap() {
            expected @ (WalMessageSum::RoundState(_) | WalMessageSum::EndHeight(_)) => {
                let end = matches!(expected, WalMessageSum::EndHeight(_));
                assert_eq!(self.logged.pop_front(), Some(expected), "{} record {}", self.name, self.counts.records);
                if end { self.counts.ends += 1 } else { self.counts.steps += 1 }
            }
            WalMessageSum::MsgInfo(info) => {
                if info.peer_id.is_empty() {
                    self.compare_own(info.msg.sum.as_ref().unwrap(), now);
                }
                self.next(record, now);
            }
            WalMessageSum::Timeout(info) => {
                let expired = Timeout::from_wire(&info).unwrap();
                let alike = |armed: &&Timeout| {
                    let timed_to_the_clock = u32::from(expired.step as u8) == 1;
                    (armed.height, armed.round, armed.step) == (expired.height, expired.round, expired.step)
                        && (timed_to_the_clock || armed.duration == expired.duration)
                };
                assert!(self.armed.iter().any(|armed| alike(&armed)), "{}: {expired:?} never armed", self.name);
                self.counts.timeouts += 1;
                self.next(record, now);
            }
        }
    }

    /// Takes in a message or timer; everything logged before must have been in the record.
    fn next(&mut self, record: TimedWalMessage, now: Time) {
        assert!(self.logged.is_empty(), "{} record {}: {:?}", self.name, self.counts.records, self.logged);
        self.step(now, Input::Replay(record));
    }

    fn compare_own(&mut self, message: &ConsensusMessageSum, now: Time) {
        match message {
            ConsensusMessageSum::Vote(message) => {
                let recorded = message.vote.as_ref().unwrap();
                let (wanted, at) = self.wanted.get(&place(recorded)).expect("vote was wanted");
                let bare = Vote { timestamp: wanted.timestamp, signature: vec![], ..recorded.clone() };
                assert_eq!(*wanted, bare, "{}", self.name);
                // Between the record before and this one, or 1 ms after the block if that is later.
                assert!(recorded.timestamp >= *at && recorded.timestamp <= now.max(wanted.timestamp), "{}", self.name);
                self.counts.own_votes += 1;
            }
            ConsensusMessageSum::Proposal(message) => {
                let proposal = &message.proposal;
                let place = (proposal.height, proposal.round);
                assert_eq!(self.proposed.get(&place), Some(&proposal.block_id), "{} {place:?}", self.name);
                self.counts.own_proposals += 1;
            }
            _ => {}
        }
    }
}

fn own_address(records: &[TimedWalMessage]) -> Option<Address> {
    records.iter().find_map(|record| match record.msg.as_ref()?.sum.as_ref()? {
        WalMessageSum::MsgInfo(info) if info.peer_id.is_empty() => match info.msg.sum.as_ref()? {
            ConsensusMessageSum::Vote(message) => Address::from_slice(&message.vote.as_ref()?.validator_address),
            _ => None,
        },
        _ => None,
    })
}

/// Height at which the node began to take part: not the first if it joined later.
fn first_height(records: &[TimedWalMessage]) -> i64 {
    let steps = records.iter().find_map(|record| match record.msg.as_ref()?.sum.as_ref()? {
        WalMessageSum::RoundState(event) => Some(event.height),
        _ => None,
    });
    steps.unwrap()
}

fn start(followed: &Followed, height: i64, address: Option<Address>, now: Time) -> Core {
    let last = usize::try_from(height - 1).unwrap();
    let recorded = last.checked_sub(1).map(|at| &followed.blocks[at]);
    let seen_commit = recorded.map(|recorded| Commit::decode(&recorded.seen_commit).unwrap());
    let app_hash = recorded.map(|recorded| Block::decode(&recorded.block).unwrap().header.app_hash);
    let (config, state) = (followed.config.clone(), followed.states[last].clone());
    Core::new(config, address, state, seen_commit.as_ref(), app_hash, now).unwrap()
}

fn run(chain: &Chain, log: &[u8]) -> Counts {
    let followed = follow(chain);
    let records: Vec<TimedWalMessage> = WalReader::new(log).map(Result::unwrap).collect();
    let mut own_proposals = BTreeMap::new();
    for record in &records {
        if let Some(WalMessageSum::MsgInfo(info)) = &record.msg.as_ref().unwrap().sum
            && info.peer_id.is_empty()
            && let Some(ConsensusMessageSum::Proposal(message)) = &info.msg.sum
        {
            let proposal = &message.proposal;
            own_proposals.insert((proposal.height, proposal.round), proposal.block_id.clone());
        }
    }
    let address = own_address(&records);
    let height = first_height(&records);
    let core = start(&followed, height, address, records[0].time);
    let mut run = Run {
        name: &chain.name,
        chain: &followed,
        core,
        logged: VecDeque::new(),
        wanted: BTreeMap::new(),
        proposed: BTreeMap::new(),
        own_proposals,
        armed: vec![Timeout { duration: Duration::from_nanos(0), height, round: 0, step: comet_core::Step::NewHeight }],
        counts: Counts::default(),
    };
    let mut records = records.into_iter();
    // An empty log is given an end of height 0 when it is opened.
    let first = records.next().unwrap();
    assert!(matches!(first.msg.unwrap().sum, Some(WalMessageSum::EndHeight(end)) if end.height == 0));
    for record in records {
        run.record(record);
    }
    println!("{}: {:?}", chain.name, run.counts);
    run.counts
}

#[test]
fn reference_logs_give_the_same_steps_votes_and_blocks() {
    let mut total = Counts::default();
    let mut logs = 0;
    for chain in Chain::all().unwrap() {
        let Some(log) = chain.wal().unwrap() else { continue };
        let counts = run(&chain, &log);
        logs += 1;
        total.records += counts.records;
        total.steps += counts.steps;
        total.ends += counts.ends;
        total.own_votes += counts.own_votes;
        total.own_proposals += counts.own_proposals;
        total.timeouts += counts.timeouts;
        total.committed += counts.committed;
    }
    println!("{logs} logs: {total:?}");
    assert_eq!((logs, total.steps, total.ends, total.committed), (8, 2148, 428, 428), "{total:?}");
    assert_eq!((total.own_votes, total.own_proposals, total.timeouts), (228, 40, 435), "{total:?}");
}

/// A node that stops anywhere comes back to where it was, from the state of the last height and the log.
#[test]
fn a_restart_from_the_log_comes_back_to_the_same_place() {
    let mut restarts = 0;
    for chain in Chain::all().unwrap() {
        let Some(log) = chain.wal().unwrap() else { continue };
        let followed = follow(&chain);
        let mut reader = WalReader::new(&log);
        let mut records = Vec::new();
        let mut ends = Vec::new();
        while let Some(record) = reader.next() {
            records.push(record.unwrap());
            ends.push(reader.offset());
        }
        let address = own_address(&records);
        let first = first_height(&records);
        let core = start(&followed, first, address, records[0].time);
        let mut whole = Quiet { chain: &followed, core };
        for (at, record) in records.iter().enumerate().skip(1) {
            whole.take(record.clone());
            let rs = whole.core.round_state();
            // Sampled; and a node restarts only between messages, not between a message and what it logs about it.
            let within = records.get(at + 1).and_then(|next| next.msg.as_ref()?.sum.as_ref());
            let within = matches!(within, Some(WalMessageSum::RoundState(_) | WalMessageSum::EndHeight(_)));
            if at % 43 != 0 || within || rs.height == first {
                continue;
            }
            // In two segments, cut anywhere between records.
            let (older, newer) = log[..ends[at]].split_at(ends[at / 2]);
            let tail = comet_core::wal::tail(&[older, newer], rs.height, 1).unwrap();
            let core = start(&followed, rs.height, address, record.time);
            let mut again = Quiet { chain: &followed, core };
            tail.into_iter().for_each(|record| again.take(record));
            let rs2 = again.core.round_state();
            assert_eq!((rs2.height, rs2.round, rs2.step), (rs.height, rs.round, rs.step), "{} record {at}", chain.name);
            assert_eq!((rs2.locked_round, rs2.valid_round), (rs.locked_round, rs.valid_round), "{}", chain.name);
            assert_eq!(rs2.proposal, rs.proposal);
            assert_eq!(rs2.proposal_block, rs.proposal_block);
            for round in rs.votes.rounds() {
                let bits = |rs: &comet_core::RoundState| {
                    (rs.votes.prevotes(round).map(|v| v.bits()), rs.votes.precommits(round).map(|v| v.bits()))
                };
                assert_eq!(bits(rs2), bits(rs));
            }
            restarts += 1;
        }
    }
    println!("{restarts} restarts");
    assert!(restarts > 150, "{restarts}");
}

/// Takes records in and compares nothing.
struct Quiet<'a> {
    chain: &'a Followed,
    core: Core,
}

impl Quiet<'_> {
    fn take(&mut self, record: TimedWalMessage) {
        let now = record.time;
        let mut effects = VecDeque::from(self.core.step(now, Input::Replay(record)).unwrap());
        while let Some(effect) = effects.pop_front() {
            let Effect::Request(request) = effect else { continue };
            let reply = match request {
                Request::BuildProposal { .. } => Reply::Built(None),
                Request::CheckEvidence(_) => Reply::EvidenceChecked(Ok(())),
                Request::ProcessProposal(_) => Reply::Processed(Verdict::Accept),
                Request::Apply { block, .. } => {
                    let height = usize::try_from(block.block().header.height).unwrap();
                    Reply::Applied(Box::new(self.chain.states[height].clone()))
                }
            };
            effects.extend(self.core.step(now, Input::Reply(reply)).unwrap());
        }
    }
}
