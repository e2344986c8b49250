//! Every recorded chain, followed from genesis: sets with priorities, proposers, commits, times, results, headers.

use comet_chain::app::{BlockParams, ConsensusParams, EvidenceParams, ValidatorParams, ValidatorUpdate, VersionParams};
use comet_chain::app::{ConsensusParamsUpdate, InitChainResult};
use comet_chain::commit::{Scope, TrustLevel, verify_full, verify_light, verify_light_trusting};
use comet_chain::exec::{proposed_block, results_from_wire, results_to_wire};
use comet_chain::signature::verify_batch;
use comet_chain::state::{BlockError, State};
use comet_chain::validators::ValidatorSet;
use dev_testkit::chains::{Chain, RecordedBlock};
use serde_json::Value;
use wire_cometbft::abci::AbciResponses;
use wire_cometbft::block::{Block, Commit, Header};
use wire_cometbft::{Duration, Message, Time};

/// The state that the genesis document and the first block's header and validators give.
pub(crate) fn genesis_state(chain: &Chain, first: &RecordedBlock) -> State {
    let document: Value = serde_json::from_slice(&chain.genesis().unwrap()).unwrap();
    let params = &document["consensus"]["params"];
    let int = |key: &str| params[key].as_i64().unwrap();
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
    // From the last to the first, to see that the order of genesis does not matter.
    let members: Vec<ValidatorUpdate> = recorded
        .validators()
        .iter()
        .rev()
        .map(|v| ValidatorUpdate { pub_key: v.pub_key, power: v.voting_power })
        .collect();
    let genesis_time = Time::parse_rfc3339(document["genesis_time"].as_str().unwrap()).unwrap();
    let height = document["height"].as_i64().unwrap();
    let mut state = State::genesis(header.chain_id, height, genesis_time, consensus_params, &members).unwrap();
    let result = InitChainResult {
        app_hash: header.app_hash,
        consensus_param_updates: ConsensusParamsUpdate::default(),
        validators: vec![],
    };
    state.apply_init_chain(&result).unwrap();
    state
}

/// Follows a chain, checking every block; gives the state before each block.
pub(crate) fn follow(chain: &Chain) -> Vec<(State, Block, Commit)> {
    let blocks = chain.blocks().unwrap();
    let mut state = genesis_state(chain, &blocks[0]);
    let mut out = Vec::new();
    for (at, recorded) in blocks.iter().enumerate() {
        let block = Block::decode_checked(&recorded.block).unwrap();
        let seen = Commit::decode(&recorded.seen_commit).unwrap();
        let place = format!("{} height {}", chain.name, block.header.height);
        state.validate_block(&block).unwrap_or_else(|error| panic!("{place}: {error}"));

        // The set with every priority and the proposer, byte for byte.
        assert_eq!(state.validators.to_wire().encode_to_vec(), recorded.validators, "{place}");
        let round = u32::try_from(seen.round).unwrap();
        let proposer = if round == 0 { state.validators.clone() } else { state.validators.incremented(round).unwrap() };
        assert_eq!(block.header.proposer_address, proposer.proposer().unwrap().address.0, "{place}");

        let (id, height) = (&seen.block_id, block.header.height);
        let (set, chain_id) = (&state.validators, &state.chain_id);
        verify_full(set, chain_id, id, height, &seen).unwrap();
        verify_light(set, chain_id, id, height, &seen, Scope::Enough).unwrap();
        verify_light_trusting(set, chain_id, &seen, TrustLevel::ONE_THIRD, Scope::Enough).unwrap();

        let told = proposed_block(&block, &state.last_validators, state.initial_height).unwrap();
        assert_eq!(told.last_commit.votes.len(), state.last_validators.len());
        assert_eq!((told.hash.as_slice(), told.height), (recorded.hash.as_slice(), height));

        let rebuilt = state
            .make_block(block.data.txs.clone(), block.last_commit.clone().unwrap(), vec![], told.proposer_address)
            .unwrap();
        assert_eq!(rebuilt, block, "{place}");

        let results = results_from_wire(AbciResponses::decode(&recorded.abci_responses).unwrap()).unwrap();
        assert_eq!(results_to_wire(&results).encode_to_vec(), recorded.abci_responses, "{place}");
        let mut next = state.after(block.id().unwrap(), &block.header, &results).unwrap();
        if let Some(following) = blocks.get(at + 1) {
            next.app_hash = Block::decode(&following.block).unwrap().header.app_hash;
        }
        let stored = wire_cometbft::state::State::decode(&next.to_wire().encode_to_vec()).unwrap();
        assert_eq!(State::from_wire(stored).unwrap(), next);
        out.push((state, block, seen));
        state = next;
    }
    out
}

#[test]
fn every_recorded_chain_follows_from_genesis() {
    let (mut blocks, mut changes) = (0, 0);
    for chain in Chain::all().unwrap() {
        let steps = follow(&chain);
        blocks += steps.len();
        changes += steps.windows(2).filter(|pair| pair[0].0.validators.hash() != pair[1].0.validators.hash()).count();
    }
    assert!(blocks >= 1000 && changes >= 5, "{blocks} blocks, {changes} changes of the set");
}

