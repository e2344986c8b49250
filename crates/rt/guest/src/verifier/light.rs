//! The verifier that proves what the host says, from a trust root on.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use base_codec::{Bytes, Codec, cbor};
use base_crypto::{context::ChainContext, hash::sha256};
use base_prims::{Epoch, Hash, PublicKey, Version};
use comet_chain::light::{self, Bisection, Policy, Step, UntrustedLightBlock};
use mkvs_tree::Root;
use parking_lot::Mutex;
use wire_cometbft::{
    codec::Message as _,
    merkle,
    time::{Duration, Time},
};
use wire_consensus::{genesis::comet_chain_id, registry, roothash::Header, transaction::Transaction};
use wire_runtime::{host::ProvenTransaction, runtime::LightBlock};

use super::{
    HEIGHT_LATEST, TrustRoot, TrustedState, VerifierError, decode_block, failed, header_root, metadata_root, positive,
    tx_bytes,
};
use crate::{Error, Host, consensus::ConsensusState, identity::Identity};

/// How long blocks are trusted. The host is the only source of blocks, so a shorter time would prove nothing.
const TRUSTING_PERIOD: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far ahead of the host's clock a block may be.
const CLOCK_DRIFT: Duration = Duration::from_secs(60);
/// Verified blocks that are kept, beside the trust root.
const KEPT_BLOCKS: usize = 512;
/// Runtime headers whose state root was verified that are kept.
const KEPT_HEADERS: usize = 128;
/// Blocks after which the newest is stored as trusted.
const SAVE_INTERVAL: u64 = 128;
/// Most blocks fetched for one target: each step of a bisection halves a gap of at most 2^63.
const MAX_FETCHES: usize = 256;

/// A Merkle proof in CBOR, as hosts send it.
#[derive(Default, Codec)]
#[codec(cbor_only)]
struct RawProof {
    total: i64,
    index: i64,
    leaf_hash: Bytes,
    #[codec(omitempty)]
    aunts: Vec<Bytes>,
}

/// A light client over the host.
pub(super) struct Light {
    host: Host,
    trust_root: TrustRoot,
    chain_context: ChainContext,
    chain_id: String,
    version: Version,
    identity: Arc<Identity>,
    /// Locked while anything is verified, and from the start until [`Light::init`] is done.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    initialized: bool,
    blocks: BTreeMap<i64, light::LightBlock>,
    root_height: i64,
    last_height: u64,
    last_round: u64,
    last_epoch: Epoch,
    /// Round, state root and epoch of headers that were verified.
    headers: VecDeque<(u64, Hash, Epoch)>,
    saved_height: u64,
    node: PublicKey,
}

impl State {
    fn newest(&self) -> Option<&light::LightBlock> {
        self.blocks.last_key_value().map(|(_, block)| block)
    }

    fn newest_height(&self) -> Result<u64, VerifierError> {
        self.newest().map(|b| b.height()).map_or(Err(VerifierError::Internal), positive)
    }

    fn keep(&mut self, block: light::LightBlock) {
        self.blocks.insert(block.height(), block);
        while self.blocks.len() > KEPT_BLOCKS {
            let oldest = self.blocks.keys().find(|height| **height != self.root_height).copied();
            match oldest {
                Some(height) => self.blocks.remove(&height),
                None => break,
            };
        }
    }

    fn is_verified(&self, header: &Header, epoch: Epoch) -> bool {
        self.headers.iter().any(|(round, root, e)| *round == header.round && *root == header.state_root && *e == epoch)
    }

    fn remember(&mut self, header: &Header, epoch: Epoch) {
        self.headers.push_front((header.round, header.state_root, epoch));
        self.headers.truncate(KEPT_HEADERS);
    }
}

/// The host's clock.
fn now() -> Time {
    let seconds = i64::try_from(crate::identity::insecure_unix_time()).unwrap_or(i64::MAX);
    Time::new(seconds, 0).unwrap_or(Time::UNIX_EPOCH)
}

impl Light {
    pub(super) fn new(
        host: Host,
        trust_root: TrustRoot,
        chain_context: &str,
        version: Version,
        identity: Arc<Identity>,
    ) -> Result<Self, VerifierError> {
        let chain_context = ChainContext::parse(chain_context).map_err(|e| VerifierError::Builder(e.to_string()))?;
        let chain_id = comet_chain_id(&chain_context);
        Ok(Self { host, trust_root, chain_context, chain_id, version, identity, state: Mutex::default() })
    }

