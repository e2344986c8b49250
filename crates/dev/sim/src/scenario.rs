//! What happens to a network: drawn from a seed, plain data, so that it can be printed and made smaller.

use crate::rng::Rng;

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// By the rules.
    Honest,
    /// [`crate::byzantine::Silent`].
    Silent,
    /// [`crate::byzantine::Equivocator`].
    Equivocator,
    /// [`crate::byzantine::Amnesiac`].
    Amnesiac,
    /// [`crate::byzantine::FutureRound`].
    FutureRound,
    /// [`crate::byzantine::BadPart`].
    BadPart,
    /// Runs with the key of another node, by the rules; both count as hostile.
    TwinOf(usize),
}

/// Nodes that hear only their own side for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Start, in virtual milliseconds.
    pub from_ms: u64,
    /// End.
    pub to_ms: u64,
    /// Bit per node: which side it is on.
    pub side: u64,
}

/// A crash of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The node.
    pub node: usize,
    /// When, in places passed where it could crash: before each effect, after the last, and within executing a block.
    pub point: u64,
    /// How long it stays down, in virtual milliseconds.
    pub down_ms: u64,
}

/// A transaction handed to every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tx {
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// The transaction.
    pub text: String,
}

/// What happens to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Seed of everything that is drawn while it runs.
    pub seed: u64,
    /// Nodes.
    pub roles: Vec<Role>,
    /// How many of them are validators at first; the others may become so.
    pub validators: usize,
    /// Least time that a message takes, in milliseconds.
    pub latency_ms: u64,
    /// Most time on top, in milliseconds: messages overtake each other.
    pub jitter_ms: u64,
    /// Messages lost, in a thousand.
    pub loss: u64,
    /// Messages that come twice, in a thousand.
    pub duplication: u64,
    /// Partitions.
    pub partitions: Vec<Partition>,
    /// Crashes.
    pub crashes: Vec<Crash>,
    /// By how much each node's clock is off, in milliseconds.
    pub skew_ms: Vec<i64>,
    /// Transactions.
    pub txs: Vec<Tx>,
    /// Whether nodes that are far behind fetch blocks.
    pub block_sync: bool,
    /// Whether a height ends as soon as every precommit is there.
    pub skip_timeout_commit: bool,
    /// By how much longer messages from and to each node take, in milliseconds, while faults last.
    pub slow_ms: Vec<u64>,
    /// When all faults are over, in virtual milliseconds.
    pub faults_end_ms: u64,
    /// How many heights beyond the one reached when faults end must follow.
    pub heights_after: i64,
    /// Whether the oracles watch hostile nodes as if they were honest: to see that they see.
    pub watch_all: bool,
}

