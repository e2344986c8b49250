//! The chain as verified headers and what providers say show it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apps_core::submit::{BoxFuture, Included, SubmitError, TransactionSubmitter};
use base_codec::{Bytes, cbor};
use base_grpc::{Cbor, RpcError};
use base_prims::{Hash, Namespace, PublicKey};
use comet_chain::app::BlockResults;
use comet_chain::light::LightBlock;
use comet_chain::validators::ValidatorSet;
use comet_sync::LightClient;
use futures_util::StreamExt as _;
use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse, ReadSyncer, Remote, TreeId};
use mkvs_tree::{Proof, Retention, Root, RootType, Tree};
use node_app::{Latest, QueryError, RemoteState};
use node_rpc::{Applied, Blocks, Engine, Feed, Kind, ReadError, types};
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use wire_cometbft::block::Block;
use wire_cometbft::codec::Message as _;
use wire_cometbft::evidence::Evidence;
use wire_cometbft::params::ConsensusParams;
use wire_consensus::transaction::{Gas, SignedTransaction, Transaction};

use super::providers::{ANSWER_TIME, Providers, Which};
use super::verify::{self, Lie};

/// Module of log records.
const MODULE: &str = "cometbft/stateless";
/// Longest wait for an answer that may take several questions.
const READ_TIME: Duration = Duration::from_secs(60);
/// Longest wait for a transaction to be in a block.
const SUBMIT_TIME: Duration = Duration::from_secs(600);
/// How long the announcement of a block may stay away before somebody else is listened to.
const SILENCE: Duration = Duration::from_secs(60);
/// Pause before providers are listened to again.
const RETRY: Duration = Duration::from_secs(1);
/// Pauses while a new block's header is not yet with all peers, and how many there are.
const HEADER_PAUSE: Duration = Duration::from_millis(200);
const HEADER_TRIES: usize = 50;
/// Newest blocks that are kept at hand.
const RECENT: usize = 16;
/// Trees whose nodes are kept at hand, and the bytes of nodes for each.
const TREES: usize = 8;
const TREE_BYTES: usize = 8 << 20;
/// Blocks that a slow reader of announcements may lag behind.
const BACKLOG: usize = 64;

/// Verified headers, once there is a light client.
#[derive(Default)]
pub(crate) struct Headers(OnceLock<LightClient>);

impl Headers {
    /// The light client is there.
    pub(crate) fn begin(&self, client: LightClient) {
        // Made once.
        let _ = self.0.set(client);
    }

    /// Lowest and highest verified height.
    pub(crate) fn range(&self) -> Option<(i64, i64)> {
        self.0.get()?.trusted_range().ok().flatten()
    }

    /// A header that was verified before.
    pub(crate) fn known(&self, height: i64) -> Option<LightBlock> {
        self.0.get()?.trusted(height).ok().flatten()
    }

    async fn at(&self, height: i64) -> Result<LightBlock, String> {
        let client = self.0.get().ok_or("light client has no trusted header yet")?;
        match client.trusted(height).map_err(|error| error.to_string())? {
            Some(block) => Ok(block),
            None => client.verify_at(height).await.map_err(|error| error.to_string()),
        }
    }

    /// A header that may not have reached the peers yet.
    async fn soon(&self, height: i64) -> Result<LightBlock, String> {
        let mut tries = HEADER_TRIES;
        loop {
            match self.at(height).await {
                Err(_) if tries > 0 => tries -= 1,
                done => return done,
            }
            tokio::time::sleep(HEADER_PAUSE).await;
        }
    }
}

/// A block at hand.
#[derive(Clone)]
struct Recent {
    block: Arc<Block>,
    results: Arc<BlockResults>,
    state: Hash,
    /// Who sent results that no header vouches for yet.
    unproven: Option<Which>,
}

/// What is known at the moment.
#[derive(Default)]
struct Memory {
    recent: BTreeMap<i64, Recent>,
    /// The last of them was used last.
    trees: Vec<(Root, Arc<Remote<Prover>>)>,
}

