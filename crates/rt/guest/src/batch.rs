//! From a batch to what nodes commit to: state root, I/O root, header, signature.
//!
//! Source: `runtime/src/dispatcher.rs`, `runtime/src/transaction/tree.rs`.

use base_codec::{Bytes, cbor};
use base_crypto::context;
use base_prims::Hash;
use mkvs_tree::{KvWrite, Root, RootType, Sequential, Tree, WriteLog};
use wire_consensus::roothash::{
    ComputeResultsHeader, Header, RoundResults,
    message::{in_messages_hash, messages_hash},
};
use wire_runtime::{
    Field,
    runtime::{
        CheckTxBatchRequest, CheckTxBatchResponse, ComputedBatch, ExecuteTxBatchRequest, ExecuteTxBatchResponse,
        ExecutionMode, LightBlock, QueryRequest, QueryResponse,
    },
    transaction::{self, ArtifactKind, BLOCK_TAG_HASH, OutputArtifacts},
};

use crate::{
    Error, Host,
    consensus::ConsensusState,
    identity::Identity,
    state::{StateCache, StateTree},
    txn::{BatchResult, Context, State, Tag, Transactions},
    verifier::Verifier,
};

/// Runs a ParaTime's transactions.
pub(crate) struct Runner<'a> {
    pub(crate) host: &'a Host,
    pub(crate) verifier: &'a Verifier,
    pub(crate) identity: &'a Identity,
    pub(crate) states: &'a StateCache,
    pub(crate) txn: &'a dyn Transactions,
}

fn state_root(header: &Header, round: u64, hash: Hash) -> Root {
    Root { namespace: header.namespace, version: round, root_type: RootType::STATE, hash }
}

impl Runner<'_> {
    fn state(&self, header: &Header) -> Result<StateTree, Error> {
        if header.namespace != self.host.runtime_id() {
            return Err(Error::other(format!(
                "block namespace does not match runtime id (namespace: {} runtime ID: {})",
                header.namespace,
                self.host.runtime_id()
            )));
        }
        Ok(self.states.state(&state_root(header, header.round, header.state_root)))
    }

    fn ensure_ready(&self) -> Result<(), Error> {
        if self.identity.is_ready() { Ok(()) } else { Err(Error::other("attestation required")) }
    }

    pub(crate) fn check(&self, request: &CheckTxBatchRequest) -> Result<CheckTxBatchResponse, Error> {
        let inputs = request.inputs.as_deref().unwrap_or_default();
        let results = RoundResults::default();
        let call = Call { block: &request.consensus_block, header: &request.block.header, results: &results };
        let consensus = self.verifier.unverified_state(call.block)?;
        let tree = self.state(call.header)?;
        let mut ctx = self.context(&call, consensus, tree, request.epoch, request.max_messages, true);
        let results = self.txn.check(&mut ctx, inputs)?;
        if results.len() != inputs.len() {
            return Err(Error::other(format!("{} results for {} transactions", results.len(), inputs.len())));
        }
        Ok(CheckTxBatchResponse { results: results.into() })
    }

    pub(crate) fn query(&self, request: &QueryRequest) -> Result<QueryResponse, Error> {
        let results = RoundResults::default();
        let call = Call { block: &request.consensus_block, header: &request.header, results: &results };
        let consensus = self.verifier.unverified_state(call.block)?;
        let tree = self.state(call.header)?;
        let mut ctx = self.context(&call, consensus, tree, request.epoch, request.max_messages, true);
        let data = self.txn.query(&mut ctx, &request.method, &request.args)?;
        Ok(QueryResponse { data: Bytes(data) })
    }

    fn context<'c>(
        &'c self,
        call: &Call<'c>,
        consensus: ConsensusState,
        tree: StateTree,
        epoch: u64,
        max_messages: u32,
        check_only: bool,
    ) -> Context<'c> {
        Context {
            host: self.host,
            verifier: self.verifier,
            consensus_block: call.block,
            consensus,
            state: State::new(tree),
            header: call.header,
            epoch,
            round_results: call.results,
            max_messages,
            check_only,
        }
    }

    pub(crate) fn execute(&self, request: ExecuteTxBatchRequest) -> Result<ExecuteTxBatchResponse, Error> {
        let ExecuteTxBatchRequest { mode, consensus_block, round_results, io_root, inputs, in_msgs, block, .. } =
            request;
        let (header, round_results) = (&block.header, round_results.unwrap_or_default());
        let (mut inputs, in_msgs) = (inputs.unwrap_or_default(), in_msgs.as_slice());
        let call = Call { block: &consensus_block, header, results: &round_results };
        let tree = self.state(header)?;
        let consensus = self.verifier.verify(call.block, header, request.epoch)?;
        self.ensure_ready()?;
        let mut ctx = self.context(&call, consensus, tree.clone(), request.epoch, request.max_messages, false);
        let result = if mode == ExecutionMode::SCHEDULE {
            self.txn.schedule(&mut ctx, &mut inputs, in_msgs)?
        } else {
            self.txn.execute(&mut ctx, &inputs, in_msgs)?
        };
        let round = header.round.checked_add(1).ok_or_else(|| Error::other("round overflows"))?;
        let state_write_log = ctx.state.into_write_log()?;
        let mut changed = tree.fork();
        mkvs_tree::writelog::apply(&state_write_log, &mut changed)?;
        let new_root = changed.commit(round, 0, &Sequential).root.hash;
        self.states.keep(&tree, state_root(header, round, new_root), changed);

        let io = Io::new(&inputs, &result)?;
        if mode != ExecutionMode::SCHEDULE && io.input_root != io_root {
            return Err(Error::other(format!(
                "I/O root inconsistent with inputs (expected: {io_root} got: {})",
                io.input_root
            )));
        }
        let taken = in_msgs.get(..result.in_msgs_count).ok_or_else(|| Error::other("too many incoming messages"))?;
        let header = ComputeResultsHeader {
            round,
            previous_hash: header.hash(),
            io_root: Some(io.root),
            state_root: Some(new_root),
            messages_hash: Some(messages_hash(&result.messages)),
            in_messages_hash: Some(in_messages_hash(taken)),
            in_messages_count: u32::try_from(taken.len()).map_err(Error::other)?,
        };
        let rak_sig = self.identity.sign(&context::COMPUTE_RESULTS_HEADER, &cbor::to_vec(&header))?;
        Ok(ExecuteTxBatchResponse {
            batch: ComputedBatch {
                header,
                io_write_log: Some(io.write_log),
                state_write_log: Some(state_write_log),
                rak_sig,
                messages: result.messages.into(),
            },
            tx_hashes: Field::Is(io.hashes),
            tx_reject_hashes: Field::Is(result.rejected),
            tx_input_root: io.input_root,
            tx_input_write_log: Field::Is(io.input_write_log),
            ..Default::default()
        })
    }
}

