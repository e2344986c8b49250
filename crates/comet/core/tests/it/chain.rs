//! A recorded chain as a sequence of states.

use comet_chain::app::{
    BlockParams, ConsensusParams, ConsensusParamsUpdate, EvidenceParams, InitChainResult, ValidatorParams,
    ValidatorUpdate, VersionParams,
};
use comet_chain::exec::results_from_wire;
use comet_chain::state::State;
use comet_chain::validators::ValidatorSet;
use comet_core::Config;
use dev_testkit::chains::{Chain, RecordedBlock};
use serde_json::Value;
use wire_cometbft::abci::AbciResponses;
use wire_cometbft::block::Block;
use wire_cometbft::{Duration, Message, Time};

/// States of a chain: `states[h - 1]` is the one before block `h`.
pub(crate) struct Followed {
    pub(crate) config: Config,
    pub(crate) states: Vec<State>,
    pub(crate) blocks: Vec<RecordedBlock>,
}

fn nanos(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Follows a chain from genesis.
pub(crate) fn follow(chain: &Chain) -> Followed {
    let blocks = chain.blocks().unwrap();
    let document: Value = serde_json::from_slice(&chain.genesis().unwrap()).unwrap();
    let consensus = &document["consensus"];
    let params = &consensus["params"];
    let int = |key: &str| params[key].as_i64().unwrap_or(0);
    let header = Block::decode(&blocks[0].block).unwrap().header;
    let recorded = ValidatorSet::from_wire(&Message::decode(&blocks[0].validators).unwrap()).unwrap();
    let members: Vec<ValidatorUpdate> =
        recorded.validators().iter().map(|v| ValidatorUpdate { pub_key: v.pub_key, power: v.voting_power }).collect();
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
    let genesis_time = Time::parse_rfc3339(document["genesis_time"].as_str().unwrap()).unwrap();
    let mut state =
        State::genesis(header.chain_id, document["height"].as_i64().unwrap(), genesis_time, consensus_params, &members)
            .unwrap();
    let result = InitChainResult {
        app_hash: header.app_hash,
        consensus_param_updates: ConsensusParamsUpdate::default(),
        validators: vec![],
    };
    state.apply_init_chain(&result).unwrap();

    let mut states = vec![state.clone()];
    for (at, recorded) in blocks.iter().enumerate() {
        let block = Block::decode_checked(&recorded.block).unwrap();
        let results = results_from_wire(AbciResponses::decode(&recorded.abci_responses).unwrap()).unwrap();
        state = state.after(block.id().unwrap(), &block.header, &results).unwrap();
        if let Some(following) = blocks.get(at + 1) {
            state.app_hash = Block::decode(&following.block).unwrap().header.app_hash;
        }
        states.push(state.clone());
    }
    let config = Config {
        timeout_commit: Duration::from_nanos(nanos(&params["timeout_commit"])),
        skip_timeout_commit: params["skip_timeout_commit"].as_bool().unwrap_or(false),
        create_empty_blocks_interval: Duration::from_nanos(nanos(&params["empty_block_interval"])),
        ..Config::default()
    };
    Followed { config, states, blocks }
}
