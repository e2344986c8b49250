//! The rounds of a runtime's committee as one of its members sees them.
//!
//! A round begins with a runtime block and ends with the next one. In between a scheduler proposes a batch, workers execute
//! it and commit to the result; if they disagree, backup workers decide. [`Machine`] is the member: inputs with the
//! time of their arrival go in, effects come out. Source: `go/worker/compute/executor/committee`.
//!
//! # Safety
//! A node that signs two results for one scheduler's proposal, or two proposals for one round, is slashed. So everything
//! is written to disk as a [`Record`] before it may be signed, and a machine that starts with the record of
//! the round in progress signs nothing else for the same schedulers, and nothing at all for earlier rounds.

mod accept;
mod machine;
mod observe;
mod proposals;
mod record;
mod saving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base_crypto::{blacklist::Blacklist, context::ChainContext, context::ContextError, ed25519::SecretKey};
use base_prims::{Epoch, Hash, Namespace, PublicKey};
use mkvs_tree::WriteLog;
use wire_consensus::node::Node;
use wire_consensus::registry::Runtime;
use wire_consensus::roothash::{
    Block, Evidence, ExecutorCommitment, ExecutorCommitmentHeader, Message, Proposal, ProposalHeader,
};
use wire_consensus::scheduler::{Committee, Role};
use wire_runtime::runtime::{ExecuteTxBatchResponse, ExecutionMode};

pub use accept::Acceptance;
pub use machine::Machine;
pub use proposals::{AddError, MAX_PROPOSALS, Proposals};
pub use record::{CommitmentRecord, ProposalRecord, Record};

use crate::txpool::{Pool, Resolved, Tx};

/// Execution of a batch may take so many times the proposers' timeout. Source: `executeBatchTimeoutFactor`.
pub const EXECUTION_FACTOR: u32 = 3;
/// How long the runtime has to abort. Source: `abortTimeout`.
pub const ABORT_TIME: Duration = Duration::from_secs(5);
/// The pause after a failed execution before the next one, so that a broken runtime is not asked without end.
pub const EXECUTION_RETRY: Duration = Duration::from_millis(100);
/// Longest pause between attempts to fetch missing transactions.
pub const MAX_FETCH_PAUSE: Duration = Duration::from_secs(2);
/// Rank of nobody.
pub const NO_RANK: u64 = u64::MAX;

/// Who the machine is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The runtime.
    pub runtime: Namespace,
    /// The node.
    pub node: PublicKey,
    /// The network.
    pub chain: ChainContext,
    /// Keys whose signatures never count.
    pub blacklist: Arc<Blacklist>,
}

/// A committee with what is registered of its members.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// The committee.
    pub committee: Committee,
    /// Its nodes.
    pub nodes: BTreeMap<PublicKey, Node>,
    /// Their keys in the peer-to-peer network.
    pub peers: BTreeSet<PublicKey>,
}

impl Members {
    /// Takes the nodes' peer-to-peer keys from their descriptors.
    pub fn new(committee: Committee, nodes: impl IntoIterator<Item = Node>) -> Self {
        let nodes: BTreeMap<PublicKey, Node> = nodes.into_iter().map(|n| (n.id, n)).collect();
        let peers = nodes.values().map(|n| n.p2p.id).collect();
        Self { committee, nodes, peers }
    }

    fn has(&self, node: &PublicKey, role: Role) -> bool {
        self.committee.members().iter().any(|m| m.public_key == *node && m.role == role)
    }
}

/// What begins with a runtime block.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// The block: the one before the round.
    pub block: Block,
    /// Consensus height of the block.
    pub height: u64,
    /// The runtime's descriptor in force.
    pub descriptor: Runtime,
    /// The committee of the epoch, if there is one.
    pub committee: Option<Arc<Members>>,
    /// The newest round that the runtime itself processed.
    pub last_normal_round: u64,
    /// The runtime's first round.
    pub genesis_round: u64,
    /// Whether messages of the last normal round have results that the runtime has not seen.
    pub has_message_results: bool,
    /// Whether incoming messages wait.
    pub has_incoming_messages: bool,
}