    fn fetch(&self, height: i64) -> Result<light::LightBlock, VerifierError> {
        let wanted = u64::try_from(height).unwrap_or(HEIGHT_LATEST);
        let block = self.host.consensus_block(wanted).map_err(failed)?;
        let block = UntrustedLightBlock(decode_block(&block)?);
        block.check(&self.chain_id, height).map_err(failed)
    }

    pub(super) fn init(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        let trusted = TrustedState::load(&self.host, &self.identity, self.version, &self.trust_root)?;
        if trusted.trust_root.chain_context != self.chain_context.as_str() {
            return Err(VerifierError::ChainContext("cannot transition from embedded trust root".into()).into());
        }
        let root = trusted.trust_root;
        let height = i64::try_from(root.height).map_err(|e| VerifierError::Builder(e.to_string()))?;
        let block = match trusted.block {
            Some(raw) => {
                let wire = wire_cometbft::block::LightBlock::decode_limited(&raw, super::MAX_LIGHT_BLOCK_BYTES);
                let wire = wire.map_err(|_| VerifierError::TrustedState)?;
                UntrustedLightBlock(wire).check(&self.chain_id, height).map_err(|_| VerifierError::TrustedState)?
            }
            None => self.fetch(height).map_err(|e| VerifierError::Builder(e.to_string()))?,
        };
        let hash = block.header.hash().map(hex::encode).unwrap_or_default();
        if !hash.eq_ignore_ascii_case(&root.hash) {
            return Err(
                VerifierError::Builder(format!("block {height} has hash {hash}, trusted is {}", root.hash)).into()
            );
        }
        state.root_height = height;
        state.saved_height = root.height;
        state.keep(block);
        state.node = self.host.identity()?;
        let newest = self.verify_to(&mut state, 0)?;
        self.save(&mut state);
        tracing::info!(height = newest.height(), "consensus verifier synced");
        self.prove_freshness(&mut state)?;
        state.initialized = true;
        Ok(())
    }

