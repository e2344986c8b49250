//! The consensus layer as hosted runtimes may ask about it. Source: `go/runtime/registry/handler.go`.

use std::sync::Arc;

use apps_committees::{registry, roothash};
use apps_core::events;
use apps_core::submit::SubmitError;
use apps_governance::governance;
use apps_staking::query as staking;
use base_codec::cbor;
use base_crypto::ed25519::SecretKey;
use comet_chain::light::ProviderError;
use mkvs_tree::sync::{ProofResponse, TreeId};
use node_app::Queries;
use node_workers::{Blocks as _, ChainError, Submission, SubmissionError};
use p2p_net::light::{LightSource as _, Provider, ProviderPool};
use rt_host::api::BoxFuture;
use rt_host::services::{Consensus, ProvenBytes, Served as Answer, SyncRequest};
use wire_cometbft::codec::Message as _;
use wire_consensus::registry::METHOD_PROVE_FRESHNESS;
use wire_consensus::transaction::SignedTransaction;
use wire_runtime::host::{ConsensusEvent, EventKind, ProvenTransaction, TransactionProof};
use wire_runtime::runtime::{LightBlock, Validators};
use wire_runtime::{Error, error};

use crate::chain::LocalChain;
use crate::light::Served;

/// Largest proof of state: it has to fit into a frame of the host protocol (32 MiB) with room to spare.
const MAX_PROOF_BYTES: usize = 16 << 20;
/// Peers that are asked for a block that this node does not have.
const PEERS_ASKED: usize = 3;
/// Module and code of "root not found". Source: `go/storage/mkvs/db/api`.
const NODE_DB: &str = "storage/mkvs/db";
const ROOT_NOT_FOUND: u32 = 8;

/// Answers questions of runtimes about the consensus layer.
pub(crate) struct ConsensusForRuntimes {
    chain: Arc<LocalChain>,
    served: Served,
    /// For heights that this node does not have; what it sends is for the runtime to verify.
    provider: Option<Provider>,
    submission: Arc<Submission>,
    node_key: SecretKey,
}

fn plain(text: impl ToString) -> Error {
    Error::new(error::UNKNOWN, text.to_string())
}

fn coded(module: &str, code: u32, text: impl ToString) -> Error {
    Error { module: module.to_owned(), code, message: text.to_string() }
}

fn missing_root() -> Error {
    coded(NODE_DB, ROOT_NOT_FOUND, "mkvs: root not found")
}

fn height_of(height: u64) -> Answer<i64> {
    i64::try_from(height).map_err(|_| plain("consensus: version not found"))
}

fn submission_error(error: SubmissionError) -> Error {
    match error {
        SubmissionError::Failed { module, code, message }
        | SubmissionError::Submit(
            SubmitError::Refused { module, code, message } | SubmitError::Invalidated { module, code, message },
        ) => Error { module, code, message },
        error => plain(error),
    }
}

/// Runs what reads disks away from the tasks that serve runtimes.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(plain(error)))
}

impl ConsensusForRuntimes {
    /// Answers from this node's stores, and from peers where these have no light block any more. Freshness is proven with
    /// the node's key.
    pub(crate) fn new(
        chain: Arc<LocalChain>,
        pool: Option<&ProviderPool>,
        submission: Arc<Submission>,
        node_key: SecretKey,
    ) -> Self {
        let served = Served { engine: Arc::clone(chain.engine()), queries: chain.queries().clone() };
        Self { chain, served, provider: pool.map(ProviderPool::provider), submission, node_key }
    }

    /// Asks peers, another one after each failure.
    async fn ask_peers<'a, T>(
        &'a self,
        own: String,
        ask: impl Fn(&'a Provider) -> BoxFuture<'a, Result<T, ProviderError>>,
    ) -> Result<T, String> {
        let Some(provider) = &self.provider else { return Err(own) };
        let mut failed = own;
        for _ in 0..PEERS_ASKED {
            match ask(provider).await {
                Ok(found) => return Ok(found),
                Err(error) => failed = error.to_string(),
            }
            provider.refresh();
        }
        Err(failed)
    }
}

/// The height meant; 0 stands for the newest.
fn resolve(chain: &LocalChain, height: i64) -> Answer<i64> {
    match height {
        0 => match chain.queries().latest().height {
            0 => Err(plain(ChainError::NoBlocks)),
            newest => Ok(newest),
        },
        height => Ok(height),
    }
}

/// Transactions of a block.
fn transactions(chain: &LocalChain, height: i64) -> Answer<Vec<Vec<u8>>> {
    let height = resolve(chain, height)?;
    let block = chain.engine().blocks().block(height).map_err(plain)?;
    Ok(block.ok_or_else(|| plain(ChainError::NoState(height)))?.data.txs)
}

fn proven(chain: &LocalChain, height: i64) -> Answer<Vec<ProvenBytes>> {
    let all = transactions(chain, height)?;
    let proofs = node_rpc::transaction_proofs(&all);
    let pairs = all.into_iter().zip(proofs);
    Ok(pairs.map(|(transaction, proof)| ProvenBytes { transaction, proof: proof.0 }).collect())
}