impl Round {
    /// Number of the round that begins.
    pub fn number(&self) -> u64 {
        self.block.header.round.wrapping_add(1)
    }
}

/// What the hosted runtime can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// Most transactions that it wants with the request to schedule.
    pub initial_batch_size: u32,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A runtime block.
    Round(Box<Round>),
    /// A consensus block; `epoch_change_next` if the next one begins an epoch: what is proposed now would be lost.
    Consensus {
        /// Whether the next consensus block begins an epoch.
        epoch_change_next: bool,
    },
    /// The hosted runtime is ready, or no longer.
    Runtime(Option<RuntimeInfo>),
    /// Transactions passed their checks or were fetched from peers.
    Transactions(Vec<Tx>),
    /// An execution ended; without result it failed.
    Executed {
        /// Number of the execution.
        id: u64,
        /// The result.
        result: Option<Box<ExecuteTxBatchResponse>>,
    },
    /// [`Effect::Store`] or [`Effect::FindRoots`] is done and survives a power loss.
    Stored {
        /// Number of the effect.
        id: u64,
        /// Whether it succeeded, or the roots are there.
        ok: bool,
    },
    /// [`Effect::Record`] is done and survives a power loss.
    Recorded {
        /// Number of the effect.
        id: u64,
        /// Whether it succeeded.
        ok: bool,
    },
    /// A commitment in a consensus transaction that is in no block yet. Nothing of it was verified.
    Observed(Box<ExecutorCommitment>),
    /// A commitment that the consensus layer accepted.
    Committed(Box<ExecutorCommitment>),
    /// The consensus layer found a discrepancy.
    Discrepancy {
        /// Consensus height.
        height: u64,
        /// The round.
        round: u64,
        /// Rank of the scheduler in doubt.
        rank: u64,
    },
    /// Nothing but that time passed, or that a proposal was accepted.
    Tick,
}

/// A call to the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Number of the execution.
    pub id: u64,
    /// The round to execute.
    pub round: u64,
    /// Execute the batch or schedule one.
    pub mode: ExecutionMode,
    /// Root of the inputs; zero when scheduling.
    pub io_root: Hash,
    /// The batch, or the first candidates.
    pub inputs: Vec<Tx>,
}

/// Results to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Number of the effect.
    pub id: u64,
    /// The round that the roots belong to.
    pub round: u64,
    /// Root of inputs and outputs, built from the empty tree.
    pub io_root: Hash,
    /// Inputs, outputs and tags.
    pub io_log: WriteLog,
    /// State of the round before.
    pub parent_state: Hash,
    /// State afterwards.
    pub state_root: Hash,
    /// Changes of the state.
    pub state_log: WriteLog,
}

/// A commitment to sign and submit in a consensus transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentDraft {
    /// What is signed.
    pub header: ExecutorCommitmentHeader,
    /// Emitted messages, if this node is the scheduler.
    pub messages: Vec<Message>,
}

impl CommitmentDraft {
    /// The signed commitment.
    ///
    /// # Errors
    /// If the signature context cannot be prepared.
    pub fn sign(self, key: &SecretKey, setup: &Setup) -> Result<ExecutorCommitment, ContextError> {
        ExecutorCommitment::signed(key, &setup.chain, &setup.runtime, self.header, self.messages)
    }
}

/// A proposal to sign and gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalDraft {
    /// Epoch of the committee.
    pub epoch: Epoch,
    /// What is signed.
    pub header: ProposalHeader,
    /// Hashes of the transactions.
    pub batch: Vec<Hash>,
}

