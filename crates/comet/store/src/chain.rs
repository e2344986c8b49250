//! The engine's state, validator sets, parameters and results on disk.
//!
//! Reference: `cometbft:state/store.go`. The values are the reference's messages, the keys this program's own: `cs` the
//! state; `cv`, `cp` and `cr` with a height (eight bytes big endian) validators, parameters and results.
//!
//! # Correctness
//! Results are durable on return, and with them everything saved before: a state that was only buffered is lost at most
//! as long as nothing was executed on top of it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use base_kv::{Batch, Durability, KvStore, Order};
use comet_chain::app::{BlockResults, ConsensusParams};
use comet_chain::evidence::{EvidenceSource, SourceError};
use comet_chain::exec::{results_from_wire, results_to_wire};
use comet_chain::light::LightBlock;
use comet_chain::state::State;
use comet_chain::validators::ValidatorSet;
use parking_lot::Mutex;
use wire_cometbft::abci::AbciResponses;
use wire_cometbft::block::{Commit, Header};
use wire_cometbft::codec::Message;
use wire_cometbft::params::ConsensusParamsUpdate;
use wire_cometbft::state::{ConsensusParamsInfo, State as WireState, ValidatorsInfo};

use crate::blocks::BlockStore;
use crate::error::{StoreError, corrupt};
use crate::format;

#[cfg(test)]
mod tests;

/// A validator set is stored whenever it changes and at multiples of this height.
pub const VALIDATORS_CHECKPOINT: i64 = 100_000;
/// Validator sets of past heights that are held in memory.
pub const CACHED_SETS: usize = 16;
/// Most entries of one kind that one call prunes.
pub const MAX_PRUNED_PER_CALL: usize = 10_000;

const STATE: &[u8] = b"cs";
const VALIDATORS: [u8; 2] = *b"cv";
const PARAMS: [u8; 2] = *b"cp";
const RESULTS: [u8; 2] = *b"cr";

fn key(kind: [u8; 2], height: i64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&kind);
    key[2..].copy_from_slice(&height.max(0).to_be_bytes());
    key
}

/// The height at which the set for `height` was stored.
fn stored_at(height: i64, last_changed: i64) -> i64 {
    (height - height.rem_euclid(VALIDATORS_CHECKPOINT)).max(last_changed)
}

/// The engine's state and what belongs to past heights. All methods may be called at once.
pub struct ChainStore {
    kv: Arc<dyn KvStore>,
    sets: Mutex<VecDeque<(i64, ValidatorSet)>>,
}

impl std::fmt::Debug for ChainStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainStore").finish_non_exhaustive()
    }
}

impl ChainStore {
    /// Opens the store.
    ///
    /// # Errors
    /// If it is of another chain or a newer format, or cannot be read.
    pub fn open(kv: Arc<dyn KvStore>, chain_id: &str) -> Result<Self, StoreError> {
        format::check(&*kv, chain_id)?;
        Ok(Self { kv, sets: Mutex::default() })
    }

    fn get<M: Message>(&self, key: &[u8], what: &'static str) -> Result<Option<M>, StoreError> {
        let bytes = self.kv.get(key)?;
        bytes.map(|bytes| M::decode(&bytes).map_err(|e| corrupt(what, e))).transpose()
    }

