//! Tests of pending upgrades and of the handlers.

use apps_core::Mode;
use base_prims::{PublicKey, Quantity, version::PROTOCOLS};
use wire_consensus::{
    consensus::{FEATURE_26_1, Parameters},
    registry, staking,
    upgrade::{STAGE_CONSENSUS, STAGE_STARTUP},
};

use super::*;
use crate::testing::{PLENTY, World};

fn descriptor(handler: &str, epoch: Epoch) -> Descriptor {
    Descriptor { v: 1, handler: handler.to_owned(), target: PROTOCOLS, epoch }
}

fn incompatible(epoch: Epoch) -> Descriptor {
    let mut d = descriptor("empty", epoch);
    d.target.consensus_protocol.major += 1;
    d
}

fn code(r: Result<()>) -> (&'static str, u32) {
    r.unwrap_err().code()
}

#[test]
fn submitting_and_canceling() {
    let u = Upgrades::default();
    let (a, b) = (descriptor("empty", 10), descriptor("empty", 20));
    u.submit(&a).unwrap();
    u.submit(&b).unwrap();
    assert_eq!(code(u.submit(&a)), ("upgrade", 5));
    assert_eq!(u.take_changes(), Some(vec![PendingUpgrade::new(a.clone()), PendingUpgrade::new(b.clone())]));
    assert_eq!(u.take_changes(), None);
    u.cancel(&a).unwrap();
    u.cancel(&a).unwrap();
    assert_eq!(u.take_changes(), Some(vec![PendingUpgrade::new(b.clone())]));
    assert_eq!((u.get(&a), u.get(&b)), (None, Some(PendingUpgrade::new(b.clone()))));
    u.check_after_commit(20, 100).unwrap().unwrap();
    assert_eq!(code(u.cancel(&b)), ("upgrade", 6));
}

#[test]
fn an_upgrade_in_place() {
    let mut m = Manager::default();
    m.submit(&descriptor("consensus261", 10)).unwrap();
    assert_eq!(m.advance(9, 99).unwrap(), Due::Nothing);
    // The end of block 100: epoch 10 begins with the next block.
    let due = Due::Handlers(vec![Handler::Consensus261]);
    assert_eq!(m.advance(10, 100).unwrap(), due);
    let p = m.pending()[0].clone();
    assert_eq!((p.upgrade_height, p.last_completed_stage), (100, STAGE_STARTUP));
    assert!(m.has_pending_upgrade_at(100).unwrap());
    assert!(!m.has_pending_upgrade_at(101).unwrap());
    assert!(m.has_pending_upgrade_at(0).is_err());
    // Beginning and end of block 101.
    assert_eq!(m.advance(10, 100).unwrap(), due);
    assert_eq!(m.advance(10, 100).unwrap(), due);
    m.take_changes();
    assert_eq!(m.advance(10, 101).unwrap(), Due::Nothing);
    assert_eq!(m.take_changes(), Some(Vec::new()));
    assert!(!m.has_pending_upgrade_at(100).unwrap());
}

#[test]
fn upgrades_that_stop_the_node() {
    for (d, restart) in [
        (descriptor("__e2e-test-valid", 10), true),
        (descriptor("unknown handler", 10), false),
        (incompatible(10), false),
    ] {
        let mut m = Manager::default();
        m.submit(&d).unwrap();
        assert_eq!(m.advance(10, 100).unwrap(), Due::Stop, "{d:?}");
        assert_eq!(m.advance(0, 1).unwrap(), Due::Stop, "once and for all");
        let stored = m.take_changes().unwrap();
        assert_eq!((stored[0].upgrade_height, stored[0].last_completed_stage), (100, 0));
        match Manager::new(stored) {
            Err(_) => assert!(!restart, "{d:?}"),
            Ok(mut m) => {
                assert!(restart, "{d:?}");
                m.run_startup_stages().unwrap();
                m.run_startup_stages().unwrap();
                assert!(m.pending()[0].has_stage(STAGE_STARTUP));
                assert_eq!(m.advance(10, 100).unwrap(), Due::Handlers(vec![Handler::Test]));
                assert_eq!(m.advance(10, 101).unwrap(), Due::Nothing);
                assert!(m.pending().is_empty());
            }
        }
    }
}

#[test]
fn records_that_cannot_be() {
    let record = |height: i64, stage: u64| PendingUpgrade {
        upgrade_height: height,
        last_completed_stage: stage,
        ..PendingUpgrade::new(descriptor("empty", 10))
    };
    let advance = |p: PendingUpgrade| Manager::new(vec![p]).unwrap().advance(10, 100);
    assert!(advance(record(101, STAGE_STARTUP)).unwrap_err().is_fatal(), "height in the future");
    assert!(advance(record(99, 0)).unwrap_err().is_fatal(), "consensus stage without startup stage");
    assert!(Manager::new(vec![record(100, STAGE_CONSENSUS)]).unwrap().pending().is_empty());
    let empty = PendingUpgrade { descriptor: None, ..record(0, 0) };
    assert_eq!(advance(empty.clone()).unwrap_err().code(), ("upgrade", 8));
    assert!(Manager::new(vec![PendingUpgrade { upgrade_height: 1, ..empty }]).is_err());
}

