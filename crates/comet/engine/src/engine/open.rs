//! Starting: stores, application, pools, reactors, transport, in this order.

use std::path::Path;
use std::sync::Arc;

use base_kv::KvStore;
use base_kv_disk::{Disk, Options};
use comet_chain::app::Application;
use comet_chain::state::State;
use comet_net::{Reactor, Switch, node_id};
use comet_pools::{EvidencePool, EvidenceReactor, TxPool, TxPoolReactor};
use comet_store::{Executor, Guard, MissingGuard, StoredChain, Wal, handshake};
use comet_sync::{BlockSync, StateSync, StateSyncConfig};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire_cometbft::keys::Address;
use wire_cometbft::p2p::{NodeInfo, NodeInfoOther, ProtocolVersion};

use super::supervise::{Plan, Reactors, supervise};
use super::{EngineError, EngineHandle, Heights, Inner};
use crate::intake::Intake;
use crate::reactor::ConsensusReactor;
use crate::setup::{EVIDENCE_DIR, GUARD_FILE, STORE_DIR, Setup, WAL_DIR, foreign_databases};
use crate::status::Phase;
use crate::submit::Submitter;

/// Channel of peer exchange; listed only if the node takes part in it.
const PEX_CHANNEL: u8 = 0x00;

/// What is open before there is any peer.
struct Opened {
    executor: Arc<Executor>,
    pool: Arc<TxPool>,
    evidence: Arc<EvidencePool>,
    guard: Option<Guard>,
    wal: Wal,
    state: State,
    /// Whether the state is to come from a snapshot.
    restore: bool,
    app_version: u64,
}

fn make_dir(path: &Path) -> Result<(), EngineError> {
    std::fs::create_dir_all(path).map_err(|source| EngineError::Folder { path: path.to_owned(), source })
}

/// Opens what is on disk and brings application and stores level; blocks.
fn open(setup: &Setup) -> Result<Opened, EngineError> {
    let dir = &setup.data_dir;
    let (stores, evidence_dir, wal_dir) = (dir.join(STORE_DIR), dir.join(EVIDENCE_DIR), dir.join(WAL_DIR));
    for path in [&stores, &evidence_dir, &wal_dir] {
        make_dir(path)?;
    }
    let genesis = &setup.genesis;
    let (blocks, chain) = comet_store::open(&stores, &genesis.chain_id)?;
    let stored = chain.load()?;
    let is_new = blocks.height() == 0 && stored.as_ref().is_none_or(|state| state.last_block_height == 0);

    let never_voted = is_new && foreign_databases(dir).is_empty();
    let missing = if never_voted || setup.new_guard { MissingGuard::Create } else { MissingGuard::Refuse };
    let guard = match &setup.signer {
        Some(signer) => Some(Guard::open(&dir.join(GUARD_FILE), Arc::clone(signer), missing)?),
        None => None,
    };
    let wal = Wal::open(&wal_dir)?;

    let before = match stored {
        Some(state) => state,
        None => genesis.state()?,
    };
    let kv: Arc<dyn KvStore> = Arc::new(Disk::open(&evidence_dir, Options::default()).map_err(EngineError::Evidence)?);
    let source = Arc::new(StoredChain { blocks: Arc::clone(&blocks), chain: Arc::clone(&chain) });
    let evidence = EvidencePool::open(kv, source, Arc::new(before.clone())).map_err(EngineError::Evidence)?;
    let evidence = Arc::new(evidence);
    let pool = Arc::new(TxPool::new(setup.txs.clone(), Arc::clone(&setup.app), before.last_block_height));
    let executor = Arc::new(Executor::new(
        blocks,
        chain,
        Arc::clone(&setup.app),
        Arc::clone(&pool) as Arc<dyn comet_store::TxPool>,
        Arc::clone(&evidence) as Arc<dyn comet_store::EvidencePool>,
    ));

    let info = {
        let app = setup.app.lock();
        Application::info(&**app)
    };
    let restore = setup.state_sync.is_some() && is_new && info.last_height == 0;
    let state = if restore { before } else { handshake(&executor, genesis)? };
    pool.follow(&state);
    Ok(Opened { executor, pool, evidence, guard, wal, state, restore, app_version: info.app_version })
}

