//! Transactions of the root hash service.

use std::collections::BTreeSet;

use apps_core::{Context, Error, Result};
use base_prims::{Address, Namespace};
use wire_consensus::{
    errors::roothash as codes,
    roothash::{
        Evidence, ExecutorCommit, ExecutorCommitment, ExecutorCommittedEvent, GAS_OP_COMPUTE_COMMIT, GAS_OP_EVIDENCE,
        GAS_OP_SUBMIT_MSG, IncomingMessage, Message, RuntimeState, SubmitMsg, Verifier,
        commitment::{CommitmentError, verify_executor_commitment},
    },
    staking::SlashReason,
};

use super::{active_state, blocks, emit, messages, slashing, state};
use crate::registry;

/// Runtimes to try to finalize at the end of the block.
#[derive(Debug, Default)]
pub(super) struct PendingFinalization(pub(super) BTreeSet<Namespace>);

/// An error of verification: the service's or the commitment's.
struct VerifyError(Error);

impl From<CommitmentError> for VerifyError {
    fn from(e: CommitmentError) -> Self {
        Self(match e {
            CommitmentError::Signature => Error::Uncoded(e.to_string()),
            CommitmentError::Rule(code) => Error::from(code),
        })
    }
}

/// `roothash.ExecutorCommit`: all commitments are accepted or none.
pub(super) fn executor_commit(ctx: &mut Context<'_>, tx: &ExecutorCommit) -> Result<()> {
    if ctx.is_check_only() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, GAS_OP_COMPUTE_COMMIT, &params.gas_costs)?;
    let commits = tx.commits.as_deref().unwrap_or_default();
    if commits.is_empty() {
        return Ok(());
    }
    let mut rt = active_state(ctx, &tx.id)?;
    let previous_rank = rt.commitment_pool.as_ref().map(|p| p.highest_rank);
    for commit in commits {
        add_commitment(ctx, &mut rt, commit)?;
    }
    if ctx.is_simulation() {
        return Ok(());
    }
    ctx.transaction(|ctx| {
        if previous_rank != rt.commitment_pool.as_ref().map(|p| p.highest_rank) {
            // Workers get time to submit their commitments to the better scheduler's proposal.
            let timeout = ctx.current_height().wrapping_add(rt.runtime.executor.round_timeout);
            blocks::set_timeout(ctx, &mut rt, timeout)?;
        }
        state::set_runtime_state(&mut ctx.state(), &rt)?;
        for commit in commits {
            emit(ctx, &tx.id, &ExecutorCommittedEvent { commit: commit.clone() });
        }
        Ok(())
    })?;
    ctx.block_data::<PendingFinalization>().0.insert(tx.id);
    Ok(())
}

fn add_commitment(ctx: &mut Context<'_>, rt: &mut RuntimeState, commit: &ExecutorCommitment) -> Result<()> {
    let verifier = Verifier { chain: ctx.chain(), blacklist: ctx.blacklist(), known: ctx.known_signatures() };
    let epoch = rt.committee.as_ref().map_or(0, |c| c.valid_for);
    let mut emitted: Vec<Message> = Vec::new();
    verify_executor_commitment::<VerifyError>(
        &verifier,
        &rt.last_block.header,
        &rt.runtime,
        epoch,
        commit,
        &mut |id| registry::state::node(&ctx.state(), id).map_err(VerifyError),
        &mut |messages| {
            emitted.extend_from_slice(messages);
            Ok(())
        },
    )
    .map_err(|e| e.0)?;
    if !emitted.is_empty() {
        // The sender pays for the messages' gas; whether they would succeed does not matter.
        ctx.with_simulation(|ctx| messages::deliver(ctx, &rt.runtime.id, &emitted).map(drop))?;
    }
    match (rt.commitment_pool.as_mut(), rt.committee.as_ref()) {
        (Some(pool), Some(committee)) => pool.add_verified(committee, commit).map_err(Error::from),
        _ => Err(Error::from(&codes::NO_EXECUTOR_POOL)),
    }
}

/// `roothash.Evidence`: slashes a node that signed two things.
pub(super) fn submit_evidence(ctx: &mut Context<'_>, evidence: &Evidence) -> Result<()> {
    let invalid = |text: &str| Error::from(&codes::INVALID_EVIDENCE).context(text);
    evidence
        .validate_basic(&Verifier { chain: ctx.chain(), blacklist: ctx.blacklist(), known: ctx.known_signatures() })
        .map_err(|e| invalid(&e.to_string()))?;
    if ctx.is_check_only() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, GAS_OP_EVIDENCE, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    let rt = active_state(ctx, &evidence.id)?;
    let penalty = match rt.runtime.staking.slashing.get(&SlashReason::RUNTIME_EQUIVOCATION) {
        Some(slash) if !slash.amount.is_zero() => slash.amount.clone(),
        _ => return Err(Error::from(&codes::RUNTIME_DOES_NOT_SLASH)),
    };
    let (node, round) = evidence.culprit().ok_or_else(|| invalid("no evidence"))?;
    if round.wrapping_add(params.max_evidence_age) < rt.last_block.header.round {
        return Err(invalid("equivocation evidence expired"));
    }
    let hash = evidence.hash().ok_or_else(|| invalid("no evidence"))?;
    let id = &rt.runtime.id;
    if state::has_evidence(&ctx.state(), id, round, &hash)? {
        return Err(Error::from(&codes::DUPLICATE_EVIDENCE));
    }
    // # Consensus: this stays even if slashing fails.
    state::set_evidence(&mut ctx.state(), id, round, &hash)?;
    slashing::on_equivocation(ctx, &node, &rt.runtime, &penalty)
}

/// `roothash.SubmitMsg`: queues a message for a runtime and pays for it.
pub(super) fn submit_msg(ctx: &mut Context<'_>, msg: &SubmitMsg) -> Result<()> {
    if ctx.is_check_only() {
        return Ok(());
    }
    let params = state::parameters(&ctx.state())?;
    ctx.use_gas(1, GAS_OP_SUBMIT_MSG, &params.gas_costs)?;
    if ctx.is_simulation() {
        return Ok(());
    }
    let rt = active_state(ctx, &msg.id)?;
    let id = rt.runtime.id;
    let max = rt.runtime.txn_scheduler.max_in_messages;
    if max == 0 {
        return Err(Error::from(&codes::INCOMING_MESSAGE_QUEUE_FULL));
    }
    if msg.fee < rt.runtime.staking.min_in_message_fee {
        return Err(Error::from(&codes::INCOMING_MESSAGE_INSUFFICIENT_FEE));
    }
    ctx.transaction(|ctx| {
        let caller = ctx.caller();
        let amount = msg.fee.add(&msg.tokens);
        apps_staking::state::transfer(ctx, &caller, &Address::of_runtime(&id), &amount)?;

        let mut meta = state::queue_meta(&ctx.state(), &id)?;
        if meta.size >= max {
            return Err(Error::from(&codes::INCOMING_MESSAGE_QUEUE_FULL));
        }
        let message = IncomingMessage {
            id: meta.next_sequence_number,
            caller,
            tag: msg.tag,
            fee: msg.fee.clone(),
            tokens: msg.tokens.clone(),
            data: msg.data.clone(),
        };
        state::set_queued(&mut ctx.state(), &id, &message)?;
        meta.size += 1;
        meta.next_sequence_number = meta.next_sequence_number.wrapping_add(1);
        state::set_queue_meta(&mut ctx.state(), &id, &meta)
    })
}
