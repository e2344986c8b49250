//! What goes into the machine and what comes out of it: plain values.

use std::sync::Arc;

use comet_chain::app::Verdict;
use comet_chain::state::State;
use wire_cometbft::block::{BasicError, Block, BlockId, Commit, PartSetHeader};
use wire_cometbft::consensus::{BlockPart, ConsensusMessage};
use wire_cometbft::keys::Address;
use wire_cometbft::merkle::Hash;
use wire_cometbft::part_set::{PartError, PartSet};
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};
use wire_cometbft::wal::TimedWalMessage;

use crate::timeout::Timeout;
use crate::vote_set::{ClaimError, CommitVotesError, VoteError};

/// A peer's node id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub Arc<str>);

impl PeerId {
    /// Id from its text.
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }
}

/// A block with its hash, kept by the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBlock {
    block: Block,
    hash: Hash,
}

impl HeldBlock {
    /// The block with its hash; `None` if it has none.
    pub fn new(block: Block) -> Option<Self> {
        let hash = block.hash()?;
        Some(Self { block, hash })
    }

    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Hash of its header.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Its id, given the parts it came in.
    pub fn id(&self, parts: PartSetHeader) -> BlockId {
        BlockId { hash: self.hash.to_vec(), part_set_header: parts }
    }
}

/// A message of a peer, or of this node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A proposal.
    Proposal(Proposal),
    /// A block part.
    BlockPart(BlockPart),
    /// A vote.
    Vote(Vote),
}

/// An answer to a [`Request`].
#[derive(Debug, Clone)]
pub enum Reply {
    /// To [`Request::BuildProposal`]: the block, or `None` if none could be built.
    Built(Option<Box<Block>>),
    /// To [`Request::CheckEvidence`]: why the evidence is refused, if it is.
    EvidenceChecked(Result<(), String>),
    /// To [`Request::ProcessProposal`].
    Processed(Verdict),
    /// To [`Request::Apply`]: the state after the block, with its application hash, durable.
    Applied(Box<State>),
}

/// What happened. Messages passed the stateless checks of [`ConsensusMessage::validate_basic`].
#[derive(Debug, Clone)]
pub enum Input {
    /// A record of the log after the last complete height, before [`Input::Start`].
    Replay(TimedWalMessage),
    /// Replay is over (or there was none): begin.
    Start,
    /// A peer's message.
    Message {
        /// Who sent it.
        peer: PeerId,
        /// The message.
        message: Box<Message>,
    },
    /// The timer expired.
    Timeout(Timeout),
    /// An answer to the request under way.
    Reply(Reply),
    /// The vote of [`Effect::SignVote`], signed, perhaps with another time; allowed while a reply is awaited.
    VoteSigned(Box<Vote>),
    /// The proposal of [`Effect::SignProposal`], signed; allowed while a reply is awaited.
    ProposalSigned(Box<Proposal>),
    /// The pool has transactions (told once per height).
    TxsAvailable,
    /// A peer claims that two thirds voted for a block.
    Claim {
        /// Who claims.
        peer: PeerId,
        /// Height.
        height: i64,
        /// Round.
        round: i32,
        /// Prevote or precommit.
        kind: SignedMsgType,
        /// The block.
        block_id: BlockId,
    },
    /// The host verified that the network committed this height.
    CommitSeen {
        /// The height.
        height: i64,
    },
    /// Block sync moved the state on.
    Advanced {
        /// The state after the last block.
        state: Box<State>,
        /// The commit seen for that block.
        seen_commit: Box<Commit>,
        /// Application hash in that block's header, if known.
        last_header_app_hash: Option<Vec<u8>>,
    },
}

/// Work whose answer the machine waits for: until then it takes nothing but [`Input::Reply`] and signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Build a block for this height.
    BuildProposal {
        /// Height.
        height: i64,
        /// Round.
        round: i32,
        /// Commit of the block before; empty at the initial height.
        last_commit: Box<Commit>,
        /// This node's address.
        proposer: Address,
    },
    /// Check the evidence in a block against the pool and the stored chain; the rest of the block was checked.
    CheckEvidence(Arc<HeldBlock>),
    /// Let the application judge a block.
    ProcessProposal(Arc<HeldBlock>),
    /// Execute a committed block, save results and state.
    Apply {
        /// The block.
        block: Arc<HeldBlock>,
        /// Its id.
        block_id: BlockId,
    },
}

