//! The world: virtual time, links, and everything that happens in order.

use std::collections::BTreeMap;

use base_crypto::ed25519::SecretKey;
use comet_chain::app::{
    Application, BlockParams, ConsensusParams, EvidenceParams, InitChain, ValidatorParams, ValidatorUpdate,
    VersionParams,
};
use comet_chain::state::State;
use comet_core::{Config, Timeout};
use wire_cometbft::{Duration, Time};

use crate::app::KvApp;
use crate::byzantine::{Amnesiac, BadPart, Behaviour, Equivocator, FutureRound, Silent};
use crate::disk::Disk;
use crate::net::Net;
use crate::node::{Node, Output};
use crate::oracle::Oracle;
use crate::rng::{Rng, mix};
use crate::scenario::{Role, Scenario};

const MS: u64 = 1_000_000;
/// How often nodes tell what they have.
const TICK: u64 = 150 * MS;
/// Progress must be made within this, once faults are over.
const PROGRESS_WITHIN: u64 = 150_000 * MS;
/// More events than this are no run but a storm.
const MAX_EVENTS: u64 = 3_000_000;

#[derive(Debug, Clone)]
enum Event {
    Deliver { to: usize, from: usize, message: Net },
    Timer { node: usize, generation: u64, timeout: Timeout },
    Tick { node: usize },
    Boot { node: usize },
    Tx { text: String },
    FaultsEnd,
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Digest of everything that happened: equal for equal scenarios.
    pub trace: u64,
    /// Greatest height committed.
    pub height: i64,
    /// Rules violated; empty: none.
    pub violations: Vec<String>,
    /// Events handled.
    pub events: u64,
    /// Crashes that happened.
    pub crashes: u64,
    /// Faults of validators that blocks name.
    pub faults: usize,
    /// Votes cast while bound by a lock of an earlier round, each checked against it.
    pub locked_votes: u64,
    /// Greatest round that any honest node was in.
    pub max_round: i32,
    /// Places at which each node could have crashed.
    pub points: Vec<u64>,
}

struct World<'a> {
    scenario: &'a Scenario,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    behaviours: Vec<Option<Box<dyn Behaviour>>>,
    generations: Vec<u64>,
    oracle: Oracle,
    network: Rng,
    disks: Rng,
    faults: Rng,
    trace: u64,
    crashes: u64,
    max_round: i32,
    target: Option<i64>,
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario);
    let mut count = 0;
    while let Some(((now, _), event)) = world.events.pop_first() {
        world.now = now;
        count += 1;
        if count > MAX_EVENTS || world.handle(event) {
            break;
        }
    }
    world.oracle.finish();
    let mut violations = world.oracle.violations().to_vec();
    if !world.reached_target() {
        let heights: Vec<_> = world
            .nodes
            .iter()
            .map(|node| {
                node.core().map(|core| {
                    let rs = core.round_state();
                    (rs.height, rs.round, rs.step)
                })
            })
            .collect();
        violations.push(format!("no progress to {:?}: {heights:?} at {} ms", world.target, world.now / MS));
    }
    Outcome {
        trace: world.trace,
        height: world.oracle.height(),
        violations,
        events: count,
        crashes: world.crashes,
        faults: world.oracle.faults(),
        locked_votes: world.oracle.locked_votes(),
        max_round: world.max_round,
        points: world.nodes.iter().map(|node| node.points).collect(),
    }
}

fn config(scenario: &Scenario) -> Config {
    let ms = Duration::from_millis;
    Config {
        timeout_propose: ms(600),
        timeout_propose_delta: ms(200),
        timeout_prevote: ms(200),
        timeout_prevote_delta: ms(200),
        timeout_precommit: ms(200),
        timeout_precommit_delta: ms(200),
        timeout_commit: ms(200),
        skip_timeout_commit: scenario.skip_timeout_commit,
        block_sync_lag: scenario.block_sync.then_some(3),
        ..Config::default()
    }
}

