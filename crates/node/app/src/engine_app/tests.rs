//! Recorded chains through the engine's border, with restarts, snapshots, pruning, checkpoints and halts in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use apps_core::LocalConfig;
use apps_governance::upgrade::Upgrades;
use comet_chain::{
    app::{
        Application, ApplyChunkOutcome, CheckKind, Fatal, InitChain, OfferSnapshotResult, Snapshot, ValidatorUpdate,
        Verdict,
    },
    exec::proposed_block,
    state::State,
};
use dev_testkit::chains::Chain;
use mkvs_db::{Threads, checkpoint::Metadata};
use mkvs_tree::KvRead as _;
use parking_lot::Mutex;
use tempfile::TempDir;
use wire_cometbft::block::Block;
use wire_consensus::{
    genesis::{Document, comet},
    upgrade::{Descriptor, LATEST_DESCRIPTOR_VERSION, PendingUpgrade},
};

use super::{EngineApp, EngineConfig, OpenError};
use crate::{
    CheckpointerConfig, NodeOptions, PruneConfig, PruneHandler, PruneStrategy, QueryError,
    tests::{chain, local},
};

mod crashes;

/// A recorded network and the engine's part of its state.
struct Network {
    doc: Arc<Document>,
    genesis: Vec<u8>,
    blocks: Vec<Block>,
    initial: State,
}

impl Network {
    fn recorded(name: &str) -> Self {
        let (chain, doc) = chain(name);
        Self::of(&chain, doc)
    }

    fn of(chain: &Chain, doc: Document) -> Self {
        let params = comet::consensus_params(&doc, true).unwrap();
        let validators: Vec<_> = comet::validators(&doc)
            .unwrap()
            .into_iter()
            .map(|v| ValidatorUpdate { pub_key: *v.pub_key.as_bytes(), power: v.power })
            .collect();
        let initial = State::genesis(doc.comet_chain_id(), doc.height, doc.time.0, params, &validators).unwrap();
        let blocks = chain.blocks().unwrap().iter().map(|b| Block::decode_checked(&b.block).unwrap()).collect();
        Self { doc: Arc::new(doc), genesis: chain.genesis().unwrap(), blocks, initial }
    }

    fn config(&self) -> EngineConfig {
        self.config_with(local(), PruneConfig::default())
    }

    fn config_with(&self, local: LocalConfig, prune: PruneConfig) -> EngineConfig {
        EngineConfig {
            doc: Arc::clone(&self.doc),
            node: NodeOptions { local, upgrades: Some(Default::default()) },
            consensus_key: None,
            prune,
            checkpointer: Some(CheckpointerConfig { check_interval: Duration::from_secs(3600), chunker_threads: 0 }),
            save_upgrades: None,
        }
    }

    fn genesis_request(&self) -> InitChain {
        InitChain {
            chain_id: self.doc.comet_chain_id(),
            app_state: self.genesis.clone(),
            initial_height: self.doc.height,
            ..InitChain::default()
        }
    }

    /// The engine's state after genesis, and the application's.
    fn start(&self, app: &mut dyn Application) -> State {
        assert_eq!((app.info().last_height, app.info().app_version), (0, 7 << 32));
        assert!(app.info().last_app_hash.is_empty());
        let init = app.init_chain(&self.genesis_request()).unwrap();
        let mut state = self.initial.clone();
        state.apply_init_chain(&init).unwrap();
        state
    }

    /// Has the application go from the height of the state to a later one.
    fn run(&self, app: &mut dyn Application, state: &mut State, to: i64) {
        while state.next_height() <= to {
            let height = state.next_height();
            let block = &self.blocks[usize::try_from(height - self.doc.height).unwrap()];
            assert_eq!(block.header.app_hash, state.app_hash, "app hash before block {height}");
            assert_eq!(block.header.last_results_hash, state.last_results_hash, "results before block {height}");
            let proposed = proposed_block(block, &state.last_validators, state.initial_height).unwrap();
            if height % 3 == 0 {
                // A proposal that is voted down in between must leave no trace.
                let mut other = proposed.clone();
                other.txs.pop();
                other.hash[0] ^= 1;
                assert_eq!(app.process_proposal(&other).unwrap(), Verdict::Reject);
                assert_eq!(app.process_proposal(&proposed).unwrap(), Verdict::Accept);
            }
            for tx in &proposed.txs {
                app.check_tx(tx, CheckKind::New);
            }
            let results = app.execute(&proposed).unwrap();
            *state = state.after(block.id().unwrap(), &block.header, &results).unwrap();
            let committed = app.commit().unwrap();
            assert_eq!((app.info().last_height, &app.info().last_app_hash), (height, &committed.app_hash));
            state.app_hash = committed.app_hash;
        }
    }

