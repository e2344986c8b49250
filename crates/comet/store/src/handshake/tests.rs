//! A crash before and after every durable step of applying a chain, and every combination of heights on start.

use base_kv::{Batch, Crash, Durability as KvDurability, Faulty, KvStore, Memory};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::blocks::Durability;
use crate::toy::{AppCrash, Made, Toy, ToyDisk, chain, executor, genesis, stores};

const BLOCKS: i64 = 6;

/// What can go wrong in one life of the node.
#[derive(Debug, Clone, Copy, Default)]
struct Fault {
    kv: Option<Crash>,
    app: Option<AppCrash>,
}

/// What survives a life.
#[derive(Clone)]
struct Machine {
    kv: Memory,
    app: Arc<Mutex<ToyDisk>>,
}

impl Machine {
    fn new() -> Self {
        Self { kv: Memory::new(), app: Arc::default() }
    }
}

struct Life {
    /// The state reached, unless the machine crashed.
    reached: Result<State, String>,
    /// Writes to the key-value store.
    writes: u64,
    machine: Machine,
}

/// Starts, applies the rest of the chain, and tells what is left: of unsynced writes as many as `luck` says.
fn live(dir: &Path, machine: &Machine, made: &[Made], fault: Fault, retain: i64, deferred: bool, luck: u64) -> Life {
    let kv = Arc::new(Faulty::new(machine.kv.clone(), fault.kv));
    let run = || -> Result<State, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (blocks, chain) = stores(dir, kv.clone()).map_err(|e| text(&e))?;
        let mut app = Toy::new(&machine.app);
        (app.crash, app.retain) = (fault.app, retain);
        let executor = executor(&blocks, &chain, app);
        let mut state = handshake(&executor, &genesis()).map_err(|e| text(&e))?;
        for made in made.iter().skip(usize::try_from(state.last_block_height).unwrap()) {
            let durability = if deferred { Durability::Deferred } else { Durability::Synced };
            blocks.save(&made.block, &made.parts, &made.seen, durability).map_err(|e| text(&e))?;
            state = executor.apply(&state, &made.block, &made.id).map_err(|e| text(&e))?;
        }
        Ok(state)
    };
    let reached = run();
    let machine = Machine { kv: kv.restart(luck), app: Arc::clone(&machine.app) };
    Life { reached, writes: kv.writes(), machine }
}

/// Everything that must be as it would be without a crash.
fn check(dir: &Path, machine: &Machine, made: &[Made], state: &State) {
    let last = made.last().unwrap();
    assert_eq!(state, &last.after);
    let (blocks, chain) = stores(dir, Arc::new(machine.kv.clone())).unwrap();
    assert_eq!(blocks.height(), last.block.header.height);
    assert_eq!(machine.app.lock().hash, last.after.app_hash);
    for made in made.iter().filter(|made| made.block.header.height >= blocks.base()) {
        let height = made.block.header.height;
        assert_eq!(chain.validators(height + 1).unwrap().unwrap().hash(), made.after.validators.hash());
        assert_eq!(chain.params(height + 1).unwrap().unwrap(), made.after.consensus_params);
        let results = chain.results(height).unwrap().unwrap();
        assert_eq!(comet_chain::exec::results_hash(&results.tx_results).to_vec(), made.after.last_results_hash);
        assert_eq!(blocks.block(height).unwrap().unwrap(), made.block);
    }
}

/// One crash, then a life without; the second must end as if there had been no crash.
fn crash_once(made: &[Made], fault: Fault, retain: i64, deferred: bool, luck: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let first = live(dir.path(), &Machine::new(), made, fault, retain, deferred, luck);
    let second = live(dir.path(), &first.machine, made, Fault::default(), retain, deferred, u64::MAX);
    let state =
        second.reached.unwrap_or_else(|e| panic!("{fault:?} luck {luck}: {e}; crash: {:?}", first.reached.err()));
    check(dir.path(), &second.machine, made, &state);
    first.writes
}

#[test]
fn a_crash_at_any_write_of_the_stores_ends_in_the_same_state() {
    let (_, made) = chain(BLOCKS, 900);
    for (retain, deferred) in [(0, false), (2, true)] {
        let writes = crash_once(&made, Fault::default(), retain, deferred, u64::MAX);
        assert!(writes > 3 * BLOCKS as u64, "{writes}");
        for at_write in 0..writes {
            for applied in [false, true] {
                for luck in [0, 1, u64::MAX] {
                    let fault = Fault { kv: Some(Crash { at_write, applied }), app: None };
                    crash_once(&made, fault, retain, deferred, luck);
                }
            }
        }
    }
}

