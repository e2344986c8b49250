//! The backend that collects the nodes' VRF proofs.
//!
//! In each epoch nodes prove the epoch's alpha. Enough proofs make the next alpha one that nobody could foresee, and
//! elections may draw on the proofs made over such an alpha.

use std::collections::BTreeMap;

use apps_core::{Context, Error, Result};
use base_codec::{Bytes, Raw};
use base_crypto::{tuplehash::tuple_hash256, vrf};
use base_prims::{EPOCH_INVALID, Epoch};
use wire_consensus::{
    beacon::{
        EpochTimeState, GAS_OP_VRF_PROVE, Parameters, PrevVrfState, Proof, RawProof, VrfEvent, VrfParameters, VrfProve,
        VrfState,
    },
    errors,
};

use super::{NAME, block_entropy, emit_epoch, is_due, new_beacon, state};
use crate::registry;

/// Customization of the hash that makes alphas.
const ALPHA_DOMAIN: &[u8] = b"oasis-core:vrf/alpha";

/// The parameters of this backend.
pub(super) fn parameters(params: &Parameters) -> Result<&VrfParameters> {
    params.vrf_parameters.as_ref().ok_or_else(|| Error::Fatal("beacon: the VRF backend has no parameters".to_owned()))
}

/// Schedules an epoch one interval from here.
pub(super) fn schedule(ctx: &mut Context<'_>, params: &VrfParameters, epoch: Epoch) -> Result<()> {
    let height = ctx.current_height().wrapping_add(params.interval);
    state::set_future_epoch(&mut ctx.state(), epoch, height)
}

/// Makes the scheduled transition if it is due; for a mock, schedules it when enough proofs are in.
pub(super) fn begin_block(ctx: &mut Context<'_>, params: &Parameters) -> Result<()> {
    let vrf_params = parameters(params)?;
    let height = ctx.current_height();
    let future = state::future_epoch(&ctx.state())?;
    let stored = state::vrf_state(&ctx.state())?;
    // Where there was no state in the block before, there is no list of proofs either, not even an empty one.
    let had_proofs = stored.is_some();
    let vrf_state = match stored {
        Some(s) => s,
        None => bootstrap(ctx, vrf_params)?,
    };
    match future {
        None if !params.debug_mock_backend => Err(Error::Uncoded("beacon: timekeeping broken".to_owned())),
        None => schedule_mock(ctx, vrf_params, &vrf_state),
        Some(future) if is_due(future.height, height)? => transition(ctx, params, future, vrf_state, had_proofs),
        Some(_) => Ok(()),
    }
}

/// Makes the state of the first epoch, with an alpha that anyone could foresee.
fn bootstrap(ctx: &mut Context<'_>, params: &VrfParameters) -> Result<VrfState> {
    let (epoch, _) = state::epoch(&ctx.state())?;
    let vrf_state = VrfState {
        epoch,
        alpha: low_quality_alpha(ctx, epoch),
        submit_after: ctx.current_height().wrapping_add(params.proof_submission_delay),
        ..VrfState::default()
    };
    state::set_vrf_state(&mut ctx.state(), &vrf_state)?;
    Ok(vrf_state)
}

/// Schedules the epoch that a transaction asked for, once all nodes have proven or had a usual epoch's time for it.
fn schedule_mock(ctx: &mut Context<'_>, params: &VrfParameters, vrf_state: &VrfState) -> Result<()> {
    let Some(epoch) = state::pending_mock_epoch(&ctx.state())? else { return Ok(()) };
    let height = ctx.current_height();
    if height <= vrf_state.submit_after {
        return Ok(());
    }
    let nodes = registry::state::nodes(&ctx.state())?;
    if vrf_state.pi.len() < nodes.len() {
        let (_, began) = state::epoch(&ctx.state())?;
        if height < began.wrapping_add(params.interval) {
            return Ok(());
        }
    }
    state::clear_pending_mock_epoch(&mut ctx.state())?;
    // Everyone must be able to foresee the transition one block before it.
    state::set_future_epoch(&mut ctx.state(), epoch, height + 1)
}

fn transition(
    ctx: &mut Context<'_>,
    params: &Parameters,
    future: EpochTimeState,
    mut vrf_state: VrfState,
    had_proofs: bool,
) -> Result<()> {
    let vrf_params = parameters(params)?;
    let height = ctx.current_height();
    make_new_nodes_eligible(ctx, future.epoch)?;
    state::set_epoch(&mut ctx.state(), future.epoch, height)?;
    state::clear_future_epoch(&mut ctx.state())?;
    if !params.debug_mock_backend {
        schedule(ctx, vrf_params, future.epoch.wrapping_add(1))?;
    }
    emit_epoch(ctx, future.epoch);

    let enough = u64::try_from(vrf_state.pi.len()).unwrap_or(u64::MAX) >= vrf_params.alpha_high_quality_threshold;
    let alpha =
        if enough { high_quality_alpha(ctx, future.epoch, &vrf_state)? } else { low_quality_alpha(ctx, future.epoch) };
    let proofs = std::mem::take(&mut vrf_state.pi);
    vrf_state = VrfState {
        epoch: future.epoch,
        alpha,
        pi: BTreeMap::new(),
        alpha_is_high_quality: enough,
        submit_after: height.wrapping_add(vrf_params.proof_submission_delay),
        prev_state: Some(PrevVrfState {
            pi: had_proofs.then_some(proofs),
            can_elect_committees: vrf_state.alpha_is_high_quality,
        }),
    };
    state::set_vrf_state(&mut ctx.state(), &vrf_state)?;
    new_beacon(ctx, future.epoch)?;
    let VrfState { epoch, alpha, submit_after, .. } = vrf_state;
    ctx.emit(NAME, &VrfEvent { epoch, alpha, submit_after });
    Ok(())
}

