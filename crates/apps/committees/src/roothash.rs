//! Root hash service: collects commitments of runtime committees and decides rounds.
//!
//! Reference: `go/consensus/cometbft/apps/roothash`.

mod blocks;
mod epoch;
mod finalize;
pub mod genesis;
mod liveness;
mod messages;
pub mod query;
mod slashing;
pub mod state;
#[cfg(test)]
mod tests;
mod tx;

use apps_core::{Context, Error, Message, MessageKind, Reply, Result, Service, kv::KvRead};
use base_codec::{Raw, cbor};
use base_crypto::context::ChainContext;
use base_prims::Namespace;
use comet_chain::app::ValidatorUpdate;
use wire_consensus::genesis::Document;
use wire_consensus::{
    errors::roothash as codes,
    events::TypedEvent,
    known::Claim,
    roothash::{
        ExecutorCommit, METHOD_EVIDENCE, METHOD_EXECUTOR_COMMIT, METHOD_SUBMIT_MSG, METHODS, RUNTIME_ID_ATTRIBUTE,
        RuntimeState, runtime_id_value,
    },
};

/// Name of the service.
pub const NAME: &str = "999_roothash";
/// Priority of the service's transactions.
const PRIORITY: i64 = 15_000;

/// The root hash service.
#[derive(Debug, Clone, Copy, Default)]
pub struct RootHash;

impl Service for RootHash {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        METHODS
    }

    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
        genesis::init_chain(ctx, &doc.roothash)
    }

    fn begin_block(&self, ctx: &mut Context<'_>) -> Result<()> {
        epoch::begin_block(ctx)
    }

    fn execute_tx(&self, ctx: &mut Context<'_>, method: &str, body: &Raw) -> Result<()> {
        ctx.set_priority(PRIORITY);
        match method {
            METHOD_EXECUTOR_COMMIT => tx::executor_commit(ctx, &decode(body)?),
            METHOD_EVIDENCE => tx::submit_evidence(ctx, &decode(body)?),
            METHOD_SUBMIT_MSG => tx::submit_msg(ctx, &decode(body)?),
            _ => Err(Error::from(&codes::INVALID_ARGUMENT)),
        }
    }

    fn claims(&self, chain: &ChainContext, method: &str, body: &Raw, claims: &mut Vec<Claim>) {
        if method == METHOD_EXECUTOR_COMMIT
            && let Ok(ExecutorCommit { id, commits: Some(commits) }) = body.decode_as()
        {
            claims.extend(commits.iter().filter_map(|c| c.claim(chain, &id)));
        }
    }

    fn end_block(&self, ctx: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        finalize::end_block(ctx)?;
        Ok(Vec::new())
    }

    fn message(&self, ctx: &mut Context<'_>, msg: &Message<'_>) -> Result<Option<Reply>> {
        messages::execute(ctx, msg)
    }

    fn handles(&self, kind: MessageKind) -> bool {
        matches!(
            kind,
            MessageKind::NewRuntimeRegistered
                | MessageKind::RuntimeUpdated
                | MessageKind::RuntimeResumed
                | MessageKind::BeforeSchedule
                | MessageKind::ChangeParameters
                | MessageKind::ValidateParameterChanges
        )
    }

    fn export_genesis(&self, state: &dyn KvRead, _: i64, doc: &mut Document) -> Result<()> {
        doc.roothash = query::genesis(state)?;
        Ok(())
    }
}

fn decode<T: cbor::Decode>(body: &Raw) -> Result<T> {
    body.decode_as().map_err(|_| Error::from(&codes::INVALID_ARGUMENT))
}

/// Emits an event about a runtime.
fn emit(ctx: &mut Context<'_>, runtime: &Namespace, event: &impl TypedEvent) {
    ctx.emit_with(NAME, event, &[(RUNTIME_ID_ATTRIBUTE, &runtime_id_value(runtime))]);
}

/// The state of a runtime that can make progress.
///
/// # Errors
/// If there is no such runtime, or it is suspended, or has no committee or pool.
fn active_state(ctx: &mut Context<'_>, id: &Namespace) -> Result<RuntimeState> {
    let rt = state::runtime_state(&ctx.state(), id)?.ok_or_else(|| Error::from(&codes::INVALID_RUNTIME))?;
    if rt.suspended {
        return Err(Error::from(&codes::RUNTIME_SUSPENDED));
    }
    if rt.committee.is_none() {
        return Err(Error::from(&codes::NO_COMMITTEE));
    }
    if rt.commitment_pool.is_none() {
        return Err(Error::from(&codes::NO_EXECUTOR_POOL));
    }
    Ok(rt)
}
