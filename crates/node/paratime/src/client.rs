//! What clients may ask of one runtime. Source: `go/worker/client`.

use std::sync::Arc;

use apps_committees::roothash::query;
use base_codec::Bytes;
use base_grpc::RpcError;
use base_prims::{Hash, Namespace};
use mkvs_tree::sync::ProofResponse;
use node_executor::{Executor, SubmitError};
use node_workers::{Chain, ChainError};
use rt_history::{History, HistoryError, artifacts};
use rt_host::RuntimeHost;
use rt_host::calls::{self, ChainPosition};
use rt_host::composite::CompositeHost;
use rt_host::services::{Consensus, RuntimeState, SyncRequest};
use wire_consensus::errors::{ErrorCode, roothash, runtime_client as codes};
use wire_consensus::roothash::{AnnotatedBlock, Block};
use wire_runtime::bundle::ComponentId;
use wire_runtime::client::{PlainEvent, SubmitTxMetaResponse, TransactionWithResults};
use wire_runtime::transaction::Tag;

use crate::results::{Results, Waiting};
use crate::trees::{Trees, TreesError};

/// One runtime as its clients see it.
pub struct Client {
    pub(crate) runtime: Namespace,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) consensus: Arc<dyn Consensus>,
    pub(crate) history: Arc<History>,
    pub(crate) trees: Trees,
    pub(crate) state: Arc<dyn RuntimeState>,
    pub(crate) results: Arc<Results>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) host: Option<Arc<CompositeHost>>,
}

/// An error of the table.
pub(crate) fn coded(code: &ErrorCode) -> RpcError {
    RpcError::service(code.module, code.code, code.message)
}

/// With what more there is to say, as the reference joins it.
pub(crate) fn coded_with(code: &ErrorCode, more: impl std::fmt::Display) -> RpcError {
    RpcError::service(code.module, code.code, format!("{}: {more}", code.message))
}

pub(crate) fn history_error(error: HistoryError) -> RpcError {
    match error {
        HistoryError::NotFound => coded(&roothash::NOT_FOUND),
        error => RpcError::unknown(error.to_string()),
    }
}

fn trees_error(error: TreesError) -> RpcError {
    RpcError::unknown(error.to_string())
}

fn chain_error(error: ChainError) -> RpcError {
    RpcError::unknown(error.to_string())
}

fn submit_error(error: SubmitError) -> RpcError {
    RpcError::unknown(error.to_string())
}

impl Client {
    fn check_synced(&self) -> Result<(), RpcError> {
        if *self.chain.synced().borrow() { Ok(()) } else { Err(coded(&codes::NOT_SYNCED)) }
    }

    /// Submits a transaction; what is returned tells of its round. An error of the check is the transaction's.
    async fn submit(&self, tx: Vec<u8>) -> Result<Result<Waiting, wire_runtime::Error>, RpcError> {
        self.check_synced()?;
        // Before it is submitted, so that no round is missed.
        let waiting = self.results.wait(Hash::of(&[&tx])).map_err(|e| RpcError::unknown(e.to_string()))?;
        let checked = self.executor.submit(tx).await.map_err(submit_error)?;
        Ok(if checked.error.is_success() { Ok(waiting) } else { Err(checked.error) })
    }

    /// Submits a transaction and waits for its round.
    pub(crate) async fn submit_meta(&self, tx: Vec<u8>) -> Result<SubmitTxMetaResponse, RpcError> {
        match self.submit(tx).await? {
            Ok(waiting) => waiting.result().await.ok_or_else(|| RpcError::unknown("node is shutting down")),
            Err(error) => Ok(SubmitTxMetaResponse { check_tx_error: Some(error), ..SubmitTxMetaResponse::default() }),
        }
    }

    /// Submits a transaction and gives its output.
    pub(crate) async fn submit_output(&self, tx: Vec<u8>) -> Result<Option<Bytes>, RpcError> {
        let meta = self.submit_meta(tx).await?;
        match meta.check_tx_error {
            Some(error) => Err(coded_with(&codes::CHECK_TX_FAILED, error)),
            None => Ok(meta.output),
        }
    }

    /// Submits a transaction without waiting for its round.
    pub(crate) async fn submit_no_wait(&self, tx: Vec<u8>) -> Result<(), RpcError> {
        self.check_synced()?;
        let checked = self.executor.submit(tx).await.map_err(submit_error)?;
        if checked.error.is_success() { Ok(()) } else { Err(coded_with(&codes::CHECK_TX_FAILED, checked.error)) }
    }

    /// Checks a transaction without submitting it.
    pub(crate) async fn check(&self, tx: Vec<u8>) -> Result<(), RpcError> {
        let checked = self.executor.check(tx).await.map_err(submit_error)?;
        if checked.error.is_success() { Ok(()) } else { Err(coded_with(&codes::CHECK_TX_FAILED, checked.error)) }
    }

    /// A block of those whose state is there.
    pub(crate) fn block(&self, round: u64) -> Result<AnnotatedBlock, RpcError> {
        self.history.block(round).map_err(history_error)
    }

    fn plain_block(&self, round: u64) -> Result<Block, RpcError> {
        self.block(round)?.block.ok_or_else(|| coded(&roothash::NOT_FOUND))
    }