fn genesis(scenario: &Scenario, keys: &[SecretKey]) -> (State, KvApp) {
    let params = ConsensusParams {
        block: BlockParams { max_bytes: 200_000, max_gas: -1 },
        evidence: EvidenceParams {
            max_age_num_blocks: 1000,
            max_age_duration: Duration::from_secs(10_000),
            max_bytes: 50_000,
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 1 },
    };
    let members: Vec<ValidatorUpdate> =
        keys.iter().take(scenario.validators).map(|key| ValidatorUpdate { pub_key: key.public(), power: 10 }).collect();
    let time = Time::UNIX_EPOCH.saturating_add(Duration::from_secs(1_700_000_000));
    let mut state = State::genesis("simulated".into(), 1, time, params.clone(), &members)
        .unwrap_or_else(|error| panic!("genesis: {error}"));
    let mut app = KvApp::new(keys.iter().map(SecretKey::public).collect());
    let request = InitChain {
        time,
        chain_id: state.chain_id.clone(),
        consensus_params: params,
        validators: members,
        app_state: Vec::new(),
        initial_height: 1,
    };
    let result = app.init_chain(&request).unwrap_or_default();
    state.apply_init_chain(&result).unwrap_or_else(|error| panic!("genesis: {error}"));
    (state, app)
}

