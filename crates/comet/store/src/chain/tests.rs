//! Historical validator sets and parameters of recorded chains, checkpoints, pruning.

use base_kv::Memory;
use comet_chain::app::{
    BlockParams, ConsensusParamsUpdate, EvidenceParams, InitChainResult, ValidatorParams, ValidatorUpdate,
    VersionParams,
};
use dev_testkit::chains::{Chain, RecordedBlock};
use wire_cometbft::block::Block;
use wire_cometbft::{Duration, Time};

use super::*;
use crate::blocks::Durability as BlockDurability;
use crate::toy::{CHAIN, chain, genesis, params, stores};

fn open(chain_id: &str) -> (Arc<Memory>, ChainStore) {
    let kv = Arc::new(Memory::new());
    (Arc::clone(&kv), ChainStore::open(kv, chain_id).unwrap())
}

/// The first state of a recorded chain, with the validators and parameters that its first block names.
fn first_state(chain: &Chain, first: &RecordedBlock) -> State {
    let document: serde_json::Value = serde_json::from_slice(&chain.genesis().unwrap()).unwrap();
    let int = |key: &str| document["consensus"]["params"][key].as_i64().unwrap();
    let header = Block::decode(&first.block).unwrap().header;
    let consensus_params = ConsensusParams {
        block: BlockParams {
            max_bytes: int("max_block_size"),
            max_gas: if int("max_block_gas") == 0 { -1 } else { int("max_block_gas") },
        },
        evidence: EvidenceParams {
            max_age_num_blocks: 100,
            max_age_duration: Duration::from_secs(200),
            max_bytes: int("max_evidence_size"),
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 7 << 32 },
    };
    let recorded = ValidatorSet::from_wire(&Message::decode(&first.validators).unwrap()).unwrap();
    let validators = recorded.validators().iter();
    let members: Vec<_> = validators.map(|v| ValidatorUpdate { pub_key: v.pub_key, power: v.voting_power }).collect();
    let time = Time::parse_rfc3339(document["genesis_time"].as_str().unwrap()).unwrap();
    let mut state = State::genesis(header.chain_id, header.height, time, consensus_params, &members).unwrap();
    let result = InitChainResult {
        app_hash: header.app_hash,
        consensus_param_updates: ConsensusParamsUpdate::default(),
        validators: vec![],
    };
    state.apply_init_chain(&result).unwrap();
    state
}

/// Only heights of change are stored; all others come from them and must be the recorded ones, priorities included.
#[test]
fn historical_validators_of_recorded_chains_are_the_recorded_ones() {
    let (mut sets, mut stored) = (0, 0);
    for recorded in Chain::all().unwrap() {
        let steps = recorded.blocks().unwrap();
        let mut state = first_state(&recorded, &steps[0]);
        let (kv, store) = open(&state.chain_id);
        store.save(&state).unwrap();
        for (at, step) in steps.iter().enumerate() {
            let block = Block::decode_checked(&step.block).unwrap();
            let height = block.header.height;
            let results = results_from_wire(AbciResponses::decode(&step.abci_responses).unwrap()).unwrap();
            store.save_results(height, &results).unwrap();
            let mut next = state.after(block.id().unwrap(), &block.header, &results).unwrap();
            if let Some(following) = steps.get(at + 1) {
                next.app_hash = Block::decode(&following.block).unwrap().header.app_hash;
            }
            store.save(&next).unwrap();
            state = next;
            assert_eq!(store.load().unwrap().as_ref(), Some(&state));
        }
        for step in &steps {
            let height = i64::try_from(step.height).unwrap();
            // Not from the cache.
            store.sets.lock().clear();
            let set = store.validators(height).unwrap().unwrap();
            assert_eq!(set.to_wire().encode_to_vec(), step.validators, "{} {height}", recorded.name);
            assert_eq!(store.validators(height).unwrap().unwrap(), set);
            let header = Block::decode(&step.block).unwrap().header;
            assert_eq!(store.params(height).unwrap().unwrap().hash().to_vec(), header.consensus_hash);
            let results = results_to_wire(&store.results(height).unwrap().unwrap()).encode_to_vec();
            assert_eq!(results, step.abci_responses);
            let value = kv.get(&key(VALIDATORS, height)).unwrap().unwrap();
            stored += usize::from(ValidatorsInfo::decode(&value).unwrap().validator_set.is_some());
            sets += 1;
        }
        assert_eq!(store.validators(state.last_block_height + 1).unwrap().unwrap().hash(), state.validators.hash());
        assert!(store.validators(state.last_block_height + 3).unwrap().is_none());
        for outside in [i64::MIN, -1, 0, i64::MAX] {
            assert!(store.validators(outside).unwrap().is_none());
        }
        assert!(store.sets.lock().len() <= CACHED_SETS);
    }
    assert!(sets >= 1000 && stored * 5 < sets, "{stored} of {sets} sets stored");
}

