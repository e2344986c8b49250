//! Peers that do harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base_crypto::ed25519::SecretKey;
use bytes::Bytes;
use comet_chain::light::BoxFuture;
use comet_engine::reactor::{DATA_CHANNEL, MAX_BAD_SIGNATURES, STATE_CHANNEL, VOTE_CHANNEL, VOTE_SET_BITS_CHANNEL};
use comet_net::{ChannelDescriptor, DropPeer, Intervals, NetConfig, Peer, Reactor, Switch, SwitchHandle, node_id};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use wire_cometbft::Message;
use wire_cometbft::Time;
use wire_cometbft::bits::BitArray;
use wire_cometbft::block::{BlockId, PartSetHeader};
use wire_cometbft::consensus::{
    BlockPart, ConsensusMessage, ConsensusMessageSum as Sum, HasVote, NewRoundStep, NewValidBlock, ProposalMessage,
    ProposalPol, VoteMessage, VoteSetBits, VoteSetMaj23,
};
use wire_cometbft::evidence::EvidenceSum;
use wire_cometbft::keys::{Address, signing_digest};
use wire_cometbft::p2p::{NodeInfo, NodeInfoOther, ProtocolVersion};
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};

use crate::node::{CHAIN, Net, Options, PATIENCE};

const CHANNELS: [u8; 4] = [STATE_CHANNEL, DATA_CHANNEL, VOTE_CHANNEL, VOTE_SET_BITS_CHANNEL];

/// What a hostile peer was sent.
#[derive(Default)]
struct Inbox(Mutex<Vec<ConsensusMessage>>);

struct Ears(Arc<Inbox>);

impl Reactor for Ears {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        CHANNELS.map(|id| ChannelDescriptor { id, priority: 1, send_queue: 1000, max_message: 1 << 20 }).to_vec()
    }

    fn receive<'a>(&'a self, _: u8, _: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        let mut inbox = self.0.0.lock();
        if inbox.len() < 100_000 {
            inbox.extend(ConsensusMessage::decode(&message).ok());
        }
        Box::pin(async { Ok(()) })
    }
}

/// A hostile peer of node 0.
struct Mallory {
    switch: SwitchHandle,
    victim: Peer,
    inbox: Arc<Inbox>,
    stop: CancellationToken,
}

