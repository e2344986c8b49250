//! Simulated networks: 10,000 values over lossy links, a partition, a crash, and a node that says different things to
//! different nodes. The same seed gives the same run.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mc_scp::{Application, Node};
use wire_mobilecoin::Ed25519Key;
use wire_mobilecoin::quorum::{Member, NodeId, QuorumSet, ResponderId};
use wire_mobilecoin::scp::{Msg, Topic};

/// Values per slot.
const BATCH: usize = 500;

/// Values that are not in the ledger yet; combining takes the lowest.
struct Ledger(BTreeSet<u64>);

impl Application<u64> for Ledger {
    fn is_valid(&self, value: &u64) -> bool {
        !self.0.contains(value)
    }
    fn combine(&self, values: &BTreeSet<u64>) -> Vec<u64> {
        values.iter().copied().take(BATCH).collect()
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn id(n: u8) -> NodeId {
    NodeId { responder_id: ResponderId { name: format!("node{n}:1") }, public_key: Ed25519Key([n; 32]) }
}

struct Network {
    nodes: Vec<(Node<u64>, Ledger, Vec<Vec<u64>>)>,
    queues: Vec<VecDeque<Msg<u64>>>,
    random: Random,
    now: Duration,
    /// Links that lose everything.
    cut: BTreeSet<(usize, usize)>,
    down: BTreeSet<usize>,
    /// Messages lost of each hundred.
    loss: u64,
    /// A node whose nominations differ by receiver.
    liar: Option<usize>,
    sent: BTreeMap<usize, Msg<u64>>,
}

impl Network {
    fn new(count: u8, threshold: u32, seed: u64) -> Self {
        let node = |n: u8| {
            let members = (0..count).filter(|m| *m != n).map(|m| Member::Node(id(m))).collect();
            (Node::new(id(n), QuorumSet::new(threshold, members), 1), Ledger(BTreeSet::new()), Vec::new())
        };
        Self {
            nodes: (0..count).map(node).collect(),
            queues: (0..count).map(|_| VecDeque::new()).collect(),
            random: Random(seed),
            now: Duration::ZERO,
            cut: BTreeSet::new(),
            down: BTreeSet::new(),
            loss: 0,
            liar: None,
            sent: BTreeMap::new(),
        }
    }

    /// A different statement for odd receivers: other values voted for.
    fn as_told_to(&self, from: usize, to: usize, msg: &Msg<u64>) -> Msg<u64> {
        let mut told = msg.clone();
        if self.liar == Some(from)
            && to % 2 == 1
            && let Topic::Nominate(nominate) = &mut told.topic
        {
            nominate.x = nominate.x.iter().map(|v| v + 1_000_000).collect();
        }
        told
    }

    fn broadcast(&mut self, from: usize, msg: Msg<u64>) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let lost = self.random.below(100) < self.loss;
            if !lost && !self.cut.contains(&(from, to)) && !self.down.contains(&to) {
                let told = self.as_told_to(from, to, &msg);
                self.queues[to].push_back(told);
            }
        }
        self.sent.insert(from, msg);
    }

    fn emit(&mut self, from: usize, out: Option<Msg<u64>>) {
        let (node, ledger, blocks) = &mut self.nodes[from];
        if let Some((slot, values)) = node.externalized()
            && blocks.len() + 1 == slot as usize
        {
            blocks.push(values.to_vec());
            ledger.0.extend(values);
        }
        if let Some(msg) = out {
            self.broadcast(from, msg);
        }
    }

