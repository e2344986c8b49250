//! Messages: those that runtimes emit, and those that other services send here.

use apps_core::{Context, Error, GasMeter, Message as ServiceMessage, Reply, Result};
use base_codec::Raw;
use base_prims::{Address, Namespace};
use wire_consensus::{
    errors::roothash as codes,
    roothash::{MODULE, Message, MessageEvent, ParameterChanges, validate_runtime_parameters},
};

use super::{genesis, liveness, state};

/// Delivers the messages that a runtime emitted, with the runtime's account as caller.
///
/// Gas was paid by those who committed, so none is charged here; in a simulation it is, and no state changes. A message
/// that fails does not undo what it did before, nor stop the others.
pub(super) fn deliver(ctx: &mut Context<'_>, runtime: &Namespace, messages: &[Message]) -> Result<Vec<MessageEvent>> {
    ctx.with_caller(Address::of_runtime(runtime), |ctx| {
        if ctx.is_simulation() {
            ctx.discarded_transaction(|ctx| deliver_each(ctx, messages))
        } else {
            ctx.with_gas(GasMeter::Nop, |ctx| deliver_each(ctx, messages)).0
        }
    })
}

fn deliver_each(ctx: &mut Context<'_>, messages: &[Message]) -> Result<Vec<MessageEvent>> {
    let mut results = Vec::with_capacity(messages.len());
    for (index, message) in (0u32..).zip(messages) {
        let mut event = MessageEvent { index, result: Raw::of(&None::<u64>), ..MessageEvent::default() };
        match dispatch(ctx, message) {
            Ok(Some(Reply::Result(result))) => event.result = result,
            Ok(_) => {}
            Err(Error::Fatal(text)) => return Err(Error::Fatal(text)),
            Err(e) => {
                let (module, code) = e.code();
                event.module = module.to_owned();
                event.code = code;
            }
        }
        results.push(event);
    }
    Ok(results)
}

fn dispatch(ctx: &mut Context<'_>, message: &Message) -> Result<Option<Reply>> {
    if let Some(m) = &message.staking {
        ctx.dispatch(&ServiceMessage::RuntimeStaking(m))
    } else if let Some(m) = &message.registry {
        ctx.dispatch(&ServiceMessage::RuntimeRegistry(m))
    } else if let Some(m) = &message.governance {
        ctx.dispatch(&ServiceMessage::RuntimeGovernance(m))
    } else {
        Err(Error::from(&codes::INVALID_ARGUMENT))
    }
}

/// Executes a message of another service.
pub(super) fn execute(ctx: &mut Context<'_>, msg: &ServiceMessage<'_>) -> Result<Option<Reply>> {
    match msg {
        // Runtimes of the genesis document get their state when this service is initialized.
        ServiceMessage::NewRuntimeRegistered(_) | ServiceMessage::RuntimeUpdated(_) if ctx.is_init_chain() => Ok(None),
        ServiceMessage::NewRuntimeRegistered(runtime) => {
            genesis::new_runtime(ctx, runtime, None)?;
            Ok(None)
        }
        ServiceMessage::RuntimeUpdated(runtime) => {
            let params = state::parameters(&ctx.state())?;
            validate_runtime_parameters(runtime, &params)?;
            Ok(None)
        }
        ServiceMessage::RuntimeResumed(_) => Ok(None),
        ServiceMessage::BeforeSchedule { epoch } => {
            liveness::before_schedule(ctx, *epoch)?;
            Ok(None)
        }
        ServiceMessage::ValidateParameterChanges { module, changes } => change_parameters(ctx, module, changes, false),
        ServiceMessage::ChangeParameters { module, changes } => change_parameters(ctx, module, changes, true),
        _ => Err(Error::from(&codes::INVALID_ARGUMENT)),
    }
}

fn change_parameters(ctx: &mut Context<'_>, module: &str, changes: &Raw, apply: bool) -> Result<Option<Reply>> {
    if module != MODULE {
        return Ok(None);
    }
    let uncoded = |e: &dyn std::fmt::Display| Error::Uncoded(format!("roothash: invalid parameter changes: {e}"));
    let changes: ParameterChanges = changes.decode_as().map_err(|e| uncoded(&e))?;
    let mut params = state::parameters(&ctx.state())?;
    let fewer_roots = changes.max_past_roots_stored.is_some_and(|n| n < params.max_past_roots_stored);
    changes.sanity_check().map_err(|e| uncoded(&e))?;
    changes.apply(&mut params);
    params.sanity_check(ctx.config().allow_debug).map_err(|e| uncoded(&e))?;
    if apply {
        if fewer_roots {
            state::shrink_past_roots(&mut ctx.state(), params.max_past_roots_stored)?;
        }
        state::set_parameters(&mut ctx.state(), &params)?;
    }
    Ok(Some(Reply::Done))
}