fn behaviour(role: Role) -> Option<Box<dyn Behaviour>> {
    match role {
        Role::Honest | Role::TwinOf(_) => None,
        Role::Silent => Some(Box::new(Silent)),
        Role::Equivocator => Some(Box::new(Equivocator)),
        Role::Amnesiac => Some(Box::new(Amnesiac)),
        Role::FutureRound => Some(Box::new(FutureRound)),
        Role::BadPart => Some(Box::new(BadPart)),
    }
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let seed = scenario.seed;
        let key = |node: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&mix(seed, node as u64).to_le_bytes());
            SecretKey::from_seed(&bytes)
        };
        let key_of = |(node, role): (usize, &Role)| match role {
            Role::TwinOf(other) => key(*other),
            _ => key(node),
        };
        let keys: Vec<SecretKey> = scenario.roles.iter().enumerate().map(key_of).collect();
        let (state, app) = genesis(scenario, &keys);
        let oracle = Oracle::new(&state);
        let nodes: Vec<Node> = keys
            .into_iter()
            .enumerate()
            .map(|(id, key)| Node::new(id, key, config(scenario), Disk::new(state.clone(), app.clone())))
            .collect();
        let mut world = Self {
            scenario,
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            generations: vec![0; nodes.len()],
            behaviours: scenario.roles.iter().map(|role| behaviour(*role)).collect(),
            nodes,
            oracle,
            network: Rng::new(seed, "network"),
            disks: Rng::new(seed, "disks"),
            faults: Rng::new(seed, "faults"),
            trace: mix(0, seed),
            crashes: 0,
            max_round: 0,
            target: None,
        };
        for node in 0..world.nodes.len() {
            world.nodes[node].unguarded = scenario.roles[node] == Role::Amnesiac;
            let start = world.faults.below(200) * MS;
            world.schedule(start, Event::Boot { node });
            let tick = world.faults.below(TICK);
            world.schedule(tick, Event::Tick { node });
        }
        for tx in &scenario.txs {
            world.schedule(tx.at_ms * MS, Event::Tx { text: tx.text.clone() });
        }
        world.schedule(scenario.faults_end_ms * MS, Event::FaultsEnd);
        world
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// What a node's clock shows.
    fn clock(&self, node: usize) -> Time {
        let skew = self.scenario.skew_ms.get(node).copied().unwrap_or(0);
        let nanos = i64::try_from(self.now).unwrap_or(i64::MAX);
        Time::UNIX_EPOCH
            .saturating_add(Duration::from_secs(1_700_000_001))
            .saturating_add(Duration::from_nanos(nanos))
            .saturating_add(Duration::from_millis(skew))
    }

    fn faults_over(&self) -> bool {
        self.now >= self.scenario.faults_end_ms * MS
    }

    fn note(&mut self, values: [u64; 3]) {
        self.trace = values.into_iter().fold(mix(self.trace, self.now), mix);
    }

    /// Handles an event; tells whether the run is over.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Deliver { to, from, message } => self.deliver(to, from, message),
            Event::Timer { node, generation, timeout } => {
                if self.generations[node] == generation {
                    self.expire(node, timeout);
                }
            }
            Event::Tick { node } => {
                let output = self.nodes[node].tick();
                self.take(node, output);
                self.schedule(self.now + TICK, Event::Tick { node });
            }
            Event::Boot { node } => self.boot(node),
            Event::Tx { text } => {
                for node in 0..self.nodes.len() {
                    self.deliver(node, node, Net::Tx(text.clone().into_bytes()));
                }
            }
            Event::FaultsEnd => {
                self.target = Some(self.oracle.height() + self.scenario.heights_after);
                self.nodes.iter_mut().for_each(|node| node.crash_at = None);
            }
        }
        let over = self.now >= self.scenario.faults_end_ms * MS + PROGRESS_WITHIN;
        over || self.reached_target() || !self.oracle.violations().is_empty()
    }

    fn reached_target(&self) -> bool {
        let Some(target) = self.target else { return false };
        let mut honest = self.nodes.iter().filter(|node| self.scenario.is_honest(node.id));
        honest.all(|node| node.disk.state.last_block_height >= target)
    }

    fn deliver(&mut self, to: usize, from: usize, message: Net) {
        self.note([to as u64, from as u64, message.digest()]);
        if self.nodes[to].core().is_none() {
            return;
        }
        if let Net::Vote(vote) = &message
            && self.scenario.is_honest(to)
        {
            self.oracle.delivered(to, vote);
        }
        let now = self.clock(to);
        let output = self.nodes[to].receive(now, from, message);
        self.take(to, output);
    }

    fn expire(&mut self, node: usize, timeout: Timeout) {
        self.note([node as u64, timeout.height as u64, (timeout.round as u64) << 8 | timeout.step as u64]);
        let forgets = !self.faults_over()
            && self.behaviours[node].as_mut().is_some_and(|behaviour| behaviour.forgets(&timeout, &mut self.faults));
        if forgets {
            self.nodes[node].stop();
            self.nodes[node].disk.forget();
            return self.boot(node);
        }
        let now = self.clock(node);
        let output = self.nodes[node].expire(now, timeout);
        self.take(node, output);
    }

    fn boot(&mut self, node: usize) {
        self.note([node as u64, 1, 0]);
        self.generations[node] += 1;
        let passed = self.nodes[node].points;
        let crashes = self.scenario.crashes.iter().filter(|crash| crash.node == node && crash.point > passed);
        let next = crashes.map(|crash| crash.point).min();
        self.nodes[node].crash_at = next.filter(|_| !self.faults_over());
        let now = self.clock(node);
        let output = self.nodes[node].boot(now);
        self.take(node, output);
    }

    /// Sends, arms, shows to the oracles, and crashes as the output says.
    fn take(&mut self, node: usize, output: Output) {
        if self.scenario.is_honest(node) {
            output.observed.iter().for_each(|observed| self.oracle.observe(node, observed));
            let round = self.nodes[node].core().map_or(0, |core| core.round_state().round);
            self.max_round = self.max_round.max(round);
        }
        for message in output.broadcasts {
            for to in (0..self.nodes.len()).filter(|&to| to != node) {
                self.send(node, to, message.clone());
            }
        }
        for (to, message) in output.sends {
            self.send(node, to, message);
        }
        if let Some(timeout) = output.timer {
            self.generations[node] += 1;
            let generation = self.generations[node];
            let wait = u64::try_from(timeout.duration.nanos()).unwrap_or(0);
            self.schedule(self.now + wait, Event::Timer { node, generation, timeout });
        }
        if output.crashed {
            self.crash(node);
        }
    }

    fn crash(&mut self, node: usize) {
        self.crashes += 1;
        self.generations[node] += 1;
        let passed = self.nodes[node].points;
        self.note([node as u64, 2, passed]);
        let crash = self.scenario.crashes.iter().find(|crash| (crash.node, crash.point) == (node, passed));
        let down = crash.map_or(100, |crash| crash.down_ms);
        self.nodes[node].stop();
        self.nodes[node].disk.crash(&mut self.disks);
        if self.scenario.is_honest(node) {
            self.oracle.crashed(node);
        }
        self.schedule(self.now + down * MS, Event::Boot { node });
    }

    fn send(&mut self, from: usize, to: usize, message: Net) {
        let messages = match &mut self.behaviours[from] {
            Some(behaviour) => behaviour.send(&self.nodes[from], to, message, &mut self.faults),
            None => vec![message],
        };
        for message in messages {
            self.post(from, to, message);
        }
    }

    fn post(&mut self, from: usize, to: usize, message: Net) {
        let ms = self.now / MS;
        let parted = self.scenario.partitions.iter().any(|partition| {
            let apart = (partition.side >> from ^ partition.side >> to) & 1 == 1;
            apart && (partition.from_ms..partition.to_ms).contains(&ms)
        });
        let calm = self.faults_over();
        if !calm && (parted || self.network.per_mille(self.scenario.loss)) {
            return;
        }
        let copies = if !calm && self.network.per_mille(self.scenario.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let slow = |node: usize| self.scenario.slow_ms.get(node).copied().filter(|_| !calm).unwrap_or(0);
            let least = self.scenario.latency_ms + slow(from) + slow(to);
            let wait = least * MS + self.network.below(self.scenario.jitter_ms * MS);
            self.schedule(self.now + wait, Event::Deliver { to, from, message: message.clone() });
        }
    }
}
