//! Power losses while versions are written behind execution: only the newest are lost, and the engine's
//! handshake executes their blocks again.

use std::sync::atomic::AtomicU64;

use base_kv::{Batch, Crash, Durability as KvDurability, Faulty, KvError, KvStats, KvStore, Memory, Order, Visit};
use comet_store::{
    BlockStore, ChainStore, Durability, Executor, Genesis, HandshakeError, NoEvidence, NoTxs, handshake,
};
use mkvs_db::NodeDb;
use wire_cometbft::{
    Message as _,
    block::{BlockId, Commit},
    limits::BLOCK_PART_BYTES,
    part_set::PartSet,
};

use apps_governance::upgrade::Manager;

use super::*;
use crate::{WriteBehind, behind::MAX_BATCHES, engine_app::db_config, tests::chain_at};

/// A recorded chain as an engine stores it.
struct Recorded {
    network: Network,
    stored: Vec<(PartSet, Commit, BlockId)>,
    /// The upgrade that operators submitted to the chain's nodes, and the height of its block.
    upgrade: Option<(Descriptor, i64)>,
}

impl Recorded {
    fn new(folder: &str, name: &str, to: usize, upgrade: Option<(&str, u64, i64)>) -> Self {
        let (chain, doc) = chain_at(folder, name);
        let mut network = Network::of(&chain, doc);
        network.blocks.truncate(to);
        let stored = chain.blocks().unwrap().into_iter().zip(&network.blocks).map(|(recorded, block)| {
            let parts = PartSet::from_bytes(&recorded.block, BLOCK_PART_BYTES);
            let id = block.id().unwrap();
            assert_eq!(&id.part_set_header, parts.header());
            (parts, Commit::decode(&recorded.seen_commit).unwrap(), id)
        });
        let stored = stored.collect();
        let upgrade = upgrade.map(|(handler, epoch, height)| {
            let handler = handler.to_owned();
            let target = base_prims::version::PROTOCOLS;
            (Descriptor { v: LATEST_DESCRIPTOR_VERSION, handler, target, epoch }, height)
        });
        Self { network, stored, upgrade }
    }

    fn genesis(&self) -> Genesis {
        let doc = &self.network.doc;
        let validators = comet::validators(doc).unwrap();
        Genesis {
            chain_id: doc.comet_chain_id(),
            initial_height: doc.height,
            time: doc.time.0,
            params: comet::consensus_params(doc, true).unwrap(),
            validators: validators
                .into_iter()
                .map(|v| ValidatorUpdate { pub_key: *v.pub_key.as_bytes(), power: v.power })
                .collect(),
            app_state: self.network.genesis.clone(),
        }
    }

    /// What the node's operator does when the first blocks are there: in the first one every epoch has come.
    fn submit(&self, upgrades: &Upgrades, last_height: i64) {
        if let Some((descriptor, at)) = &self.upgrade
            && (2..*at).contains(&last_height)
            && upgrades.pending().is_empty()
        {
            upgrades.submit(descriptor).unwrap();
        }
    }

    /// Starts an engine over the stores and applies the rest of the chain, as fast as it can. Tells at which height the
    /// application was, and how it ended.
    fn live(
        &self,
        app: EngineApp,
        upgrades: &Upgrades,
        blocks: BlockStore,
        chain: ChainStore,
    ) -> (i64, Result<State, String>) {
        let found = app.info().last_height;
        let (blocks, chain) = (Arc::new(blocks), Arc::new(chain));
        let app: comet_store::SharedApp = Arc::new(Mutex::new(Box::new(app)));
        let executor = Executor::new(Arc::clone(&blocks), chain, app, Arc::new(NoTxs), Arc::new(NoEvidence));
        let run = || -> Result<State, String> {
            let mut state = match handshake(&executor, &self.genesis()) {
                Ok(state) => state,
                // What the machine lost must never be more than can be made again.
                Err(e @ (HandshakeError::App(_) | HandshakeError::Exec { .. })) => return Err(e.to_string()),
                Err(e) => panic!("cannot go on from height {found}: {e}"),
            };
            let done = usize::try_from(state.last_block_height - self.network.doc.height + 1).unwrap();
            for (block, (parts, seen, id)) in self.network.blocks.iter().zip(&self.stored).skip(done) {
                self.submit(upgrades, state.last_block_height);
                blocks.save(block, parts, seen, Durability::Synced).map_err(|e| e.to_string())?;
                state = executor.apply(&state, block, id).map_err(|e| e.to_string())?;
            }
            Ok(state)
        };
        let reached = run();
        (found, reached)
    }