    fn locked(&self) -> Result<parking_lot::MutexGuard<'_, State>, VerifierError> {
        let state = self.state.lock();
        if state.initialized { Ok(state) } else { Err(VerifierError::Internal) }
    }

    /// The verified block of a height, 0 for the host's newest.
    fn verify_to(&self, state: &mut State, height: i64) -> Result<light::LightBlock, VerifierError> {
        if let Some(block) = state.blocks.get(&height) {
            return Ok(block.clone());
        }
        let target = self.fetch(height)?;
        if let Some(block) = state.blocks.get(&target.height()) {
            return if block.header == target.header { Ok(block.clone()) } else { Err(failed("header mismatch")) };
        }
        let base = state.blocks.range(..target.height()).next_back().map(|(_, block)| block.clone());
        let base = base.ok_or_else(|| failed(format!("height {} is below the trust root", target.height())))?;
        let policy = Policy { max_clock_drift: CLOCK_DRIFT, ..Policy::new(TRUSTING_PERIOD) };
        // A clock that is behind would refuse blocks that are known to be true.
        let now = state.newest().map_or_else(now, |newest| now().max(newest.header.time));
        let mut bisection = Bisection::new(base, target.clone(), policy);
        for _ in 0..MAX_FETCHES {
            match bisection.step(now).map_err(failed)? {
                Step::Fetch(height) => bisection.provide(self.fetch(height)?),
                Step::Done(blocks) => {
                    blocks.into_iter().for_each(|block| state.keep(block));
                    return Ok(target);
                }
            }
        }
        Err(failed("too many blocks between the trusted one and the target"))
    }

    fn save(&self, state: &mut State) {
        let Some(newest) = state.newest() else { return };
        let height = u64::try_from(newest.height()).unwrap_or_default();
        let trusted = TrustedState {
            trust_root: TrustRoot {
                height,
                hash: newest.header.hash().map(hex::encode).unwrap_or_default(),
                runtime_id: self.trust_root.runtime_id,
                chain_context: self.chain_context.as_str().to_owned(),
            },
            block: Some(Bytes(newest.to_wire().encode_to_vec())),
        };
        trusted.save(&self.host, &self.identity, self.version);
        state.saved_height = height;
    }

    fn save_once_in_a_while(&self, state: &mut State) {
        let height = state.newest_height().unwrap_or_default();
        if height.saturating_sub(state.saved_height) > SAVE_INTERVAL {
            self.save(state);
        }
    }

    /// The transaction, if its signature verifies and it is in a verified block.
    fn verify_transaction(&self, state: &mut State, proven: &ProvenTransaction) -> Result<Transaction, VerifierError> {
        let refuse = |what: &dyn ToString| VerifierError::Transaction(what.to_string());
        let (Some(signed), Some(proof)) = (&proven.signed_tx, &proven.proof) else {
            return Err(refuse(&"no transaction or no proof"));
        };
        let tx = signed.open(&self.chain_context).map_err(|e| refuse(&e))?;
        positive(proof.height)?;
        let block = self.verify_to(state, proof.height).map_err(|e| refuse(&e))?;
        let raw = proof.raw_proof.as_ref().map_or(&[][..], |raw| raw.as_slice());
        let raw: RawProof = cbor::from_slice(raw).map_err(|e| refuse(&e))?;
        let merkle_proof = merkle::Proof {
            total: raw.total,
            index: raw.index,
            leaf_hash: raw.leaf_hash.0,
            aunts: raw.aunts.into_iter().map(|aunt| aunt.0).collect(),
        };
        merkle_proof.validate_basic().map_err(|e| refuse(&e))?;
        let hash = sha256(&[&tx_bytes(signed)]);
        merkle_proof.verify(&block.header.data_hash, &hash).map_err(|e| refuse(&e))?;
        Ok(tx)
    }

    /// Has the host publish a random number: a block that holds it is not older than this call.
    fn prove_freshness(&self, state: &mut State) -> Result<(), VerifierError> {
        let refuse = |what: &dyn ToString| VerifierError::Freshness(what.to_string());
        let nonce = crate::identity::random::<32>().map_err(|e| refuse(&e))?;
        let proven = self.host.prove_freshness(nonce).map_err(|e| refuse(&e))?;
        let tx = self.verify_transaction(state, &proven)?;
        if tx.method != registry::METHOD_PROVE_FRESHNESS {
            return Err(refuse(&"invalid method name"));
        }
        let published: [u8; 32] = tx.body.decode_as().map_err(|e| refuse(&e))?;
        if published == nonce { Ok(()) } else { Err(refuse(&"invalid nonce")) }
    }

    fn metadata(&self, state: &mut State, height: u64) -> Result<Root, VerifierError> {
        let proven = self.host.block_metadata_tx(height).map_err(|e| VerifierError::StateRoot(e.to_string()))?;
        // The transaction is one of that very block.
        if proven.proof.as_ref().is_none_or(|p| u64::try_from(p.height) != Ok(height)) {
            return Err(VerifierError::StateRoot("metadata of another block".into()));
        }
        let tx = self.verify_transaction(state, &proven)?;
        metadata_root(height, &tx)
    }

    fn root_at(&self, state: &mut State, height: u64) -> Result<Root, VerifierError> {
        let signed = i64::try_from(height).map_err(failed)?;
        match self.verify_to(state, signed) {
            Ok(block) => header_root(&block.header),
            // Not finalized yet: the block before says what it leads to.
            Err(_) => self.metadata(state, height.saturating_sub(1)),
        }
    }

    fn consensus_state(&self, root: Root) -> ConsensusState {
        ConsensusState::new(&self.host, root.version.saturating_add(1), root)
    }

    pub(super) fn sync(&self, height: u64) -> Result<(), Error> {
        let mut state = self.locked()?;
        if height != HEIGHT_LATEST && height < state.last_height.max(state.newest_height()?) {
            return Ok(());
        }
        self.verify_to(&mut state, i64::try_from(height).map_err(failed)?)?;
        self.save_once_in_a_while(&mut state);
        Ok(())
    }

    pub(super) fn latest_height(&self) -> Result<u64, Error> {
        Ok(self.locked()?.newest_height()?)
    }

    pub(super) fn latest_root(&self) -> Result<Root, Error> {
        let mut state = self.locked()?;
        let height = state.newest_height()?;
        Ok(self.metadata(&mut state, height)?)
    }

    pub(super) fn state_at(&self, height: u64) -> Result<ConsensusState, Error> {
        let mut state = self.locked()?;
        Ok(self.consensus_state(self.root_at(&mut state, height)?))
    }

    /// Checks the block that came with a request, and the time in the runtime's header.
    fn check_block(&self, state: &mut State, block: &LightBlock, header: &Header) -> Result<u64, VerifierError> {
        if header.namespace != self.trust_root.runtime_id {
            return Err(failed("header namespace does not match trusted runtime id"));
        }
        let claimed = UntrustedLightBlock(decode_block(block)?);
        let claimed = claimed.0.signed_header.and_then(|signed| signed.header);
        let claimed = claimed.ok_or_else(|| failed("missing signed header"))?;
        if claimed.height != block.height {
            return Err(failed("inconsistent light block/header height"));
        }
        let height = positive(claimed.height)?;
        let verified = self.verify_to(state, claimed.height)?;
        if verified.header != claimed {
            return Err(failed("header mismatch"));
        }
        if u64::try_from(claimed.time.seconds()) != Ok(header.timestamp.0) {
            return Err(failed("runtime block timestamp inconsistent with consensus time"));
        }
        Ok(height)
    }

    /// Checks state root and epoch against the state after the block.
    fn check_header(&self, state: &mut State, height: u64, header: &Header, epoch: Epoch) -> Result<(), Error> {
        let next = self.consensus_state(self.root_at(state, height.saturating_add(1))?);
        let root = next.runtime_state_root(&header.namespace)?;
        if root != header.state_root {
            return Err(failed(format!("state root mismatch (expected: {root} got: {})", header.state_root)).into());
        }
        let current = next.epoch()?;
        if current != epoch {
            return Err(failed(format!("epoch number mismatch (expected: {current} got: {epoch})")).into());
        }
        Ok(())
    }

    pub(super) fn verify(&self, block: &LightBlock, header: &Header, epoch: Epoch) -> Result<ConsensusState, Error> {
        let mut state = self.locked()?;
        let claimed = positive(block.height)?;
        check_advance(&state, header.round, claimed, epoch)?;
        let height = self.check_block(&mut state, block, header)?;
        let root = self.root_at(&mut state, height)?;
        if !(state.is_verified(header, epoch) && epoch == state.last_epoch) {
            self.check_header(&mut state, height, header, epoch)?;
            if state.last_epoch != epoch {
                self.check_registered(&mut state)?;
            }
            state.remember(header, epoch);
            state.last_epoch = epoch;
        }
        state.last_height = height;
        state.last_round = header.round;
        self.save_once_in_a_while(&mut state);
        Ok(self.consensus_state(root))
    }

    /// This very enclave is registered in the newest state, so the state is at most as old as the enclave.
    fn check_registered(&self, state: &mut State) -> Result<(), Error> {
        if self.identity.quote().is_none() {
            return Ok(());
        }
        let height = state.newest_height()?;
        let root = self.metadata(state, height)?;
        let latest = ConsensusState::new(&self.host, root.version, root);
        let node = latest.node(&state.node)?;
        let node = node.ok_or_else(|| failed(format!("own node ID '{}' not found in registry state", state.node)))?;
        if !self.identity.is_registered(&node, &self.trust_root.runtime_id, self.version) {
            return Err(failed("own identity not found in registry state").into());
        }
        Ok(())
    }

    pub(super) fn verify_for_query(
        &self,
        block: &LightBlock,
        header: &Header,
        epoch: Epoch,
    ) -> Result<ConsensusState, Error> {
        let mut state = self.locked()?;
        let height = self.check_block(&mut state, block, header)?;
        let root = self.root_at(&mut state, height)?;
        if !state.is_verified(header, epoch) {
            self.check_header(&mut state, height, header, epoch)?;
            state.remember(header, epoch);
        }
        Ok(self.consensus_state(root))
    }
}

/// Rounds, epochs and heights never go back, and a new round needs a new height.
fn check_advance(state: &State, round: u64, height: u64, epoch: Epoch) -> Result<(), VerifierError> {
    if round < state.last_round {
        return Err(failed("round seems to have moved backwards"));
    }
    if epoch < state.last_epoch {
        return Err(failed("epoch seems to have moved backwards"));
    }
    if round > state.last_round && height <= state.last_height {
        return Err(failed("consensus height did not advance but runtime round did"));
    }
    if height < state.last_height {
        return Err(failed("height seems to have moved backwards"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