/// Something for the host to do. The host does effects in order, each done before the next one begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append to the log; with `sync`, make the log durable up to here.
    WriteWal {
        /// The record.
        record: Box<TimedWalMessage>,
        /// Whether it must be durable before the next effect. If that fails the node must stop.
        sync: bool,
    },
    /// Make the log durable up to here; if that fails, don't do the next effect, which is a signature.
    SyncWal,
    /// Sign a vote under the double-sign guard; answer with [`Input::VoteSigned`], or not at all if refused.
    SignVote(Box<Vote>),
    /// Sign a proposal under the double-sign guard; answer with [`Input::ProposalSigned`], or not at all.
    SignProposal(Box<Proposal>),
    /// Send this node's own proposal, part or vote to all peers.
    Broadcast(Box<ConsensusMessage>),
    /// Tell all peers about a change: `NewRoundStep`, `HasVote`, `NewValidBlock`.
    Announce(Box<ConsensusMessage>),
    /// Send to one peer: `VoteSetBits` in answer to its claim.
    Send {
        /// The peer.
        peer: PeerId,
        /// The message.
        message: Box<ConsensusMessage>,
    },
    /// Arm the one timer in place of the one running.
    ScheduleTimeout(Timeout),
    /// Work whose answer is awaited; always the last effect of a step but for signatures' replies.
    Request(Request),
    /// Store a committed block with the commit seen, durably, unless it is stored already.
    SaveBlock {
        /// The block.
        block: Arc<HeldBlock>,
        /// Its parts.
        parts: Arc<PartSet>,
        /// The commit.
        seen_commit: Box<Commit>,
    },
    /// Two votes of one validator that conflict: for the evidence pool.
    ReportConflictingVotes(Box<Vote>, Box<Vote>),
    /// The network is ahead of what votes can catch up with quickly: fetch blocks, then answer with
    /// [`Input::Advanced`]. The machine goes on meanwhile.
    SwitchToBlockSync {
        /// Height that the network committed.
        height: i64,
    },
    /// Drop a peer that broke a rule.
    StopPeer {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: ClaimError,
    },
    /// For the log: a message was not taken. The peer is kept.
    Refused {
        /// Who sent it; `None`: this node.
        peer: Option<PeerId>,
        /// Why.
        reason: Box<Refusal>,
    },
    /// The machine has stopped for good; the node must not sign any more.
    Halt(Box<Failure>),
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The proposal's proof-of-lock round is not below its round.
    #[error("invalid proof-of-lock round {0}")]
    PolRound(i32),
    /// The proposal is not signed by the round's proposer.
    #[error("invalid proposal signature")]
    ProposalSignature,
    /// The proposed block has more parts than the parameters allow.
    #[error("proposed block has {0} parts")]
    TooManyParts(u32),
    /// A block part does not fit.
    #[error("block part: {0}")]
    Part(#[from] PartError),
    /// The block is larger than the parameters allow.
    #[error("block of {got} bytes, at most {max} allowed")]
    BlockTooLarge {
        /// Bytes so far.
        got: usize,
        /// Bytes allowed.
        max: i64,
    },
    /// The complete block breaks a stateless rule.
    #[error("block: {0}")]
    Block(#[from] BasicError),
    /// The vote is not taken.
    #[error("vote: {0}")]
    Vote(#[from] VoteError),
    /// The vote conflicts with another one of this very node.
    #[error("conflicting vote from this node at {height}/{round}; was its state reset?")]
    OwnConflictingVote {
        /// Height.
        height: i64,
        /// Round.
        round: i32,
    },
    /// The proposed block fails validation; this node votes for none.
    #[error("proposed block is invalid: {0}")]
    InvalidBlock(String),
    /// The application rejected the block; this node votes for none.
    #[error("application rejected the proposed block")]
    Rejected,
    /// No block could be built; this node does not propose.
    #[error("no block to propose")]
    NothingToPropose,
    /// A timer for a step that has none.
    #[error("no timer for step {0}")]
    TimeoutStep(u32),
    /// A record of the log holds a message that is never logged.
    #[error("record holds a message of another kind")]
    Record,
}

/// Why the machine stopped for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Two thirds voted for a block that fails validation.
    #[error("two thirds {what} an invalid block at height {height}: {reason}")]
    InvalidBlock {
        /// Prevoted or committed.
        what: &'static str,
        /// Height.
        height: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The committed block came in other parts than those voted for.
    #[error("parts of the committed block at height {0} are not those of the commit")]
    CommittedParts(i64),
    /// The state after a block is not that of its height.
    #[error("state after height {expected} is of height {got}")]
    WrongState {
        /// Height applied.
        expected: i64,
        /// Height of the state.
        got: i64,
    },
    /// The state has no validators.
    #[error("no validators at height {0}")]
    NoValidators(i64),
    /// Round numbers are used up.
    #[error("round overflow at height {0}")]
    RoundOverflow(i64),
    /// Block sync handed over a commit that does not hold.
    #[error("seen commit of height {height}: {source}")]
    SeenCommit {
        /// Height.
        height: i64,
        /// What is wrong.
        source: CommitVotesError,
    },
}

/// An input that does not fit where the machine is: a mistake of the host. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// A reply is awaited.
    #[error("a reply is awaited")]
    AwaitingReply,
    /// No reply of this kind is awaited.
    #[error("unexpected reply")]
    UnexpectedReply,
    /// Only [`Input::Replay`], signatures and replies are taken before [`Input::Start`].
    #[error("not started")]
    NotStarted,
    /// Already started.
    #[error("already started")]
    AlreadyStarted,
    /// Stopped for good.
    #[error("halted")]
    Halted,
}

/// Why a machine cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is a last block, but no commit seen for it.
    #[error("seen commit of height {0} is missing")]
    MissingSeenCommit(i64),
    /// The commit seen for the last block does not hold.
    #[error("seen commit of height {height}: {source}")]
    SeenCommit {
        /// Height of the last block.
        height: i64,
        /// What is wrong.
        source: CommitVotesError,
    },
    /// The state has no validators or no proposer.
    #[error("no validators at height {0}")]
    NoValidators(i64),
}
