//! The service: what the multiplexer calls.

use apps_core::{Context, Error, Message, MessageKind, Reply, Result, Service, kv::KvRead};
use base_codec::{Raw, cbor::Decode};
use comet_chain::app::ValidatorUpdate;
use wire_consensus::{
    errors::staking as codes,
    genesis::Document,
    staking::{
        Genesis, METHOD_ADD_ESCROW, METHOD_ALLOW, METHOD_AMEND_COMMISSION_SCHEDULE, METHOD_BURN, METHOD_RECLAIM_ESCROW,
        METHOD_TRANSFER, METHOD_WITHDRAW,
    },
};

use crate::{NAME, PRIORITY, epoch, genesis, messages, tx};

/// The staking service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Staking;

/// Decodes the argument of a method.
fn argument<T: Decode>(body: &Raw) -> Result<T> {
    body.decode_as().map_err(|_| Error::from(&codes::INVALID_ARGUMENT))
}

impl Service for Staking {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        &[
            METHOD_TRANSFER,
            METHOD_BURN,
            METHOD_ADD_ESCROW,
            METHOD_RECLAIM_ESCROW,
            METHOD_AMEND_COMMISSION_SCHEDULE,
            METHOD_ALLOW,
            METHOD_WITHDRAW,
        ]
    }

    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
        genesis::init_chain(ctx, &doc.staking)
    }

    fn begin_block(&self, ctx: &mut Context<'_>) -> Result<()> {
        epoch::begin_block(ctx)
    }

    fn execute_tx(&self, ctx: &mut Context<'_>, method: &str, body: &Raw) -> Result<()> {
        ctx.set_priority(PRIORITY);
        match method {
            METHOD_TRANSFER => tx::transfer(ctx, &argument(body)?).map(drop),
            METHOD_BURN => tx::burn(ctx, &argument(body)?),
            METHOD_ADD_ESCROW => tx::add_escrow(ctx, &argument(body)?, tx::Origin::Transaction).map(drop),
            METHOD_RECLAIM_ESCROW => tx::reclaim_escrow(ctx, &argument(body)?, tx::Origin::Transaction).map(drop),
            METHOD_AMEND_COMMISSION_SCHEDULE => tx::amend_commission_schedule(ctx, argument(body)?),
            METHOD_ALLOW => tx::allow(ctx, &argument(body)?),
            METHOD_WITHDRAW => tx::withdraw(ctx, &argument(body)?).map(drop),
            _ => Err((&codes::INVALID_ARGUMENT).into()),
        }
    }

    fn end_block(&self, ctx: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        epoch::end_block(ctx)?;
        Ok(Vec::new())
    }

    fn handles(&self, kind: MessageKind) -> bool {
        matches!(
            kind,
            MessageKind::RuntimeStaking | MessageKind::ChangeParameters | MessageKind::ValidateParameterChanges
        )
    }

    fn message(&self, ctx: &mut Context<'_>, message: &Message<'_>) -> Result<Option<Reply>> {
        messages::handle(ctx, message)
    }

    fn export_genesis(&self, state: &dyn KvRead, _height: i64, doc: &mut Document) -> Result<()> {
        // The token's name is in no state: it stays as the document has it.
        let token_symbol = std::mem::take(&mut doc.staking.token_symbol);
        let token_value_exponent = doc.staking.token_value_exponent;
        doc.staking = Genesis { token_symbol, token_value_exponent, ..genesis::export(state)? };
        Ok(())
    }
}