fn read_events(chain: &LocalChain, height: i64, kind: EventKind) -> Answer<Vec<ConsensusEvent>> {
    let height = resolve(chain, height)?;
    let txs = transactions(chain, height)?;
    let results = chain.engine().blocks().results(height).map_err(plain)?;
    let results = results.ok_or_else(|| plain(ChainError::NoState(height)))?;
    // One of the event's fields is set.
    macro_rules! of {
        ($read:path, $field:ident) => {
            events::of_block(&txs, &results, |tx, event| {
                let wrap = |found| ConsensusEvent { $field: Some(Box::new(found)), ..ConsensusEvent::default() };
                Ok($read(height, tx, event)?.into_iter().map(wrap).collect())
            })
        };
    }
    match kind {
        EventKind::STAKING => of!(staking::events, staking),
        EventKind::REGISTRY => of!(registry::query::events, registry),
        EventKind::ROOTHASH => of!(roothash::query::events, roothash),
        EventKind::GOVERNANCE => of!(governance::query::events, governance),
        _ => return Err(Error::method_not_supported()),
    }
    .map_err(plain)
}

fn prove(queries: &Queries, request: &SyncRequest) -> Answer<ProofResponse> {
    let tree: &TreeId = match request {
        SyncRequest::Get(request) => &request.tree,
        SyncRequest::GetPrefixes(request) => &request.tree,
        SyncRequest::Iterate(request) => &request.tree,
    };
    let height = i64::try_from(tree.root.version).ok().filter(|height| *height > 0).ok_or_else(missing_root)?;
    let state = queries.state(height).map_err(|_| missing_root())?;
    if state.root != tree.root {
        return Err(missing_root());
    }
    let prover = state.prover(MAX_PROOF_BYTES);
    let proof = match request {
        SyncRequest::Get(request) => prover.get(request),
        SyncRequest::GetPrefixes(request) => prover.get_prefixes(request),
        SyncRequest::Iterate(request) => prover.iterate(request),
    };
    Ok(ProofResponse { proof: proof.map_err(plain)? })
}

impl Consensus for ConsensusForRuntimes {
    fn light_block(&self, height: u64) -> BoxFuture<'_, Answer<LightBlock>> {
        Box::pin(async move {
            let height = height_of(height)?;
            let own = match self.served.light_block(height).await {
                Ok(block) => return Ok(LightBlock { height: block.height, meta: block.meta }),
                Err(error) => error.to_string(),
            };
            let block =
                self.ask_peers(own, |provider| Box::pin(async move { Ok(provider.light_block_from(height).await?.0) }));
            let block = block.await;
            let block = block.map_err(|e| plain(format!("failed to fetch light block for height {height}: {e}")))?.0;
            let header = block.signed_header.as_ref().and_then(|signed| signed.header.as_ref());
            let found = header.map_or(height, |header| header.height);
            Ok(LightBlock { height: found, meta: Some(block.encode_to_vec().into()) })
        })
    }

    fn validators(&self, height: u64) -> BoxFuture<'_, Answer<Validators>> {
        Box::pin(async move {
            let height = height_of(height)?;
            let own = match self.served.validators(height).await {
                Ok(found) => return Ok(Validators { height: found.height, meta: found.meta }),
                Err(error) => error.to_string(),
            };
            let found =
                self.ask_peers(own, |provider| Box::pin(async move { Ok(provider.validators(height).await?.0) }));
            let found = found.await;
            let found = found.map_err(|e| plain(format!("failed to fetch validator for height {height}: {e}")))?;
            Ok(Validators { height: found.height, meta: found.meta })
        })
    }

    fn events(&self, height: u64, kind: EventKind) -> BoxFuture<'_, Answer<Vec<ConsensusEvent>>> {
        let chain = Arc::clone(&self.chain);
        Box::pin(async move { blocking(move || read_events(&chain, height_of(height)?, kind)).await })
    }

    fn genesis_height(&self) -> BoxFuture<'_, Answer<u64>> {
        let height = self.chain.genesis_height().unsigned_abs();
        Box::pin(async move { Ok(height) })
    }

    fn transactions(&self, height: u64) -> BoxFuture<'_, Answer<Vec<ProvenBytes>>> {
        let chain = Arc::clone(&self.chain);
        Box::pin(async move { blocking(move || proven(&chain, height_of(height)?)).await })
    }

    fn prove_freshness(&self, blob: [u8; 32]) -> BoxFuture<'_, Answer<ProvenTransaction>> {
        Box::pin(async move {
            let included = self.submission.submit(&self.node_key, METHOD_PROVE_FRESHNESS, &blob).await;
            let included = included.map_err(submission_error)?;
            let (chain, height) = (Arc::clone(&self.chain), included.height);
            let all = blocking(move || proven(&chain, height)).await?;
            let place = usize::try_from(included.index).unwrap_or(usize::MAX);
            let found = all.into_iter().nth(place).ok_or_else(|| plain("invalid transaction index"))?;
            let signed: SignedTransaction = cbor::from_slice(&found.transaction).map_err(plain)?;
            let proof = TransactionProof { height, raw_proof: Some(found.proof.into()) };
            Ok(ProvenTransaction { signed_tx: Some(signed), proof: Some(proof) })
        })
    }

    fn state(&self, request: SyncRequest) -> BoxFuture<'_, Answer<ProofResponse>> {
        let queries = self.chain.queries().clone();
        Box::pin(async move { blocking(move || prove(&queries, &request)).await })
    }
}