/// What a request says about the round.
struct Call<'a> {
    block: &'a LightBlock,
    header: &'a Header,
    results: &'a RoundResults,
}

/// The tree of a round's inputs, outputs and tags, in two steps.
pub(crate) struct Io {
    pub(crate) hashes: Vec<Hash>,
    pub(crate) input_root: Hash,
    pub(crate) input_write_log: WriteLog,
    pub(crate) root: Hash,
    pub(crate) write_log: WriteLog,
}

impl Io {
    pub(crate) fn new(inputs: &[Bytes], result: &BatchResult) -> Result<Self, Error> {
        if result.results.len() != inputs.len() {
            return Err(Error::other(format!("{} results for {} transactions", result.results.len(), inputs.len())));
        }
        let mut tree = Tree::in_memory().with_write_log();
        let mut hashes = Vec::with_capacity(inputs.len());
        for (key, value) in transaction::input_pairs(inputs).map_err(Error::other)? {
            tree.insert(&key, &value)?;
        }
        hashes.extend(inputs.iter().map(|input| transaction::hash(input)));
        let inputs = tree.commit(0, 0, &Sequential);
        for (hash, result) in hashes.iter().zip(&result.results) {
            let output = OutputArtifacts { output: Some(Bytes(result.output.clone())) };
            tree.insert(&transaction::transaction_key(hash, ArtifactKind::Output), &cbor::to_vec(&output))?;
            put_tags(&mut tree, &result.tags, hash)?;
        }
        put_tags(&mut tree, &result.block_tags, &BLOCK_TAG_HASH)?;
        let all = tree.commit(0, 0, &Sequential);
        Ok(Self {
            hashes,
            input_root: inputs.root.hash,
            input_write_log: inputs.log.unwrap_or_default(),
            root: all.root.hash,
            write_log: all.log.unwrap_or_default(),
        })
    }
}

/// Of tags with one key the last one stays.
fn put_tags(tree: &mut Tree, tags: &[Tag], hash: &Hash) -> Result<(), Error> {
    for tag in tags {
        tree.insert(&transaction::tag_key(&tag.key, hash), &tag.value)?;
    }
    Ok(())
}
