//! Queries over recorded chains: all events read back, and what every query answers agrees with the others.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use apps_committees::{beacon, registry, roothash, scheduler};
use apps_core::events;
use apps_governance::{governance, vault};
use base_prims::Hash;
use comet_chain::app::{BlockResults, Event};
use node_app::NodeApp;
use wire_cometbft::block::Block;
use wire_consensus::{errors::beacon as codes, registry::NODE_LIST_EPOCH_ATTRIBUTE};

use super::*;

type Counts = BTreeMap<&'static str, usize>;

/// Reads all events of the block, and counts attributes and what was read.
fn read_events(block: &Block, results: &BlockResults, counts: &mut Counts) {
    let (height, txs) = (block.header.height, &block.data.txs);
    type Read<'a> = Box<dyn Fn(Hash, &Event) -> apps_core::Result<usize> + 'a>;
    let services: [(&'static str, Read<'_>); 5] = [
        (apps_staking::NAME, Box::new(|tx, e| apps_staking::query::events(height, tx, e).map(|v| v.len()))),
        (registry::NAME, Box::new(|tx, e| registry::query::events(height, tx, e).map(|v| v.len()))),
        (roothash::NAME, Box::new(|tx, e| roothash::query::events(height, tx, e).map(|v| v.len()))),
        (governance::NAME, Box::new(|tx, e| governance::query::events(height, tx, e).map(|v| v.len()))),
        (vault::NAME, Box::new(|tx, e| vault::query::events(height, tx, e).map(|v| v.len()))),
    ];
    for (service, read) in services {
        let found = events::of_block(txs, results, |tx, e| {
            let attributes = events::attributes(service, e).into_iter().flatten();
            let expected = match service {
                roothash::NAME => attributes.count().min(1),
                _ => attributes.filter(|a| a.key != NODE_LIST_EPOCH_ATTRIBUTE.0).count(),
            };
            let found = read(tx, e)?;
            assert_eq!(found, expected, "height {height}, {service}: {e:?}");
            Ok(vec![found])
        });
        *counts.entry(service).or_default() += found.unwrap().into_iter().sum::<usize>();
    }
}

/// Queries that must agree with each other at every height.
fn agree(height: i64, app: &NodeApp) {
    let kv = app.store().state();
    // Who is registered is found by every way.
    let nodes = registry::query::nodes(kv).unwrap();
    for node in &nodes {
        assert_eq!(registry::query::node(kv, &node.id).unwrap(), *node);
        let address = node.consensus.id.comet_address();
        assert_eq!(registry::query::node_by_consensus_address(kv, &address).unwrap().id, node.id);
        registry::query::node_status(kv, &node.id).unwrap();
        let entity = registry::query::entity(kv, &node.entity_id).unwrap();
        assert!(registry::query::entities(kv).unwrap().contains(&entity));
    }
    for runtime in registry::query::runtimes(kv, true).unwrap() {
        assert_eq!(registry::query::runtime(kv, &runtime.id, true).unwrap(), runtime);
        let committees = scheduler::query::runtime_committees(kv, &runtime.id).unwrap();
        assert!(committees.iter().all(|c| c.runtime_id == runtime.id));
        if !runtime.is_compute() {
            continue;
        }
        let state = roothash::query::runtime_state(kv, &runtime.id).unwrap();
        let last = roothash::query::latest_block(kv, &runtime.id).unwrap();
        assert_eq!(last, state.last_block);
        assert!(roothash::query::genesis_block(kv, &runtime.id).unwrap().header.round <= last.header.round);
        let past = roothash::query::past_round_roots(kv, &runtime.id).unwrap();
        for (round, roots) in past {
            assert_eq!(roothash::query::round_roots(kv, &runtime.id, round).unwrap(), Some(roots));
        }
        let meta = roothash::query::incoming_message_queue_meta(kv, &runtime.id).unwrap();
        let queue = roothash::query::incoming_message_queue(kv, &runtime.id, 0, 0).unwrap();
        assert_eq!(queue.len(), usize::try_from(meta.size).unwrap());
        roothash::query::last_round_results(kv, &runtime.id).unwrap();
    }
    assert!(!scheduler::query::validators(kv).unwrap().is_empty());
    let (epoch, _) = beacon::query::epoch(kv).unwrap();
    let next = beacon::query::next_epoch(kv, height).unwrap();
    assert!(next == epoch || beacon::query::future_epoch(kv).unwrap().is_some_and(|f| f.epoch == next));
    match beacon::query::beacon(kv) {
        Ok(entropy) => assert_eq!(entropy.len(), 32),
        // There is none in the first epochs.
        Err(e) => assert_eq!(e, apps_core::Error::from(&codes::BEACON_NOT_AVAILABLE)),
    }

    // Delegations are the same from both sides.
    for address in apps_staking::query::addresses(kv).unwrap() {
        let account = apps_staking::query::account(kv, &address).unwrap();
        assert_eq!(apps_staking::query::nonce(kv, &address).unwrap(), account.general.nonce);
        for (to, delegation) in apps_staking::query::delegations_for(kv, &address).unwrap() {
            let back = apps_staking::query::delegations_to(kv, &to).unwrap();
            assert_eq!(back.get(&address), Some(&delegation));
            let infos = apps_staking::query::delegation_infos_for(kv, &address).unwrap();
            assert_eq!(infos[&to].shares, delegation.shares);
        }
        for (beneficiary, amount) in &account.general.allowances {
            assert_eq!(apps_staking::query::allowance(kv, &address, beneficiary).unwrap(), *amount);
        }
    }
    for proposal in governance::query::proposals(kv).unwrap() {
        assert_eq!(governance::query::proposal(kv, proposal.id).unwrap(), proposal);
        governance::query::votes(kv, proposal.id).unwrap();
    }
    for v in vault::query::vaults(kv).unwrap() {
        assert_eq!(vault::query::vault(kv, &v.address()).unwrap(), v);
        vault::query::pending_actions(kv, &v.address()).unwrap();
    }
}

fn queried(name: &str) -> Counts {
    let counts = Rc::new(RefCell::new(Counts::new()));
    let all = counts.clone();
    let mut options = options(&chains().join(name), false);
    options.observer = Some(Box::new(move |block, results, app| {
        read_events(block, results, &mut all.borrow_mut());
        // Every height would take minutes.
        if block.header.height % 5 == 0 {
            agree(block.header.height, app);
        }
    }));
    replay(options).unwrap();
    counts.take()
}

#[test]
fn every_event_reads_back_and_queries_agree() {
    let chains =
        ["runtime-runtime", "runtime-runtime-governance", "vault", "change-parameters-min-commission-rate", "debond"];
    let mut sum = Counts::new();
    for name in chains {
        for (service, n) in queried(name) {
            *sum.entry(service).or_default() += n;
        }
    }
    assert!(sum.len() == 5 && sum.values().all(|n| *n > 0), "{sum:?}");
}