    /// One step of every node: propose, take some messages in any order, let timers fire, repeat what was said.
    fn step(&mut self, pending: &BTreeSet<u64>) {
        self.now += Duration::from_millis(50);
        for n in 0..self.nodes.len() {
            if self.down.contains(&n) {
                self.queues[n].clear();
                continue;
            }
            let mut msgs = Vec::new();
            while !self.queues[n].is_empty() && msgs.len() < 12 {
                let at = self.random.below(self.queues[n].len() as u64) as usize;
                msgs.extend(self.queues[n].remove(at));
            }
            let (node, ledger, _) = &mut self.nodes[n];
            let wanted = pending.iter().filter(|v| !ledger.0.contains(v)).take(BATCH).copied().collect();
            let out = node.propose(wanted, ledger, self.now);
            self.emit(n, out);
            let (node, ledger, _) = &mut self.nodes[n];
            let out = node.handle(msgs, ledger, self.now);
            self.emit(n, out);
            let (node, ledger, _) = &mut self.nodes[n];
            let out = node.timeouts(ledger, self.now);
            self.emit(n, out);
            // Whoever is behind hears the last slot's outcome again; what was lost is said again.
            if self.random.below(4) == 0 {
                let again = self.nodes[n].0.externalized_msg().cloned();
                let last = self.sent.get(&n).cloned();
                again.into_iter().chain(last).for_each(|msg| self.broadcast(n, msg));
            }
        }
    }

    /// Catch-up: a node that is behind takes blocks that two others agree on.
    fn catch_up(&mut self) {
        let chains: Vec<Vec<Vec<u64>>> = self.nodes.iter().map(|(_, _, blocks)| blocks.clone()).collect();
        for n in 0..self.nodes.len() {
            if self.down.contains(&n) {
                continue;
            }
            let height = chains[n].len();
            let agreed = chains.iter().enumerate().filter(|(m, chain)| {
                *m != n && Some(*m) != self.liar && chain.len() > height + 1 && !self.cut.contains(&(*m, n))
            });
            if let Some((_, longest)) = agreed.max_by_key(|(_, chain)| chain.len()) {
                let (node, ledger, blocks) = &mut self.nodes[n];
                for block in &longest[height..longest.len() - 1] {
                    ledger.0.extend(block);
                    blocks.push(block.clone());
                }
                node.reset(blocks.len() as u64 + 1);
            }
        }
    }

    fn run(&mut self, total: u64, limit: usize, mut each: impl FnMut(&mut Self, usize)) {
        for round in 0..limit {
            each(self, round);
            let pending: BTreeSet<u64> = (0..total).collect();
            self.step(&pending);
            if round % 20 == 19 {
                self.catch_up();
            }
            let done = |n: usize| self.nodes[n].1.0.range(..total).count() == total as usize;
            if (0..self.nodes.len()).filter(|n| !self.down.contains(n)).all(done) {
                return;
            }
        }
        let heights: Vec<usize> = self
            .nodes
            .iter()
            .map(|(node, ledger, _)| {
                println!("slot {} phase {:?} {:?}", node.slot_index(), node.slot().phase(), node.slot().numbers());
                ledger.0.len()
            })
            .collect();
        panic!("not all values were agreed on: {heights:?}");
    }

    /// One block each height, the same everywhere, and no value twice.
    fn assert_one_chain(&self) {
        let longest = self.nodes.iter().map(|(_, _, blocks)| blocks).max_by_key(|b| b.len()).unwrap();
        for (_, _, blocks) in &self.nodes {
            assert_eq!(blocks[..], longest[..blocks.len()]);
        }
        let all: Vec<u64> = longest.iter().flatten().copied().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}

#[test]
fn five_nodes_agree_on_ten_thousand_values() {
    let mut network = Network::new(5, 3, 7);
    network.run(10_000, 4_000, |_, _| {});
    network.assert_one_chain();
}

#[test]
fn lossy_links_a_partition_a_crash_and_a_liar_cause_no_fork() {
    for seed in 0..2 {
        let mut network = Network::new(5, 3, seed);
        network.loss = 10;
        network.liar = Some(4);
        network.run(1_000, 4_000, |network, round| match round {
            10 => {
                for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3), (4, 2), (4, 3)] {
                    network.cut.extend([(a, b), (b, a)]);
                }
            }
            60 => network.cut.clear(),
            80 => {
                network.down.insert(1);
            }
            140 => {
                network.down.remove(&1);
            }
            _ => {}
        });
        network.assert_one_chain();
    }
}
