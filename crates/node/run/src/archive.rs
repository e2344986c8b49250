//! An archive: the state and the blocks that a node has, served without taking part in the network.
//!
//! Reference: `go/consensus/cometbft/full/archive.go`.

use std::sync::Arc;

use apps_core::submit::{BoxFuture, Included, SubmitError, TransactionSubmitter};
use apps_governance::upgrade::{Manager, Upgrades};
use base_grpc::RpcError;
use comet_store::StoredChain;
use node_app::{EngineApp, EngineConfig, NodeOptions, PruneConfig, PruneStrategy};
use node_rpc::{Applied, Blocks, CONSENSUS, Engine, Feed, Kind, UNSUPPORTED, UNSUPPORTED_TEXT, unsupported};
use node_workers::Chain as _;
use node_workers::registration::Addresses;
use p2p_net::api::{CallLimits, P2p, P2pError, PeerId, PeerInfo, PeerVerdict, ProtocolId, Serve, Topic, Validate};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire_cometbft::evidence::Evidence;
use wire_consensus::node::{ConsensusAddress, NetAddress};

use crate::chain::LocalChain;
use crate::control::{Common, FullControl};
use crate::engine::STATE;
use crate::error::RunError;
use crate::paratimes;
use crate::start::{self, Basis, Full};
use crate::store::CommonStore;

/// Folder of blocks below the consensus folder.
const BLOCKS: &str = "data/store";

/// Blocks and state of an archive.
struct Archive {
    stored: StoredChain,
    // Nobody is told of blocks, since there are no new ones; without it streams would end at once.
    feed: broadcast::Sender<Applied>,
    // Reads of the state need it.
    _app: Mutex<EngineApp>,
}

fn refused<T>() -> Result<T, SubmitError> {
    Err(SubmitError::Refused { module: CONSENSUS.to_owned(), code: UNSUPPORTED, message: UNSUPPORTED_TEXT.to_owned() })
}

impl TransactionSubmitter for Archive {
    fn submit(&self, _tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>> {
        Box::pin(async { refused() })
    }

    fn submit_no_wait(&self, _tx: Vec<u8>) -> BoxFuture<'_, Result<(), SubmitError>> {
        Box::pin(async { refused() })
    }
}

impl Engine for Archive {
    fn kind(&self) -> Kind {
        Kind::Archive
    }

    fn blocks(&self) -> &dyn Blocks {
        &self.stored
    }

    fn subscribe(&self) -> Box<dyn Feed> {
        Box::new(self.feed.subscribe())
    }

    fn submitter(&self) -> &dyn TransactionSubmitter {
        self
    }

    fn submit_evidence(&self, _evidence: Evidence) -> Result<(), RpcError> {
        Err(unsupported())
    }

    fn unconfirmed(&self) -> Result<Vec<bytes::Bytes>, RpcError> {
        Err(unsupported())
    }

    fn node_id(&self) -> String {
        String::new()
    }

    fn peers(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A network in which there is nobody.
struct Nobody;

impl P2p for Nobody {
    fn publish(&self, _topic: &Topic, _message: Vec<u8>) -> Result<(), P2pError> {
        Err(P2pError::Closed)
    }

    fn subscribe(&self, _topic: &Topic, _validate: Arc<dyn Validate>) -> Result<(), P2pError> {
        Ok(())
    }

    fn call(
        &self,
        _peer: &PeerId,
        _protocol: &ProtocolId,
        _request: Vec<u8>,
        _limits: CallLimits,
    ) -> BoxFuture<'_, Result<Vec<u8>, P2pError>> {
        Box::pin(async { Err(P2pError::Closed) })
    }

    fn serve(&self, _protocol: ProtocolId, _handler: Arc<dyn Serve>) -> Result<(), P2pError> {
        Ok(())
    }

    fn track(&self, _protocol: &ProtocolId, _min: usize, _total: usize) {}

    fn peers(&self, _protocol: &ProtocolId) -> Vec<PeerInfo> {
        Vec::new()
    }

    fn feedback(&self, _peer: &PeerId, _verdict: PeerVerdict) {}
}

/// Where an archive is reached: nowhere.
struct Nowhere;

impl Addresses for Nowhere {
    fn consensus(&self) -> BoxFuture<'_, Result<Vec<ConsensusAddress>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn p2p(&self) -> Vec<NetAddress> {
        Vec::new()
    }
}

/// Opens what the node has, and serves it.
pub(crate) async fn start(
    basis: &Basis,
    common: Common,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<Full, RunError> {
    // It does nothing for its owner.
    let basis = &Basis { entity: None, ..basis.clone() };
    let Basis { config, options, doc, data_dir, .. } = basis;
    let store = CommonStore::open(data_dir)?;
    let folder = data_dir.join("consensus");
    let app = EngineApp::open_dir(
        &folder.join(STATE),
        EngineConfig {
            doc: Arc::clone(doc),
            node: NodeOptions { local: options.local(), upgrades: None },
            consensus_key: None,
            prune: PruneConfig { strategy: PruneStrategy::None, ..PruneConfig::default() },
            checkpointer: None,
            save_upgrades: None,
        },
    )?;
    let queries = app.queries();
    let (blocks, chain) = comet_store::open(&folder.join(BLOCKS), &doc.comet_chain_id())
        .map_err(|error| RunError::Archive(error.to_string()))?;
    if queries.latest().height == 0 {
        return Err(RunError::Archive(format!(
            "there are no blocks in {}: an archive serves what a node of another mode has synced",
            folder.display()
        )));
    }
    let archive =
        Archive { stored: StoredChain { blocks, chain }, feed: broadcast::Sender::new(1), _app: Mutex::new(app) };
    // Nothing is to come.
    let synced = watch::channel(true).1;
    let chain = Arc::new(LocalChain::new(queries, Arc::new(archive), synced, stop.child_token()));
    let (registration, submission) = start::start_workers(basis, &chain, Arc::new(Nowhere), store.clone(), tasks, stop);
    let paratimes =
        start::start_paratimes(basis, &chain, Arc::new(Nobody), None, &registration, &submission, stop).await?;
    // Ends the node when it is asked to leave.
    start::run_registration(&registration, tasks, stop);
    if let Some(paratimes) = &paratimes {
        tasks.spawn(Arc::clone(paratimes).run(stop.child_token()));
    }
    let upgrades = Manager::new(Vec::new()).map_err(|error| RunError::Upgrade(error.to_string()))?;
    let upgrades = Upgrades::new(upgrades);
    let control = FullControl {
        common,
        engine: None,
        p2p: None,
        light: None,
        registration: registration.clone(),
        upgrades: upgrades.clone(),
        store,
        synced: chain.synced(),
        ready: paratimes::ready(chain.synced(), paratimes.as_ref(), tasks, stop),
        submission,
        paratimes: paratimes.clone(),
    };
    let backend = start::backend(control, &chain, None, None, stop);
    let full = Full { engine: None, p2p: None, chain, registration, paratimes, upgrades, halted: None };
    full.serve(basis, backend, tasks, stop).await?;
    tracing::info!(module = "consensus/cometbft", height = full.chain.latest_height(), mode = ?config.mode,
        "serving an archive");
    Ok(full)
}
