//! Vault service: accounts that several parties control together, with limits on withdrawals.
//!
//! Reference: `go/consensus/cometbft/apps/vault`.

mod action;
pub mod genesis;
pub mod messages;
pub mod query;
pub mod state;
#[cfg(test)]
mod tests;
pub mod tx;

use apps_core::{Context, Error, Message, MessageKind, Reply, Result, Service, kv::KvRead};
use base_codec::{Raw, cbor::Decode};
use comet_chain::app::ValidatorUpdate;
use wire_consensus::{
    errors::vault as codes,
    genesis::Document,
    vault::{METHOD_AUTHORIZE_ACTION, METHOD_CANCEL_ACTION, METHOD_CREATE, METHODS},
};

/// Name of the service.
pub const NAME: &str = "400_vault";
/// Priority of the service's transactions.
const PRIORITY: i64 = 5_000;

/// The vault service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vaults;

fn decode<T: Decode>(body: &Raw) -> Result<T> {
    body.decode_as().map_err(|e| Error::from(&codes::INVALID_ARGUMENT).context(e))
}

impl Service for Vaults {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        METHODS
    }

    fn is_enabled(&self, kv: &dyn KvRead) -> Result<bool> {
        Ok(state::parameters(kv)?.enabled)
    }

    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
        doc.vault.as_ref().map_or(Ok(()), |g| genesis::init_chain(ctx, g))
    }

    fn begin_block(&self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    fn execute_tx(&self, ctx: &mut Context<'_>, method: &str, body: &Raw) -> Result<()> {
        ctx.set_priority(PRIORITY);
        match method {
            METHOD_CREATE => tx::create(ctx, &decode(body)?),
            METHOD_AUTHORIZE_ACTION => tx::authorize_action(ctx, &decode(body)?),
            METHOD_CANCEL_ACTION => tx::cancel_action(ctx, &decode(body)?),
            _ => Err(Error::from(&codes::INVALID_ARGUMENT)),
        }
    }

    fn end_block(&self, _: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        Ok(Vec::new())
    }

    fn handles(&self, kind: MessageKind) -> bool {
        matches!(
            kind,
            MessageKind::AccountHookWithdraw | MessageKind::ChangeParameters | MessageKind::ValidateParameterChanges
        )
    }

    fn message(&self, ctx: &mut Context<'_>, msg: &Message<'_>) -> Result<Option<Reply>> {
        messages::handle(ctx, msg)
    }

    fn export_genesis(&self, kv: &dyn KvRead, _height: i64, doc: &mut Document) -> Result<()> {
        doc.vault = Some(query::genesis(kv)?);
        Ok(())
    }
}
