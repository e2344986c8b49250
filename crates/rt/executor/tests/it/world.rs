//! A committee in simulated time: nodes with machine, pool, runtime and disk; a network that delays, loses and repeats.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use base_prims::{Hash, Namespace, PublicKey, Quantity};
use mkvs_tree::{KvWrite, Sequential, Tree};
use rt_executor::Moment;
use rt_executor::messages::CommitteeMessage;
use rt_executor::round::*;
use rt_executor::txpool::{self, Checked, Origin, Pool, Tx};
use wire_consensus::node::Node as NodeDescriptor;
use wire_consensus::registry::{Runtime, RuntimeGovernanceModel, RuntimeKind};
use wire_consensus::roothash::{ExecutorCommitment, HeaderType, Proposal, message};
use wire_consensus::scheduler::{Committee, CommitteeKind, CommitteeNode, Role};
use wire_consensus::staking::{Slash, SlashReason};
use wire_runtime::Field;
use wire_runtime::runtime::{CheckTxMetadata, CheckTxResult, ComputedBatch, ExecuteTxBatchResponse, ExecutionMode};

use crate::consensus::{self, Consensus};

/// Random numbers: SplitMix64.
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Honest,
    /// Its runtime takes as long as it likes; it may never answer.
    Straggler,
    /// Its runtime computes something else.
    Dishonest,
    /// It commits to one thing and then to another, and proposes two things.
    Equivocating,
    /// It crashes again and again, at any point.
    Crashing,
    /// Most of what it is sent comes late or never.
    Late,
    /// Its disk fails now and then.
    BadDisk,
}

/// A scenario.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) workers: usize,
    pub(crate) backups: usize,
    pub(crate) stragglers: u16,
    /// Consensus blocks per epoch; 0 is no change.
    pub(crate) epoch_blocks: i64,
    pub(crate) blocks: i64,
    pub(crate) txs: u64,
    /// Loss of messages in percent.
    pub(crate) loss: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Block,
    Start(usize),
    Submit(u64),
    /// Everything below is for one life of a node.
    Input(usize, u64, Box<Input>),
    Gossip(usize, u64, usize, Box<CommitteeMessage>),
    TxGossip(usize, u64, Vec<u8>),
    Checked(usize, u64, u64, Vec<Tx>),
    Fetch(usize, u64, u64, Vec<Hash>, u32),
    Poll(usize, u64),
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
struct Disk {
    record: Option<Record>,
    roots: BTreeSet<(u64, Hash)>,
}

struct Node {
    key: SecretKey,
    id: PublicKey,
    kind: Kind,
    up: bool,
    life: u64,
    machine: Machine,
    pool: Pool,
    disk: Disk,
    /// Newest block that the node knows.
    block: Option<Box<Round>>,
    stopped_fetches: BTreeSet<u64>,
}

/// What everything led to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Types of the blocks after the first.
    pub(crate) blocks: Vec<HeaderType>,
    /// Blocks that were final in spite of a discrepancy.
    pub(crate) discrepancies: u64,
    pub(crate) included: BTreeMap<Hash, u64>,
    pub(crate) submitted: BTreeSet<Hash>,
    pub(crate) accused: BTreeSet<usize>,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) restarts: u64,
    /// A digest of everything that happened.
    pub(crate) trace: u64,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let types: String = self.blocks.iter().map(|t| t.0.to_string()).collect();
        let (included, submitted) = (self.included.len(), self.submitted.len());
        write!(f, "blocks {types}, {} discrepancies, {included} of {submitted} included, ", self.discrepancies)?;
        write!(f, "accused {:?}, refused {:?}, {} restarts", self.accused, self.refused, self.restarts)
    }
}

pub(crate) struct World {
    scenario: Scenario,
    rng: Rng,
    now: Moment,
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    events: HashMap<u64, Event>,
    next_event: u64,
    consensus: Consensus,
    descriptors: Vec<NodeDescriptor>,
    nodes: Vec<Node>,
    mempool: Vec<(Moment, consensus::Tx)>,
    /// The batch of each I/O root, and what had been included by each state root.
    batches: HashMap<Hash, Vec<Hash>>,
    histories: HashMap<Hash, Arc<BTreeSet<Hash>>>,
    honest: BTreeSet<Hash>,
    signed: BTreeMap<(PublicKey, PublicKey, u64), Hash>,
    proposed: BTreeMap<(PublicKey, u64), Hash>,
    next_committee: Option<Committee>,
    pub(crate) outcome: Outcome,
}