/// Nodes that registered since the last transition become eligible after the coming epoch.
fn make_new_nodes_eligible(ctx: &mut Context<'_>, next: Epoch) -> Result<()> {
    for node in registry::state::nodes(&ctx.state())? {
        let mut status = registry::state::node_status(&ctx.state(), &node.id)?;
        if status.election_eligible_after == EPOCH_INVALID {
            status.election_eligible_after = next;
            registry::state::set_node_status(&mut ctx.state(), &node.id, &status)?;
        }
    }
    Ok(())
}

fn alpha(ctx: &Context<'_>, epoch: Epoch, rest: &[&[u8]]) -> Bytes {
    let epoch = epoch.to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![ctx.chain().as_str().as_bytes(), &epoch];
    parts.extend_from_slice(rest);
    tuple_hash256(ALPHA_DOMAIN, &parts).into()
}

fn low_quality_alpha(ctx: &Context<'_>, epoch: Epoch) -> Bytes {
    alpha(ctx, epoch, &[&block_entropy(ctx)])
}

fn high_quality_alpha(ctx: &Context<'_>, epoch: Epoch, vrf_state: &VrfState) -> Result<Bytes> {
    let betas = vrf_state.pi.values().map(beta).collect::<Result<Vec<_>>>()?;
    let parts: Vec<&[u8]> = betas.iter().map(<[u8; vrf::OUTPUT_LEN]>::as_slice).collect();
    Ok(alpha(ctx, epoch, &parts))
}

/// The output of a stored proof; all stored proofs were verified.
pub(crate) fn beta(proof: &Proof) -> Result<[u8; vrf::OUTPUT_LEN]> {
    vrf::proof_to_hash(proof.proof.as_bytes()).ok_or_else(|| Error::Fatal("beacon: stored proof is invalid".to_owned()))
}

/// `beacon.VRFProve`: a node's proof for the current alpha.
pub(super) fn prove(ctx: &mut Context<'_>, params: &Parameters, body: &Raw) -> Result<()> {
    let uncoded = |text: &str| Error::Uncoded(format!("beacon: {text}"));
    ctx.use_gas(1, GAS_OP_VRF_PROVE, &parameters(params)?.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    let mut vrf_state = state::vrf_state(&ctx.state())?.ok_or_else(|| uncoded("no VRF state"))?;
    if ctx.current_height() <= vrf_state.submit_after {
        return Err(uncoded("premature VRF proof"));
    }
    let signer = ctx.tx_signer();
    let node = registry::state::node(&ctx.state(), &signer)?.ok_or_else(|| uncoded("tx not from a node"))?;
    let prove: VrfProve = body.decode_as().map_err(|_| Error::from(&errors::beacon::INVALID_ARGUMENT))?;
    if prove.epoch != vrf_state.epoch {
        return Err(uncoded(&format!("proof for invalid epoch: {}", prove.epoch)));
    }
    let key = node.vrf.id;
    let raw: &[u8] = prove.pi.as_ref().map_or(&[], |pi| pi.as_slice());
    let raw: [u8; vrf::PROOF_LEN] = raw.try_into().map_err(|_| uncoded("failed to deserialize raw proof"))?;
    let verified = if ctx.blacklist().contains(key.as_bytes()) {
        None
    } else {
        vrf::verify(key.as_bytes(), &vrf_state.alpha, &raw)
    };
    let output = verified.ok_or_else(|| uncoded("failed to verify beta"))?;
    if let Some(old) = vrf_state.pi.get(&node.id)
        && beta(old)? != output
    {
        return Err(uncoded("node attempted to submit a different proof"));
    }
    if ctx.is_check_only() {
        return Ok(());
    }
    vrf_state.pi.insert(node.id, Proof { public_key: key, proof: RawProof::new(raw) });
    state::set_vrf_state(&mut ctx.state(), &vrf_state)
}

/// `beacon.SetEpoch` of the mock: asks for the transition.
pub(super) fn set_epoch(ctx: &mut Context<'_>, body: &Raw) -> Result<()> {
    let (now, _) = state::epoch(&ctx.state())?;
    let epoch: Epoch = body.decode_as().map_err(|e| Error::Uncoded(e.to_string()))?;
    match state::pending_mock_epoch(&ctx.state())? {
        Some(pending) if pending == epoch => return Ok(()),
        Some(_) => return Err(Error::Uncoded("beacon: explicit epoch transition already pending".to_owned())),
        None => {}
    }
    if epoch <= now {
        return Err(Error::Uncoded("beacon: explicit epoch does not advance time".to_owned()));
    }
    state::set_pending_mock_epoch(&mut ctx.state(), epoch)
}