fn world() -> World {
    let mut w = World::new(Vec::new());
    w.put(&[0xf1], &Parameters { max_tx_size: 32_768, max_block_gas: 0, ..Parameters::default() });
    w.put(&[0x16], &registry::Parameters::default());
    w.put(&[0x56], &staking::Parameters::default());
    w.put(&[0x85], &wire_consensus::governance::Parameters::default());
    w
}

/// Runs a handler through the trait that the multiplexer uses, at the upgrade's block.
fn run(w: &mut World, handler: &str, mode: Mode) -> Vec<(Vec<u8>, Vec<u8>)> {
    let upgrades = Upgrades::default();
    upgrades.submit(&descriptor(handler, 10)).unwrap();
    if handler == "__e2e-test-valid" {
        let mut m = Manager::new(vec![PendingUpgrade {
            upgrade_height: crate::testing::LAST_HEIGHT,
            ..PendingUpgrade::new(descriptor(handler, 10))
        }])
        .unwrap();
        m.run_startup_stages().unwrap();
        *upgrades.lock() = m;
    }
    let before = w.pairs();
    let run = w.run(mode, None, PLENTY, |ctx| upgrades.consensus_upgrade(ctx, 10));
    assert_eq!(run.result.unwrap(), Ok(()));
    assert!(run.events.is_empty());
    w.pairs().into_iter().filter(|pair| !before.contains(pair)).collect()
}

#[test]
fn consensus240() {
    let mut w = world();
    assert!(run(&mut w, "consensus240", Mode::BeginBlock).is_empty());
    let changed: Vec<_> = run(&mut w, "consensus240", Mode::EndBlock).into_iter().map(|(k, _)| k).collect();
    assert_eq!(changed, [[0x16], [0x33], [0x56], [0x74], [0x85], [0xf1]].map(|k| k.to_vec()));
    let p: Parameters = w.get(&[0xf1]).unwrap();
    assert_eq!((p.max_tx_size, p.max_block_size, p.max_block_gas), (131_072, 4_194_304, 5_000_000));
    assert_eq!(p.feature_version, None);
    assert!(w.get::<registry::Parameters>(&[0x16]).unwrap().deprecated_enable_key_manager_churp);
    let threshold = Quantity::from(10_000_000_000_000u64);
    let thresholds = w.get::<staking::Parameters>(&[0x56]).unwrap().thresholds;
    assert_eq!(thresholds, [(staking::ThresholdKind::KEY_MANAGER_CHURP, threshold)].into());
    let p: wire_consensus::governance::Parameters = w.get(&[0x85]).unwrap();
    assert!(p.allow_vote_without_entity && p.allow_proposal_metadata);
    assert_eq!(crate::vault::state::parameters(&w.tree).unwrap(), wire_consensus::vault::Parameters::defaults());
    let churp = apps_keymanager::churp::state::parameters(&w.tree).unwrap();
    assert_eq!(churp, wire_consensus::churp::Parameters::defaults());
}

#[test]
fn consensus261() {
    let mut w = world();
    assert!(run(&mut w, "consensus261", Mode::BeginBlock).is_empty());
    let changed = run(&mut w, "consensus261", Mode::EndBlock);
    assert_eq!(changed.len(), 1);
    assert_eq!(w.get::<Parameters>(&[0xf1]).unwrap().feature_version, Some(FEATURE_26_1));
}

#[test]
fn empty_changes_nothing() {
    let mut w = world();
    for mode in [Mode::BeginBlock, Mode::EndBlock] {
        assert!(run(&mut w, "empty", mode).is_empty());
    }
}

#[test]
fn test_handler() {
    let mut w = world();
    let changed = run(&mut w, "__e2e-test-valid", Mode::BeginBlock);
    assert_eq!(changed.iter().map(|(k, _)| k[0]).collect::<Vec<_>>(), [0x10, 0x50]);
    let id = PublicKey::new(base_crypto::blacklist::test_key("__e2e-test-migration-entity").public());
    let entity = apps_committees::registry::state::entity(&w.tree, &id).unwrap().unwrap();
    assert_eq!((entity.v, entity.id, entity.nodes.len()), (2, id, 0));
    assert_eq!(run(&mut w, "__e2e-test-valid", Mode::EndBlock).len(), 1);
    assert_eq!(w.get::<Parameters>(&[0xf1]).unwrap().max_tx_size, 32_769);
}

#[test]
fn handlers_run_in_blocks_only() {
    let mut w = world();
    for (name, handler) in Handler::ALL {
        let run = w.run(Mode::DeliverTx, Some(1), PLENTY, |ctx| handler.consensus_upgrade(ctx));
        assert_eq!(run.result.is_ok(), handler == Handler::Empty, "{name}");
        assert_eq!(Handler::by_name(name), Some(handler));
        wire_consensus::upgrade::validate_handler_name(name).unwrap();
    }
    assert_eq!(Handler::by_name("consensus999"), None);
}