fn ms(n: u64) -> Moment {
    Duration::from_millis(n)
}

pub(crate) fn runtime_id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap()
}

fn descriptor(stragglers: u16) -> Runtime {
    let mut rt = Runtime {
        v: 3,
        id: runtime_id(),
        kind: RuntimeKind::COMPUTE,
        governance_model: RuntimeGovernanceModel::ENTITY,
        ..Runtime::default()
    };
    rt.executor.round_timeout = 5;
    rt.executor.allowed_stragglers = stragglers;
    rt.txn_scheduler.proposer_timeout = 2_000_000_000;
    rt.txn_scheduler.batch_flush_timeout = 1_000_000_000;
    rt.txn_scheduler.max_batch_size = 20;
    rt.txn_scheduler.max_batch_size_bytes = 10_000;
    let slash = Slash { amount: Quantity::from(10u64), freeze_interval: 0 };
    rt.staking.slashing =
        [(SlashReason::RUNTIME_INCORRECT_RESULTS, slash.clone()), (SlashReason::RUNTIME_EQUIVOCATION, slash)].into();
    rt
}

fn root_of(batch: &[Tx]) -> Hash {
    let inputs: Vec<base_codec::Bytes> = batch.iter().map(|t| t.data.to_vec().into()).collect();
    let mut tree = Tree::in_memory();
    for (key, value) in wire_runtime::transaction::input_pairs(&inputs).unwrap() {
        tree.insert(&key, &value).unwrap();
    }
    tree.root_hash(&Sequential)
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let key = |i: usize| SecretKey::from_seed(&[i as u8 + 1; 32]);
        let count = scenario.kinds.len();
        let descriptors: Vec<NodeDescriptor> = (0..count)
            .map(|i| {
                let id = PublicKey::new(key(i).public());
                let entity_id = PublicKey::new([100 + i as u8; 32]);
                let mut node = NodeDescriptor { v: 3, id, entity_id, expiration: u64::MAX, ..Default::default() };
                node.p2p.id = PublicKey::new([200 + i as u8; 32]);
                node
            })
            .collect();
        let runtime = descriptor(scenario.stragglers);
        let committee = elect(&scenario, &descriptors, &mut rng, 5);
        let consensus = Consensus::new(&runtime, &descriptors, &committee);
        let nodes = (0..count)
            .map(|i| {
                let setup = setup(&consensus, descriptors[i].id);
                Node {
                    key: key(i),
                    id: descriptors[i].id,
                    kind: scenario.kinds[i],
                    up: false,
                    life: 0,
                    machine: Machine::new(setup, None),
                    pool: Pool::new(txpool::Config::default()),
                    disk: Disk::default(),
                    block: None,
                    stopped_fetches: BTreeSet::new(),
                }
            })
            .collect();
        let genesis = consensus.runtime_state(&runtime_id()).last_block.header.state_root;
        let mut world = Self {
            rng,
            now: ms(0),
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next_event: 0,
            consensus,
            descriptors,
            nodes,
            mempool: Vec::new(),
            batches: HashMap::new(),
            histories: [(genesis, Arc::default())].into(),
            honest: [genesis].into(),
            signed: BTreeMap::new(),
            proposed: BTreeMap::new(),
            next_committee: None,
            outcome: Outcome::default(),
            scenario,
        };
        for i in 0..count {
            world.at(0, Event::Start(i));
        }
        for n in 0..world.scenario.txs {
            let when = world.rng.below(1000 * world.scenario.blocks.unsigned_abs() / 2);
            world.at(when, Event::Submit(n));
        }
        world.at(1000, Event::Block);
        world
    }

    /// In so many milliseconds.
    fn at(&mut self, delay: u64, event: Event) {
        let id = self.next_event;
        self.next_event += 1;
        self.events.insert(id, event);
        self.queue.push(Reverse((self.now + ms(delay), id)));
    }

    fn note(&mut self, text: &str) {
        let mut hash = self.outcome.trace ^ self.now.as_nanos() as u64;
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.outcome.trace = hash;
        if std::env::var_os("SIM_TRACE").is_some() {
            println!("{:>9.3} {text}", self.now.as_secs_f64());
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        while let Some(Reverse((when, id))) = self.queue.pop() {
            self.now = when;
            if self.consensus.height >= 10 + self.scenario.blocks {
                break;
            }
            if let Some(event) = self.events.remove(&id) {
                self.handle(event);
            }
        }
        self.outcome
    }

    fn alive(&self, node: usize, life: u64) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Block => self.block(),
            Event::Start(node) => self.start(node),
            Event::Submit(n) => self.submit(n),
            Event::Input(node, life, input) if self.alive(node, life) => {
                if let Input::Round(round) = &*input {
                    self.nodes[node].pool.new_block(self.now, round.block.header.round);
                    self.nodes[node].block = Some(round.clone());
                }
                self.step(node, *input);
            }
            Event::Gossip(node, life, from, message) if self.alive(node, life) => {
                self.gossip(node, from, &message);
            }
            Event::TxGossip(node, life, tx) if self.alive(node, life) => {
                let _ = self.nodes[node].pool.submit(tx, Origin::default(), None);
                self.poll(node);
            }
            Event::Checked(node, life, batch, txs) if self.alive(node, life) => {
                let included = self.included_at(node);
                let results = txs.iter().map(|t| self.check(&included, t)).collect();
                let now = self.now;
                self.nodes[node].pool.checked(now, batch, Checked::Results(results));
                self.poll(node);
            }
            Event::Fetch(node, life, id, hashes, attempt) if self.alive(node, life) => {
                self.fetch(node, id, &hashes, attempt);
            }
            Event::Poll(node, life) if self.alive(node, life) => self.step(node, Input::Tick),
            _ => {}
        }
    }

    fn submit(&mut self, n: u64) {
        // With retries until a node that is up takes it, as a client would.
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let data = format!("transaction {n}").into_bytes();
        let good = matches!(self.nodes[node].kind, Kind::Honest | Kind::Straggler | Kind::Late);
        if !self.nodes[node].up || !good {
            self.at(100, Event::Submit(n));
            return;
        }
        self.outcome.submitted.insert(Hash::of(&[&data]));
        let _ = self.nodes[node].pool.submit(data, Origin { local: true, discard: false }, None);
        self.poll(node);
    }

    fn included_at(&self, node: usize) -> Arc<BTreeSet<Hash>> {
        let root = self.nodes[node].block.as_ref().map(|b| b.block.header.state_root);
        root.and_then(|r| self.histories.get(&r).cloned()).unwrap_or_default()
    }

    fn check(&self, included: &BTreeSet<Hash>, tx: &Tx) -> CheckTxResult {
        let mut result = CheckTxResult::default();
        if included.contains(&tx.hash) {
            result.error.code = 1;
        } else {
            let meta = CheckTxMetadata { sender: tx.hash.as_bytes().to_vec().into(), ..Default::default() };
            result.meta = Field::Is(meta);
        }
        result
    }

    /// Delay of a message to a node in milliseconds; none if it is lost.
    fn delay(&mut self, to: usize) -> Option<u64> {
        let late = self.nodes[to].kind == Kind::Late;
        if self.rng.chance(self.scenario.loss + if late { 40 } else { 0 }) {
            return None;
        }
        Some(5 + self.rng.below(if late { 3000 } else { 60 }))
    }

    fn send(&mut self, from: usize, mut make: impl FnMut(usize, u64) -> Event) {
        for to in 0..self.nodes.len() {
            if to != from
                && self.nodes[to].up
                && let Some(delay) = self.delay(to)
            {
                let event = make(to, self.nodes[to].life);
                self.at(delay, event);
            }
        }
    }

    fn poll(&mut self, node: usize) {
        let now = self.now;
        let life = self.nodes[node].life;
        let effects = self.nodes[node].pool.poll(now);
        for effect in effects {
            match effect {
                txpool::Effect::Check { batch, txs } => {
                    let delay = 1 + self.rng.below(20);
                    self.at(delay, Event::Checked(node, life, batch, txs));
                }
                txpool::Effect::Publish(tx) => {
                    self.send(node, |to, life| Event::TxGossip(to, life, tx.data.to_vec()));
                }
                txpool::Effect::Available(txs) => self.step(node, Input::Transactions(txs)),
                txpool::Effect::Answer { .. } | txpool::Effect::AbortRuntime => {}
            }
        }
        let machine = self.nodes[node].machine.next_wakeup(now);
        let pool = self.nodes[node].pool.next_wakeup();
        if let Some(when) = machine.into_iter().chain(pool).min() {
            let delay = when.saturating_sub(now).as_millis() as u64 + 1;
            // Blocks come more often than most timers.
            if delay < 2500 {
                self.at(delay, Event::Poll(node, life));
            }
        }
    }

    fn start(&mut self, i: usize) {
        let setup = setup(&self.consensus, self.nodes[i].id);
        let node = &mut self.nodes[i];
        node.up = true;
        node.life += 1;
        node.machine = Machine::new(setup, node.disk.record.clone());
        node.pool = Pool::new(txpool::Config::default());
        node.block = None;
        if node.life > 1 {
            self.outcome.restarts += 1;
        }
        self.note(&format!("{i} starts"));
        self.step(i, Input::Runtime(Some(RuntimeInfo { initial_batch_size: 10 })));
        let round = self.round();
        self.nodes[i].pool.new_block(self.now, round.block.header.round);
        self.nodes[i].block = Some(round.clone());
        self.step(i, Input::Round(round));
    }

    fn crash(&mut self, i: usize) {
        self.note(&format!("{i} crashes"));
        self.nodes[i].up = false;
        let delay = 50 + self.rng.below(2500);
        self.at(delay, Event::Start(i));
    }

    fn round(&self) -> Box<Round> {
        let rt = self.consensus.runtime_state(&runtime_id());
        let members = rt.committee.clone().map(|c| Arc::new(Members::new(c, self.descriptors.iter().cloned())));
        Box::new(Round {
            block: rt.last_block,
            height: self.consensus.height.unsigned_abs(),
            descriptor: rt.runtime,
            committee: members,
            last_normal_round: rt.last_normal_round,
            genesis_round: rt.genesis_block.header.round,
            has_message_results: false,
            has_incoming_messages: false,
        })
    }

    fn gossip(&mut self, node: usize, from: usize, message: &CommitteeMessage) {
        let mut effects = Vec::new();
        let author = self.descriptors[from].p2p.id;
        let verdict = self.nodes[node].machine.accept(&author, false, message, &mut effects);
        if verdict == Acceptance::Retry {
            let life = self.nodes[node].life;
            self.at(300, Event::Gossip(node, life, from, Box::new(message.clone())));
        }
        self.perform(node, effects);
        if self.nodes[node].up {
            self.step(node, Input::Tick);
        }
    }

    fn step(&mut self, node: usize, input: Input) {
        let mut effects = Vec::new();
        let n = &mut self.nodes[node];
        n.machine.step(self.now, input, &mut n.pool, &mut effects);
        self.perform(node, effects);
        if self.nodes[node].up {
            self.poll(node);
        }
    }

    fn perform(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            let crashing = self.nodes[node].kind == Kind::Crashing;
            if crashing && self.rng.chance(4) {
                return self.crash(node);
            }
            self.note(&format!("{node} {}", name(&effect)));
            self.perform_one(node, effect);
            if !self.nodes[node].up {
                return;
            }
            if crashing && self.rng.chance(4) {
                return self.crash(node);
            }
        }
    }

    fn perform_one(&mut self, node: usize, effect: Effect) {
        let life = self.nodes[node].life;
        let kind = self.nodes[node].kind;
        let failing = kind == Kind::BadDisk && self.rng.chance(25);
        match effect {
            Effect::Execute(execution) => self.execute(node, execution),
            Effect::Store(store) => {
                if !failing {
                    let disk = &mut self.nodes[node].disk.roots;
                    disk.insert((store.round, store.io_root));
                    disk.insert((store.round, store.state_root));
                }
                let delay = 1 + self.rng.below(15);
                self.at(delay, Event::Input(node, life, Box::new(Input::Stored { id: store.id, ok: !failing })));
            }
            Effect::FindRoots { id, round, io_root, state_root } => {
                let roots = &self.nodes[node].disk.roots;
                let ok = roots.contains(&(round, io_root)) && roots.contains(&(round, state_root));
                self.at(1, Event::Input(node, life, Box::new(Input::Stored { id, ok })));
            }
            Effect::Record { id, record } => {
                if !failing {
                    let bytes = base_codec::cbor::to_vec(&*record);
                    self.nodes[node].disk.record = Some(base_codec::cbor::from_slice(&bytes).unwrap());
                }
                let delay = 1 + self.rng.below(10);
                self.at(delay, Event::Input(node, life, Box::new(Input::Recorded { id, ok: !failing })));
            }
            Effect::Propose(draft) => self.propose(node, draft),
            Effect::Commit(draft) => self.commit(node, *draft),
            Effect::SubmitEvidence(evidence) => self.pooled(consensus::Tx::Evidence(evidence)),
            Effect::Fetch { id, hashes } => self.at(5, Event::Fetch(node, life, id, hashes, 0)),
            Effect::StopFetch { id } => {
                self.nodes[node].stopped_fetches.insert(id);
            }
            Effect::AbortRuntime | Effect::SyncRuntime { .. } => {}
        }
    }

    fn fetch(&mut self, node: usize, id: u64, hashes: &[Hash], attempt: u32) {
        if self.nodes[node].stopped_fetches.contains(&id) {
            return;
        }
        let life = self.nodes[node].life;
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for hash in hashes {
            let holder = self.nodes.iter().find_map(|n| n.up.then(|| n.pool.get(hash)).flatten());
            match holder {
                Some(tx) if !self.rng.chance(20) => found.push(tx.data.to_vec()),
                _ => missing.push(*hash),
            }
        }
        let found = self.nodes[node].pool.submit_proposed(found);
        if !found.is_empty() {
            self.step(node, Input::Transactions(found));
        }
        if !missing.is_empty() {
            let delay = (100 << attempt.min(4)).min(2000);
            self.at(delay, Event::Fetch(node, life, id, missing, attempt + 1));
        }
    }

    fn execute(&mut self, node: usize, execution: Execution) {
        let life = self.nodes[node].life;
        let kind = self.nodes[node].kind;
        let result = self.runtime_result(node, &execution);
        let delay = match kind {
            Kind::Straggler if self.rng.chance(30) => return,
            Kind::Straggler => self.rng.below(8000),
            _ => 5 + self.rng.below(100),
        };
        let result = (!self.rng.chance(2)).then_some(Box::new(result));
        self.at(delay, Event::Input(node, life, Box::new(Input::Executed { id: execution.id, result })));
    }

    /// What the simulated runtime makes of a batch: the state's root is a hash over all before it.
    fn runtime_result(&mut self, node: usize, execution: &Execution) -> ExecuteTxBatchResponse {
        let block = self.nodes[node].block.clone().unwrap();
        let header = &block.block.header;
        let included = self.included_at(node);
        let schedule = execution.mode == ExecutionMode::SCHEDULE;
        let (batch, rejected): (Vec<Tx>, Vec<Tx>) =
            execution.inputs.iter().cloned().partition(|t| !schedule || !included.contains(&t.hash));
        let hashes: Vec<Hash> = batch.iter().map(|t| t.hash).collect();
        let input_root = root_of(&batch);
        assert!(schedule || input_root == execution.io_root);
        let bytes = base_codec::cbor::to_vec(&hashes);
        let wrong = self.nodes[node].kind == Kind::Dishonest;
        let flavor: &[u8] = if wrong { &[node as u8 + 1] } else { b"" };
        let io_root = Hash::of(&[b"io", header.round.to_be_bytes().as_slice(), &bytes, flavor]);
        let state_root = Hash::of(&[b"state", header.state_root.as_bytes(), io_root.as_bytes(), flavor]);
        let mut history = (*included).clone();
        history.extend(&hashes);
        self.histories.insert(state_root, Arc::new(history));
        self.batches.insert(io_root, hashes.clone());
        if !wrong {
            self.honest.insert(state_root);
        }
        let mut response = ExecuteTxBatchResponse { tx_input_root: input_root, ..Default::default() };
        response.tx_hashes = Field::Is(hashes);
        response.tx_reject_hashes = Field::Is(rejected.iter().map(|t| t.hash).collect());
        response.batch = ComputedBatch::default();
        let computed = &mut response.batch.header;
        computed.round = header.round + 1;
        computed.previous_hash = header.hash();
        computed.io_root = Some(io_root);
        computed.state_root = Some(state_root);
        computed.messages_hash = Some(message::messages_hash(&[]));
        computed.in_messages_hash = Some(message::in_messages_hash(&[]));
        response
    }

    fn propose(&mut self, node: usize, draft: ProposalDraft) {
        let epoch = draft.epoch;
        let setup = self.nodes[node].machine.setup().clone();
        let round = draft.header.round;
        let proposal = draft.clone().sign(&self.nodes[node].key, &setup).unwrap();
        let first = self.proposed.entry((self.nodes[node].id, round)).or_insert(Hash::of_cbor(&proposal.header));
        assert_eq!(*first, Hash::of_cbor(&proposal.header), "node {node} proposes twice in round {round}");
        let other = (self.nodes[node].kind == Kind::Equivocating).then(|| {
            let mut draft = draft;
            draft.header.batch_hash = Hash::of(&[b"another"]);
            draft.sign(&self.nodes[node].key, &setup).unwrap()
        });
        for proposal in std::iter::once(proposal).chain(other) {
            self.gossip_proposal(node, epoch, &proposal);
        }
    }

    fn gossip_proposal(&mut self, node: usize, epoch: u64, proposal: &Proposal) {
        let message = CommitteeMessage { epoch, proposal: Some(proposal.clone()) };
        self.send(node, |to, life| Event::Gossip(to, life, node, Box::new(message.clone())));
    }

    fn commit(&mut self, node: usize, draft: CommitmentDraft) {
        let setup = self.nodes[node].machine.setup().clone();
        let round = draft.header.header.round;
        let id = self.nodes[node].id;
        // # Safety of a node: one header per scheduler and round, whatever happened in between.
        let digest = Hash::of_cbor(&draft.header);
        let first = self.signed.entry((id, draft.header.scheduler_id, round)).or_insert(digest);
        assert_eq!(*first, digest, "node {node} commits to two things in round {round}");
        let other = (self.nodes[node].kind == Kind::Equivocating && draft.header.scheduler_id != id).then(|| {
            let mut draft = draft.clone();
            draft.header.header.state_root = Some(Hash::of(&[b"another"]));
            draft.header.header.io_root.get_or_insert(Hash::EMPTY);
            draft.header.header.messages_hash.get_or_insert(Hash::EMPTY);
            draft.header.header.in_messages_hash.get_or_insert(Hash::EMPTY);
            draft.header.failure = Default::default();
            draft.sign(&self.nodes[node].key, &setup).unwrap()
        });
        let commit = draft.sign(&self.nodes[node].key, &setup).unwrap();
        for commit in std::iter::once(commit).chain(other) {
            self.send(node, |to, life| Event::Input(to, life, Box::new(Input::Observed(Box::new(commit.clone())))));
            self.pooled(consensus::Tx::Commit(Box::new(commit)));
        }
    }

    fn pooled(&mut self, tx: consensus::Tx) {
        let delay = ms(5 + self.rng.below(200));
        self.mempool.push((self.now + delay, tx));
    }

    /// A consensus block, and what nodes learn of it.
    fn block(&mut self) {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.mempool).into_iter().partition(|(at, _)| *at <= now);
        self.mempool = later;
        let before = self.consensus.runtime_state(&runtime_id());
        let committee = self.next_committee.take();
        let changed = committee.is_some();
        let executed = self.consensus.block(runtime_id(), due.into_iter().map(|(_, tx)| tx).collect(), committee);
        for (_, why) in &executed.refused {
            *self.outcome.refused.entry(why.clone()).or_default() += 1;
        }
        let after = self.consensus.runtime_state(&runtime_id());
        let height = self.consensus.height.unsigned_abs();
        self.note(&format!("block {height} round {}", after.last_block.header.round));
        let mut commits: Vec<ExecutorCommitment> = Vec::new();
        for tx in executed.accepted {
            match tx {
                consensus::Tx::Commit(c) => commits.push(*c),
                consensus::Tx::Evidence(e) => {
                    let culprit = e.culprit().unwrap().0;
                    let at = self.descriptors.iter().position(|d| d.id == culprit).unwrap();
                    assert_eq!(self.nodes[at].kind, Kind::Equivocating, "evidence against {at}");
                    self.outcome.accused.insert(at);
                }
            }
        }
        let new = before.last_block.header.round != after.last_block.header.round;
        let pool = after.commitment_pool.as_ref();
        let discrepancy = pool.filter(|p| p.discrepancy).map(|p| p.highest_rank);
        let known = before.commitment_pool.as_ref().is_some_and(|p| p.discrepancy) && !new;
        self.outcome.discrepancies += u64::from(executed.discrepancy);
        if new {
            self.new_block(&after.last_block.header, changed);
        }
        // The next block's epoch is known one block ahead.
        let blocks = self.scenario.epoch_blocks;
        let next_epoch = blocks > 0 && (self.consensus.height + 1) % blocks == 0;
        if next_epoch {
            let epoch = after.committee.as_ref().map_or(5, |c| c.valid_for) + 1;
            self.next_committee = Some(elect(&self.scenario, &self.descriptors, &mut self.rng, epoch));
        }
        let round = self.round();
        for i in 0..self.nodes.len() {
            if !self.nodes[i].up {
                continue;
            }
            let life = self.nodes[i].life;
            let delay = 1 + self.rng.below(if self.nodes[i].kind == Kind::Late { 900 } else { 50 });
            let mut tell = |input| self.at(delay, Event::Input(i, life, Box::new(input)));
            tell(Input::Consensus { epoch_change_next: next_epoch });
            for commit in &commits {
                tell(Input::Committed(Box::new(commit.clone())));
            }
            if new {
                tell(Input::Round(round.clone()));
            } else if let Some(rank) = discrepancy.filter(|_| !known) {
                tell(Input::Discrepancy { height, round: round.number(), rank });
            }
        }
        self.at(1000, Event::Block);
    }

    fn new_block(&mut self, header: &wire_consensus::roothash::Header, epoch: bool) {
        self.outcome.blocks.push(header.header_type);
        assert_eq!(header.header_type == HeaderType::EPOCH_TRANSITION, epoch);
        assert!(self.honest.contains(&header.state_root), "round {}: nobody honest computed this", header.round);
        if header.header_type == HeaderType::NORMAL {
            for hash in self.batches.get(&header.io_root).cloned().unwrap() {
                *self.outcome.included.entry(hash).or_default() += 1;
            }
        }
    }
}

