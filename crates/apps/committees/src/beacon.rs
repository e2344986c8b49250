//! Beacon service: epochs and randomness.
//!
//! Two backends: `insecure` counts blocks and hashes them, `vrf` also collects the nodes' VRF proofs on which committee
//! elections draw. Either can be a mock, whose epochs are moved by transactions.
//! Reference: `go/consensus/cometbft/apps/beacon`.

pub mod genesis;
mod insecure;
pub mod query;
pub mod state;
#[cfg(test)]
mod tests;
mod vrf;

use apps_core::{Context, Error, Message, MessageKind, Reply, Result, Service, kv::KvRead};
use base_codec::Raw;
use base_crypto::hash::sha3_256;
use base_prims::Epoch;
use comet_chain::app::ValidatorUpdate;
use wire_consensus::beacon::{
    BACKEND_INSECURE, BACKEND_VRF, BeaconEvent, EpochEvent, METHOD_SET_EPOCH, METHOD_VRF_PROVE, Parameters,
};
use wire_consensus::genesis::Document;

/// Name of the service: first in the order of services, so that everyone else sees the new epoch.
pub const NAME: &str = "000_beacon";
/// Priority of the service's transactions.
const PRIORITY: i64 = 100_000;
/// Enters every beacon.
const ENTROPY_CONTEXT: &[u8] = b"EkB-tmnt";

/// The beacon service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beacon;

/// Which backend the parameters name.
enum Backend {
    Insecure,
    Vrf,
}

fn backend(params: &Parameters) -> Result<Backend> {
    match params.backend.as_str() {
        BACKEND_INSECURE => Ok(Backend::Insecure),
        BACKEND_VRF => Ok(Backend::Vrf),
        other => Err(Error::Uncoded(format!("beacon: unsupported backend: {other:?}"))),
    }
}

impl Service for Beacon {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        &[METHOD_SET_EPOCH, METHOD_VRF_PROVE]
    }

    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
        genesis::init_chain(ctx, &doc.beacon)
    }

    fn begin_block(&self, ctx: &mut Context<'_>) -> Result<()> {
        let params = state::parameters(&ctx.state())?;
        match backend(&params)? {
            Backend::Insecure => insecure::begin_block(ctx, &params),
            Backend::Vrf => vrf::begin_block(ctx, &params),
        }
    }

    fn execute_tx(&self, ctx: &mut Context<'_>, method: &str, body: &Raw) -> Result<()> {
        let params = state::parameters(&ctx.state())?;
        ctx.set_priority(PRIORITY);
        let backend = backend(&params)?;
        match (method, backend) {
            (METHOD_SET_EPOCH, _) if !params.debug_mock_backend => {
                Err(Error::Uncoded(format!("beacon: method {METHOD_SET_EPOCH} is disabled via consensus")))
            }
            (METHOD_SET_EPOCH, Backend::Insecure) => insecure::set_epoch(ctx, body),
            (METHOD_SET_EPOCH, Backend::Vrf) => vrf::set_epoch(ctx, body),
            (METHOD_VRF_PROVE, Backend::Vrf) => vrf::prove(ctx, &params, body),
            _ => Err(Error::Uncoded(format!("beacon: invalid method: {method}"))),
        }
    }

    fn end_block(&self, _: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        Ok(Vec::new())
    }

    fn message(&self, _: &mut Context<'_>, _: &Message<'_>) -> Result<Option<Reply>> {
        Ok(None)
    }

    fn handles(&self, _: MessageKind) -> bool {
        false
    }

    fn export_genesis(&self, state: &dyn KvRead, _: i64, doc: &mut Document) -> Result<()> {
        doc.beacon = query::genesis(state)?;
        Ok(())
    }
}

pub(crate) use vrf::beta;

fn emit_epoch(ctx: &mut Context<'_>, epoch: Epoch) {
    ctx.emit(NAME, &EpochEvent { epoch });
}

/// Entropy that whoever proposes blocks can influence.
fn block_entropy(ctx: &Context<'_>) -> [u8; 32] {
    let height = ctx.last_height().to_le_bytes();
    let time = ctx.now().seconds().to_le_bytes();
    sha3_256(&[&height, &time, ctx.last_state_root()])
}

/// The beacon of an epoch from its entropy.
pub fn derive_beacon(epoch: Epoch, entropy: &[u8]) -> [u8; 32] {
    sha3_256(&[ENTROPY_CONTEXT, entropy, &epoch.to_le_bytes()])
}

/// Sets the beacon of a new epoch from the block.
fn new_beacon(ctx: &mut Context<'_>, epoch: Epoch) -> Result<()> {
    let beacon = derive_beacon(epoch, &block_entropy(ctx));
    state::set_beacon(&mut ctx.state(), &beacon)?;
    ctx.emit(NAME, &BeaconEvent { beacon: beacon.into() });
    Ok(())
}

/// Whether the transition to a scheduled epoch is due in this block.
///
/// # Errors
/// If its height has passed: then time is broken.
fn is_due(future_height: i64, height: i64) -> Result<bool> {
    if future_height < height {
        return Err(Error::Uncoded(format!(
            "beacon: height mismatch in deferred set: expected {future_height}, at {height}"
        )));
    }
    Ok(future_height == height)
}