fn node_info(setup: &Setup, app_version: u64) -> NodeInfo {
    let listen = setup.net.listen.map(|address| format!("tcp://{address}"));
    let channels = comet_net::node_info::FULL_NODE_CHANNELS.into_iter();
    let channels = channels.filter(|&channel| channel != PEX_CHANNEL || setup.net.pex).collect();
    NodeInfo {
        protocol_version: ProtocolVersion {
            p2p: comet_net::node_info::P2P_PROTOCOL,
            block: comet_net::node_info::BLOCK_PROTOCOL,
            app: app_version,
        },
        default_node_id: node_id(&setup.p2p_key.public()).0.to_string(),
        listen_addr: setup.net.external_address.clone().or(listen).unwrap_or_default(),
        network: setup.genesis.chain_id.clone(),
        version: comet_net::node_info::SOFTWARE_VERSION.to_owned(),
        channels,
        moniker: setup.moniker.clone(),
        other: NodeInfoOther { tx_index: "off".to_owned(), rpc_address: String::new() },
    }
}

pub(super) async fn start(setup: Setup, stop: CancellationToken) -> Result<EngineHandle, EngineError> {
    let opening = tokio::task::spawn_blocking(move || {
        let opened = open(&setup);
        (setup, opened)
    });
    let (setup, opened) = opening.await.map_err(|_| EngineError::Thread("opening of stores"))?;
    let opened = opened?;
    if stop.is_cancelled() {
        return Err(EngineError::Stopped);
    }
    let address = setup.signer.as_ref().map(|signer| Address::of(&signer.public()));
    let info = node_info(&setup, opened.app_version);
    // Ends after the machine does, so that others can be served its last votes.
    let net_stop = CancellationToken::new();

    let intake = Arc::new(Intake::default());
    let blocks = Arc::clone(opened.executor.blocks());
    let consensus = ConsensusReactor::new(setup.genesis.initial_height, Arc::clone(&intake), blocks, net_stop.clone());
    let heights = Arc::new(Heights(consensus.clone()));
    let mut block_sync_config = setup.block_sync_config.clone();
    block_sync_config.own_address = address;
    let source = Arc::clone(opened.executor.blocks());
    let block_sync = BlockSync::new(block_sync_config, source, Handle::current(), net_stop.clone());
    let state_sync_config = setup.state_sync.as_ref().map(|sync| sync.config.clone());
    let state_sync_config = state_sync_config.unwrap_or_else(|| StateSyncConfig::new(setup.data_dir.join("data")));
    let state_sync = StateSync::new(state_sync_config, Arc::clone(&setup.app), Handle::current(), net_stop.clone());
    let txs = TxPoolReactor::new(Arc::clone(&opened.pool), heights.clone(), net_stop.clone());
    let evidence = EvidenceReactor::new(Arc::clone(&opened.evidence), heights, net_stop.clone());
    let reactors = Reactors {
        consensus: consensus.clone(),
        block_sync: Arc::clone(&block_sync),
        state_sync,
        txs: Arc::new(txs),
        evidence: Arc::new(evidence),
    };
    let list: Vec<Arc<dyn Reactor>> = reactors.list();
    let switch = Switch::start(setup.net.clone(), setup.p2p_key.clone(), info, list, net_stop.clone()).await?;

    let submitter =
        Submitter::new(Arc::clone(&opened.pool), Arc::clone(&opened.executor), setup.submit_timeout, net_stop.clone());
    let first = if opened.restore { Phase::StateSync } else { Phase::BlockSync };
    let inner = Arc::new(Inner {
        switch,
        executor: opened.executor,
        pool: opened.pool,
        evidence: opened.evidence,
        reactor: consensus,
        block_sync,
        intake,
        address,
        phase: watch::Sender::new(first),
        submitter,
        unsigned: Arc::default(),
    });
    let plan = Plan {
        consensus: setup.consensus,
        block_sync: setup.block_sync,
        state_sync: setup.state_sync.filter(|_| opened.restore),
        lag_patience: setup.lag_patience,
        guard: opened.guard,
        wal: opened.wal,
        state: opened.state,
    };
    tokio::spawn(supervise(Arc::clone(&inner), plan, reactors, net_stop, stop));
    Ok(EngineHandle(inner))
}
