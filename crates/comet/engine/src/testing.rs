//! Validators and votes for the tests of this crate.

use std::sync::Arc;

use base_crypto::ed25519::SecretKey;
use comet_chain::app::{
    BlockParams, ConsensusParams, EvidenceParams, InitChainResult, ValidatorParams, ValidatorUpdate, VersionParams,
};
use comet_chain::state::State;
use comet_chain::validators::ValidatorSet;
use comet_core::vote_set::VoteSet;
use comet_core::{Config, Core, RoundState};
use wire_cometbft::block::{BlockId, PartSetHeader};
use wire_cometbft::keys::signing_digest;
use wire_cometbft::vote::{SignedMsgType, Vote};
use wire_cometbft::{Duration, Time};

const CHAIN: &str = "chain";

fn keys() -> Vec<SecretKey> {
    (1..=4u8).map(|n| SecretKey::from_seed(&[n; 32])).collect()
}

fn members() -> Vec<ValidatorUpdate> {
    keys().iter().map(|key| ValidatorUpdate { pub_key: key.public(), power: 1 }).collect()
}

pub(crate) fn block_id(n: u8) -> BlockId {
    BlockId { hash: vec![n; 32], part_set_header: PartSetHeader { total: 3, hash: vec![n + 1; 32] } }
}

/// A signed vote of one of four validators for block 1.
pub(crate) fn vote(height: i64, round: i32, kind: SignedMsgType, index: usize) -> Vote {
    let validators = ValidatorSet::new(&members()).unwrap();
    let validator = validators.get(index).unwrap();
    let key = keys().into_iter().find(|key| key.public() == validator.pub_key).unwrap();
    let mut vote = Vote {
        kind,
        height,
        round,
        block_id: block_id(1),
        validator_address: validator.address.0.to_vec(),
        validator_index: index as i32,
        ..Vote::default()
    };
    vote.signature = key.sign(&signing_digest(&vote.sign_bytes(CHAIN))).to_vec();
    vote
}

/// Votes of the first `count` of four validators.
pub(crate) fn votes(height: i64, round: i32, kind: SignedMsgType, count: usize) -> VoteSet {
    let validators = Arc::new(ValidatorSet::new(&members()).unwrap());
    let mut set = VoteSet::new(CHAIN.into(), height, round, kind, validators);
    for index in 0..count {
        assert!(set.add(vote(height, round, kind, index)).unwrap().added);
    }
    set
}

/// Where a machine of four validators stands at its first height.
pub(crate) fn place() -> RoundState {
    let params = ConsensusParams {
        block: BlockParams { max_bytes: 200_000, max_gas: -1 },
        evidence: EvidenceParams {
            max_age_num_blocks: 100,
            max_age_duration: Duration::from_secs(1000),
            max_bytes: 50_000,
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 1 },
    };
    let mut state = State::genesis(CHAIN.into(), 1, Time::UNIX_EPOCH, params, &members()).unwrap();
    state.apply_init_chain(&InitChainResult::default()).unwrap();
    let core = Core::new(Config::default(), None, state, None, None, Time::UNIX_EPOCH).unwrap();
    core.round_state().clone()
}