    fn last(&self) -> i64 {
        self.blocks.last().unwrap().header.height
    }

    /// Runs a new application up to a height.
    fn run_new(&self, dir: &TempDir, config: EngineConfig, to: i64) -> (EngineApp, State) {
        let mut app = EngineApp::open_dir(dir.path(), config).unwrap();
        let mut state = self.start(&mut app);
        self.run(&mut app, &mut state, to);
        (app, state)
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Waits for a background thread to have done something.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_chain_goes_on_after_restarts() {
    let network = Network::recorded("runtime-runtime");
    let dir = folder();
    let mut app = EngineApp::open_dir(dir.path(), network.config()).unwrap();
    let mut state = network.start(&mut app);
    // Before the first commit nothing is kept.
    drop(app);
    let mut app = EngineApp::open_dir(dir.path(), network.config()).unwrap();
    network.start(&mut app);
    for at in [1, 2, 17, network.last() / 2, network.last() / 2 + 1] {
        network.run(&mut app, &mut state, at);
        // Executed, not committed: must be gone after the restart.
        let next = &network.blocks[usize::try_from(at).unwrap()];
        app.execute(&proposed_block(next, &state.last_validators, state.initial_height).unwrap()).unwrap();
        let info = app.info();
        drop(app);
        app = EngineApp::open_dir(dir.path(), network.config()).unwrap();
        assert_eq!(app.info(), info);
        assert_eq!(app.queries().latest().height, at);
    }
    network.run(&mut app, &mut state, network.last());
    assert_eq!(app.queries().earliest_height(), 1);
}

#[test]
fn a_state_of_another_network_or_program_is_refused() {
    let network = Network::recorded("gas-fees-staking");
    let dir = folder();
    drop(network.run_new(&dir, network.config(), 3));
    let other = Network::recorded("byzantine-beacon-vrf-honest");
    let refused = EngineApp::open_dir(dir.path(), other.config()).map(drop).unwrap_err();
    assert!(matches!(&refused, OpenError::Resume(_)), "{refused}");
    let mut app = EngineApp::open_dir(folder().path(), other.config()).unwrap();
    let refused = app.init_chain(&network.genesis_request()).unwrap_err();
    assert!(refused.to_string().contains("chain"), "{refused}");
    let mut request = other.genesis_request();
    request.initial_height += 1;
    assert!(app.init_chain(&request).unwrap_err().to_string().contains("initial height"));
    request.app_state = b"{".to_vec();
    assert!(app.init_chain(&request).is_err());

    // The reference's state is neither used nor touched.
    let dir = folder();
    let foreign = dir.path().join("mkvs_storage.pathbadger.db");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("MANIFEST"), b"theirs").unwrap();
    EngineApp::open_dir(dir.path(), other.config()).map(drop).unwrap();
    assert_eq!(std::fs::read(foreign.join("MANIFEST")).unwrap(), b"theirs");
}

#[test]
fn queries_see_every_height() {
    let network = Network::recorded("gas-fees-staking");
    let dir = folder();
    let mut app = EngineApp::open_dir(dir.path(), network.config()).unwrap();
    let queries = app.queries();
    assert!(matches!(queries.state(0), Err(QueryError::NoBlocks)));
    let mut watch = queries.watch();
    let mut state = network.start(&mut app);
    let mut hashes = Vec::new();
    for height in 1..=network.last() {
        network.run(&mut app, &mut state, height);
        assert!(watch.has_changed().unwrap());
        let latest = *watch.borrow_and_update();
        assert_eq!((latest.height, latest.time), (height, state.last_block_time));
        hashes.push(latest.app_hash);
    }
    for (height, hash) in (1..).zip(&hashes) {
        let at = queries.state(height).unwrap();
        assert_eq!((at.height, at.root.hash), (height, *hash));
        assert!(at.get(&apps_core::params::KEY_CHAIN_CONTEXT).unwrap().is_some());
    }
    assert_eq!(queries.state(0).unwrap().root.hash, *hashes.last().unwrap());
    for missing in [-1, network.last() + 1] {
        assert!(matches!(queries.state(missing), Err(QueryError::Height { .. })), "{missing}");
    }
    assert!(queries.used_bytes().unwrap() > 0);
    // A transaction of the chain costs gas at its newest state too.
    let tx = wire_consensus::transaction::Transaction::new(0, None, "staking.Transfer", &0u64);
    assert!(queries.estimate_gas(Default::default(), &tx).is_ok());
}

#[test]
fn who_watches_a_transaction_learns_that_it_fails() {
    let network = Network::recorded("gas-fees-staking");
    let (mut app, _) = network.run_new(&folder(), network.config(), 3);
    let queries = app.queries();
    let hash = base_prims::Hash::of(&[b"not a transaction"]);
    let mut told = queries.watch_invalidated(hash).unwrap();
    assert!(queries.watch_invalidated(hash).is_none(), "watched already");
    app.check_tx(b"not a transaction", CheckKind::New);
    assert!(told.try_recv().is_err(), "a first check tells nobody");
    app.check_tx(b"not a transaction", CheckKind::Recheck);
    assert_ne!(told.try_recv().unwrap().code, 0);
    drop(queries.watch_invalidated(hash).unwrap());
    assert!(queries.watch_invalidated(hash).is_some(), "the earlier watcher is gone");
}

#[test]
fn old_states_are_pruned_and_nothing_else() {
    let network = Network::recorded("runtime-runtime");
    let prune = PruneConfig { strategy: PruneStrategy::KeepN(5), interval: Duration::from_millis(1) };
    let config = || network.config_with(local(), prune);
    let dir = folder();
    let (mut app, mut state) = network.run_new(&dir, config(), 20);
    let queries = app.queries();
    eventually("pruning", || queries.earliest_height() == 15);
    assert!(matches!(queries.state(14), Err(QueryError::Height { height: 14, earliest: 15, latest: 20 })));

    // What somebody reads stays as long as they read.
    let held = queries.state(17).unwrap();
    // And what somebody else asked to keep.
    struct Keep(AtomicI64);
    impl PruneHandler for Keep {
        fn can_prune(&self, version: i64) -> Result<(), String> {
            if version < self.0.load(Ordering::SeqCst) { Ok(()) } else { Err("still needed".to_owned()) }
        }
    }
    let keep = Arc::new(Keep(AtomicI64::new(22)));
    queries.register_prune_handler(Arc::clone(&keep) as _);
    network.run(&mut app, &mut state, 40);
    eventually("pruning up to what is read", || queries.earliest_height() == 17);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(queries.earliest_height(), 17);
    let mut keys = 0;
    held.iterate(&[], &mut |_, _| {
        keys += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert!(keys > 10);
    drop(held);
    network.run(&mut app, &mut state, 45);
    eventually("pruning up to what the handler keeps", || queries.earliest_height() == 22);
    keep.0.store(i64::MAX, Ordering::SeqCst);
    network.run(&mut app, &mut state, 50);
    eventually("pruning", || queries.earliest_height() == 45 && queries.last_retained_height() == 45);
    drop((app, queries));

    let mut app = EngineApp::open_dir(dir.path(), config()).unwrap();
    assert_eq!(app.queries().last_retained_height(), 0, "not known before the first run");
    network.run(&mut app, &mut state, network.last());
    let queries = app.queries();
    eventually("pruning", || queries.earliest_height() == network.last() - 5);
    for height in network.last() - 5..=network.last() {
        queries.state(height).unwrap();
    }
    drop((app, queries));
    let db = super::open_state_db(dir.path(), base_kv_disk::Options::default()).unwrap();
    let report = db.check(&mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(report.is_ok() && report.versions == 6, "{report:?}");
}

#[test]
fn commits_tell_the_engine_what_blocks_can_go() {
    let network = Network::recorded("gas-fees-staking");
    let prune = PruneConfig { strategy: PruneStrategy::KeepN(2), interval: Duration::from_millis(1) };
    let (mut app, mut state) = network.run_new(&folder(), network.config_with(local(), prune), 8);
    let queries = app.queries();
    eventually("pruning", || queries.last_retained_height() == 6);
    let block = &network.blocks[8];
    let proposed = proposed_block(block, &state.last_validators, state.initial_height).unwrap();
    let results = app.execute(&proposed).unwrap();
    state = state.after(block.id().unwrap(), &block.header, &results).unwrap();
    assert_eq!(app.commit().unwrap().retain_height, 6);
    assert_eq!(state.last_block_height, 9);
    let refused = EngineApp::open_dir(
        folder().path(),
        network.config_with(local(), PruneConfig { strategy: PruneStrategy::KeepN(0), ..prune }),
    );
    assert!(matches!(refused.map(drop), Err(OpenError::NumKept(0))));
}

/// A checkpoint of the newest state in chunks of about that many bytes.
fn make_snapshot(app: &mut EngineApp, chunk_size: u64) -> (Snapshot, Vec<Vec<u8>>) {
    let root = app.queries().state(0).unwrap().root;
    app.files.create(&app.db, &root, chunk_size, 0, &Threads::default()).unwrap();
    let snapshots = app.snapshots();
    let [snapshot] = &snapshots.list().unwrap()[..] else { panic!("one snapshot") };
    let (height, format) = (snapshot.height, snapshot.format);
    let chunks = (0..snapshot.chunks).map(|i| snapshots.load_chunk(height, format, i).unwrap().unwrap()).collect();
    assert_eq!(snapshots.load_chunk(height, format, snapshot.chunks).unwrap(), None);
    assert_eq!(snapshots.load_chunk(height + 1, format, 0).unwrap(), None);
    assert_eq!(snapshots.load_chunk(height, 2, 0).unwrap(), None);
    (snapshot.clone(), chunks)
}

#[test]
fn a_snapshot_restores_and_the_chain_goes_on() {
    let network = Network::recorded("runtime-runtime");
    let half = network.last() / 2;
    let (mut source, state) = network.run_new(&folder(), network.config(), half);
    let (snapshot, chunks) = make_snapshot(&mut source, 2048);
    assert!(chunks.len() > 5, "{}", chunks.len());
    let app_hash = state.app_hash.clone();

    let dir = folder();
    let mut app = EngineApp::open_dir(dir.path(), network.config()).unwrap();
    let snapshots = app.snapshots();
    let early = snapshots.apply_chunk(0, &chunks[0], "early").unwrap();
    assert_eq!(early.outcome, ApplyChunkOutcome::Abort);

    refused_offers(snapshots, &snapshot, &app_hash);
    assert_eq!(snapshots.offer(&snapshot, &app_hash).unwrap(), OfferSnapshotResult::Accept);
    // Another order than they were made in; a damaged one in between, and one twice.
    for (i, chunk) in chunks.iter().enumerate().rev() {
        let index = u32::try_from(i).unwrap();
        let mut damaged = chunk.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let answer = snapshots.apply_chunk(index, &damaged, "liar").unwrap();
        assert_eq!((answer.outcome, answer.refetch_chunks), (ApplyChunkOutcome::Retry, vec![index]));
        for _ in 0..1 + usize::from(i > 0) {
            assert_eq!(snapshots.apply_chunk(index, chunk, "peer").unwrap().outcome, ApplyChunkOutcome::Accept);
        }
    }
    assert_eq!((app.info().last_height, app.info().last_app_hash), (half, app_hash.clone()));
    let queries = app.queries();
    assert_eq!((queries.latest().height, queries.earliest_height()), (half, half));

    // It goes on at once, after a restart, and as the one that it came from does.
    let mut on = state.clone();
    network.run(&mut app, &mut on, half + 10);
    drop((app, queries));
    let mut app = EngineApp::open_dir(dir.path(), network.config()).unwrap();
    network.run(&mut app, &mut on, network.last());
    let mut original = state;
    network.run(&mut source, &mut original, network.last());
    assert_eq!(app.info(), source.info());
}

fn refused_offers(snapshots: &mut dyn comet_chain::app::Snapshots, snapshot: &Snapshot, app_hash: &[u8]) {
    use OfferSnapshotResult::{Abort, Reject, RejectFormat};
    let metadata: Metadata = base_codec::cbor::from_slice(&snapshot.metadata).unwrap();
    let with = |metadata: &Metadata| {
        let metadata = base_codec::cbor::to_vec(metadata);
        let hash = base_prims::Hash::of(&[&metadata]).as_bytes().to_vec();
        Snapshot { metadata, hash, ..snapshot.clone() }
    };
    let mut none = metadata.clone();
    none.chunks.clear();
    let mut other_version = metadata.clone();
    other_version.root.version += 1;
    let mut other_type = metadata.clone();
    other_type.root.root_type = mkvs_tree::RootType::IO;
    let mut unknown = metadata.clone();
    unknown.version = 2;
    for (offer, expected) in [
        (Snapshot { format: 2, ..snapshot.clone() }, RejectFormat),
        (Snapshot { hash: vec![1; 32], ..snapshot.clone() }, Reject),
        (Snapshot { hash: Vec::new(), ..snapshot.clone() }, Reject),
        (Snapshot { chunks: snapshot.chunks + 1, ..snapshot.clone() }, Reject),
        (Snapshot { height: snapshot.height + 1, ..snapshot.clone() }, Reject),
        (Snapshot { chunks: 0, ..with(&none) }, Reject),
        (with(&other_version), Reject),
        (with(&other_type), Reject),
        (with(&unknown), Reject),
    ] {
        assert_eq!(snapshots.offer(&offer, app_hash).unwrap(), expected, "{offer:?}");
    }
    assert_eq!(snapshots.offer(snapshot, &[7; 32]).unwrap(), Reject);
    assert_eq!(snapshots.offer(snapshot, &[7; 31]).unwrap(), Abort);
}

#[test]
fn a_forged_snapshot_is_rejected_and_the_next_one_restores() {
    let network = Network::recorded("gas-fees-staking");
    let (mut source, mut state) = network.run_new(&folder(), network.config(), 6);
    let (good, chunks) = make_snapshot(&mut source, 1024);
    let metadata: Metadata = base_codec::cbor::from_slice(&good.metadata).unwrap();
    let mut app = EngineApp::open_dir(folder().path(), network.config()).unwrap();
    let snapshots = app.snapshots();
    // Chunks that are what the metadata says, but are no part of the tree; and one chunk in every place.
    let junk = mkvs_db::checkpoint::encode_chunk(&[None]).0;
    for forged in [vec![junk], vec![chunks[0].clone(), chunks[0].clone()]] {
        let metadata =
            Metadata { chunks: forged.iter().map(|c| base_prims::Hash::of(&[c])).collect(), ..metadata.clone() };
        let metadata = base_codec::cbor::to_vec(&metadata);
        let snapshot = Snapshot {
            chunks: u32::try_from(forged.len()).unwrap(),
            hash: base_prims::Hash::of(&[&metadata]).as_bytes().to_vec(),
            metadata,
            ..good.clone()
        };
        assert_eq!(snapshots.offer(&snapshot, &state.app_hash).unwrap(), OfferSnapshotResult::Accept);
        let answers: Vec<_> = (0..).zip(&forged).map(|(i, c)| snapshots.apply_chunk(i, c, "forger").unwrap()).collect();
        let last = answers.last().unwrap();
        assert_eq!(last.outcome, ApplyChunkOutcome::RejectSnapshot);
        assert_eq!(last.reject_senders, ["forger"]);
    }
    // One that is left half restored makes room too.
    for _ in 0..2 {
        assert_eq!(snapshots.offer(&good, &state.app_hash).unwrap(), OfferSnapshotResult::Accept);
        snapshots.apply_chunk(0, &chunks[0], "peer").unwrap();
    }
    assert_eq!(app.info().last_height, 0);
    let snapshots = app.snapshots();
    for (i, chunk) in (0..).zip(&chunks) {
        assert_eq!(snapshots.apply_chunk(i, chunk, "peer").unwrap().outcome, ApplyChunkOutcome::Accept);
    }
    network.run(&mut app, &mut state, network.last());
}

#[test]
fn a_snapshot_of_another_network_is_not_kept() {
    let other = Network::recorded("byzantine-beacon-vrf-honest");
    let (mut source, state) = other.run_new(&folder(), other.config(), 4);
    let (snapshot, chunks) = make_snapshot(&mut source, 1 << 20);
    let network = Network::recorded("gas-fees-staking");
    let mut app = EngineApp::open_dir(folder().path(), network.config()).unwrap();
    let snapshots = app.snapshots();
    assert_eq!(snapshots.offer(&snapshot, &state.app_hash).unwrap(), OfferSnapshotResult::Accept);
    let outcomes: Vec<_> =
        (0..).zip(&chunks).map(|(i, c)| snapshots.apply_chunk(i, c, "peer").unwrap().outcome).collect();
    assert_eq!(outcomes.last(), Some(&ApplyChunkOutcome::Abort));
    assert_eq!(app.db.latest_version(), None);
    let mut fresh = network.start(&mut app);
    network.run(&mut app, &mut fresh, network.last());
}

#[test]
fn checkpoints_are_made_as_the_network_wants_them() {
    let network = Network::recorded("gas-fees-staking");
    let dir = folder();
    let (app, _) = network.run_new(&dir, network.config(), 10);
    let checkpointer = crate::checkpointer::Checkpointer {
        versions: Arc::clone(&app.versions),
        files: app.files.clone(),
        initial_version: 1,
        config: CheckpointerConfig::default(),
    };
    let params = wire_consensus::consensus::Parameters {
        state_checkpoint_interval: 3,
        state_checkpoint_num_kept: 2,
        state_checkpoint_chunk_size: 1 << 20,
        ..Default::default()
    };
    let signal = crate::background::Signal::default();
    let versions = || -> Vec<u64> { app.files.list(None).unwrap().iter().map(|m| m.root.version).collect() };
    let mut seen = Vec::new();
    for latest in 1..=10 {
        checkpointer.check(latest, &params, &signal).unwrap();
        seen.push(versions());
    }
    // Counted from the initial height, whose own stays; surplus ones go when the next check finds them.
    assert_eq!(seen[..4], [vec![1], vec![1], vec![1], vec![1, 4]]);
    assert_eq!(seen[6], [1, 4, 7]);
    assert_eq!(seen[9], [1, 4, 7, 10]);
    checkpointer.check(10, &params, &signal).unwrap();
    assert_eq!(versions(), [1, 7, 10]);

    // One that is asked for is made by the thread.
    let handle = app.checkpointer().unwrap();
    handle.force(5);
    eventually("a forced checkpoint", || versions() == [1, 5, 7, 10]);
    handle.force(99);
    handle.flush();
}

#[test]
fn the_node_halts_where_its_operator_said() {
    let network = Network::recorded("gas-fees-staking");
    let halting = LocalConfig { halt_height: Some(5), ..local() };
    let config = || network.config_with(halting.clone(), PruneConfig::default());
    let dir = folder();
    let (mut app, state) = network.run_new(&dir, config(), 4);
    let told = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&told);
    app.on_halt(Box::new(move |height, _, reason| {
        assert_eq!((height, reason), (4, &apps_core::Halt::Configured));
        assert!(!hook.swap(true, Ordering::SeqCst), "told twice");
    }));
    let block = proposed_block(&network.blocks[4], &state.last_validators, state.initial_height).unwrap();
    for _ in 0..2 {
        assert!(matches!(app.process_proposal(&block), Err(Fatal::Halt { height: 5, .. })));
        assert!(matches!(app.execute(&block), Err(Fatal::Halt { height: 5, .. })));
    }
    assert!(told.load(Ordering::SeqCst));
    drop(app);
    // Without the setting it goes on from there.
    let mut app = EngineApp::open_dir(dir.path(), network.config()).unwrap();
    let mut state = state;
    network.run(&mut app, &mut state, network.last());
}

#[test]
fn a_halt_is_told_with_the_block_before_it() {
    let (short, long) = (Network::recorded("gas-fees-staking"), Network::recorded("runtime-runtime"));
    let epoch = {
        let (app, _) = long.run_new(&folder(), long.config(), long.last() - 10);
        apps_core::epoch::of_state(app.node().store().state()).unwrap().epoch
    };
    for (network, halting) in [
        (&short, LocalConfig { halt_height: Some(5), ..local() }),
        (&long, LocalConfig { halt_epoch: Some(epoch), ..local() }),
    ] {
        let by_height = halting.halt_height;
        let dir = folder();
        let (mut app, mut state) = network.run_new(&dir, network.config_with(halting, PruneConfig::default()), 1);
        let told = Arc::new(AtomicI64::new(0));
        let hook = Arc::clone(&told);
        app.on_halt(Box::new(move |height, at, reason| {
            assert_eq!(reason, &apps_core::Halt::Configured);
            assert!(by_height.is_some() || at == epoch);
            hook.store(height, Ordering::SeqCst);
        }));
        while told.load(Ordering::SeqCst) == 0 {
            let next = state.next_height();
            network.run(&mut app, &mut state, next);
        }
        let last = told.load(Ordering::SeqCst);
        assert_eq!(last, state.last_block_height);
        assert!(by_height.is_none_or(|height| last == height - 1));
        let block = &network.blocks[usize::try_from(last).unwrap()];
        let block = proposed_block(block, &state.last_validators, state.initial_height).unwrap();
        assert!(matches!(app.execute(&block), Err(Fatal::Halt { height, .. }) if height == last + 1));
    }
}

#[test]
fn an_upgrade_that_this_program_lacks_stops_the_node_and_is_written_down() {
    let network = Network::recorded("runtime-runtime");
    let epoch = {
        let (app, _) = network.run_new(&folder(), network.config(), network.last() - 10);
        apps_core::epoch::of_state(app.node().store().state()).unwrap().epoch
    };
    let upgrades = Upgrades::default();
    let descriptor = Descriptor {
        v: LATEST_DESCRIPTOR_VERSION,
        handler: "from the future".to_owned(),
        target: base_prims::version::PROTOCOLS,
        epoch,
    };
    let saved: Arc<Mutex<Vec<PendingUpgrade>>> = Arc::default();
    let save = Arc::clone(&saved);
    let mut config = network.config();
    config.node.upgrades = Some(upgrades.clone());
    config.save_upgrades = Some(Box::new(move |pending| {
        *save.lock() = pending.to_vec();
        Ok(())
    }));
    // In the first block every epoch has come.
    let (mut app, mut state) = network.run_new(&folder(), config, 1);
    upgrades.submit(&descriptor).unwrap();
    let told = Arc::new(AtomicI64::new(0));
    let hook = Arc::clone(&told);
    app.on_halt(Box::new(move |height, at, reason| {
        assert_eq!((at, reason), (epoch, &apps_core::Halt::Upgrade));
        hook.store(height, Ordering::SeqCst);
    }));
    while told.load(Ordering::SeqCst) == 0 {
        let next = state.next_height();
        network.run(&mut app, &mut state, next);
    }
    // Told with the commit before the block that it cannot execute.
    let last = told.load(Ordering::SeqCst);
    assert_eq!((state.last_block_height, saved.lock()[0].upgrade_height), (last, last));
    let block = &network.blocks[usize::try_from(last).unwrap()];
    let block = proposed_block(block, &state.last_validators, state.initial_height).unwrap();
    assert!(matches!(app.execute(&block), Err(Fatal::Halt { height, .. }) if height == last + 1));
}
