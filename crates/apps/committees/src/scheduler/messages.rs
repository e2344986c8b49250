//! Messages to the scheduler: changes of parameters.

use apps_core::{Context, Error, Message, Reply, Result};
use base_codec::Raw;
use wire_consensus::scheduler::{MODULE, ParameterChanges};

use super::state;

/// Executes a message.
pub(super) fn execute(ctx: &mut Context<'_>, msg: &Message<'_>) -> Result<Option<Reply>> {
    match msg {
        Message::ValidateParameterChanges { module, changes } => change_parameters(ctx, module, changes, false),
        Message::ChangeParameters { module, changes } => change_parameters(ctx, module, changes, true),
        _ => Err(Error::Uncoded("scheduler: unexpected message".to_owned())),
    }
}

fn change_parameters(ctx: &mut Context<'_>, module: &str, changes: &Raw, apply: bool) -> Result<Option<Reply>> {
    if module != MODULE {
        return Ok(None);
    }
    let uncoded = |e: &dyn std::fmt::Display| Error::Uncoded(format!("scheduler: invalid parameter changes: {e}"));
    let changes: ParameterChanges = changes.decode_as().map_err(|e| uncoded(&e))?;
    let mut params = state::parameters(&ctx.state())?;
    changes.sanity_check().map_err(|e| uncoded(&e))?;
    changes.apply(&mut params);
    params.sanity_check(ctx.config().allow_debug).map_err(|e| uncoded(&e))?;
    if apply {
        state::set_parameters(&mut ctx.state(), &params)?;
    }
    Ok(Some(Reply::Done))
}