    /// The state after the newest block applied; `None` before genesis was taken in.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn load(&self) -> Result<Option<State>, StoreError> {
        let state = self.get::<WireState>(STATE, "state")?;
        state.map(|state| State::from_wire(state).map_err(|e| corrupt("state", e))).transpose()
    }

    /// Stores the state after a block, and the validators and parameters that it fixes. See the module on durability.
    ///
    /// # Errors
    /// If the store fails.
    pub fn save(&self, state: &State) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let next = state.next_height();
        if state.last_block_height == 0 {
            put_validators(&mut batch, next, next, &state.validators)?;
        }
        let after_next = next.saturating_add(1);
        put_validators(&mut batch, after_next, state.last_height_validators_changed, &state.next_validators)?;
        self.finish(batch, state, Durability::Buffered)
    }

    /// Stores a state that came from elsewhere (state sync); durable on return.
    ///
    /// # Errors
    /// If the store fails.
    pub fn bootstrap(&self, state: &State) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let next = state.next_height();
        if next > 1 && !state.last_validators.is_empty() {
            put_validators(&mut batch, next - 1, next - 1, &state.last_validators)?;
        }
        put_validators(&mut batch, next, next, &state.validators)?;
        let after_next = next.saturating_add(1);
        put_validators(&mut batch, after_next, after_next, &state.next_validators)?;
        self.finish(batch, state, Durability::Synced)
    }

    fn finish(&self, mut batch: Batch, state: &State, durability: Durability) -> Result<(), StoreError> {
        let (next, changed) = (state.next_height(), state.last_height_consensus_params_changed);
        let params = &state.consensus_params;
        let whole = ConsensusParamsUpdate {
            block: Some(params.block.clone()),
            evidence: Some(params.evidence.clone()),
            validator: Some(params.validator.clone()),
            version: Some(params.version.clone()),
        };
        let consensus_params = if changed == next { whole } else { ConsensusParamsUpdate::default() };
        let info = ConsensusParamsInfo { consensus_params, last_height_changed: changed };
        batch.put(&key(PARAMS, next), &info.encode_to_vec());
        batch.put(STATE, &state.to_wire().encode_to_vec());
        self.sets.lock().retain(|(height, _)| *height < next);
        Ok(self.kv.write(&batch, durability)?)
    }

    fn validators_info(&self, height: i64) -> Result<Option<ValidatorsInfo>, StoreError> {
        self.get(&key(VALIDATORS, height), "validators")
    }

    /// Validators of a height, up to the one after the next block's.
    ///
    /// # Consensus
    /// Between heights at which a set was stored it is rotated from there in one call, as the reference does it: light
    /// clients compare priorities.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, StoreError> {
        if let Some((_, set)) = self.sets.lock().iter().find(|(held, _)| *held == height) {
            return Ok(Some(set.clone()));
        }
        if height <= 0 {
            return Ok(None);
        }
        let Some(info) = self.validators_info(height)? else { return Ok(None) };
        let decode = |info: &ValidatorsInfo| {
            let set = info.validator_set.as_ref().filter(|set| !set.validators.is_empty());
            set.map(ValidatorSet::from_wire).transpose().map_err(|e| corrupt("validators", e))
        };
        let set = match decode(&info)? {
            Some(set) => set,
            None => {
                let stored = stored_at(height, info.last_height_changed);
                let missing = StoreError::Missing { what: "validators", height: stored };
                let Some(base) = self.validators_info(stored)?.map(|info| decode(&info)).transpose()?.flatten() else {
                    return Err(missing);
                };
                let steps = height.saturating_sub(stored);
                let within = (1..VALIDATORS_CHECKPOINT).contains(&steps);
                let times = u32::try_from(steps).ok().filter(|_| within);
                let times = times.ok_or(StoreError::Rotation { height: stored, steps })?;
                base.incremented(times).map_err(|e| corrupt("validators", e))?
            }
        };
        let mut sets = self.sets.lock();
        if sets.len() >= CACHED_SETS {
            sets.pop_front();
        }
        sets.push_back((height, set.clone()));
        Ok(Some(set))
    }

    /// Parameters of a height, up to the next block's.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn params(&self, height: i64) -> Result<Option<ConsensusParams>, StoreError> {
        let what = "consensus parameters";
        let Some(info) = self.get::<ConsensusParamsInfo>(&key(PARAMS, height), what)? else { return Ok(None) };
        let mut params = info.consensus_params;
        if params == ConsensusParamsUpdate::default() {
            let changed = info.last_height_changed;
            let stored = self.get::<ConsensusParamsInfo>(&key(PARAMS, changed), what)?;
            params = stored.ok_or(StoreError::Missing { what, height: changed })?.consensus_params;
        }
        Ok(Some(ConsensusParams::default().updated(&params)))
    }

    /// Results of a block.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn results(&self, height: i64) -> Result<Option<BlockResults>, StoreError> {
        let responses = self.get::<AbciResponses>(&key(RESULTS, height), "results")?;
        let decode = |responses| results_from_wire(responses).ok_or_else(|| corrupt("results", "unknown key type"));
        responses.map(decode).transpose()
    }

    /// Stores the results of a block; they survive a power loss on return, as does everything saved before.
    ///
    /// # Errors
    /// If the store fails.
    pub fn save_results(&self, height: i64, results: &BlockResults) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(&key(RESULTS, height), &results_to_wire(results).encode_to_vec());
        Ok(self.kv.write(&batch, Durability::Synced)?)
    }

    /// Header, commit and validators of a height. The commit for the newest block is the one seen.
    ///
    /// # Errors
    /// If a store fails or is damaged.
    pub fn light_block(&self, blocks: &BlockStore, height: i64) -> Result<Option<LightBlock>, StoreError> {
        let Some(meta) = blocks.meta(height)? else { return Ok(None) };
        let commit = match blocks.commit(height)? {
            Some(commit) => Some(commit),
            None => blocks.seen_commit(height)?,
        };
        let (Some(commit), Some(validators)) = (commit, self.validators(height)?) else { return Ok(None) };
        Ok(Some(LightBlock { header: meta.header, commit, validators }))
    }

    /// Removes what belongs to heights below `to`, at most [`MAX_PRUNED_PER_CALL`] entries of each kind. What heights from
    /// `to` on refer to is kept, and the validators of the height before, who signed its last commit.
    ///
    /// # Errors
    /// If the store fails or is damaged.
    pub fn prune(&self, to: i64) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let validators_to = to.saturating_sub(1);
        if let Some(info) = self.validators_info(validators_to)? {
            let keep = match info.validator_set {
                Some(_) => validators_to,
                None => stored_at(validators_to, info.last_height_changed),
            };
            self.delete_below(&mut batch, VALIDATORS, validators_to, keep)?;
        }
        if let Some(info) = self.get::<ConsensusParamsInfo>(&key(PARAMS, to), "consensus parameters")? {
            self.delete_below(&mut batch, PARAMS, to, info.last_height_changed)?;
        }
        self.delete_below(&mut batch, RESULTS, to, to)?;
        if batch.is_empty() {
            return Ok(());
        }
        self.kv.write(&batch, Durability::Buffered)?;
        self.sets.lock().retain(|(height, _)| *height >= validators_to);
        Ok(())
    }

    fn delete_below(&self, batch: &mut Batch, kind: [u8; 2], to: i64, keep: i64) -> Result<(), StoreError> {
        let (kept, mut left) = (key(kind, keep), MAX_PRUNED_PER_CALL);
        self.kv.scan(&key(kind, 0), Some(&key(kind, to)), Order::Forward, &mut |found, _| {
            if found != kept {
                batch.delete(found);
            }
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(())
    }
}

fn put_validators(batch: &mut Batch, height: i64, last_changed: i64, set: &ValidatorSet) -> Result<(), StoreError> {
    if last_changed > height {
        return Err(corrupt("state", format!("validators of height {height} changed at height {last_changed}")));
    }
    let stored = height == last_changed || height % VALIDATORS_CHECKPOINT == 0;
    let info = ValidatorsInfo { validator_set: stored.then(|| set.to_wire()), last_height_changed: last_changed };
    batch.put(&key(VALIDATORS, height), &info.encode_to_vec());
    Ok(())
}

/// Both stores as the rules of evidence see them.
#[derive(Debug, Clone)]
pub struct StoredChain {
    /// Blocks.
    pub blocks: Arc<BlockStore>,
    /// State.
    pub chain: Arc<ChainStore>,
}

impl EvidenceSource for StoredChain {
    fn header(&self, height: i64) -> Result<Option<Header>, SourceError> {
        Ok(self.blocks.meta(height)?.map(|meta| meta.header))
    }

    fn commit(&self, height: i64) -> Result<Option<Commit>, SourceError> {
        Ok(self.blocks.commit(height)?)
    }

    fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, SourceError> {
        Ok(self.chain.validators(height)?)
    }

    fn latest_height(&self) -> i64 {
        self.blocks.height()
    }
}