impl ProposalDraft {
    /// The signed proposal.
    ///
    /// # Errors
    /// If the signature context cannot be prepared.
    pub fn sign(self, key: &SecretKey, setup: &Setup) -> Result<Proposal, ContextError> {
        Proposal::signed(key, &setup.chain, &setup.runtime, self.header, self.batch)
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Wait for the state of the block before the round, then call the runtime, with block, epoch, round results and
    /// incoming messages of the round; answer with [`Input::Executed`]. The call is not stopped when its result is no
    /// longer wanted; no other is made before it ends or [`Effect::AbortRuntime`].
    Execute(Execution),
    /// The execution takes too long: ask the runtime to abort, for at most [`ABORT_TIME`]. Its result no longer counts.
    AbortRuntime,
    /// Ask the runtime to follow the consensus layer up to a height.
    SyncRuntime {
        /// The height.
        height: u64,
    },
    /// Ask peers for transactions until all are there or told to stop, with growing pauses up to [`MAX_FETCH_PAUSE`]; what
    /// comes goes to [`Pool::submit_proposed`] and, as [`Input::Transactions`], here.
    Fetch {
        /// Number of the fetch.
        id: u64,
        /// The transactions.
        hashes: Vec<Hash>,
    },
    /// Stop asking.
    StopFetch {
        /// Number of the fetch.
        id: u64,
    },
    /// Store results durably; answer with [`Input::Stored`].
    Store(Box<Store>),
    /// Find out whether results were stored; answer with [`Input::Stored`].
    FindRoots {
        /// Number of the effect.
        id: u64,
        /// The round that the roots belong to.
        round: u64,
        /// Root of inputs and outputs.
        io_root: Hash,
        /// State afterwards.
        state_root: Hash,
    },
    /// Replace the record on disk, durably; answer with [`Input::Recorded`].
    Record {
        /// Number of the effect.
        id: u64,
        /// What is about to be signed.
        record: Box<Record>,
    },
    /// Sign and gossip a proposal.
    Propose(ProposalDraft),
    /// Sign and submit a commitment.
    Commit(Box<CommitmentDraft>),
    /// Submit evidence of a node's misbehaviour.
    SubmitEvidence(Box<Evidence>),
}

/// Where the machine stands. Names: [`StateName::as_str`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// For a proposal, or for its turn.
    WaitingForBatch,
    /// For transactions of a proposal.
    WaitingForTxs,
    /// As a backup worker, for a discrepancy.
    WaitingForEvent,
    /// A batch is executed, or its results are saved.
    ProcessingBatch,
}

impl StateName {
    /// The reference's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForBatch => "WaitingForBatch",
            Self::WaitingForTxs => "WaitingForTxs",
            Self::WaitingForEvent => "WaitingForEvent",
            Self::ProcessingBatch => "ProcessingBatch",
        }
    }
}

/// What the machine needs of the transaction pool.
pub trait Transactions {
    /// Resolves a proposal's hashes as far as they are known, and keeps what is found until the round ends.
    fn promote(&mut self, batch: &[Hash]) -> Resolved;
    /// The best transactions for a batch, at most `limit`.
    fn suggest(&mut self, limit: usize) -> Vec<Tx>;
    /// The runtime threw these out of a batch.
    fn reject(&mut self, hashes: &[Hash]);
    /// These are in a block.
    fn used(&mut self, hashes: &[Hash]);
    /// The round is over.
    fn clear_proposed(&mut self);
}

impl Transactions for Pool {
    fn promote(&mut self, batch: &[Hash]) -> Resolved {
        Pool::promote(self, batch)
    }
    fn suggest(&mut self, limit: usize) -> Vec<Tx> {
        Pool::suggest(self, limit)
    }
    fn reject(&mut self, hashes: &[Hash]) {
        Pool::reject(self, hashes);
    }
    fn used(&mut self, hashes: &[Hash]) {
        Pool::used(self, hashes);
    }
    fn clear_proposed(&mut self) {
        Pool::clear_proposed(self);
    }
}
