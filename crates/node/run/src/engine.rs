//! The consensus engine's settings, from genesis document and configuration.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use apps_core::{LocalConfig, SanitySchedule};
use apps_governance::upgrade::{Manager, Upgrades};
use base_identity::Identity;
use comet_chain::app::ValidatorUpdate;
use comet_core::Config as RoundConfig;
use comet_engine::Setup;
use comet_store::{FileSigner, Genesis, SharedApp};
use node_app::{CheckpointerConfig, EngineApp, EngineConfig, NodeOptions, PruneConfig, PruneStrategy, Queries};
use node_config::{Config, Mode};
use node_workers::backoff::seed_of;
use tokio::sync::watch;
use wire_cometbft::Duration;
use wire_consensus::genesis::{Document, comet};

use crate::error::RunError;
use crate::halt::{self, Halted};
use crate::start::Options;
use crate::store::CommonStore;
use crate::{events, network};

/// Heights that the network may be ahead before blocks are fetched instead of waited for.
const BLOCK_SYNC_LAG: u32 = 10;
/// Subtrees that a checkpoint is cut into side by side, with the parallel chunker. Source: `go/storage/mkvs/checkpoint`.
const CHUNKER_THREADS: u16 = 12;
/// Folder of the application's state below the consensus folder.
pub(crate) const STATE: &str = "state";

/// Whether the node votes.
pub(crate) fn is_validator(config: &Config) -> bool {
    config.mode == Mode::Validator || config.consensus.validator
}

/// The start of the chain as the engine wants it.
pub(crate) fn genesis(doc: &Document, text: &str, allow_debug: bool) -> Result<Genesis, String> {
    let params = comet::consensus_params(doc, allow_debug).map_err(|error| error.to_string())?;
    let validators = comet::validators(doc).map_err(|error| error.to_string())?;
    Ok(Genesis {
        chain_id: doc.comet_chain_id(),
        initial_height: doc.height,
        time: doc.time.0,
        params,
        validators: validators
            .into_iter()
            .map(|validator| ValidatorUpdate { pub_key: *validator.pub_key.as_bytes(), power: validator.power })
            .collect(),
        app_state: text.as_bytes().to_vec(),
    })
}

/// Times of rounds: those of commits and empty blocks are the network's.
fn rounds(doc: &Document) -> RoundConfig {
    let params = &doc.consensus.parameters;
    RoundConfig {
        timeout_commit: Duration::from_nanos(params.timeout_commit),
        skip_timeout_commit: params.skip_timeout_commit,
        create_empty_blocks_interval: Duration::from_nanos(params.empty_block_interval),
        block_sync_lag: Some(BLOCK_SYNC_LAG),
        ..RoundConfig::default()
    }
}

/// When the whole state is checked besides; nodes differ by their keys.
fn sanity(config: &Config, identity: &Identity) -> Option<SanitySchedule> {
    let settings = &config.consensus.supplementary_sanity;
    let interval = NonZeroU64::new(settings.interval).filter(|_| settings.enabled)?;
    Some(SanitySchedule { interval, seed: seed_of(&identity.node.public()) })
}

/// What the services are told of this node.
pub(crate) fn local_config(config: &Config, options: &Options, identity: &Identity) -> LocalConfig {
    let set = |n: u64| (n > 0).then_some(n);
    LocalConfig {
        min_gas_price: config.consensus.min_gas_price.into(),
        own_tx_signer: Some(identity.node.public().into()),
        halt_height: set(config.consensus.halt_height).and_then(|height| i64::try_from(height).ok()),
        halt_epoch: set(config.consensus.halt_epoch),
        supplementary_sanity: sanity(config, identity),
        ..options.local()
    }
}

/// The application, and the engine that is to run it.
pub(crate) struct Opened {
    pub(crate) setup: Setup,
    pub(crate) queries: Queries,
    pub(crate) upgrades: Upgrades,
    pub(crate) halted: watch::Receiver<Option<Halted>>,
}

/// Opens the application and describes the engine around it.
pub(crate) fn setup(
    config: &Config,
    options: &Options,
    identity: &Identity,
    doc: &Arc<Document>,
    text: &str,
    folder: &Path,
    store: &CommonStore,
) -> Result<Opened, RunError> {
    let mut known = store.pending_upgrades()?;
    events::incompatible_upgrades(&known);
    let wrong = |error: apps_core::Error| RunError::Upgrade(error.to_string());
    let mut manager = Manager::new(known.clone()).map_err(wrong)?;
    manager.run_startup_stages().map_err(wrong)?;
    let upgrades = Upgrades::new(manager);
    let prune = &config.consensus.prune;
    let strategy = if prune.strategy == "keep_n" { PruneStrategy::KeepN(prune.num_kept) } else { PruneStrategy::None };
    let checkpointer = &config.consensus.checkpointer;
    let saved = store.clone();
    let mut app = EngineApp::open_dir(
        &folder.join(STATE),
        EngineConfig {
            doc: Arc::clone(doc),
            node: NodeOptions { local: local_config(config, options, identity), upgrades: Some(upgrades.clone()) },
            consensus_key: Some(identity.consensus.clone()),
            prune: PruneConfig { strategy, interval: prune.interval.0 },
            checkpointer: (!checkpointer.disabled).then_some(CheckpointerConfig {
                check_interval: checkpointer.check_interval.0,
                chunker_threads: if checkpointer.parallel_chunker { CHUNKER_THREADS } else { 0 },
            }),
            save_upgrades: Some(Box::new(move |pending| {
                saved.save_upgrades(pending)?;
                events::upgrades_changed(&known, pending);
                known = pending.to_vec();
                Ok(())
            })),
        },
    )?;
    let queries = app.queries();
    let halted = halt::watch(&mut app);
    let app: SharedApp = Arc::new(parking_lot::Mutex::new(Box::new(app)));
    let wrong = |reason| RunError::Genesis { path: config.genesis.file.clone().into(), reason };
    let genesis = genesis(doc, text, options.dont_blame_oasis).map_err(wrong)?;
    let mut setup = Setup::new(genesis, app, folder.to_owned(), identity.p2p.clone());
    setup.consensus = rounds(doc);
    let lenient = config.consensus.debug.addr_book_lenient && options.dont_blame_oasis;
    setup.net = network::consensus(config, folder, lenient)?;
    setup.moniker = "oasis-node".to_owned();
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname")
        && host.trim().is_ascii()
        && !host.trim().is_empty()
    {
        setup.moniker = host.trim().to_owned();
    }
    if is_validator(config) || options.votes {
        setup.signer = Some(Arc::new(FileSigner::new(identity.consensus.clone())));
    }
    Ok(Opened { setup, queries, upgrades, halted })
}