    fn is_done(&self, state: &State) -> bool {
        state.last_block_height == self.network.last()
    }
}

/// A disk that is slower than execution, so that versions wait to be written.
struct Slow(Faulty, AtomicU64);

impl KvStore for Slow {
    fn get_with(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        self.0.get_with(key, visit)
    }
    fn scan(&self, from: &[u8], to: Option<&[u8]>, order: Order, visit: Visit<'_>) -> Result<(), KvError> {
        self.0.scan(from, to, order, visit)
    }
    fn write(&self, batch: &Batch, durability: KvDurability) -> Result<(), KvError> {
        std::thread::sleep(Duration::from_millis(self.1.load(Ordering::Relaxed)));
        self.0.write(batch, durability)
    }
    fn sync(&self) -> Result<(), KvError> {
        self.0.sync()
    }
    fn compact(&self) -> Result<(), KvError> {
        self.0.compact()
    }
    fn stats(&self) -> Result<KvStats, KvError> {
        self.0.stats()
    }
}

/// What survives.
struct Machine {
    dir: TempDir,
    state: Memory,
    engine: Memory,
    upgrades: Arc<Mutex<Vec<PendingUpgrade>>>,
    // Height of the application at the last start.
    found: i64,
}

impl Machine {
    fn new() -> Self {
        Self { dir: folder(), state: Memory::new(), engine: Memory::new(), upgrades: Arc::default(), found: 0 }
    }

    fn config(&self, chain: &Recorded, upgrades: &Upgrades) -> EngineConfig {
        let prune = PruneConfig { strategy: PruneStrategy::KeepN(2), interval: Duration::from_millis(1) };
        let mut config = chain.network.config_with(local(), prune);
        config.node.upgrades = Some(upgrades.clone());
        let saved = Arc::clone(&self.upgrades);
        config.save_upgrades = Some(Box::new(move |pending| {
            *saved.lock() = pending.to_vec();
            Ok(())
        }));
        config
    }

    /// One life, until the machine crashes or the chain ends. Tells the writes to the state's disk, and what was reached.
    fn live(&mut self, chain: &Recorded, crash: Option<Crash>, pause: u64, luck: u64) -> (u64, Option<State>) {
        let disk = Arc::new(Slow(Faulty::new(self.state.clone(), crash), AtomicU64::new(pause)));
        let engine = Arc::new(Faulty::new(self.engine.clone(), None));
        let upgrades = Upgrades::new(Manager::new(self.upgrades.lock().clone()).unwrap());
        upgrades.restart().unwrap();
        let text = |e: &dyn std::fmt::Display| e.to_string();
        // Without a pause each version is a write of its own, with one many are written together.
        let opened = WriteBehind::with_delay(disk.clone(), Duration::from_millis(pause))
            .map_err(|e| text(&e))
            .and_then(|behind| {
                let db = NodeDb::open(Arc::new(behind), db_config()).map_err(|e| text(&e))?;
                EngineApp::open(&db, &self.dir.path().join("checkpoints"), self.config(chain, &upgrades))
                    .map_err(|e| text(&e))
            });
        let reached = opened.and_then(|app| {
            let id = chain.network.doc.comet_chain_id();
            let blocks = BlockStore::open(self.dir.path(), engine.clone(), &id).unwrap();
            let stored = ChainStore::open(engine.clone(), &id).unwrap();
            let (found, reached) = chain.live(app, &upgrades, blocks, stored);
            self.found = found;
            reached
        });
        let writes = disk.0.writes();
        self.state = disk.0.restart(luck);
        self.engine = engine.restart(luck);
        match reached {
            Ok(state) => (writes, Some(state)),
            // A halt for an upgrade, whose handler the next life has; or the crash.
            Err(reason) => {
                assert!(disk.0.is_down() || reason.contains("upgrade"), "{reason}");
                (writes, None)
            }
        }
    }