fn setup(consensus: &Consensus, node: PublicKey) -> Setup {
    Setup {
        runtime: runtime_id(),
        node,
        chain: consensus.chain.clone(),
        blacklist: Arc::new(consensus.blacklist.clone()),
    }
}

fn name(effect: &Effect) -> String {
    match effect {
        Effect::Execute(e) => format!("executes {:?} {} of round {}", e.mode, e.inputs.len(), e.round),
        Effect::Propose(p) => format!("proposes {} in {}", p.batch.len(), p.header.round),
        Effect::Commit(c) => format!("commits in {} failure {:?}", c.header.header.round, c.header.failure.0),
        Effect::Store(s) => format!("stores {}", s.round),
        Effect::Record { record, .. } => format!("records {}", record.round),
        Effect::Fetch { hashes, .. } => format!("fetches {}", hashes.len()),
        Effect::SubmitEvidence(e) => format!("accuses {:?}", e.culprit()),
        other => format!("{other:?}"),
    }
}

/// Members in random order: `workers` of them, and backup workers that may be workers too.
fn elect(scenario: &Scenario, nodes: &[NodeDescriptor], rng: &mut Rng, epoch: u64) -> Committee {
    let mut pick = |count: usize, role| {
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        order.into_iter().take(count).map(|i| CommitteeNode { role, public_key: nodes[i].id }).collect::<Vec<_>>()
    };
    let mut members = pick(scenario.workers, Role::WORKER);
    members.extend(pick(scenario.backups, Role::BACKUP_WORKER));
    Committee {
        kind: CommitteeKind::COMPUTE_EXECUTOR,
        members: Some(members),
        runtime_id: runtime_id(),
        valid_for: epoch,
    }
}
