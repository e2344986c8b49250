//! What a ParaTime does with transactions: the trait it implements, and what it is given and gives back.

use base_codec::Bytes;
use base_prims::{Epoch, Hash};
use mkvs_tree::{KvRead, KvWrite, LogEntry, Overlay, TreeError, Visit, WriteLog};
use wire_consensus::roothash::{Header, IncomingMessage, Message, RoundResults};
use wire_runtime::{
    Error as WireError,
    runtime::{CheckTxResult, LightBlock},
};

use crate::{Error, Host, consensus::ConsensusState, state::StateTree, verifier::Verifier};

/// The state that transactions read and write. Writes are held back until the batch is done.
#[derive(Debug)]
pub struct State(Overlay<StateTree>);

impl State {
    pub(crate) fn new(tree: StateTree) -> Self {
        Self(Overlay::new(tree))
    }

    /// What was written, in the order of the reference: keys that are set, then keys that were there and are removed.
    pub(crate) fn into_write_log(self) -> Result<WriteLog, TreeError> {
        let base = self.0.base().clone();
        let (mut log, mut removed) = (WriteLog::new(), WriteLog::new());
        for (key, value) in self.0.into_changes() {
            match value {
                Some(value) => log.push(LogEntry { key: Bytes(key), value: Some(Bytes(value)) }),
                None if base.get(&key)?.is_some() => removed.push(LogEntry { key: Bytes(key), value: None }),
                None => {}
            }
        }
        log.append(&mut removed);
        Ok(log)
    }

    /// Runs `f` over a layer of its own, whose writes stay only if it succeeds.
    ///
    /// # Errors
    /// That of `f`, or of the state.
    pub fn nested<R, E: From<TreeError>>(
        &mut self,
        f: impl FnOnce(&mut Overlay<&mut Overlay<StateTree>>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut layer = Overlay::new(&mut self.0);
        let result = f(&mut layer)?;
        layer.commit()?;
        Ok(result)
    }

    /// Sets a key and returns what it was.
    ///
    /// # Errors
    /// If the state cannot be read, or the key is too long.
    pub fn replace(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        let old = self.0.get(key)?;
        self.0.insert(key, value)?;
        Ok(old)
    }

    /// Removes a key and returns what it was.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn take(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        let old = self.0.get(key)?;
        self.0.remove(key)?;
        Ok(old)
    }
}

impl KvRead for State {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        self.0.get(key)
    }

    fn iterate(&self, from: &[u8], visit: Visit<'_>) -> Result<(), TreeError> {
        self.0.iterate(from, visit)
    }
}

impl KvWrite for State {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        self.0.insert(key, value)
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.0.remove(key)
    }
}

/// What a batch or query has around it.
#[derive(Debug)]
pub struct Context<'a> {
    /// The host.
    pub host: &'a Host,
    /// The consensus verifier.
    pub verifier: &'a Verifier,
    /// The consensus block of the round.
    pub consensus_block: &'a LightBlock,
    /// The consensus state that the block was built on: verified for execution, as the host says otherwise.
    pub consensus: ConsensusState,
    /// The runtime's state.
    pub state: State,
    /// Header of the runtime block that the batch builds on.
    pub header: &'a Header,
    /// Current epoch.
    pub epoch: Epoch,
    /// What came of the messages that were emitted last.
    pub round_results: &'a RoundResults,
    /// Most messages that the round may emit.
    pub max_messages: u32,
    /// Whether nothing of it will be kept: checks and queries.
    pub check_only: bool,
}

/// Something that can be subscribed to and found later: a key and a value that belong to a transaction or a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

impl Tag {
    /// A tag.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

/// What came of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxResult {
    /// The result, in the runtime's own form.
    pub output: Vec<u8>,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchResult {
    /// One for each transaction, in order.
    pub results: Vec<TxResult>,
    /// Messages to the consensus layer.
    pub messages: Vec<Message>,
    /// How many of the incoming messages were processed, from the front of the queue.
    pub in_msgs_count: usize,
    /// Tags of the block.
    pub block_tags: Vec<Tag>,
    /// Transactions to drop from the pool.
    pub rejected: Vec<Hash>,
}

/// The transactions of a ParaTime.
///
/// Execution must be deterministic: it may depend on the arguments alone, and on what is proven through them.
pub trait Transactions: Send + Sync + 'static {
    /// Checks transactions for the pool: one result for each, in order.
    ///
    /// # Errors
    /// If none could be checked; the host tries again.
    fn check(&self, ctx: &mut Context<'_>, batch: &[Bytes]) -> Result<Vec<CheckTxResult>, Error>;

    /// Executes a batch as it is.
    ///
    /// # Errors
    /// If the batch is invalid.
    fn execute(
        &self,
        ctx: &mut Context<'_>,
        batch: &[Bytes],
        in_msgs: &[IncomingMessage],
    ) -> Result<BatchResult, Error>;

    /// Chooses from the candidates (and from what [`Host::tx_batch`] gives), executes, and leaves the batch in `batch`.
    ///
    /// # Errors
    /// If no batch can be made.
    fn schedule(
        &self,
        ctx: &mut Context<'_>,
        batch: &mut Vec<Bytes>,
        in_msgs: &[IncomingMessage],
    ) -> Result<BatchResult, Error>;

    /// Answers a question: CBOR in, CBOR out.
    ///
    /// # Errors
    /// If there is no such method, or it fails.
    fn query(&self, ctx: &mut Context<'_>, method: &str, args: &[u8]) -> Result<Vec<u8>, Error> {
        let _ = (ctx, args);
        Err(WireError::new(wire_runtime::error::UNKNOWN, format!("method not found: {method:.64}")).into())
    }
}