    /// Goes on without crashes to the end of the chain.
    fn finish(&mut self, chain: &Recorded) {
        for _ in 0..3 {
            if let (_, Some(state)) = self.live(chain, None, 0, u64::MAX) {
                assert!(chain.is_done(&state));
                let last = chain.network.blocks.last().unwrap();
                assert_eq!(state.last_block_id, last.id().unwrap());
                let upgrades = self.upgrades.lock();
                assert!(upgrades.is_empty(), "{upgrades:?}");
                return;
            }
        }
        panic!("the chain does not end");
    }
}

/// Crashes at every `step`-th write to the state's disk. Tells how often several versions were lost.
fn every_power_loss_is_survived(chain: &Recorded, step: usize) -> u64 {
    let mut whole = Machine::new();
    let mut writes = 0;
    for life in 0.. {
        assert!(life < 3, "the chain does not end");
        let (more, reached) = whole.live(chain, None, 0, u64::MAX);
        writes += more;
        if reached.is_some() {
            break;
        }
    }
    assert!(writes >= chain.network.blocks.len() as u64, "{writes}");

    let (mut crashes, mut lost, mut most) = (0u64, 0u64, 0);
    for at_write in (0..writes).step_by(step) {
        for (applied, pause, luck) in [(false, 0, 0), (true, 0, u64::MAX), (false, 3, 0), (true, 3, 1)] {
            let mut machine = Machine::new();
            let crash = Crash { at_write, applied };
            let (_, reached) = machine.live(chain, Some(crash), pause, luck);
            crashes += u64::from(reached.is_none());
            let blocks = {
                let id = chain.network.doc.comet_chain_id();
                BlockStore::open(machine.dir.path(), Arc::new(machine.engine.clone()), &id).unwrap().height()
            };
            machine.finish(chain);
            // Started from a version that was lost and made again.
            let behind = blocks - machine.found;
            assert!(behind <= 1 + i64::try_from(MAX_BATCHES).unwrap() || machine.found == 0, "{behind} versions lost");
            lost += u64::from(behind > 1);
            most = most.max(behind);
        }
    }
    println!("{writes} writes, {crashes} crashes, {lost} with several versions lost, at most {most}");
    assert!(crashes > 0);
    lost
}

#[test]
fn a_power_loss_at_any_write_loses_the_newest_versions_only() {
    assert!(every_power_loss_is_survived(&Recorded::new("chains", "gas-fees-staking", 21, None), 1) > 0);
}

#[test]
fn a_power_loss_around_an_upgrade_runs_its_handler_again() {
    let mut lost = 0;
    for (name, handler) in
        [("node-upgrade-__e2e-test-valid", "__e2e-test-valid"), ("node-upgrade-consensus261", "consensus261")]
    {
        let (epoch, height) = upgrade_of(name);
        lost += every_power_loss_is_survived(
            &Recorded::new("chains-recorded", name, 100, Some((handler, epoch, height))),
            1,
        );
    }
    assert!(lost > 0);
}

/// Epoch and height at which the chain's blocks do not hold any more without their upgrade.
fn upgrade_of(name: &str) -> (u64, i64) {
    let (chain, doc) = chain_at("chains-recorded", name);
    let network = Network::of(&chain, doc);
    let mut app = EngineApp::open_dir(folder().path(), network.config()).unwrap();
    let mut state = network.start(&mut app);
    for block in &network.blocks {
        let proposed = proposed_block(block, &state.last_validators, state.initial_height).unwrap();
        let Ok(results) = app.execute(&proposed) else { break };
        state = state.after(block.id().unwrap(), &block.header, &results).unwrap();
        state.app_hash = app.commit().unwrap().app_hash;
    }
    assert!(state.last_block_height < network.last(), "nothing was upgraded");
    (app.next_epoch().unwrap(), state.next_height())
}