#[test]
fn a_crash_while_the_application_commits_ends_in_the_same_state() {
    let (_, made) = chain(BLOCKS, 900);
    for height in 1..=BLOCKS {
        for app in [AppCrash::Before(height), AppCrash::After(height)] {
            for luck in 0..4 {
                crash_once(&made, Fault { kv: None, app: Some(app) }, 0, luck % 2 == 0, luck);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Several crashes in a row, some of them during the handshake.
    #[test]
    fn many_crashes_end_in_the_same_state(
        faults in proptest::collection::vec((0..24u64, any::<bool>(), 0..4u64, 0..12i64, any::<bool>()), 1..6),
        retain in 0..4i64,
    ) {
        let (_, made) = chain(BLOCKS, 100);
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Machine::new();
        for (at_write, applied, luck, height, deferred) in faults {
            let app = match height {
                height if height > BLOCKS => None,
                height if applied => Some(AppCrash::After(height)),
                height => Some(AppCrash::Before(height)),
            };
            let fault = Fault { kv: Some(Crash { at_write, applied }), app };
            machine = live(dir.path(), &machine, &made, fault, retain, deferred, luck).machine;
        }
        let last = live(dir.path(), &machine, &made, Fault::default(), retain, false, u64::MAX);
        let state = last.reached.unwrap();
        check(dir.path(), &last.machine, &made, &state);
    }
}

/// The key-value store and the application after each height, all over one folder of blocks.
struct Album {
    dir: tempfile::TempDir,
    made: Vec<Made>,
    kv: Vec<Memory>,
    app: Vec<ToyDisk>,
}

fn album(retain: i64) -> Album {
    let (_, made) = chain(BLOCKS, 100);
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new();
    let (mut kv, mut app) = (vec![], vec![]);
    for height in 0..=BLOCKS {
        let life = live(dir.path(), &machine, &made[..height as usize], Fault::default(), retain, false, u64::MAX);
        life.reached.unwrap();
        machine = life.machine;
        kv.push(machine.kv.clone());
        app.push(machine.app.lock().clone());
    }
    Album { dir, made, kv, app }
}

/// Starts with all blocks, the application of one height and the state of another (-1: none).
fn start(album: &Album, app: i64, state: i64) -> Result<State, HandshakeError> {
    let kv = album.kv[BLOCKS as usize].clone();
    let mut batch = Batch::new();
    match usize::try_from(state) {
        Ok(state) => batch.put(b"cs", &album.kv[state].get(b"cs").unwrap().unwrap()),
        Err(_) => batch.delete(b"cs"),
    };
    kv.write(&batch, KvDurability::Synced).unwrap();
    let disk = Arc::new(Mutex::new(album.app[app as usize].clone()));
    let (blocks, chain) = stores(album.dir.path(), Arc::new(kv)).unwrap();
    let executor = executor(&blocks, &chain, Toy::new(&disk));
    let result = handshake(&executor, &genesis());
    if let Ok(state) = &result {
        assert_eq!(chain.load().unwrap().as_ref(), Some(state));
        assert_eq!(disk.lock().height, BLOCKS);
    }
    result
}

#[test]
fn every_combination_of_heights_is_brought_level() {
    let album = album(0);
    let last = &album.made.last().unwrap().after;
    for app in 0..=BLOCKS {
        for state in -1..=BLOCKS {
            match start(&album, app, state) {
                Ok(reached) => assert_eq!(&reached, last, "application {app}, state {state}"),
                Err(HandshakeError::NoState { .. }) => assert!(state == -1 && app > 0),
                Err(error) => panic!("application {app}, state {state}: {error}"),
            }
        }
    }
}

#[test]
fn what_cannot_be_brought_level_is_refused() {
    let pruned = album(2);
    // Blocks from 4 on are left.
    for app in 0..=BLOCKS {
        for state in 0..=BLOCKS {
            let result = start(&pruned, app, state);
            match &result {
                Ok(_) => assert!(app >= 3 && state >= 3, "application {app}, state {state}"),
                Err(HandshakeError::Pruned { base: 4, .. }) => assert!(app < 3 || state < 3),
                Err(error) => panic!("application {app}, state {state}: {error}"),
            }
        }
    }

    let album = album(0);
    let with = |kv: &Memory, app: ToyDisk, genesis: &Genesis| {
        let dir = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(album.dir.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        let (blocks, chain) = stores(dir.path(), Arc::new(kv.clone())).unwrap();
        let app = Toy::new(&Arc::new(Mutex::new(app)));
        handshake(&executor(&blocks, &chain, app), genesis).unwrap_err()
    };
    let at = |height: i64| album.app[height as usize].clone();
    let (third, whole) = (&album.kv[3], &album.kv[BLOCKS as usize]);
    let error = with(third, at(5), &genesis());
    assert!(matches!(error, HandshakeError::AppAhead { app: 5, store: 3 }), "{error}");
    let error = with(&album.kv[0], at(5), &genesis());
    assert!(matches!(error, HandshakeError::AppAhead { app: 5, store: 0 }), "{error}");
    // Another application state of the right height, at the end and before.
    for height in [BLOCKS, 4] {
        let error = with(whole, ToyDisk { height, hash: vec![7; 32] }, &genesis());
        assert!(matches!(error, HandshakeError::AppHash { .. }), "{error}");
    }
    let other = Genesis { app_state: b"other".to_vec(), ..genesis() };
    let error = with(whole, ToyDisk::default(), &other);
    assert!(matches!(error, HandshakeError::AppHash { height: 0, .. }), "{error}");
    let other = Genesis { chain_id: "other".into(), ..genesis() };
    assert!(matches!(with(whole, at(6), &other), HandshakeError::OtherChain { .. }));
    let other = Genesis { initial_height: 2, ..genesis() };
    assert!(matches!(with(whole, at(6), &other), HandshakeError::OtherChain { .. }));
    // The state is ahead of the blocks.
    let kv = third.clone();
    let mut batch = Batch::new();
    batch.put(b"cs", &whole.get(b"cs").unwrap().unwrap());
    kv.write(&batch, KvDurability::Synced).unwrap();
    let error = with(&kv, at(3), &genesis());
    assert!(matches!(error, HandshakeError::StateAhead { state: 6, store: 3 }), "{error}");
    // The state, but no blocks: only an application as far as the state will do.
    let kv = album.kv[0].clone();
    kv.write(&batch, KvDurability::Synced).unwrap();
    let error = with(&kv, at(2), &genesis());
    assert!(matches!(error, HandshakeError::Pruned { what: "application", .. }), "{error}");
}

/// After state sync: a state and a seen commit, no blocks; then the chain goes on.
#[test]
fn a_bootstrapped_node_goes_on() {
    let (_, made) = chain(BLOCKS, 100);
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new();
    let base = &made[2];
    {
        let (blocks, chain) = stores(dir.path(), Arc::new(machine.kv.clone())).unwrap();
        drop((blocks, chain));
    }
    let kv = Arc::new(Faulty::new(machine.kv.clone(), None));
    {
        let (blocks, chain) = stores(dir.path(), kv.clone()).unwrap();
        chain.bootstrap(&base.after).unwrap();
        blocks.save_seen_commit(3, &base.seen).unwrap();
        assert_eq!(blocks.seen_commit(3).unwrap().unwrap(), base.seen);
        let app = Arc::new(Mutex::new(ToyDisk { height: 3, hash: base.after.app_hash.clone() }));
        let executor = executor(&blocks, &chain, Toy::new(&app));
        let mut state = handshake(&executor, &genesis()).unwrap();
        assert_eq!(state, base.after);
        for made in &made[3..] {
            blocks.save(&made.block, &made.parts, &made.seen, Durability::Synced).unwrap();
            state = executor.apply(&state, &made.block, &made.id).unwrap();
        }
        assert_eq!(state, made.last().unwrap().after);
        assert_eq!(blocks.base(), 4);
        assert_eq!(blocks.commit(3).unwrap().unwrap(), base.seen);
        for made in &made[3..] {
            let height = made.block.header.height + 1;
            assert_eq!(chain.validators(height).unwrap().unwrap(), made.after.validators, "{height}");
        }
        assert!(chain.light_block(&blocks, 3).unwrap().is_none());
        let light = chain.light_block(&blocks, BLOCKS).unwrap().unwrap();
        assert_eq!(light.commit, made.last().unwrap().seen);
    }
}