impl Mallory {
    async fn meet(net: &Net, seed: u8) -> Self {
        let key = SecretKey::from_seed(&[seed; 32]);
        let info = NodeInfo {
            protocol_version: ProtocolVersion { p2p: 8, block: 11, app: 1 },
            default_node_id: node_id(&key.public()).0.to_string(),
            listen_addr: "tcp://127.0.0.1:1".into(),
            network: CHAIN.into(),
            version: "0.37.16".into(),
            channels: CHANNELS.to_vec(),
            moniker: "mallory".into(),
            other: NodeInfoOther { tx_index: "off".into(), rpc_address: String::new() },
        };
        let config = NetConfig {
            persistent_peers: vec![net.address(0)],
            pex: false,
            addr_book_strict: false,
            allow_duplicate_ip: true,
            send_rate: 0,
            intervals: Intervals {
                dial_jitter: Duration::from_millis(1),
                reconnect: Duration::from_secs(3600),
                ..Intervals::default()
            },
            ..NetConfig::default()
        };
        let (inbox, stop) = (Arc::<Inbox>::default(), CancellationToken::new());
        let ears = Arc::new(Ears(Arc::clone(&inbox)));
        let switch = Switch::start(config, key, info, vec![ears], stop.clone()).await.unwrap();
        let began = Instant::now();
        let victim = loop {
            assert!(began.elapsed() < PATIENCE, "not connected");
            // Both sides know of each other.
            let known = net.handle(0).switch().peer(switch.id()).is_some();
            match switch.peer(&net.id(0)) {
                Some(victim) if known => break victim,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        Self { switch, victim, inbox, stop }
    }

    async fn send(&self, channel: u8, message: Sum) -> bool {
        self.victim.send(channel, Bytes::from(ConsensusMessage::from(message).encode_to_vec())).await
    }

    /// Waits until the node has closed the connection.
    async fn dropped(&self, what: &str) {
        let ended = tokio::time::timeout(PATIENCE, self.victim.stopped()).await;
        assert!(ended.is_ok(), "{what}: still connected");
    }

    async fn received(&self, what: &str, wanted: impl Fn(&Sum) -> bool) {
        let began = Instant::now();
        while !self.inbox.0.lock().iter().filter_map(|message| message.sum.as_ref()).any(&wanted) {
            assert!(began.elapsed() < PATIENCE, "{what} was not received");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn leave(self) {
        self.stop.cancel();
        self.switch.stopped().await;
    }
}

fn id(n: u8) -> BlockId {
    BlockId { hash: vec![n; 32], part_set_header: PartSetHeader { total: 1, hash: vec![n; 32] } }
}

fn step(height: i64) -> Sum {
    let last_commit_round = if height == 1 { -1 } else { 0 };
    Sum::NewRoundStep(NewRoundStep { height, round: 0, step: 1, seconds_since_start_time: 0, last_commit_round })
}

fn vote(height: i64, round: i32, index: i32, address: Vec<u8>) -> Sum {
    let vote = Vote {
        kind: SignedMsgType::PREVOTE,
        height,
        round,
        block_id: id(7),
        validator_address: address,
        validator_index: index,
        signature: vec![9; 64],
        ..Vote::default()
    };
    Sum::Vote(VoteMessage { vote: Some(vote) })
}

/// A running network of two validators, each of which needs the other.
async fn two() -> Net {
    let mut net = Net::new(2, 0);
    net.start_all(&Options::default()).await;
    net.reach(0, 3).await;
    net
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_and_messages_that_break_rules_cost_the_connection() {
    let mut net = two().await;
    let prevote = SignedMsgType::PREVOTE;
    let row = |bits: i64, words: usize| BitArray { bits, elems: vec![u64::MAX; words] };
    let parts = |total: u32, bits: BitArray| {
        Sum::NewValidBlock(NewValidBlock {
            height: 5,
            round: 0,
            block_part_set_header: PartSetHeader { total, hash: vec![1; 32] },
            block_parts: Some(bits),
            is_commit: true,
        })
    };
    let answer =
        |votes: BitArray| Sum::VoteSetBits(VoteSetBits { height: 5, round: 0, kind: prevote, block_id: id(1), votes });
    let pol = |proposal_pol: BitArray| Sum::ProposalPol(ProposalPol { height: 5, proposal_pol_round: 0, proposal_pol });
    let bad_step = |height: i64, step: u32, last_commit_round: i32| {
        Sum::NewRoundStep(NewRoundStep { height, round: 0, step, seconds_since_start_time: 0, last_commit_round })
    };
    let proof_of_other = {
        let mut part = PartSet::from_bytes(&[1; 100], 65_536).part(0).unwrap().clone();
        part.index = 3;
        Sum::BlockPart(BlockPart { height: 5, round: 0, part })
    };
    let cases: Vec<(u8, Sum)> = vec![
        (STATE_CHANNEL, bad_step(5, 9, 0)),
        (STATE_CHANNEL, bad_step(0, 1, 0)),
        (STATE_CHANNEL, bad_step(1, 1, 0)),
        (STATE_CHANNEL, bad_step(5, 1, -1)),
        (STATE_CHANNEL, parts(1602, row(1602, 26))),
        (STATE_CHANNEL, parts(3, row(4, 1))),
        (STATE_CHANNEL, parts(3, row(i64::MAX, 1))),
        (STATE_CHANNEL, Sum::HasVote(HasVote { height: 5, round: -1, kind: prevote, index: 0 })),
        (
            STATE_CHANNEL,
            Sum::VoteSetMaj23(VoteSetMaj23 { height: 5, round: 0, kind: SignedMsgType(9), block_id: id(1) }),
        ),
        (DATA_CHANNEL, Sum::Proposal(ProposalMessage { proposal: Proposal::default() })),
        (DATA_CHANNEL, pol(row(10_001, 157))),
        (DATA_CHANNEL, pol(row(-1, 0))),
        (DATA_CHANNEL, proof_of_other),
        (VOTE_CHANNEL, vote(5, 0, -1, vec![1; 20])),
        (VOTE_CHANNEL, vote(5, 0, 0, vec![1; 19])),
        (VOTE_SET_BITS_CHANNEL, answer(row(10_001, 157))),
        (VOTE_SET_BITS_CHANNEL, answer(row(64, 1_000))),
    ];
    for (n, (channel, message)) in (100u8..).zip(cases) {
        let mallory = Mallory::meet(&net, n).await;
        let what = format!("{message:?}").chars().take(80).collect::<String>();
        mallory.send(channel, message).await;
        mallory.dropped(&what).await;
        mallory.leave().await;
    }
    for (n, channel) in (200u8..).zip(CHANNELS) {
        let mallory = Mallory::meet(&net, n).await;
        mallory.victim.send(channel, Bytes::from(vec![0xff; 1000])).await;
        mallory.dropped("junk").await;
        mallory.leave().await;
    }
    net.advance(&[0, 1], 2).await;
    net.check();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_well_formed_messages_do_not_hold_up_the_others() {
    let mut net = two().await;
    let mallory = Mallory::meet(&net, 60).await;
    let before = net.height(0);
    let large = PartSet::from_bytes(&vec![3; 300_000], 65_536);
    let began = Instant::now();
    let mut sent = 0u32;
    while began.elapsed() < Duration::from_secs(3) {
        let height = net.height(0) + 1;
        mallory.send(STATE_CHANNEL, step(height)).await;
        for n in 0..20i32 {
            // Far rounds, no such validator, other heights; parts and proposals of blocks that are none.
            mallory.send(VOTE_CHANNEL, vote(height, n * 1000, 5000 + n, vec![1; 20])).await;
            mallory.send(VOTE_CHANNEL, vote(height + 10 + i64::from(n), 0, 0, vec![1; 20])).await;
            let part = large.part(n as usize % 4).unwrap().clone();
            mallory.send(DATA_CHANNEL, Sum::BlockPart(BlockPart { height, round: n, part })).await;
            let claim =
                VoteSetMaj23 { height: height + 1, round: n, kind: SignedMsgType::PREVOTE, block_id: id(n as u8) };
            mallory.send(STATE_CHANNEL, Sum::VoteSetMaj23(claim)).await;
            sent += 4;
        }
    }
    assert!(sent > 400, "only {sent} were sent");
    net.advance(&[0, 1], 3).await;
    assert!(net.height(0) > before + 5, "from {before} to {}", net.height(0));
    net.check();
    mallory.leave().await;
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_signatures_cost_the_connection_in_the_end() {
    let mut net = Net::new(2, 0);
    // One validator of two: the height stays.
    net.start(0, &Options::default()).await;
    let mallory = Mallory::meet(&net, 61).await;
    mallory.send(STATE_CHANNEL, step(1)).await;
    let address = net.handle(0).chain().load().unwrap().unwrap().validators.get(0).unwrap().address;
    for n in 0..MAX_BAD_SIGNATURES - 1 {
        mallory.send(VOTE_CHANNEL, vote(1, 0, 0, address.0.to_vec())).await;
        assert!(mallory.victim.is_running(), "dropped after {n}");
    }
    // Still served.
    mallory.received("a vote", |message| matches!(message, Sum::Vote(_) | Sum::HasVote(_))).await;
    mallory.send(VOTE_CHANNEL, vote(1, 0, 0, address.0.to_vec())).await;
    mallory.send(VOTE_CHANNEL, vote(1, 0, 0, address.0.to_vec())).await;
    mallory.dropped("wrong signatures").await;
    mallory.leave().await;
    net.start(1, &Options::default()).await;
    net.advance(&[0, 1], 3).await;
    net.check();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_different_claims_cost_the_connection_and_one_is_answered() {
    let mut net = Net::new(2, 0);
    net.start(0, &Options::default()).await;
    let mallory = Mallory::meet(&net, 62).await;
    mallory.send(STATE_CHANNEL, step(1)).await;
    mallory.received("a step", |message| matches!(message, Sum::NewRoundStep(_))).await;
    let claim =
        |n| Sum::VoteSetMaj23(VoteSetMaj23 { height: 1, round: 0, kind: SignedMsgType::PRECOMMIT, block_id: id(n) });
    mallory.send(STATE_CHANNEL, claim(1)).await;
    mallory.received("an answer", |message| matches!(message, Sum::VoteSetBits(bits) if bits.block_id == id(1))).await;
    mallory.send(STATE_CHANNEL, claim(1)).await;
    mallory.send(STATE_CHANNEL, claim(2)).await;
    mallory.dropped("two claims").await;
    mallory.leave().await;
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stays_behind_is_sent_each_part_and_vote_once() {
    let mut net = two().await;
    let mallory = Mallory::meet(&net, 63).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let early = |message: &Sum| matches!(message, Sum::Vote(_) | Sum::BlockPart(_) | Sum::Proposal(_));
    let none = !mallory.inbox.0.lock().iter().filter_map(|message| message.sum.as_ref()).any(early);
    assert!(none, "it has announced nothing, and was sent something");
    mallory.send(STATE_CHANNEL, step(1)).await;
    mallory.received("the block", |message| matches!(message, Sum::BlockPart(part) if part.height == 1)).await;
    net.advance(&[0, 1], 5).await;
    let (mut parts, mut votes) = (0, 0);
    for message in mallory.inbox.0.lock().iter() {
        match &message.sum {
            Some(Sum::BlockPart(part)) => {
                assert_eq!(part.height, 1);
                parts += 1;
            }
            Some(Sum::Vote(message)) => {
                let vote = message.vote.as_ref().unwrap();
                assert_eq!((vote.height, vote.kind), (1, SignedMsgType::PRECOMMIT));
                votes += 1;
            }
            _ => {}
        }
    }
    assert_eq!((parts, votes), (1, 2));
    mallory.leave().await;
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_votes_twice_is_named_in_a_block() {
    let mut net = Net::new(4, 0);
    // Two of four validators: nothing is decided yet.
    net.start(0, &Options::default()).await;
    net.start(1, &Options::default()).await;
    let key = net.key(3).clone();
    let address = Address::of(&key.public());
    let validators = net.handle(0).chain().load().unwrap().unwrap().validators;
    let (index, _) = validators.find(&address).unwrap();
    let mallory = Mallory::meet(&net, 64).await;
    mallory.send(STATE_CHANNEL, step(1)).await;
    for block in [1, 2] {
        let mut vote = Vote {
            kind: SignedMsgType::PREVOTE,
            height: 1,
            round: 0,
            block_id: id(block),
            timestamp: Time::new(1_700_000_001, 0).unwrap(),
            validator_address: address.0.to_vec(),
            validator_index: index as i32,
            signature: Vec::new(),
        };
        vote.signature = key.sign(&signing_digest(&vote.sign_bytes(CHAIN))).to_vec();
        mallory.send(VOTE_CHANNEL, Sum::Vote(VoteMessage { vote: Some(vote) })).await;
    }
    let both_seen = |sum: &Sum| matches!(sum, Sum::HasVote(vote) if vote.index == index as i32 && vote.kind == SignedMsgType::PREVOTE);
    mallory.received("word of the vote", both_seen).await;
    net.start(2, &Options::default()).await;
    let began = Instant::now();
    let mut height = 1;
    let evidence = loop {
        assert!(began.elapsed() < PATIENCE, "no evidence up to height {height}");
        match net.handle(2).blocks().block(height).unwrap() {
            Some(block) if !block.evidence.evidence.is_empty() => break block.evidence.evidence,
            Some(_) => height += 1,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let Some(EvidenceSum::DuplicateVote(duplicate)) = &evidence[0].sum else { panic!("{evidence:?}") };
    assert_eq!(duplicate.vote_a.as_ref().unwrap().validator_address, address.0);
    assert_eq!((evidence.len(), duplicate.validator_power, duplicate.total_voting_power), (1, 10, 40));
    // Once is enough.
    net.advance(&[0, 1, 2], 5).await;
    let later = (height + 1..=net.height(0)).filter_map(|height| net.handle(0).blocks().block(height).unwrap());
    assert!(later.into_iter().all(|block| block.evidence.evidence.is_empty()));
    mallory.leave().await;
    net.stop_all().await;
}