/// Signatures of many commits check in one batch as they do one by one.
#[test]
fn commits_check_in_one_batch() {
    let chain = &Chain::all().unwrap()[0];
    let mut pending = Vec::new();
    let mut claims = Vec::new();
    for (state, block, seen) in follow(chain) {
        let check = comet_chain::commit::check_full(
            &state.validators,
            &state.chain_id,
            &seen.block_id,
            block.header.height,
            &seen,
        );
        let check = check.unwrap();
        claims.extend_from_slice(check.claims());
        pending.push(check);
    }
    let spoiled = claims.len() / 2;
    claims[spoiled].digest[0] ^= 1;
    let valid = verify_batch(&claims);
    assert_eq!(valid.iter().filter(|valid| !**valid).count(), 1);
    let mut rest = &valid[..];
    let mut failed = 0;
    for check in pending {
        let (own, others) = rest.split_at(check.claims().len());
        rest = others;
        failed += usize::from(check.finish(own).is_err());
    }
    assert_eq!((failed, rest.len()), (1, 0));
}

/// Each changed bit of a commit makes it fail, unless it decodes to the same commit.
#[test]
fn every_changed_bit_of_a_commit_is_refused() {
    let chain = Chain::open(&dev_testkit::paths::vectors_dir().join("chains/gas-fees-staking"));
    let steps = follow(&chain);
    let (state, block, seen) = &steps[7];
    let bytes = seen.encode_to_vec();
    let (mut refused, mut same) = (0, 0);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(commit) = Commit::decode(&changed) else {
            refused += 1;
            continue;
        };
        if commit == *seen {
            same += 1;
            continue;
        }
        let id = &block.id().unwrap();
        let verdict = commit.validate_basic().is_ok()
            && verify_full(&state.validators, &state.chain_id, id, block.header.height, &commit).is_ok();
        assert!(!verdict, "bit {bit}");
        refused += 1;
    }
    // Bits that the reference's decoder drops too: above the 32nd of nanoseconds, three in each time.
    assert!(same <= 3 * seen.signatures.len(), "{same} decode to the same commit");
    assert_eq!(refused + same, bytes.len() * 8);
}

/// Each changed bit of a recorded validator set gives another hash, is malformed, or changes what no hash covers.
#[test]
fn every_changed_bit_of_a_validator_set_is_told() {
    let chain = Chain::open(&dev_testkit::paths::vectors_dir().join("chains/debond"));
    let bytes = &chain.blocks().unwrap()[3].validators;
    let original = ValidatorSet::from_wire(&Message::decode(bytes).unwrap()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(set) = wire_cometbft::validators::ValidatorSet::decode(&changed) else {
            continue;
        };
        let Ok(set) = ValidatorSet::from_wire(&set) else {
            continue;
        };
        let uncovered = set.hash() == original.hash();
        if uncovered {
            let keys = |set: &ValidatorSet| -> Vec<_> {
                set.validators().iter().map(|v| (v.pub_key, v.voting_power)).collect()
            };
            assert_eq!(keys(&set), keys(&original), "bit {bit}");
        }
    }
}

/// Every field of a header that disagrees with the state is refused, with the field named.
#[test]
fn blocks_that_disagree_with_the_state_are_refused() {
    let chain = Chain::open(&dev_testkit::paths::vectors_dir().join("chains/vault"));
    let steps = follow(&chain);
    let (state, block, _) = &steps[20];
    let changed = |change: &dyn Fn(&mut Header)| {
        let mut block = block.clone();
        change(&mut block.header);
        state.validate_block(&block)
    };
    let field = |name| Err(BlockError::WrongField(name));
    assert_eq!(changed(&|_| ()), Ok(()));
    assert_eq!(changed(&|h| h.version.app += 1), field("version"));
    assert_eq!(changed(&|h| h.chain_id.replace_range(..1, "x")), field("chain_id"));
    assert!(matches!(changed(&|h| h.height += 1), Err(BlockError::Height { .. })));
    assert_eq!(changed(&|h| h.last_block_id.part_set_header.total += 1), field("last_block_id"));
    assert_eq!(changed(&|h| h.app_hash[0] ^= 1), field("app_hash"));
    assert_eq!(changed(&|h| h.consensus_hash[0] ^= 1), field("consensus_hash"));
    assert_eq!(changed(&|h| h.last_results_hash[0] ^= 1), field("last_results_hash"));
    assert_eq!(changed(&|h| h.validators_hash[0] ^= 1), field("validators_hash"));
    assert_eq!(changed(&|h| h.next_validators_hash[0] ^= 1), field("next_validators_hash"));
    assert_eq!(changed(&|h| h.proposer_address[0] ^= 1), Err(BlockError::Proposer));
    let later = |h: &mut Header| h.time = h.time.saturating_add(Duration::from_nanos(1));
    assert!(matches!(changed(&later), Err(BlockError::Time { .. })));
    assert!(matches!(changed(&|h| h.time = Time::UNIX_EPOCH), Err(BlockError::TimeNotAfter { .. })));
    assert!(matches!(changed(&|h| h.data_hash[0] ^= 1), Err(BlockError::Basic(_))));

    let mut unsigned = block.clone();
    let commit = unsigned.last_commit.as_mut().unwrap();
    commit.signatures[0].signature[3] ^= 1;
    unsigned.header.last_commit_hash = commit.hash().to_vec();
    assert!(matches!(state.validate_block(&unsigned), Err(BlockError::LastCommit(_))));
}