    /// The runtime's first block.
    pub(crate) fn genesis_block(&self) -> Result<Block, RpcError> {
        let state = self.chain.state(0).map_err(chain_error)?;
        query::genesis_block(&*state, &self.runtime).map_err(|error| {
            let (module, code) = error.code();
            RpcError::service(module, code, error.to_string())
        })
    }

    /// The oldest block that is there with its state.
    pub(crate) fn last_retained_block(&self) -> Result<Block, RpcError> {
        let earliest = self.history.earliest_block().map_err(history_error)?;
        let block = earliest.block.ok_or_else(|| coded(&roothash::NOT_FOUND))?;
        let version = self.trees.storage().and_then(|storage| storage.db().earliest_version());
        match version {
            Some(version) if version > block.header.round => self.plain_block(version),
            _ => Ok(block),
        }
    }

    async fn io_tree<T, F>(&self, round: u64, read: F) -> Result<T, RpcError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn mkvs_tree::KvRead) -> Result<T, artifacts::ArtifactsError> + Send + 'static,
    {
        let [io_root, _] = rt_storage::roots_of(&self.plain_block(round)?.header);
        self.trees.read(io_root, read).await.map_err(trees_error)
    }

    /// Inputs of a round.
    pub(crate) async fn transactions(&self, round: u64) -> Result<Vec<Bytes>, RpcError> {
        let txs = self.io_tree(round, |tree| artifacts::transactions(tree)).await?;
        Ok(txs.into_iter().map(|tx| Bytes(tx.input)).collect())
    }

    /// Inputs of a round, with outputs and events.
    pub(crate) async fn transactions_with_results(&self, round: u64) -> Result<Vec<TransactionWithResults>, RpcError> {
        let both = self.io_tree(round, |tree| Ok((artifacts::transactions(tree)?, artifacts::tags(tree)?)));
        let (txs, tags) = both.await?;
        let mut events: std::collections::HashMap<Hash, Vec<PlainEvent>> = std::collections::HashMap::new();
        for tag in tags {
            events.entry(tag.tx_hash).or_default().push(PlainEvent { key: tag.key, value: tag.value });
        }
        let with_results = |tx: wire_runtime::transaction::Transaction| TransactionWithResults {
            events: events.remove(&wire_runtime::transaction::hash(&tx.input)),
            tx: Some(Bytes(tx.input)),
            result: tx.output.map(Bytes),
        };
        Ok(txs.into_iter().map(with_results).collect())
    }

    /// Events of a round.
    pub(crate) async fn events(&self, round: u64) -> Result<Vec<Tag>, RpcError> {
        self.io_tree(round, |tree| artifacts::tags(tree)).await
    }

    /// Where the chain stood at a round, as queries need it.
    async fn position(&self, round: u64) -> Result<ChainPosition, RpcError> {
        let newest = self.chain.state(0).map_err(chain_error)?;
        let unknown =
            |error: apps_core::Error| RpcError::unknown(format!("client: failed to get runtime state: {error}"));
        let max_messages =
            query::runtime_state(&*newest, &self.runtime).map_err(unknown)?.runtime.executor.max_messages;
        drop(newest);
        let annotated = self.block(round)?;
        let height = annotated.consensus_height;
        let block = annotated.block.ok_or_else(|| coded(&roothash::NOT_FOUND))?;
        let light = self.consensus.light_block(height.unsigned_abs()).await.map_err(|error| {
            RpcError::unknown(format!("client: failed to get light block at height {height}: {error}"))
        })?;
        let at = self.chain.state(height).map_err(chain_error)?;
        let (epoch, _) = apps_committees::beacon::state::epoch(&*at)
            .map_err(|error| RpcError::unknown(format!("client: failed to get epoch at height {height}: {error}")))?;
        Ok(ChainPosition { consensus_block: light, block, epoch, max_messages })
    }

    /// Asks a component about the state after a round; answer and arguments are CBOR.
    pub(crate) async fn query(
        &self,
        round: u64,
        method: &str,
        args: Vec<u8>,
        component: Option<ComponentId>,
    ) -> Result<Vec<u8>, RpcError> {
        let host = self.host.as_ref().ok_or_else(|| coded(&codes::NO_HOSTED_RUNTIME))?;
        let id = component.unwrap_or(ComponentId::Ronl);
        let at = self.position(round).await?;
        let component = host.component(&id).ok_or_else(|| RpcError::unknown(format!("component '{id}' not found")))?;
        let header = at.block.header.clone();
        let component: &dyn RuntimeHost = &*component;
        calls::query(component, at, header, method, args).await.map_err(|error| RpcError::unknown(error.to_string()))
    }

    /// Transactions that wait for a round.
    pub(crate) fn unconfirmed(&self) -> Vec<Bytes> {
        self.executor.unconfirmed().into_iter().map(Bytes).collect()
    }

    /// Proves something about the state.
    pub(crate) async fn prove(&self, request: SyncRequest) -> Result<ProofResponse, RpcError> {
        self.state.state(request).await.map_err(|error| RpcError::unknown(error.message))
    }
}