impl Scenario {
    /// Honest nodes on a good network.
    pub fn calm(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            roles: vec![Role::Honest; nodes],
            validators: nodes,
            latency_ms: 5,
            jitter_ms: 5,
            loss: 0,
            duplication: 0,
            partitions: Vec::new(),
            crashes: Vec::new(),
            skew_ms: vec![0; nodes],
            txs: Vec::new(),
            block_sync: false,
            skip_timeout_commit: false,
            slow_ms: vec![0; nodes],
            faults_end_ms: 5000,
            heights_after: 3,
            watch_all: false,
        }
    }

    /// A scenario of every fault there is, in measure.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "scenario");
        let (validators, hostile) = match rng.below(4) {
            0 | 1 => (4, 1),
            2 => (5, 1),
            _ => (7, 2),
        };
        let mut scenario = Self::calm(seed, validators);
        for index in 0..hostile {
            let role = match rng.below(7) {
                0 => Role::Honest,
                1 => Role::Silent,
                2 => Role::Equivocator,
                3 => Role::Amnesiac,
                4 => Role::FutureRound,
                5 => Role::BadPart,
                _ => Role::TwinOf(index),
            };
            match role {
                Role::TwinOf(_) => scenario.roles.push(role),
                role => scenario.roles[index] = role,
            }
        }
        // One more key for a validator to be.
        scenario.roles.push(Role::Honest);
        let nodes = scenario.roles.len();
        scenario.latency_ms = rng.range(1, 40);
        scenario.jitter_ms = rng.range(1, 120);
        scenario.loss = rng.below(5) * 80;
        scenario.duplication = rng.below(3) * 40;
        scenario.block_sync = rng.below(2) == 0;
        scenario.skip_timeout_commit = rng.below(3) == 0;
        scenario.skew_ms = (0..nodes).map(|_| i64::try_from(rng.below(400)).unwrap_or(0) - 200).collect();
        let end = scenario.faults_end_ms;
        scenario.slow_ms = (0..nodes).map(|_| if rng.below(3) == 0 { rng.below(500) } else { 0 }).collect();
        for _ in 0..rng.below(4) {
            let from_ms = rng.below(end - 1000);
            let to_ms = from_ms + rng.range(300, 2500);
            scenario.partitions.push(Partition { from_ms, to_ms, side: rng.draw() });
        }
        for _ in 0..rng.below(5) {
            let node = usize::try_from(rng.below(nodes as u64)).unwrap_or(0);
            let crash = Crash { node, point: rng.range(1, 500), down_ms: rng.range(10, 1500) };
            scenario.crashes.push(crash);
        }
        for number in 0..rng.below(6) {
            let text = format!("set k{} v{number}", rng.below(3));
            scenario.txs.push(Tx { at_ms: rng.below(end), text });
        }
        scenario.validator_changes(&mut rng, hostile);
        scenario
    }

    /// The spare node joins; an honest one leaves or changes power. Hostile ones stay below a third.
    fn validator_changes(&mut self, rng: &mut Rng, hostile: usize) {
        let spare = self.roles.len() - 1;
        if rng.below(2) == 0 {
            self.txs.push(Tx { at_ms: rng.below(2500), text: format!("val {spare} 10") });
            if rng.below(2) == 0 {
                self.txs.push(Tx { at_ms: rng.range(3000, 5000), text: format!("val {spare} 0") });
            }
        }
        if rng.below(3) == 0 {
            let honest = hostile + usize::try_from(rng.below((self.validators - hostile) as u64)).unwrap_or(0);
            self.txs.push(Tx { at_ms: rng.below(5000), text: format!("val {honest} {}", rng.range(11, 14)) });
        }
    }

    /// Whether a node keeps the rules, so that the oracles watch it.
    pub fn is_honest(&self, node: usize) -> bool {
        let honest = self.roles.get(node) == Some(&Role::Honest) && !self.roles.contains(&Role::TwinOf(node));
        honest || self.watch_all
    }

    /// Every scenario with one fault less.
    pub fn smaller(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let mut without = |change: &dyn Fn(&mut Self)| {
            let mut smaller = self.clone();
            change(&mut smaller);
            if smaller != *self {
                out.push(smaller);
            }
        };
        (0..self.crashes.len()).for_each(|at| {
            without(&|s| {
                s.crashes.remove(at);
            })
        });
        (0..self.partitions.len()).for_each(|at| {
            without(&|s| {
                s.partitions.remove(at);
            })
        });
        (0..self.txs.len()).for_each(|at| {
            without(&|s| {
                s.txs.remove(at);
            })
        });
        for node in 0..self.roles.len() {
            if !matches!(self.roles[node], Role::TwinOf(_)) {
                without(&|s| s.roles[node] = Role::Honest);
            }
        }
        without(&|s| s.loss = 0);
        without(&|s| s.duplication = 0);
        without(&|s| s.slow_ms.iter_mut().for_each(|slow| *slow = 0));
        without(&|s| s.skew_ms.iter_mut().for_each(|skew| *skew = 0));
        without(&|s| s.block_sync = false);
        out
    }
}