/// The chain, read through others.
pub(crate) struct View {
    providers: Arc<Providers>,
    headers: Arc<Headers>,
    runtime: Handle,
    latest: watch::Sender<Latest>,
    feed: broadcast::Sender<Applied>,
    memory: Mutex<Memory>,
}

/// Waits for an answer, on whatever thread this is.
fn wait<T>(runtime: &Handle, limit: Duration, asking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let run = || {
        let asking =
            async { tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| Err("no answer".to_owned())) };
        runtime.block_on(asking)
    };
    match Handle::try_current() {
        Ok(current) if current.runtime_flavor() == RuntimeFlavor::CurrentThread => {
            Err("state that is kept elsewhere cannot be read on a runtime with one thread".to_owned())
        }
        Ok(_) => tokio::task::block_in_place(run),
        Err(_) => run(),
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// Proofs of state, from providers; one that does not hold is found out here.
#[derive(Clone)]
struct Prover {
    providers: Arc<Providers>,
    runtime: Handle,
}

impl Prover {
    fn ask<A>(&self, method: &str, tree: &TreeId, request: &A) -> Result<Proof, String>
    where
        A: cbor::Encode + cbor::Decode + Clone + Sync,
    {
        let (root, position) = (tree.root.hash, tree.position);
        let check = |answer: ProofResponse| {
            let expected = if answer.proof.untrusted_root == position { position } else { root };
            let checked = mkvs_tree::proof::verify(&expected, &answer.proof);
            checked.map(|_| answer.proof).map_err(|error| Lie::Proof(error.to_string()))
        };
        let asking = async {
            let asked = self.providers.ask(method, Cbor(request.clone()), check).await;
            asked.map(|(proof, _)| proof).map_err(|error| error.message)
        };
        wait(&self.runtime, READ_TIME, asking)
    }
}

impl ReadSyncer for Prover {
    fn get(&self, request: &GetRequest) -> Result<Proof, String> {
        self.ask("StateSyncGet", &request.tree, request)
    }

    fn get_prefixes(&self, request: &GetPrefixesRequest) -> Result<Proof, String> {
        self.ask("StateSyncGetPrefixes", &request.tree, request)
    }

    fn iterate(&self, request: &IterateRequest) -> Result<Proof, String> {
        self.ask("StateSyncIterate", &request.tree, request)
    }
}

impl View {
    pub(crate) fn new(providers: Arc<Providers>, headers: Arc<Headers>, runtime: Handle) -> Arc<Self> {
        let (latest, feed) = (watch::Sender::default(), broadcast::Sender::new(BACKLOG));
        Arc::new(Self { providers, headers, runtime, latest, feed, memory: Mutex::default() })
    }

    fn newest(&self) -> i64 {
        self.latest.borrow().height
    }

    fn recent(&self, height: i64) -> Option<Recent> {
        self.memory.lock().recent.get(&height).cloned()
    }

    fn wait<T>(&self, asking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        wait(&self.runtime, READ_TIME, asking)
    }

    async fn fetch_block(&self, light: &LightBlock) -> Result<Block, RpcError> {
        let height = light.height();
        let (commit, _) = self.providers.ask("GetBlock", Cbor(height), |answer| verify::block(&answer, light)).await?;
        let check = |txs: Option<Vec<Bytes>>| verify::transactions(txs.unwrap_or_default(), light);
        let (txs, _) = self.providers.ask("GetTransactions", Cbor(height), check).await?;
        Ok(verify::assemble(light, commit, txs))
    }

    async fn fetch_results(
        &self,
        height: i64,
        txs: usize,
        hash: Option<&[u8]>,
    ) -> Result<(BlockResults, Which), RpcError> {
        self.providers.ask("GetBlockResults", Cbor(height), |answer| verify::results(&answer, height, txs, hash)).await
    }

    async fn find_block(&self, height: i64) -> Result<Arc<Block>, String> {
        if let Some(recent) = self.recent(height) {
            return Ok(recent.block);
        }
        let light = self.headers.at(height).await?;
        self.fetch_block(&light).await.map(Arc::new).map_err(|error| error.message)
    }

    async fn find_results(&self, height: i64) -> Result<Arc<BlockResults>, String> {
        if let Some(recent) = self.recent(height) {
            return Ok(recent.results);
        }
        let txs = self.find_block(height).await?.data.txs.len();
        let next = self.headers.at(height.saturating_add(1)).await?;
        let found = self.fetch_results(height, txs, Some(&next.header.last_results_hash)).await;
        found.map(|(results, _)| Arc::new(results)).map_err(|error| error.message)
    }

    /// The verified root of the state after a block.
    async fn root(&self, height: i64) -> Result<Root, String> {
        let hash = match self.recent(height) {
            Some(recent) => recent.state,
            None if height < self.newest() => {
                let next = self.headers.at(height.saturating_add(1)).await?;
                let hash = <[u8; 32]>::try_from(next.header.app_hash.as_slice());
                Hash::new(hash.map_err(|_| "state root is not 32 bytes long")?)
            }
            None => verify::state_after(&self.find_block(height).await?.data.txs).map_err(text)?,
        };
        let version = u64::try_from(height).map_err(text)?;
        Ok(Root { namespace: Namespace::ZERO, version, root_type: RootType::STATE, hash })
    }

    /// Listens to providers until stopped.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let listening = async {
                match self.listen().await {
                    Ok(()) => tracing::info!(module = MODULE, "a provider ended its announcements of blocks"),
                    Err(error) => {
                        tracing::warn!(module = MODULE, err = error, "no announcements of blocks for the moment");
                    }
                }
            };
            tokio::select! {
                () = listening => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn listen(&self) -> Result<(), String> {
        if self.headers.0.get().is_none() {
            return Err("light client has no trusted header yet".to_owned());
        }
        let (which, mut blocks) = self.providers.watch_blocks().await.map_err(|error| error.message)?;
        tracing::info!(module = MODULE, provider = self.providers.name(which), "watching blocks");
        // The newest block, before there is another.
        let (height, said) = self.providers.ask("GetLatestHeight", (), Ok).await.map_err(|error| error.message)?;
        self.announced(height, None, said).await?;
        loop {
            let next = tokio::time::timeout(SILENCE, blocks.next()).await;
            let block = match next {
                Ok(Some(Ok(Cbor(block)))) => block,
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => {
                    self.providers.blame(which);
                    return Err(error.message);
                }
                Err(_) => {
                    self.providers.blame(which);
                    return Err("the provider is silent".to_owned());
                }
            };
            self.announced(block.height, Some(&block), which).await?;
        }
    }

    /// A provider says that there is a block.
    async fn announced(&self, height: i64, said: Option<&types::Block>, which: Which) -> Result<(), String> {
        if height <= self.newest() {
            return Ok(());
        }
        let light = match self.headers.soon(height).await {
            Ok(light) => light,
            Err(error) => {
                self.providers.blame(which);
                return Err(format!("no verified header {height}: {error}"));
            }
        };
        if let Some(Err(lie)) = said.map(|said| verify::block(said, &light)) {
            self.providers.caught(which, "announcement", &lie);
            return Err(lie.to_string());
        }
        self.check_before(&light).await;
        let block = Arc::new(self.fetch_block(&light).await.map_err(|error| error.message)?);
        let fetched = self.fetch_results(height, block.data.txs.len(), None).await;
        let (results, sender) = fetched.map_err(|error| error.message)?;
        let state = verify::state_after(&block.data.txs).map_err(text)?;
        let results = Arc::new(results);
        tracing::debug!(module = MODULE, height, "new block");
        {
            let mut memory = self.memory.lock();
            let recent =
                Recent { block: Arc::clone(&block), results: Arc::clone(&results), state, unproven: Some(sender) };
            memory.recent.insert(height, recent);
            while memory.recent.len() > RECENT {
                memory.recent.pop_first();
            }
        }
        self.latest.send_replace(Latest { height, app_hash: state, time: light.header.time });
        // Nobody listening is no error.
        let _ = self.feed.send(Applied { height, block, results });
        Ok(())
    }

    /// Looks at the results of the block before, which the header vouches for.
    async fn check_before(&self, light: &LightBlock) {
        let height = light.height().saturating_sub(1);
        let Some(before) = self.recent(height) else { return };
        let Some(sender) = before.unproven else { return };
        let hash = light.header.last_results_hash.as_slice();
        let mut proven = before.results;
        if comet_chain::exec::results_hash(&proven.tx_results).as_slice() != hash {
            self.providers.caught(sender, "results", &Lie::Differs("hash of the results"));
            tracing::error!(module = MODULE, height, "results of a block were shown that were not its results");
            match self.fetch_results(height, before.block.data.txs.len(), Some(hash)).await {
                Ok((results, _)) => proven = Arc::new(results),
                Err(_) => {
                    self.memory.lock().recent.remove(&height);
                    return;
                }
            }
        }
        if let Some(recent) = self.memory.lock().recent.get_mut(&height) {
            (recent.results, recent.unproven) = (proven, None);
        }
    }

    async fn include(&self, tx: Vec<u8>) -> Result<Included, SubmitError> {
        let signed: SignedTransaction = cbor::from_slice(&tx).map_err(|error| unavailable(error.to_string()))?;
        let submitted =
            self.providers.submit::<_, Cbor<types::Proof>>("SubmitTxWithProof", Cbor(signed), SUBMIT_TIME).await;
        let (Cbor(proof), which) = submitted.map_err(submit_error)?;
        let height = proof.height;
        self.headers.soon(height).await.map_err(unavailable)?;
        let block = self.find_block(height).await.map_err(unavailable)?;
        let Some(index) = block.data.txs.iter().position(|other| *other == tx) else {
            self.providers.caught(which, "inclusion", &Lie::Differs("list of transactions"));
            return Err(unavailable(format!("the transaction is not in block {height}, where a provider saw it")));
        };
        let (txs, count) = (height, block.data.txs.len());
        let results = match self.recent(txs) {
            Some(recent) => recent.results,
            None => {
                let fetched = self.fetch_results(height, count, None).await;
                Arc::new(fetched.map_err(|error| unavailable(error.message))?.0)
            }
        };
        let result = results.tx_results.get(index).cloned().ok_or_else(|| unavailable("no result".to_owned()))?;
        Ok(Included { height, index: u32::try_from(index).unwrap_or(u32::MAX), result })
    }
}

fn unavailable(reason: String) -> SubmitError {
    SubmitError::Unavailable(reason)
}

fn submit_error(error: RpcError) -> SubmitError {
    match error.detail {
        Some((module, code)) => SubmitError::Refused { module, code, message: error.message },
        None => SubmitError::Unavailable(error.message),
    }
}

impl TransactionSubmitter for View {
    fn submit(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>> {
        Box::pin(self.include(tx))
    }

    fn submit_no_wait(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<(), SubmitError>> {
        Box::pin(async move {
            let signed: SignedTransaction = cbor::from_slice(&tx).map_err(|error| unavailable(error.to_string()))?;
            let submitted = self.providers.submit::<_, ()>("SubmitTxNoWait", Cbor(signed), ANSWER_TIME).await;
            submitted.map(|_| ()).map_err(submit_error)
        })
    }
}

impl View {
    /// `None` for heights that cannot be there.
    fn read<T>(&self, height: i64, asking: impl Future<Output = Result<T, String>>) -> Result<Option<T>, ReadError> {
        if height < 1 || height > self.newest() {
            return Ok(None);
        }
        self.wait(asking).map(Some).map_err(ReadError)
    }
}

impl Blocks for View {
    fn block(&self, height: i64) -> Result<Option<Block>, ReadError> {
        self.read(height, async { self.find_block(height).await.map(|block| Block::clone(&block)) })
    }

    fn results(&self, height: i64) -> Result<Option<BlockResults>, ReadError> {
        self.read(height, async { self.find_results(height).await.map(|results| BlockResults::clone(&results)) })
    }

    fn light_block(&self, height: i64) -> Result<Option<LightBlock>, ReadError> {
        self.read(height, self.headers.at(height))
    }

    fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, ReadError> {
        let newest = self.newest();
        if newest == 0 || newest.checked_add(1) != Some(height) {
            return self.read(height, async { self.headers.at(height).await.map(|light| light.validators) });
        }
        let asking = async {
            let light = self.headers.at(newest).await?;
            let check = |answer| verify::next_validators(&answer, &light);
            let asked = self.providers.ask("GetValidators", Cbor(height), check).await;
            asked.map(|(set, _)| set).map_err(|error| error.message)
        };
        self.wait(asking).map(Some).map_err(ReadError)
    }

    fn params(&self, height: i64) -> Result<Option<ConsensusParams>, ReadError> {
        self.read(height, async {
            let light = self.headers.at(height).await?;
            let asked =
                self.providers.ask("GetParameters", Cbor(height), |answer| verify::params(&answer, &light)).await;
            asked.map(|(params, _)| params).map_err(|error| error.message)
        })
    }

    fn base(&self) -> i64 {
        self.headers.range().map_or(0, |(lowest, _)| lowest)
    }

    fn height(&self) -> i64 {
        self.newest()
    }
}

impl Engine for View {
    fn kind(&self) -> Kind {
        Kind::Stateless
    }

    fn blocks(&self) -> &dyn Blocks {
        self
    }

    fn subscribe(&self) -> Box<dyn Feed> {
        Box::new(self.feed.subscribe())
    }

    fn submitter(&self) -> &dyn TransactionSubmitter {
        self
    }

    fn submit_evidence(&self, evidence: Evidence) -> Result<(), RpcError> {
        let evidence = types::Evidence { meta: evidence.encode_to_vec().into() };
        let asking = async { Ok(self.providers.submit::<_, ()>("SubmitEvidence", Cbor(evidence), ANSWER_TIME).await) };
        self.wait(asking).map_err(RpcError::unknown)?.map(|_| ())
    }

    fn unconfirmed(&self) -> Result<Vec<bytes::Bytes>, RpcError> {
        let asking = async { Ok(self.providers.ask("GetUnconfirmedTransactions", (), Ok).await) };
        let (txs, _): (Option<Vec<Bytes>>, _) = self.wait(asking).map_err(RpcError::unknown)??;
        Ok(txs.into_iter().flatten().map(|tx| tx.0.into()).collect())
    }

    fn node_id(&self) -> String {
        String::new()
    }

    fn peers(&self) -> Vec<String> {
        Vec::new()
    }
}

impl RemoteState for View {
    fn watch(&self) -> watch::Receiver<Latest> {
        self.latest.subscribe()
    }

    fn earliest_height(&self) -> i64 {
        self.base()
    }

    fn state(&self, height: i64) -> Result<(Root, Tree, Arc<dyn ReadSyncer>), QueryError> {
        let root = self.wait(self.root(height)).map_err(QueryError::Remote)?;
        let prover = Prover { providers: Arc::clone(&self.providers), runtime: self.runtime.clone() };
        let mut memory = self.memory.lock();
        let place = memory.trees.iter().position(|(other, _)| *other == root);
        let remote = match place {
            Some(place) => memory.trees.remove(place).1,
            None => Arc::new(Remote::new(prover.clone(), root, TREE_BYTES)),
        };
        memory.trees.push((root, Arc::clone(&remote)));
        if memory.trees.len() > TREES {
            memory.trees.remove(0);
        }
        drop(memory);
        Ok((root, Tree::remote(remote, Retention::Bytes(TREE_BYTES)), Arc::new(prover)))
    }

    fn estimate_gas(&self, caller: PublicKey, tx: &Transaction) -> Result<Gas, QueryError> {
        let request = types::EstimateGasRequest { signer: caller, transaction: Some(tx.clone()) };
        let asking = async {
            let asked = self.providers.ask("EstimateGas", Cbor(request), Ok).await;
            asked.map(|(gas, _)| gas).map_err(|error| error.message)
        };
        self.wait(asking).map_err(QueryError::Remote)
    }
}