/// Sets are stored at multiples of the checkpoint too, and rotated from there in one call.
#[test]
fn checkpoints_are_where_the_reference_has_them() {
    let (_, store) = open(CHAIN);
    let (mut state, _) = chain(1, 1);
    store.save(&state).unwrap();
    let last = VALIDATORS_CHECKPOINT + 40;
    let mut at_checkpoint = None;
    for height in 1..=last {
        state.last_block_height = height;
        state.last_validators = state.validators.clone();
        state.validators = state.next_validators.clone();
        state.next_validators.increment_proposer_priority(1).unwrap();
        let near = !(50..VALIDATORS_CHECKPOINT - 50).contains(&height);
        if near {
            store.save(&state).unwrap();
        }
        if height + 2 == VALIDATORS_CHECKPOINT {
            at_checkpoint = Some(state.next_validators.clone());
        }
    }
    let (first, _) = chain(1, 1);
    let stored: Vec<i64> = (1..=last)
        .filter(|height| store.validators_info(*height).unwrap().is_some_and(|info| info.validator_set.is_some()))
        .collect();
    assert_eq!(stored, [1, VALIDATORS_CHECKPOINT]);
    assert_eq!(store.validators(1).unwrap().unwrap(), first.validators);
    assert_eq!(store.validators(30).unwrap().unwrap(), first.validators.incremented(29).unwrap());
    let before = u32::try_from(VALIDATORS_CHECKPOINT - 2).unwrap();
    let loaded = store.validators(VALIDATORS_CHECKPOINT - 1).unwrap().unwrap();
    assert_eq!(loaded, first.validators.incremented(before).unwrap());
    let checkpoint = at_checkpoint.unwrap();
    assert_eq!(store.validators(VALIDATORS_CHECKPOINT).unwrap().unwrap(), checkpoint);
    assert_eq!(store.validators(VALIDATORS_CHECKPOINT + 9).unwrap().unwrap(), checkpoint.incremented(9).unwrap());
}

#[test]
fn pruning_keeps_what_later_heights_refer_to() {
    let (state, made) = chain(60, 100);
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(Memory::new());
    let (blocks, store) = stores(dir.path(), kv.clone()).unwrap();
    store.save(&state).unwrap();
    for made in &made {
        blocks.save(&made.block, &made.parts, &made.seen, BlockDurability::Deferred).unwrap();
        store.save_results(made.block.header.height, &BlockResults::default()).unwrap();
        store.save(&made.after).unwrap();
    }
    let before: Vec<_> = (1..=62).map(|height| store.validators(height).unwrap()).collect();
    let light = store.light_block(&blocks, 50).unwrap().unwrap();
    let count = |kind: [u8; 2]| {
        let mut count = 0;
        let mut add = |_: &[u8], _: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        kv.scan(&key(kind, 0), Some(&key(kind, i64::MAX)), Order::Forward, &mut add).unwrap();
        count
    };
    let bytes = kv.stats().unwrap().used_bytes;
    for to in [10, 11, 20, 41] {
        store.prune(to).unwrap();
        store.sets.lock().clear();
        for height in to - 1..=62 {
            assert_eq!(store.validators(height).unwrap(), before[height as usize - 1], "{to}: {height}");
            if (to..=61).contains(&height) {
                assert!(store.params(height).unwrap().is_some());
            }
        }
        assert!(store.results(to - 1).unwrap().is_none() && store.results(to).unwrap().is_some());
        assert!(store.params(to - 1).unwrap().is_none());
        // One set may be kept for later heights.
        assert!(count(VALIDATORS) <= 62 - (to - 1) + 2, "{}", count(VALIDATORS));
        assert_eq!(count(RESULTS), 60 - to + 1);
    }
    let after = kv.stats().unwrap().used_bytes;
    println!("state store {bytes} -> {after} bytes after pruning 40 of 60 heights");
    assert!(after < bytes);
    assert_eq!(store.light_block(&blocks, 50).unwrap().unwrap(), light);
    assert!(store.light_block(&blocks, 61).unwrap().is_none());
    let newest = store.light_block(&blocks, 60).unwrap().unwrap();
    assert_eq!(newest.commit, made[59].seen);
    let checked = comet_chain::light::UntrustedLightBlock(newest.to_wire()).check(CHAIN, 60);
    assert_eq!(checked.unwrap(), newest);
}

#[test]
fn states_that_cannot_be_are_refused() {
    let (_, store) = open(CHAIN);
    assert!(store.load().unwrap().is_none());
    let mut state = genesis().state().unwrap();
    assert_eq!(state.consensus_params, params());
    state.last_height_validators_changed = 9;
    assert!(matches!(store.save(&state), Err(StoreError::Corrupt { .. })));
    let kv = Arc::new(Memory::new());
    drop(ChainStore::open(kv.clone(), CHAIN).unwrap());
    assert!(matches!(ChainStore::open(kv, "other"), Err(StoreError::OtherChain { .. })));
}

/// On disk, as a node has it.
#[test]
fn both_stores_open_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (state, made) = chain(3, 2000);
    {
        let (blocks, store) = crate::open(dir.path(), CHAIN).unwrap();
        store.save(&state).unwrap();
        for made in &made {
            blocks.save(&made.block, &made.parts, &made.seen, BlockDurability::Synced).unwrap();
            store.save(&made.after).unwrap();
        }
    }
    let (blocks, store) = crate::open(dir.path(), CHAIN).unwrap();
    assert_eq!((blocks.base(), blocks.height()), (1, 3));
    assert_eq!(blocks.block(2).unwrap().unwrap(), made[1].block);
    assert_eq!(store.load().unwrap().unwrap(), made[2].after);
    let stored = StoredChain { blocks, chain: store };
    assert_eq!(stored.header(2).unwrap().unwrap(), made[1].block.header);
    assert_eq!(EvidenceSource::commit(&stored, 2).unwrap().unwrap(), made[1].seen);
    assert_eq!(EvidenceSource::validators(&stored, 3).unwrap().unwrap(), made[1].after.validators);
    assert_eq!(stored.latest_height(), 3);
    drop(stored);
    assert!(matches!(crate::open(dir.path(), "other"), Err(StoreError::OtherChain { .. })));
}
