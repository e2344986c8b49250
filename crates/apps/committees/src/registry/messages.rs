//! Messages of other services. Source: `go/consensus/cometbft/apps/registry/{registry.go,messages.go}`.

use apps_core::{Context, Error, Message, Reply, Result};
use base_codec::Raw;
use wire_consensus::{
    errors::registry as codes,
    registry::{MODULE, ParameterChanges},
};

use super::{runtime, state};

pub(super) fn handle(ctx: &mut Context<'_>, message: &Message<'_>) -> Result<Option<Reply>> {
    match message {
        Message::RuntimeRegistry(m) => match &m.update_runtime {
            Some(descriptor) => {
                let result = runtime::register(ctx, descriptor.clone())?;
                Ok(Some(Reply::Result(Raw::of(&result))))
            }
            None => Err((&codes::INVALID_ARGUMENT).into()),
        },
        Message::ValidateParameterChanges { module, changes } if *module == MODULE => {
            change_parameters(ctx, changes, false).map(Some)
        }
        Message::ChangeParameters { module, changes } if *module == MODULE => {
            change_parameters(ctx, changes, true).map(Some)
        }
        Message::ValidateParameterChanges { .. } | Message::ChangeParameters { .. } => Ok(None),
        _ => Err((&codes::INVALID_ARGUMENT).into()),
    }
}

fn change_parameters(ctx: &mut Context<'_>, changes: &Raw, apply: bool) -> Result<Reply> {
    let changes: ParameterChanges = changes
        .decode_as()
        .map_err(|e| Error::Uncoded(format!("registry: failed to unmarshal consensus parameter changes: {e}")))?;
    let mut params = state::parameters(&ctx.state())?;
    changes
        .sanity_check()
        .map_err(|e| Error::from(e).context("registry: failed to validate consensus parameter changes"))?;
    changes.apply(&mut params);
    params
        .sanity_check(ctx.config().allow_debug, ctx.is_feature_26_1())
        .map_err(|e| Error::from(e).context("registry: failed to validate consensus parameters"))?;
    if apply {
        state::set_parameters(ctx, &params)?;
    }
    Ok(Reply::Done)
}
